"""The model that a run left behind, and the data that it was trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.backends import get_backend
from minifbi.datasets import Dataset
from minifbi.errors import CheckpointError, ConfigError, ShapeError
from minifbi.files.checkpoint import load_checkpoint
from minifbi.layers import Sequential
from minifbi.models import build_model
from minifbi.training.config import TrainConfig, load_data
from minifbi.training.folder import LAST
from minifbi.training.state import RunState

TO_BUILD = ("config", "input_shape", "num_classes")  # what the network of a checkpoint needs


def load_run_data(meta: Mapping[str, Any], data_dir: str | Path | None = None) -> Dataset:
    """The data set that a checkpoint was trained on.

    Parameters
    ----------
    meta : mapping
        What :func:`load_model` returns beside the model.
    data_dir : path, optional
        File or folder with the data, where they are not where the configuration says.

    Raises
    ------
    MinifbiError
        If the data cannot be loaded, or its images are not those of the model.
    """
    RunState.check(meta, TO_BUILD)
    config = TrainConfig.from_dict(meta["config"])
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=str(data_dir))
    data = load_data(config)
    if list(data.image_shape) != list(meta["input_shape"]):
        raise ShapeError(
            f"images of {data.name} are {data.image_shape}, the model was trained on "
            f"{tuple(meta['input_shape'])}; give the data of the run with data_dir"
        )
    return data


def load_model(
    checkpoint: str | Path, *, backend: str = "auto"
) -> tuple[Sequential, dict[str, Any]]:
    """Rebuild a trained model from ``checkpoint.npz`` or ``best.npz``.

    Parameters
    ----------
    checkpoint : path
        The file, or a run folder (its checkpoint.npz is taken then).
    backend : str
        Any: a model may be trained on one backend and used on another.

    Returns
    -------
    model : Sequential, in evaluation mode
    meta : dict
        What else the checkpoint says: "config", "epoch", "records", ...

    Raises
    ------
    CheckpointError
        If the file cannot be used.
    """
    path = Path(checkpoint)
    arrays, meta = load_checkpoint(path / LAST if path.is_dir() else path)
    RunState.check(meta, TO_BUILD, str(path))
    parameters, chosen = arrays.get("parameters", {}), get_backend(backend)
    try:
        stored = meta["config"]
        # these and no more: a regularizer of one's own need not be known to use the model
        config = TrainConfig.from_dict(
            {name: stored[name] for name in ("model", "dtype", "bias") if name in stored}
        )
        model = build_model(
            config.model,
            input_shape=tuple(meta["input_shape"]),
            num_classes=meta["num_classes"],
            bias=config.bias,
            seed=WithinReason(sum(array.size for array in parameters.values())),
            backend=chosen,
            dtype=np.dtype(config.dtype),
        )
        model.load_state_dict(parameters)
    except (ConfigError, ShapeError) as error:
        raise CheckpointError(f"{path} does not describe a model: {error}") from error
    model.eval()
    return model, meta


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
