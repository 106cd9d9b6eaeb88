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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from minifbi.backends import PREFERRED, Backend, backend_status, get_backend
from minifbi.datasets import Dataset
from minifbi.errors import CheckpointError, ConfigError, RunFolderError
from minifbi.exchange import checksum
from minifbi.files.atomic import write_json
from minifbi.files.lock import FolderLock
from minifbi.files.source import OWN, is_own, part_name
from minifbi.layers import Layer
from minifbi.regularizers import Regularizer
from minifbi.rules import Composite, Rule
from minifbi.training.callbacks import Callback
from minifbi.training.config import (
    CUSTOM,
    TrainConfig,
    describe_regularizer,
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
from minifbi.training.part import Given
from minifbi.training.parts import Parts, check_resumed
from minifbi.training.schedule import Schedule
from minifbi.training.state import RunState
from minifbi.training.trainer import Trainer

# What resuming may change.  config.json says it first: a kill before the next checkpoint leaves
# one with the old values.
CHANGEABLE = ("epochs", "backend", "check_numerics", "checksums")


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    model: Layer | Given | None = None,
    regularizer: Regularizer | Given | None = None,
    rule: Rule | Composite | Given | None = None,
    dataset: Dataset | Given | None = None,
    callbacks: Iterable[Callback] = (),
    schedule: Schedule | None = None,
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
    model, regularizer, rule, dataset : object, function or str, optional
        Parts of your own, in the place of those that the configuration names: the
        :class:`~minifbi.layers.Layer`, :class:`~minifbi.regularizers.Regularizer`,
        :class:`~minifbi.rules.Rule` or :class:`~minifbi.rules.Composite`, or
        :class:`~minifbi.datasets.Dataset` itself; a function or class that makes it; or
        ``"FILE.py:function"``, for which the file is run.  A function that makes a network gets
        `input_shape`, `num_classes`, `seed`, `backend`, `dtype` and `bias`, as far as it takes
        them; the others get nothing.  The network is brought to the configuration's backend and
        dtype.
    callbacks : iterable of Callback
        Your own code at the moments of the training; see :class:`minifbi.training.Callback`.
    schedule : callable, optional
        Your own schedule of the learning rate, in the place of ``config.schedule``.  Before each
        update it gets the epochs done so far as a float, with fractions (2.5 is the middle of the
        third epoch), and returns the factor of ``config.lr``.
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
    parts = Parts.of(model=model, regularizer=regularizer, rule=rule, dataset=dataset)
    config = parts.named_in(config)
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
    trainer = _trainer(config, parts, callbacks=callbacks, schedule=schedule)
    config = trainer.config
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
    model: Layer | Given | None = None,
    regularizer: Regularizer | Given | None = None,
    rule: Rule | Composite | Given | None = None,
    dataset: Dataset | Given | None = None,
    changed_parts: bool = False,
    callbacks: Iterable[Callback] = (),
    schedule: Schedule | None = None,
    quiet: bool = False,
    figures: bool = True,
) -> dict[str, Any]:
    """Go on with an interrupted run from its last finished epoch.

    Parameters
    ----------
    folder : path
        A run folder.
    epochs : int, optional
        Train up to this many epochs instead of those in the configuration.  A run that was stopped
        early is complete, and goes on only if this asks for more epochs.
    backend : str, optional
        Where to go on, if not where the run was: checkpoints fit every backend, and the
        numbers agree to rounding.  config.json and result.json name this one then.
    check_numerics : bool, optional
        Look, or do not look, for the first NaN from here on, whatever the configuration says.
    model, regularizer, rule, dataset : object, function or str, optional
        The parts of the run that were your own, as in :func:`train`.  No file that a run names is
        opened, so that each must be given again.
    changed_parts : bool
        Go on although the file of such a part is no longer the one that the run began with.
    callbacks, schedule
        Those that the run was started with, which no file holds.  What the callbacks remember is
        in the checkpoint.
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
    ConfigError
        If the run had a part or a schedule of one's own and none is given, or the other way
        round; or if the file of a part has changed.
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
        if schedule is not None and config.schedule != CUSTOM:
            raise ConfigError(
                f"the run in {folder} has schedule={config.schedule!r}; resume it without another"
            )
        parts = Parts.of(model=model, regularizer=regularizer, rule=rule, dataset=dataset)
        for change in check_resumed(config, parts, folder, changed_parts):
            Progress.warn(change)
        data_name = config.dataset
        config = parts.named_in(config)
        if not is_own(data_name):
            config = dataclasses.replace(config, dataset=data_name)
        options = {"callbacks": callbacks, "schedule": schedule, "fresh": run is None}
        trainer = _trainer(config, parts, **options)
        if run is not None:  # else it was killed before its first epoch was done: it starts again
            trainer.load_state(run)
            for name in trainer.callbacks.missing(run.callbacks):
                Progress.warn(f"the run had a callback {name}, and goes on without it")
        if epochs is not None and epochs > trainer.epoch:
            trainer.run.stopped = None
        if note:
            put_previous_first(folder)
            Progress.warn(note)
        if not trainer.done:
            (folder / "result.json").unlink(missing_ok=True)
            write_config(config.to_dict(), folder)
        return _go_on(trainer, folder, lock, quiet, chosen, figures)


def _trainer(config: TrainConfig, parts: Parts, **options: Any) -> Trainer:
    data = parts.make_data(config)
    return Trainer(
        config, data, parts.model, regularizer=parts.regularizer, rule=parts.rule, **options
    )


def _resumed_config(folder: Path, run: RunState | None) -> TrainConfig:
    """The options of the run, from its checkpoint and from config.json."""
    stored = read_config(folder) if run is None or (folder / CONFIG).exists() else {}
    try:
        config = TrainConfig.from_run(stored if run is None else run.config)
        newer = {
            name: stored[name]
            for name, value in config.to_dict().items()
            if name in stored and (name in CHANGEABLE or (is_own(value) and is_own(stored[name])))
        }
        new_config = dataclasses.replace(config, **newer)
    except ConfigError as error:
        raise CheckpointError(f"the configuration in {folder} cannot be used: {error}") from error
    if run is not None:
        _check_same_run(folder, config, stored)
    return new_config


def _check_same_run(folder: Path, config: TrainConfig, stored: dict[str, Any]) -> None:
    """Raise unless checkpoint.npz is that of the run that config.json, `stored`, describes."""
    for name, value in config.to_dict().items():
        if name in CHANGEABLE or stored.get(name, value) == value:
            continue
        if not (is_own(value) and (is_own(stored[name]) or value == f"{OWN}{stored[name]}")):
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
    trainer.folder = folder
    progress = Progress(config.epochs * images, trainer.epoch * images, quiet, label=label)
    try:
        progress.say(
            f"training {part_name(config.model)} on {trainer.dataset.name}: {images:,} images, "
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
        trainer.callbacks.tell("on_train_begin", trainer)
        while not trainer.done:
            record = trainer.run_epoch(progress)
            _check_place(folder, lock)
            save_epoch(trainer.state(), folder)
            progress.say(describe_epoch(record, config.epochs, label))
        _check_place(folder, lock)
        if trainer.run.stopped is not None:
            progress.say(f"stopped after epoch {trainer.epoch}: {trainer.run.stopped}")
        result = _finish(trainer, folder, draw)
        accuracy = result["test_accuracy"]
        progress.say(f"test accuracy {accuracy:.4f}; figures and numbers are in {folder}")
        trainer.callbacks.tell("on_train_end", trainer, result)
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
    fbi = evaluate_penalty(trainer.model, dataset.validation, trainer.parts.make_fbi(config))
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
        "stopped": run.stopped,
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
