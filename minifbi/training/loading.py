"""The model that a run left behind, and the data that it was trained on."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.backends import get_backend
from minifbi.datasets import Dataset
from minifbi.errors import CheckpointError, ConfigError, ShapeError
from minifbi.files.checkpoint import load_checkpoint
from minifbi.files.source import is_own, part_name
from minifbi.layers import Layer
from minifbi.models import build_model
from minifbi.training.config import TrainConfig
from minifbi.training.folder import LAST
from minifbi.training.part import Given, as_part, need
from minifbi.training.parts import Parts, build, changes
from minifbi.training.state import RunState

NEEDED = ("model", "dtype", "bias", "seed", "checksums")  # of the options, for the network
TO_BUILD = ("config", "input_shape", "num_classes")  # what the network of a checkpoint needs


def load_run_data(
    meta: Mapping[str, Any],
    data_dir: str | Path | None = None,
    *,
    dataset: Dataset | Given | None = None,
) -> Dataset:
    """The data set that a checkpoint was trained on.

    Parameters
    ----------
    meta : mapping
        What :func:`load_model` returns beside the model.
    data_dir : path, optional
        File or folder with the data, where they are not where the configuration says.
    dataset : Dataset, function or str, optional
        The data set of your own on which the model was trained, as :func:`train` takes it.

    Raises
    ------
    MinifbiError
        If the data cannot be loaded, or its images are not those of the model.
    """
    RunState.check(meta, TO_BUILD)
    config = TrainConfig.from_run(meta["config"])
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=str(data_dir))
        if dataset is None and is_own(config.dataset):  # the folder stands for it
            config = dataclasses.replace(config, dataset=part_name(config.dataset))
    data = _again(config, dataset=dataset).make_data(config)
    if list(data.image_shape) != list(meta["input_shape"]):
        raise ShapeError(
            f"images of {data.name} are {data.image_shape}, the model was trained on "
            f"{tuple(meta['input_shape'])}; give the data of the run with data_dir"
        )
    return data


def load_model(
    checkpoint: str | Path,
    *,
    backend: str = "auto",
    model: Layer | Given | Sequence[Layer | Given] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Rebuild a trained model from ``checkpoint.npz`` or ``best.npz``.

    Parameters
    ----------
    checkpoint : path
        The file, or a run folder (its checkpoint.npz is taken then).
    backend : str
        Any: a model may be trained on one backend and used on another.
    model : Layer, function or str, optional
        The network of your own, as :func:`train` takes it.  A Layer gets the parameters of the
        checkpoint.  Of a sequence of networks, a checkpoint takes the one from its file, else the
        one with its name, else the only one; and none if its network is one of minifbi.

    Returns
    -------
    model : Layer, in evaluation mode
        A :class:`~minifbi.layers.Sequential` unless it is your own.
    meta : dict
        What else the checkpoint says: "config", "epoch", "records", ...

    Raises
    ------
    CheckpointError
        If the file cannot be used, or holds a network of your own and `model` is not given.
    ConfigError
        If `model` is not a network.

    Warns
    -----
    UserWarning
        If the file of that network is no longer the one with which it was trained.
    """
    path = Path(checkpoint)
    arrays, meta = load_checkpoint(path / LAST if path.is_dir() else path)
    RunState.check(meta, TO_BUILD, str(path))
    parameters, chosen = arrays.get("parameters", {}), get_backend(backend)
    try:
        stored = meta["config"]
        # these and no more: what else is one's own need not be known to use the model
        config = TrainConfig.from_run({name: stored[name] for name in NEEDED if name in stored})
    except ConfigError as error:
        raise CheckpointError(f"{path} does not describe a model: {error}") from error
    part = _again(config, model=_fitting(config, model)).model
    if part is None:
        try:
            need({"model": config.model})
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
    numbers = sum(array.size for array in parameters.values())
    options = {"input_shape": tuple(meta["input_shape"]), "num_classes": meta["num_classes"]}
    try:
        if part is None:
            network: Layer = build_model(
                config.model,
                **options,
                bias=config.bias,
                seed=WithinReason(numbers),
                backend=chosen,
                dtype=np.dtype(config.dtype),
            )
        elif options["num_classes"] > numbers:
            raise CheckpointError("the checkpoint has fewer parameters than classes")
        else:
            network = build(part, dataclasses.replace(config, backend=chosen.name), **options)
        network.load_state_dict(parameters)
    except (ConfigError, ShapeError) as error:
        if part is not None and isinstance(error, ConfigError):
            raise  # the file has nothing to do with it
        raise CheckpointError(f"{path} does not describe a model: {error}") from error
    network.eval()
    return network, meta


def _fitting(config: TrainConfig, model: Any) -> Any:
    """Of several networks the one with which a run was trained; a single one as it is."""
    if not isinstance(model, (list, tuple)):
        return model
    parts = [part for part in (as_part("model", one) for one in model) if part is not None]
    if not is_own(config.model):
        return None
    checksum = config.checksums.get("model")
    same = [part for part in parts if checksum and part.checksum == checksum]
    named = [part for part in same or parts if part_name(part.text) == part_name(config.model)]
    return next(iter(named), parts[0] if len(parts) == 1 else None)


def _again(config: TrainConfig, **given: Any) -> Parts:
    """Parts that are given to read a run; a changed file is a warning."""
    parts = Parts.of(**given)
    for change in changes(config, parts):
        warnings.warn(change, stacklevel=3)
    return parts


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
