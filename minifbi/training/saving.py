"""What is written after each epoch, what is read to go on, and what happens if neither works."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from minifbi.errors import CheckpointError
from minifbi.training.checkpoint import (
    keep_copy,
    load_checkpoint,
    save_checkpoint,
    write_json,
    write_text,
)
from minifbi.training.lock import FolderLock, RunFolderError
from minifbi.training.trainer import Trainer

LAST, PREVIOUS, BEST = "checkpoint.npz", "previous.npz", "best.npz"
DAMAGED = "damaged.npz"


def save_epoch(trainer: Trainer, folder: Path) -> None:
    """Write the checkpoints and the log of an epoch that has just ended.

    Each file is at every moment whole, and checkpoint.npz or, while it is being replaced,
    the file that it was, is always there.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    arrays, meta = trainer.state()
    if trainer.best["epoch"] == trainer.epoch:
        save_checkpoint(folder / BEST, arrays, meta)
    save_checkpoint(folder / LAST, arrays, meta, previous=folder / PREVIOUS)
    write_log(trainer, folder)


def write_log(trainer: Trainer, folder: Path) -> None:
    """Write metrics.jsonl from what the trainer remembers."""
    text = "".join(json.dumps(record) + "\n" for record in trainer.records)
    write_text(folder / "metrics.jsonl", text)


def read_last(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The newest checkpoint of a run that can be read.

    Returns
    -------
    arrays, meta
        As :func:`load_checkpoint` gives them; both empty if the run has no checkpoint yet.
    note : str
        What there is to say if checkpoint.npz is not the one; else empty.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none can be read.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists() and not previous.exists():
        return {}, {}, ""
    try:
        return (*load_checkpoint(last), "")
    except CheckpointError as error:
        if not previous.exists():
            raise
        damage = str(error).partition(";")[0]
    try:
        arrays, meta = load_checkpoint(previous)
    except CheckpointError as error:
        raise CheckpointError(f"{damage}; {error}") from error
    if last.exists():
        damage += f" (kept as {DAMAGED})"
    return arrays, meta, f"{damage}; going on from {previous}, after epoch {meta.get('epoch')}"


def put_previous_first(folder: Path) -> None:
    """Let previous.npz stand for a checkpoint.npz that cannot be read.

    Without this the damaged file would become the next previous.npz.
    """
    last = folder / LAST
    if last.exists():
        os.replace(last, folder / DAMAGED)
    keep_copy(folder / PREVIOUS, last)


def give_up(trainer: Trainer, folder: Path, lock: FolderLock, error: OSError) -> RunFolderError:
    """The error for a folder that cannot be written to, once the state is safe elsewhere.

    What has been trained since the last checkpoint is in memory only.  It goes to a new
    folder for temporary files, from where the run can go on.

    Parameters
    ----------
    trainer : Trainer
    folder : Path
        The run's folder.
    lock : FolderLock
        The lock on it.
    error : OSError
        Why the folder cannot be used.

    Returns
    -------
    RunFolderError
        Says what happened, what is kept where, and how to go on.
    """
    place = f" {error.filename}" if error.filename else ""
    problem = f"{error.strerror or error}{place}"
    if not lock.is_ours():
        problem = f"the folder {folder} is gone or was replaced during the run"
    if not trainer.epoch:
        return RunFolderError(f"{problem}; no epoch was finished yet")
    try:
        refuge = Path(tempfile.mkdtemp(prefix="minifbi-"))
    except OSError:
        refuge = None
    if refuge is not None:
        try:
            if (folder / BEST).exists():
                shutil.copyfile(folder / BEST, refuge / BEST)
            save_epoch(trainer, refuge)
            write_json(refuge / "config.json", trainer.config.to_dict())
            return RunFolderError(
                f"{problem}; the run after epoch {trainer.epoch} is in {refuge}, "
                f"go on with --resume {refuge}"
            )
        except OSError:  # the same disk, and full
            shutil.rmtree(refuge, ignore_errors=True)
    kept = f"finished epochs are kept, go on with --resume {folder}" if lock.is_ours() else ""
    return RunFolderError(f"{problem}; {kept or 'there was no other place to save it'}")
