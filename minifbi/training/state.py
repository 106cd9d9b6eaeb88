"""What a checkpoint says beside its arrays, checked before anything is done with it.

A checkpoint may come from somebody else, so that nothing in it can be relied on: without these
checks a text in the place of a number is found only in the middle of a run, and the size of a
network that a file asks for is found when the memory is full.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import CheckpointError

LARGEST = 2**62  # whole numbers beyond it fit into no array


def _count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _counts(value: Any, length: int, least: int = 0) -> bool:
    return isinstance(value, list) and len(value) == length and all(_count(v, least) for v in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _terms(value: Any) -> bool:
    """A number for each layer, or None where there were none."""
    return value is None or (isinstance(value, dict) and all(map(_number, value.values())))


_RECORD: dict[str, Callable[[Any], bool]] = {
    "epoch": _count,
    "step": _count,
    "task_loss": _number,
    "fbi_loss": _number_or_none,
    "fbi_terms": _terms,
    "val_accuracy": _number,
    "learning_rate": _number,
    "seconds": _number,
    "fbi_active": lambda value: isinstance(value, bool),
}
_RECORD_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "penalty": _number_or_none,
    "penalty_terms": _terms,
    "penalty_active": lambda value: isinstance(value, bool),
}


def _record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(name in value and good(value[name]) for name, good in _RECORD.items())
        and all(good(value[name]) for name, good in _RECORD_OPTIONAL.items() if name in value)
    )


def _best(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return not value or (_count(value.get("epoch")) and _number(value.get("val_accuracy")))


def _data(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and _counts(value.get("images"), 3)
        and _counts(value.get("labels"), 3)
    )


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "config": (lambda value: isinstance(value, dict), "the options of the run"),
    "input_shape": (lambda value: _counts(value, 3, 1), "[channels, height, width]"),
    "num_classes": (lambda value: _count(value, 1), "a whole number of at least 1"),
    "class_names": (_texts, "a list of names"),
    "data": (_data, "name, images and labels of the data set"),
    "epoch": (_count, "a whole number of at least 0"),
    "step": (_count, "a whole number of at least 0"),
    "gate_step": (lambda v: v is None or _count(v), "a whole number of at least 0, or null"),
    "seconds": (lambda value: _number(value) and value >= 0, "a number of at least 0"),
    "rng": (lambda value: isinstance(value, dict), "the state of a random generator"),
    "layer_rngs": (lambda value: isinstance(value, dict), "states of random generators"),
    "records": (
        lambda value: isinstance(value, list) and all(map(_record, value)),
        "a list of the epochs' records",
    ),
    "best": (_best, "epoch and val_accuracy of the best epoch"),
}
TO_BUILD = ("config", "input_shape", "num_classes")
"""What is needed to build the network of a checkpoint."""
TO_GO_ON = tuple(_KEYS)
"""What is needed to go on with the run."""


def check_meta(meta: Mapping[str, Any], needed: tuple[str, ...], where: str = "") -> None:
    """Raise unless what a checkpoint says of itself has the right form.

    Parameters
    ----------
    meta : mapping
        From :func:`~minifbi.training.checkpoint.load_checkpoint`.
    needed : tuple of str
        Keys that must be there.
    where : str
        What the messages start with.

    Raises
    ------
    CheckpointError
        Naming the first key that is missing or wrong.
    """
    start = f"{where}: " if where else ""
    for name in needed:
        if name not in meta:
            raise CheckpointError(f"{start}the checkpoint does not say its {name!r}")
        good, expected = _KEYS[name]
        if not good(meta[name]):
            shown = repr(meta[name])
            raise CheckpointError(
                f"{start}the checkpoint says {name} = {shown[:80]}; expected {expected}"
            )
    if set(needed) >= {"epoch", "records"} and len(meta["records"]) != meta["epoch"]:
        raise CheckpointError(
            f"{start}the checkpoint is of epoch {meta['epoch']} and has {len(meta['records'])} "
            "records; expected one an epoch"
        )


def read_history(arrays: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, list[float]]:
    """The losses of every step and the accuracies of every look, as lists.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The checkpoint's group "history".
    names : tuple of str
        What there must be.

    Raises
    ------
    CheckpointError
        If something is missing, or the lists do not go together.
    """
    found = {}
    for name in names:
        array = arrays.get(name)
        beside = "val_step" if name.startswith("val_") else "step"
        if (
            array is None
            or array.ndim != 1
            or array.shape != getattr(arrays.get(beside), "shape", None)
        ):
            raise CheckpointError(
                f"the checkpoint's history of {name} is missing or damaged; expected a number "
                f"for each {beside}"
            )
        found[name] = array.tolist()
    return found


class WithinReason(np.random.Generator):
    """Draws zeros, and no more of them than a checkpoint has parameters.

    A network that is built to be filled from a file needs no random numbers.  And if the file asks
    for a network larger than its own arrays, that shows here, before memory is taken.

    Parameters
    ----------
    allowed : int
        How many numbers there are in the file.
    """

    def __init__(self, allowed: int) -> None:
        super().__init__(np.random.PCG64(0))
        self._left = allowed

    def standard_normal(self, size: Any = None, *args: Any, **options: Any) -> NDArray[Any]:  # type: ignore[override]
        """Zeros of this shape."""
        shape = (1,) if size is None else size if isinstance(size, tuple) else (size,)
        self._left -= math.prod(shape)
        if self._left < 0:
            raise CheckpointError(
                "the checkpoint describes a network with more parameters than it holds"
            )
        return np.zeros(shape)
