"""A run and its folder: what is written, when, and how a run is resumed.

=====================  ===========================================================
config.json            all options, the backend that was chosen, versions
metrics.jsonl          one JSON object an epoch
checkpoint.npz         everything to go on from the last finished epoch
best.npz               the same, of the epoch with the best validation accuracy
curves.png             losses, accuracy, the gate's moment
activations.png        one test image through the net, in the manner of Fig. 2
result.json            the final numbers; only a finished run has it
=====================  ===========================================================

Every file is written whole or not at all.  checkpoint.npz is the truth:
metrics.jsonl is made from it anew each epoch, so that the two never disagree.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.backends import PREFERRED, Backend, backend_status, get_backend
from minifbi.datasets import Dataset, load_dataset
from minifbi.errors import CheckpointError, ConfigError, MinifbiError, ShapeError
from minifbi.layers import Sequential
from minifbi.models import build_model
from minifbi.training.checkpoint import load_checkpoint, save_checkpoint, write_json, write_text
from minifbi.training.config import TrainConfig
from minifbi.training.evaluation import evaluate
from minifbi.training.figures import draw_run
from minifbi.training.folder import FILES, RunFolderError, claim_folder, default_folder
from minifbi.training.from_config import describe_regularizer
from minifbi.training.progress import Progress, describe_epoch
from minifbi.training.trainer import Trainer


def _load_data(config: TrainConfig) -> Dataset:
    """What the configuration names; a folder goes by its own name, unless it is a known set's."""
    name: str | None = config.dataset
    if config.data_dir is not None and config.dataset == TrainConfig.dataset:
        name = Path(config.data_dir).name
    return load_dataset(name or "data", data_dir=config.data_dir, num_classes=config.num_classes)


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    dataset: Dataset | None = None,
    quiet: bool = False,
    figures: bool = True,
) -> dict[str, Any]:
    """Train from the start and write a run folder.

    Parameters
    ----------
    config : TrainConfig
    out : path, optional
        The folder, which must not hold a run; :func:`default_folder` if left out.
    dataset : Dataset, optional
        Your own data; otherwise what the configuration names is loaded.
    quiet : bool
        Print nothing.
    figures : bool
        Draw curves.png and activations.png at the end; this needs matplotlib.

    Returns
    -------
    dict
        The contents of ``result.json``.

    Raises
    ------
    MinifbiError, OSError
        One clear message each; what was written before stays.
    """
    backend = get_backend(config.backend)
    chosen = _why(config.backend, backend)
    config = dataclasses.replace(config, backend=backend.name)
    if config.regularizer not in ("fbi", "none"):  # a later version may have another default
        config = dataclasses.replace(config, regularizer_weight=config.penalty_weight)
    if config.data_dir is not None:  # so that --resume finds it from anywhere
        config = dataclasses.replace(config, data_dir=str(Path(config.data_dir).resolve()))
    data = dataset or _load_data(config)
    trainer = Trainer(config, data)
    folder = default_folder(config) if out is None else Path(out)
    claim_folder(folder)
    write_json(folder / "config.json", {**config.to_dict(), "versions": _versions()})
    return _go_on(trainer, folder, quiet, chosen, figures)


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    backend: str | None = None,
    dataset: Dataset | None = None,
    quiet: bool = False,
    figures: bool = True,
) -> dict[str, Any]:
    """Go on with an interrupted run from its last finished epoch.

    Parameters
    ----------
    folder : path
        A run folder.
    epochs : int, optional
        Train up to this many epochs instead of those in the configuration.
    backend : str, optional
        Where to go on, if not where the run was: checkpoints fit every backend, and the
        numbers agree to rounding.  config.json and result.json name this one then.
    dataset : Dataset, optional
        The data of the run, if it did not come from the configuration.
    quiet, figures : bool
        As in :func:`train`.

    Returns
    -------
    dict
        The contents of ``result.json``.

    Raises
    ------
    RunFolderError, CheckpointError
        If the folder holds no run, or its checkpoint cannot be used.
    """
    folder = Path(folder)
    checkpoint = folder / "checkpoint.npz"
    if checkpoint.exists():
        arrays, meta = load_checkpoint(checkpoint)
        values = meta.get("config")
    else:  # killed before the first epoch was done: start again with the same options
        arrays, meta = {}, {}
        values = _read_config(folder)
    try:
        config = TrainConfig.from_dict(values)  # type: ignore[arg-type]
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"the configuration in {folder} cannot be used: {error}") from error
    if meta and (folder / "config.json").exists():
        _check_same_run(folder, config)
    if epochs is not None:
        config = dataclasses.replace(config, epochs=epochs)
    chosen = ""
    if backend is not None:
        chosen = _why(backend, get_backend(backend))
        config = dataclasses.replace(config, backend=get_backend(backend).name)
    data = dataset or _load_data(config)
    trainer = Trainer(config, data)
    if meta:
        trainer.load_state(arrays, meta)
    if trainer.epoch < config.epochs:  # not complete, or not any more
        write_json(folder / "config.json", {**config.to_dict(), "versions": _versions()})
        (folder / "result.json").unlink(missing_ok=True)
    return _go_on(trainer, folder, quiet, chosen, figures)


def _check_same_run(folder: Path, config: TrainConfig) -> None:
    """Raise unless checkpoint.npz is that of the run that config.json describes.

    Epochs and backend are what resuming may change: a kill before the next checkpoint leaves
    the old ones there.
    """
    ours, stored = config.to_dict(), _read_config(folder)
    for name, value in ours.items():
        if name not in ("epochs", "backend") and name in stored and stored[name] != value:
            raise CheckpointError(
                f"{folder / 'checkpoint.npz'} belongs to another model or run: its {name} is "
                f"{value!r}, config.json says {stored[name]!r}; nothing was changed"
            )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values.pop("versions", None)
    except FileNotFoundError:
        raise RunFolderError(
            f"{folder} holds no run: it has neither checkpoint.npz nor config.json"
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"cannot read {folder / 'config.json'}: {error}") from error
    return dict(values)


def _versions() -> dict[str, str]:
    from minifbi import __version__

    return {"minifbi": __version__, "numpy": np.__version__, "python": platform.python_version()}


def _why(asked: str, backend: Backend) -> str:
    """What there is to say about the choice of the backend."""
    notes = []
    if asked == "auto":
        notes.append(f"chosen by {PREFERRED if os.environ.get(PREFERRED) else 'auto'}")
        if backend.name == "numpy":
            notes.append(f"slow; {backend_status()['numba']}")
    if not backend.warm():
        notes.append("compiling its kernels first, once, about half a minute")
    return f" ({'; '.join(notes)})" if notes else ""


def _go_on(
    trainer: Trainer, folder: Path, quiet: bool, note: str = "", figures: bool = True
) -> dict[str, Any]:
    """Train the epochs that are left, and finish the folder."""
    if figures:
        try:  # before hours of training, not after
            importlib.import_module("minifbi.plots")
        except ImportError as error:
            raise MinifbiError(
                f"figures need matplotlib: {error}; `pip install matplotlib`"
            ) from error
    config, images = trainer.config, len(trainer.dataset.train)
    label = trainer.regularizer.label
    for name in FILES:  # what a kill in the middle of writing has left behind
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)
    progress = Progress(config.epochs * images, trainer.epoch * images, quiet, label=label)
    try:
        progress.say(
            f"training {config.model} on {trainer.dataset.name}: {images:,} images, "
            f"{config.epochs} epochs, {describe_regularizer(config)}, into {folder}, "
            f"backend {config.backend}{note}"
        )
        if trainer.epoch:
            progress.say(f"resuming after epoch {trainer.epoch}")
        while trainer.epoch < config.epochs:
            record = trainer.run_epoch(progress)
            arrays, meta = trainer.state()
            if trainer.best["epoch"] == trainer.epoch:
                save_checkpoint(folder / "best.npz", arrays, meta)
            save_checkpoint(folder / "checkpoint.npz", arrays, meta)
            _write_log(trainer, folder)
            progress.say(describe_epoch(record, config.epochs, label))
    finally:
        progress.close()
    return _finish(trainer, folder, progress, figures)


def _write_log(trainer: Trainer, folder: Path) -> None:
    text = "".join(json.dumps(record) + "\n" for record in trainer.records)
    write_text(folder / "metrics.jsonl", text)


def _finish(trainer: Trainer, folder: Path, progress: Progress, figures: bool) -> dict[str, Any]:
    """Test once, draw, and write result.json last: it says that the run is complete."""
    _write_log(trainer, folder)  # again: a kill may have come between checkpoint and log
    dataset, config, last = trainer.dataset, trainer.config, trainer.records[-1]
    accuracy, loss = evaluate(trainer.model, dataset.test)
    result: dict[str, Any] = {
        "test_accuracy": accuracy,
        "test_loss": loss,
        "val_accuracy": last["val_accuracy"],
        "gate_step": trainer.gate.step if config.penalty_weight else None,
        "fbi_loss": last["fbi_loss"],
        "fbi_terms": last["fbi_terms"],
        "task_loss": last["task_loss"],
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "best": trainer.best,
        "seconds": trainer.seconds,
        "backend": config.backend,
        "seed": config.seed,
        "regularizer": config.regularizer,
        "regularizer_weight": config.penalty_weight,
        **{name: last[name] for name in ("penalty", "penalty_terms") if name in last},
    }
    if figures:
        draw_run(trainer, folder)
    write_json(folder / "result.json", result)
    progress.say(f"test accuracy {accuracy:.4f}; figures and numbers are in {folder}")
    return result


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
    config = TrainConfig.from_dict(meta["config"])
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=str(data_dir))
    data = _load_data(config)
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
            backend=backend,
            dtype=np.dtype(config.dtype),
        )
        model.load_state_dict(arrays["parameters"])
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} does not describe a model: {error}") from error
    model.eval()
    return model, meta
