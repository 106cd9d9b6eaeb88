"""The folder of a run: its files, and what happens to them when something fails.

=====================  ===========================================================
config.json            all options, the backend that was chosen, versions
metrics.jsonl          one JSON object per epoch
metrics.csv            the same, as a table for spreadsheets and pandas
checkpoint.npz         everything to go on from the last finished epoch
previous.npz           the same, of the epoch before; taken if checkpoint.npz is damaged
best.npz               the same, of the epoch with the best validation accuracy
curves.png             losses, accuracy, the gate's moment
activations.png        one test image through the net, in the manner of Fig. 2
result.json            the final numbers; only a finished run has it
damaged.npz            a checkpoint.npz that could not be read, if there was one
=====================  ===========================================================

Every file is written whole or not at all.  checkpoint.npz is the truth:
metrics.jsonl and metrics.csv are made from it anew each epoch, so that they never disagree.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.errors import CheckpointError, RunFolderError
from minifbi.files.atomic import keep_copy, write_json, write_text
from minifbi.files.checkpoint import load_checkpoint
from minifbi.files.lock import FolderLock
from minifbi.files.source import part_name
from minifbi.files.strict_json import read_json
from minifbi.training.config import TrainConfig
from minifbi.training.state import RunState

CONFIG, LOG, TABLE, RESULT = "config.json", "metrics.jsonl", "metrics.csv", "result.json"
LAST, PREVIOUS, BEST = "checkpoint.npz", "previous.npz", "best.npz"
CURVES, ACTIVATIONS = "curves.png", "activations.png"
FILES = (CONFIG, LOG, TABLE, LAST, PREVIOUS, BEST, CURVES, ACTIVATIONS, RESULT)
DAMAGED = "damaged.npz"


def default_folder(config: TrainConfig) -> Path:
    """A fresh folder under ``runs/`` named after what is trained.

    Parameters
    ----------
    config : TrainConfig
        The run that the folder is for.

    Returns
    -------
    Path
    """
    weight = f"{config.penalty_weight:g}"
    kind = part_name(config.regularizer)
    kind = f"fbi{weight}" if config.regularizer == "fbi" else f"{kind}-{weight}"
    if not config.penalty_weight:
        kind = "conventional"
    data = part_name(config.dataset if config.data_dir is None else Path(config.data_dir).name)
    name = f"{part_name(config.model)}-{data}-{kind}-seed{config.seed}"
    name = re.sub(r"[^\w.=+-]", "_", name)  # parts of one's own may be called anything
    folder, count = Path("runs") / name, 1
    while folder.exists():
        count += 1
        folder = Path("runs") / f"{name}-{count}"
    return folder


def check_free(folder: Path) -> None:
    """Raise RunFolderError if the folder holds a run already; nothing is touched."""
    found = [name for name in FILES if (folder / name).exists()]
    if found:
        raise RunFolderError(
            f"{folder} already holds a run ({', '.join(found)}); nothing was changed. "
            f"Choose another --out, or go on with --resume {folder}"
        )


def make_folder(folder: Path) -> None:
    """Make the folder of a new run.

    Raises
    ------
    RunFolderError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make the folder {folder}: {error.strerror}") from error


def remove_leftovers(folder: Path) -> None:
    """Delete what a kill in the middle of writing has left behind."""
    for name in FILES:
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    """The options in config.json.

    Raises
    ------
    RunFolderError
        If there is no such file.
    CheckpointError
        If it is damaged.
    """
    try:
        values = read_json(folder / CONFIG)
        if not isinstance(values, dict):
            raise ValueError(f"it holds {str(values)[:40]!r}; expected the options by name")
        values.pop("versions", None)
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no run: it has neither {LAST} nor {CONFIG}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {folder / CONFIG}: {error}") from error
    return values


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    """Write config.json: the options, and the versions of what runs."""
    from minifbi import __version__

    versions = {
        "minifbi": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    write_json(folder / CONFIG, {**config, "versions": versions})


# ---- checkpoints -------------------------------------------------------------------------
def save_epoch(run: RunState, folder: Path) -> None:
    """Write the checkpoints and the log of an epoch that has just ended.

    Each file is at every moment whole, and checkpoint.npz or, while it is being replaced,
    the file that it was, is always there.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    if run.best["epoch"] == run.epoch:
        run.save(folder / BEST)
    run.save(folder / LAST, previous=folder / PREVIOUS)
    write_log(run, folder)


def write_log(run: RunState, folder: Path) -> None:
    """Write metrics.jsonl and metrics.csv from the run's records."""
    text = "".join(json.dumps(record) + "\n" for record in run.records)
    write_text(folder / LOG, text)
    write_text(folder / TABLE, records_as_csv(run.records))


def records_as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """The records of epochs as a table: a head, then one row per epoch.

    Parameters
    ----------
    records : sequence of mapping
        As in ``metrics.jsonl``.

    Returns
    -------
    str
        A term of the penalty has the column ``penalty_terms.NAME``; what an epoch did not measure
        is an empty cell.
    """
    rows = []
    for record in records:
        plain = {name: value for name, value in record.items() if name != "penalty_terms"}
        terms = record["penalty_terms"] or {}
        rows.append(plain | {f"penalty_terms.{name}": value for name, value in terms.items()})
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    table = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def read_last(folder: Path) -> tuple[RunState | None, str]:
    """The newest checkpoint of a run that can be read.

    Returns
    -------
    run : RunState or None
        None if the run has no checkpoint yet.
    note : str
        What there is to say if checkpoint.npz is not the one; else empty.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none can be read, or what one says cannot be right.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists() and not previous.exists():
        return None, ""
    note = ""
    try:
        arrays, meta = load_checkpoint(last)
    except CheckpointError as error:
        if not previous.exists():
            raise
        damage = str(error).partition(";")[0]
        try:
            arrays, meta = load_checkpoint(previous)
        except CheckpointError as second:
            raise CheckpointError(f"{damage}; {second}") from second
        kept = f" (kept as {DAMAGED})" if last.exists() else ""
        note = f"{damage}{kept}; going on from {previous}, after epoch {meta.get('epoch')}"
    return RunState.from_checkpoint(arrays, meta, str(folder)), note


def put_previous_first(folder: Path) -> None:
    """Let previous.npz stand for a checkpoint.npz that cannot be read.

    Without this the damaged file would become the next previous.npz.
    """
    last = folder / LAST
    if last.exists():
        os.replace(last, folder / DAMAGED)
    keep_copy(folder / PREVIOUS, last)


def give_up(run: RunState, folder: Path, lock: FolderLock, error: OSError) -> RunFolderError:
    """The error for a folder that cannot be written to, once the state is safe elsewhere.

    What has been trained since the last checkpoint is in memory only.  It goes to a new
    folder for temporary files, from where the run can go on.

    Parameters
    ----------
    run : RunState
        As it is in memory.
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
    if not run.epoch:
        return RunFolderError(f"{problem}; no epoch was finished yet")
    try:
        refuge = Path(tempfile.mkdtemp(prefix="minifbi-"))
    except OSError:
        refuge = None
    if refuge is not None:
        try:
            if (folder / BEST).exists():
                shutil.copyfile(folder / BEST, refuge / BEST)
            save_epoch(run, refuge)
            write_config(run.config, refuge)
            return RunFolderError(
                f"{problem}; the run after epoch {run.epoch} is in {refuge}, "
                f"go on with --resume {refuge}"
            )
        except OSError:  # the same disk, and full
            shutil.rmtree(refuge, ignore_errors=True)
    kept = f"finished epochs are kept, go on with --resume {folder}" if lock.is_ours() else ""
    return RunFolderError(f"{problem}; {kept or 'there was no other place to save it'}")
