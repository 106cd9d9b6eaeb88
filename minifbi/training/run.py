"""A run and its folder: train and resume.

:mod:`minifbi.training.folder` says which files there are.  A second run into the same folder
is refused as long as the first one lives.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minifbi.backends import PREFERRED, Backend, backend_status, get_backend
from minifbi.datasets import Dataset
from minifbi.errors import CheckpointError, ConfigError, RunFolderError
from minifbi.exchange import checksum
from minifbi.files.atomic import write_json
from minifbi.files.lock import FolderLock
from minifbi.training.config import (
    TrainConfig,
    describe_regularizer,
    load_data,
    make_fbi,
    portable_path,
)
from minifbi.training.evaluation import evaluate, evaluate_penalty
from minifbi.training.folder import (
    CONFIG,
    LAST,
    RESULT,
    check_free,
    default_folder,
    give_up,
    make_folder,
    put_previous_first,
    read_config,
    read_last,
    remove_leftovers,
    save_epoch,
    write_config,
    write_log,
)
from minifbi.training.log import Progress, describe_epoch
from minifbi.training.state import RunState
from minifbi.training.trainer import Trainer

# What resuming may change.  config.json says it first: a kill before the next checkpoint leaves
# one with the old values.
CHANGEABLE = ("epochs", "backend", "check_numerics")


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
        All options of the run.
    out : path, optional
        The folder, which must not hold a run; :func:`default_folder` if left out.
    dataset : Dataset, optional
        Your own data; otherwise what the configuration names is loaded.
    quiet : bool
        Print nothing.
    figures : bool
        Draw curves.png and activations.png at the end, where there is matplotlib.

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
        config = dataclasses.replace(config, data_dir=portable_path(config.data_dir))
    if config.weights is not None:
        path = portable_path(config.weights, "weights")
        sha256 = config.weights_sha256 or checksum(config.weights)
        config = dataclasses.replace(config, weights=path, weights_sha256=sha256)
    data = dataset or load_data(config)
    trainer = Trainer(config, data)
    folder = default_folder(config) if out is None else Path(out)
    check_free(folder)
    make_folder(folder)
    with FolderLock(folder) as lock:
        check_free(folder)  # again: another run may have come in before the lock was ours
        write_config(config.to_dict(), folder)
        return _go_on(trainer, folder, lock, quiet, chosen, figures)


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    backend: str | None = None,
    check_numerics: bool | None = None,
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
    check_numerics : bool, optional
        Look, or do not look, for the first NaN from here on, whatever the configuration says.
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
    if not folder.is_dir():
        raise RunFolderError(f"{folder} holds no run: there is no such folder")
    with FolderLock(folder) as lock:
        run, note = read_last(folder)
        config = _resumed_config(folder, run)
        if epochs is not None:
            config = dataclasses.replace(config, epochs=epochs)
        chosen = ""
        if backend is not None:
            chosen = _why(backend, get_backend(backend))
            config = dataclasses.replace(config, backend=get_backend(backend).name)
        if check_numerics is not None:
            config = dataclasses.replace(config, check_numerics=check_numerics)
        trainer = Trainer(config, dataset or load_data(config), fresh=run is None)
        if run is not None:  # else it was killed before its first epoch was done: it starts again
            trainer.load_state(run)
        if note:
            put_previous_first(folder)
            Progress.warn(note)
        if trainer.epoch < config.epochs:  # not complete, or not any more
            (folder / "result.json").unlink(missing_ok=True)
            write_config(config.to_dict(), folder)
        return _go_on(trainer, folder, lock, quiet, chosen, figures)


def _resumed_config(folder: Path, run: RunState | None) -> TrainConfig:
    """The options of the run, from its checkpoint and from config.json."""
    stored = read_config(folder) if run is None or (folder / CONFIG).exists() else {}
    try:
        config = TrainConfig.from_dict(stored if run is None else run.config)
        newer = {name: stored[name] for name in CHANGEABLE if name in stored}
        new_config = dataclasses.replace(config, **newer)
    except ConfigError as error:
        raise CheckpointError(f"the configuration in {folder} cannot be used: {error}") from error
    if run is not None:
        _check_same_run(folder, config, stored)
    return new_config


def _check_same_run(folder: Path, config: TrainConfig, stored: dict[str, Any]) -> None:
    """Raise unless checkpoint.npz is that of the run that config.json, `stored`, describes."""
    for name, value in config.to_dict().items():
        if name not in CHANGEABLE and name in stored and stored[name] != value:
            raise CheckpointError(
                f"{folder / LAST} belongs to another model or run: its {name} is "
                f"{value!r}, {CONFIG} says {stored[name]!r}; nothing was changed"
            )


def _why(asked: str, backend: Backend) -> str:
    """What there is to say about the choice of the backend."""
    notes = []
    if asked == "auto":
        notes.append(f"chosen by {PREFERRED if os.environ.get(PREFERRED) else 'auto'}")
        if backend.name == "numpy":
            notes.append(f"slow; {backend_status()['numba']}")
    if not backend.warm():
        notes.append("compiling its kernels first, once, up to a minute")
    return f" ({'; '.join(notes)})" if notes else ""


def _go_on(
    trainer: Trainer,
    folder: Path,
    lock: FolderLock,
    quiet: bool,
    note: str = "",
    figures: bool = True,
) -> dict[str, Any]:
    """Train the epochs that are left, and finish the folder."""
    config, images = trainer.config, len(trainer.dataset.train)
    label = trainer.regularizer.label
    remove_leftovers(folder)
    progress = Progress(config.epochs * images, trainer.epoch * images, quiet, label=label)
    try:
        progress.say(
            f"training {config.model} on {trainer.dataset.name}: {images:,} images, "
            f"{config.epochs} epochs, {describe_regularizer(config)}, into {folder}, "
            f"backend {config.backend}{note}"
        )
        if trainer.dataset.description:
            progress.say(f"data: {trainer.dataset.description}")
        if not lock.supported:
            progress.say(f"{folder} has no locks: let no other run write into it")
        draw = _find_drawing(progress, folder) if figures else None
        if trainer.loaded is not None:
            progress.say(f"starting from {config.weights}: {trainer.loaded}")
        if trainer.epoch:
            progress.say(f"resuming after epoch {trainer.epoch}")
        while trainer.epoch < config.epochs:
            record = trainer.run_epoch(progress)
            _check_place(folder, lock)
            save_epoch(trainer.state(), folder)
            progress.say(describe_epoch(record, config.epochs, label))
        _check_place(folder, lock)
        result = _finish(trainer, folder, draw)
        accuracy = result["test_accuracy"]
        progress.say(f"test accuracy {accuracy:.4f}; figures and numbers are in {folder}")
        return result
    except OSError as error:
        raise give_up(trainer.state(), folder, lock, error) from error
    finally:
        progress.close()


def _check_place(folder: Path, lock: FolderLock) -> None:
    """Raise unless the folder still is the one in which the run began."""
    if not lock.is_ours():
        raise FileNotFoundError(errno.ENOENT, "gone or replaced during the run", str(folder))


Draw = Callable[[Trainer, Path], None]


def _find_drawing(progress: Progress, folder: Path) -> Draw | None:
    """What draws the figures of a run, if there is matplotlib.

    The plots stand above the training, which imports nothing of them; they are looked up by
    name, as backends are.  That they are missing is said before hours of training, not after.
    """
    try:
        draw: Draw = importlib.import_module("minifbi.plots").draw_run
    except ImportError as error:
        progress.say(
            f"no figures, they need matplotlib ({error}): `pip install matplotlib`, and "
            f"--resume {folder} draws them later"
        )
        return None
    return draw


def _finish(trainer: Trainer, folder: Path, draw: Draw | None) -> dict[str, Any]:
    """Test once, draw, and write result.json last: it says that the run is complete."""
    run, config, dataset = trainer.run, trainer.config, trainer.dataset
    write_log(run, folder)  # again: a kill may have come between checkpoint and log
    accuracy, loss = evaluate(trainer.model, dataset.test)
    # one measure for every network, whatever it was trained with
    fbi = evaluate_penalty(trainer.model, dataset.validation, make_fbi(config))
    last = run.records[-1]
    result: dict[str, Any] = {
        "test_accuracy": accuracy,
        "test_loss": loss,
        "val_accuracy": last["val_accuracy"],
        "gate_step": trainer.gate.step if config.penalty_weight else None,
        "fbi_loss": fbi if math.isfinite(fbi) else None,
        "task_loss": last["task_loss"],
        "penalty": last["penalty"],
        "penalty_terms": last["penalty_terms"],
        "epochs": run.epoch,
        "steps": run.step,
        "best": run.best,
        "seconds": run.seconds,
        "backend": config.backend,
        "seed": config.seed,
        "regularizer": config.regularizer,
        "regularizer_weight": config.penalty_weight,
    }
    if draw is not None:
        draw(trainer, folder)
    write_json(folder / RESULT, result)
    return result
