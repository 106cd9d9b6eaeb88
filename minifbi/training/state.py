"""What a run is: one dataclass that writes the checkpoint and reads it again.

Every field is declared once, with its check and the words for what was expected.  What is
declared here is saved, read, checked and resumed; nothing else must know of a new field.

A checkpoint may come from somebody else, so that nothing in it can be relied on: without these
checks a text in the place of a number is found only in the middle of a run, and the size of a
network that a file asks for is found when the memory is full.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import CheckpointError
from minifbi.files.checkpoint import load_checkpoint, save_checkpoint

LARGEST = 2**62  # whole numbers beyond it fit into no array

Check = Callable[[Any], bool]
Arrays = dict[str, NDArray[Any]]
State = TypeVar("State", bound="RunState")


# ---- checks ----------------------------------------------------------------------------
def is_count(value: Any, least: int = 0) -> bool:
    """Whether it is a whole number of at least `least` that fits into an array."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_flag(value: Any) -> bool:
    """Whether it is True or False."""
    return isinstance(value, bool)


def is_mapping(value: Any) -> bool:
    """Whether it is a dictionary."""
    return isinstance(value, dict)


def or_none(check: Check) -> Check:
    """The same check, which None passes too."""
    return lambda value: value is None or check(value)


def list_of(check: Check, length: int | None = None) -> Check:
    """Whether it is a list, of this length if one is given, whose items pass a check."""
    return lambda value: (
        isinstance(value, list) and length in (None, len(value)) and all(map(check, value))
    )


def having(**checks: Check) -> Check:
    """Whether it is a dictionary with these keys, whose values pass their checks."""
    return lambda value: (
        isinstance(value, dict)
        and all(name in value and check(value[name]) for name, check in checks.items())
    )


def _is_terms(value: Any) -> bool:
    """A number for each term of a penalty."""
    return isinstance(value, dict) and all(map(is_number, value.values()))


def _is_amount(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_memories(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_mapping, value.values()))


def _is_arrays(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, np.ndarray) for v in value.values())


is_record = having(
    epoch=is_count,
    step=is_count,
    task_loss=is_number,
    penalty=or_none(is_number),
    penalty_terms=or_none(_is_terms),
    val_accuracy=is_number,
    learning_rate=is_number,
    seconds=is_number,
    penalty_active=is_flag,
)
"""What an epoch's record holds, which is also a line of metrics.jsonl."""

BATCH = ("step", "task_loss", "penalty")
LOOK = ("val_step", "val_accuracy")


def empty_history() -> dict[str, list[float]]:
    """Nothing yet: numbers of each step, and of each look at the validation accuracy."""
    return {name: [] for name in (*BATCH, *LOOK)}


def _is_history(value: Any) -> bool:
    """Whether what belongs together has the same length."""
    shapes = [[np.shape(value.get(name)) for name in names] for names in (BATCH, LOOK)]
    return all(len(set(found)) == 1 and len(found[0]) == 1 for found in shapes)


# ---- fields ----------------------------------------------------------------------------
def stored(
    check: Check,
    expected: str,
    *,
    arrays: bool = False,
    read: Callable[[Any], Any] = lambda value: value,
    optional: bool = False,
) -> dict[str, Any]:
    """What a field of a run says of itself: ``field(metadata=stored(...))``.

    Parameters
    ----------
    check : callable
        Whether a value from a file is right.
    expected : str
        What a right value is, for the message about a wrong one.
    arrays : bool
        Whether it is a group of arrays, by name; all else is stored as JSON.
    read : callable
        Makes of the value in the file what the run holds.
    optional : bool
        Whether a file may lack it; the run then has the field's default.

    Returns
    -------
    dict
    """
    words = {"expected": expected, "optional": optional}
    return {"check": check, "arrays": arrays, "read": read, **words}


@dataclass
class RunState:
    """All that a run is; the trainer counts in it, and a checkpoint is a copy of it.

    To add a field, declare it here, with what :func:`stored` makes of its check.

    Attributes
    ----------
    config : dict
        The options, as :meth:`~minifbi.training.TrainConfig.to_dict` has them.
    input_shape, num_classes, class_names
        What the network was built for.
    data : dict
        What tells one data set from another: name, numbers of images, and checksums of the
        labels of the three splits.
    epoch, step, seconds
        Epochs and updates done, and how long they took.
    gate_step : int or None
        The update after which the gate opened; None while it is shut.
    rng, layer_rngs : dict
        States of the generator that shuffles the images, and of the layers' own by name.
    records : list of dict
        One per epoch, as in ``metrics.jsonl``.
    best : dict
        "epoch" and "val_accuracy" of the best epoch so far; empty before the first.
    history : dict of str to list of float
        ``step``, ``task_loss`` and ``penalty`` (NaN where it was not computed) of every step;
        ``val_step`` and ``val_accuracy`` of every look at the validation accuracy.
    parameters : dict of str to ndarray
        The network's ``state_dict()``: what is trained, and what else its layers keep.
    optimizer : dict of str to ndarray
        What the optimiser remembers.
    lr : float or None
        The learning rate that was set by hand and holds since then; None while the schedule
        sets it.
    stopped : str or None
        Why the run ended before its last epoch; None if it did not.
    callbacks : dict of str to dict
        What each callback remembers, by its name.
    """

    config: dict[str, Any] = field(metadata=stored(is_mapping, "the options of the run"))
    input_shape: list[int] = field(
        metadata=stored(list_of(lambda n: is_count(n, 1), 3), "[channels, height, width]")
    )
    num_classes: int = field(
        metadata=stored(lambda n: is_count(n, 1), "a whole number of at least 1")
    )
    class_names: list[str] = field(metadata=stored(list_of(_is_text), "a list of names"))
    data: dict[str, Any] = field(
        metadata=stored(
            having(name=_is_text, images=list_of(is_count, 3), labels=list_of(is_count, 3)),
            "name, images and labels of the data set",
        )
    )
    epoch: int = field(default=0, metadata=stored(is_count, "a whole number of at least 0"))
    step: int = field(default=0, metadata=stored(is_count, "a whole number of at least 0"))
    seconds: float = field(default=0.0, metadata=stored(_is_amount, "a number of at least 0"))
    gate_step: int | None = field(
        default=None,
        metadata=stored(or_none(is_count), "a whole number of at least 0, or null"),
    )
    rng: dict[str, Any] = field(
        default_factory=dict, metadata=stored(is_mapping, "the state of a random generator")
    )
    layer_rngs: dict[str, Any] = field(
        default_factory=dict, metadata=stored(is_mapping, "states of random generators")
    )
    records: list[dict[str, Any]] = field(
        default_factory=list,
        metadata=stored(list_of(is_record), "a list of the epochs' records"),
    )
    best: dict[str, Any] = field(
        default_factory=dict,
        metadata=stored(
            lambda value: value == {} or having(epoch=is_count, val_accuracy=is_number)(value),
            "epoch and val_accuracy of the best epoch",
        ),
    )
    history: dict[str, list[float]] = field(
        default_factory=empty_history,
        metadata=stored(
            _is_history,
            f"{', '.join(BATCH)} of each step, {' and '.join(LOOK)} of each look",
            arrays=True,
            read=lambda found: {name: found[name].tolist() for name in (*BATCH, *LOOK)},
        ),
    )
    parameters: Arrays = field(
        default_factory=dict, metadata=stored(_is_arrays, "the network's arrays", arrays=True)
    )
    optimizer: Arrays = field(
        default_factory=dict, metadata=stored(_is_arrays, "the optimiser's arrays", arrays=True)
    )
    lr: float | None = field(
        default=None,
        metadata=stored(or_none(_is_amount), "a number of at least 0, or null", optional=True),
    )
    stopped: str | None = field(
        default=None, metadata=stored(or_none(_is_text), "a reason, or null", optional=True)
    )
    callbacks: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata=stored(_is_memories, "what each callback remembers", optional=True),
    )

    # ---- to and from a checkpoint --------------------------------------------------------
    def save(self, path: str | Path, previous: str | Path | None = None) -> None:
        """Write the checkpoint, whole or not at all.

        Parameters
        ----------
        path : path
            The ``.npz`` file to write.
        previous : path, optional
            Where the file that was there before is kept, in the same folder.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there before is kept.
        """
        groups = {
            f.name: {name: np.asarray(value) for name, value in getattr(self, f.name).items()}
            for f in fields(self)
            if f.metadata["arrays"]
        }
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in groups}
        save_checkpoint(path, groups, values, previous=previous)

    @classmethod
    def load(cls: type[State], path: str | Path) -> State:
        """Read a checkpoint and check all of it.

        Parameters
        ----------
        path : path
            An ``.npz`` file that :meth:`save` wrote.

        Returns
        -------
        RunState

        Raises
        ------
        CheckpointError
            If there is no such file, it is damaged, or a field is missing or wrong.
        """
        return cls.from_checkpoint(*load_checkpoint(path), str(path))

    @classmethod
    def from_checkpoint(
        cls: type[State],
        arrays: Mapping[str, Arrays],
        meta: Mapping[str, Any],
        where: str = "",
    ) -> State:
        """Check what :func:`load_checkpoint` has read, and make a run of it.

        Parameters
        ----------
        arrays : mapping of str to dict of str to ndarray
            The groups of arrays.
        meta : mapping
            What else the file says.
        where : str
            What the messages start with.

        Returns
        -------
        RunState

        Raises
        ------
        CheckpointError
            Naming the first field that is missing or wrong.
        """
        groups = {f.name: arrays.get(f.name, {}) for f in fields(cls) if f.metadata["arrays"]}
        found = {**meta, **groups}
        cls.check(found, where=where)
        there = [f for f in fields(cls) if f.name in found]
        state = cls(**{f.name: f.metadata["read"](found[f.name]) for f in there})
        if len(state.records) != state.epoch:
            raise CheckpointError(
                f"{where and where + ': '}the checkpoint is of epoch {state.epoch} and has "
                f"{len(state.records)} records; expected one per epoch"
            )
        return state

    @classmethod
    def check(
        cls, values: Mapping[str, Any], names: Collection[str] | None = None, where: str = ""
    ) -> None:
        """Raise unless the fields of a checkpoint have the right form.

        Parameters
        ----------
        values : mapping
            By name of the field, as they stand in the file.
        names : collection of str, optional
            Which fields must be there; all if left out.
        where : str
            What the messages start with.

        Raises
        ------
        CheckpointError
            Naming the first field that is missing or wrong.
        """
        start = f"{where}: " if where else ""
        for part in fields(cls):
            if names is not None and part.name not in names:
                continue
            if part.name not in values and part.metadata["optional"]:
                continue
            if part.name not in values:
                raise CheckpointError(f"{start}the checkpoint does not say its {part.name!r}")
            if not part.metadata["check"](values[part.name]):
                raise CheckpointError(f"{start}{_complaint(part, values[part.name])}")


def _complaint(part: Field[Any], value: Any) -> str:
    expected = part.metadata["expected"]
    if part.metadata["arrays"]:
        return f"the checkpoint's {part.name} is missing or damaged; expected {expected}"
    return f"the checkpoint says {part.name} = {repr(value)[:80]}; expected {expected}"
