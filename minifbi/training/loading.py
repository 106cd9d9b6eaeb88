"""The data of a run, and the model that it left behind."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.backends import get_backend
from minifbi.datasets import Dataset, load_dataset
from minifbi.errors import CheckpointError, ConfigError, ShapeError
from minifbi.layers import Sequential
from minifbi.models import build_model
from minifbi.training.checkpoint import load_checkpoint
from minifbi.training.config import TrainConfig
from minifbi.training.meta import TO_BUILD, WithinReason, check_meta


def portable_path(path: str) -> str:
    """A folder in Unicode, as a run stores it: the same in every locale.

    Raises
    ------
    ConfigError
        If the bytes of its name are not UTF-8: no JSON file could hold it.
    """
    try:
        return os.fsencode(os.path.realpath(path)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"data_dir={path!r}: expected a name in UTF-8 ({error.reason}); rename the folder"
        ) from error


def _native_path(path: str) -> str:
    """The other way round: as the locale of this process has it."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def load_data(config: TrainConfig) -> Dataset:
    """What the configuration names; a folder goes by its own name, unless it is a known set's."""
    name: str | None = config.dataset
    folder = None if config.data_dir is None else _native_path(config.data_dir)
    if folder is not None and config.dataset == TrainConfig.dataset:
        # the same letters in every locale, and none that cannot be drawn
        name = os.fsencode(Path(folder).name).decode("utf-8", "replace")
    return load_dataset(name or "data", data_dir=folder, num_classes=config.num_classes)


def load_run_data(meta: Mapping[str, Any], data_dir: str | Path | None = None) -> Dataset:
    """The data set that a checkpoint was trained on.

    Parameters
    ----------
    meta : mapping
        What :func:`load_model` returns beside the model.
    data_dir : path, optional
        Folder with the four IDX files, where they are not what the configuration names.

    Raises
    ------
    MinifbiError
        If the data cannot be loaded, or its images are not those of the model.
    """
    check_meta(meta, TO_BUILD)
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
    arrays, meta = load_checkpoint(path / "checkpoint.npz" if path.is_dir() else path)
    check_meta(meta, TO_BUILD, str(path))
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
