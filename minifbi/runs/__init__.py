"""Many runs side by side: what was asked for, how far each is, and what came out.

``python -m minifbi.runs FOLDER`` prints this as a table and draws the curves together.  Everything
is read from the JSON files of the run folders; a network or a file of code that a run names is
shown as text and never imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minifbi.errors import CheckpointError, RunFolderError
from minifbi.files.lock import is_locked
from minifbi.files.strict_json import MAX_BYTES, check_regular, parse_json, read_json
from minifbi.training.folder import CONFIG, LAST, LOG, RESULT, read_config
from minifbi.training.state import having, is_count, is_number, is_record, or_none

__all__ = ["SUMMARY", "differences", "find_runs", "read_run", "read_runs"]

SUMMARY = (
    "name",
    "state",
    "epochs",
    "epochs_asked",
    "gate_epoch",
    "val_accuracy",
    "test_accuracy",
    "task_loss",
    "penalty",
    "fbi_loss",
    "seconds",
    "stopped",
)
"""What :func:`read_run` says of a run beside its options."""

NAMED = ("dataset", "data_dir", "fbi_rule", "fbi_weight", "regularizer_weight")
"""Options that stand under other names: data, rule, weight."""
DEEPEST = 8  # levels of folders that are searched

Complain = Callable[[str], None]


def read_runs(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    complain: Complain | None = None,
) -> list[dict[str, Any]]:
    """Read all runs in these folders.

    Parameters
    ----------
    folders : path, or iterable of path
        Run folders, or folders that hold some, at any depth up to 8.
    complain : callable, optional
        Is told, in a line each, of folders that hold no run and of runs that cannot be read,
        which are then left out.

    Returns
    -------
    list of dict
        As :func:`read_run` returns them, in the order of the folders' names.

    Raises
    ------
    RunFolderError, CheckpointError
        For the first such folder, if there is no `complain`.

    Examples
    --------
    The best of a sweep::

        best = max(read_runs("runs"), key=lambda run: run["test_accuracy"] or 0)
        print(best["name"], best["options"]["weight"])
    """
    found = []
    for path in find_runs(folders, complain):
        try:
            found.append(read_run(path))
        except (RunFolderError, CheckpointError) as error:
            if complain is None:
                raise
            complain(str(error))
    return found


def find_runs(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    complain: Complain | None = None,
) -> list[Path]:
    """The run folders among these folders and in them.

    Parameters
    ----------
    folders, complain
        As :func:`read_runs` takes them.

    Returns
    -------
    list of Path
        Each once.

    Raises
    ------
    RunFolderError
        If one holds no run, and there is no `complain`.
    """

    def foreign(folder: Path) -> None:
        what = "holds no run" if folder.is_dir() else "is not a folder"
        if complain is None:
            raise RunFolderError(f"{folder} {what}")
        complain(f"{folder} {what}")

    given = [folders] if isinstance(folders, (str, os.PathLike)) else folders
    found: dict[Path, None] = {}
    for folder in map(Path, given):
        inside = _search(folder, foreign)
        found |= dict.fromkeys(inside)
        if not inside:
            foreign(folder)
    return list(found)


def _search(folder: Path, foreign: Callable[[Path], None], depth: int = 0) -> list[Path]:
    """The runs in a folder; those of its own folders that hold none are reported."""
    if any((folder / name).exists() for name in (CONFIG, LAST)):
        return [folder]
    try:
        # no link is followed that could lead out of here, or round in a circle
        inner = sorted(e.name for e in os.scandir(folder) if e.is_dir(follow_symlinks=False))
    except OSError:
        return []
    found, without = [], []
    for name in inner if depth < DEEPEST else []:
        inside = _search(folder / name, foreign, depth + 1)
        found += inside
        if not inside and not name.startswith("."):
            without.append(folder / name)
    for empty in without if found else []:
        foreign(empty)
    return found


def read_run(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a run folder says, without its arrays.

    Parameters
    ----------
    folder : path
        A run folder, also of a run that goes on or was interrupted.

    Returns
    -------
    dict
        The names in :data:`SUMMARY`: name (the folder as given), state ("complete",
        "running", "interrupted"), epochs done and asked for, the epoch in which the gate opened,
        accuracies and losses of the last epoch, test accuracy and FBI loss of a complete run,
        seconds, why it stopped early; None where there is nothing to say.  "options" is a dict with
        model, data, regularizer, weight, rule, and all others of the configuration; "records"
        is the list of the epochs' records.

    Raises
    ------
    RunFolderError
        If it is not a run folder.
    CheckpointError
        If one of its files is damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    if not isinstance(config.get("model"), str) or not is_count(config.get("epochs")):
        raise RunFolderError(f"{folder / CONFIG} is not that of a run: it names no model or epochs")
    records, result = _records(folder / LOG), _result(folder / RESULT)
    last = records[-1] if records else {}
    gates = [record["epoch"] for record in records if record["penalty_active"]]
    state = "complete" if result else "running" if is_locked(folder) else "interrupted"
    return {
        "name": str(folder),
        "state": state,
        "epochs": len(records),
        "epochs_asked": config["epochs"],
        "gate_epoch": gates[0] if gates else None,
        "val_accuracy": last.get("val_accuracy"),
        "test_accuracy": result.get("test_accuracy"),
        "task_loss": last.get("task_loss"),
        "penalty": last.get("penalty"),
        "fbi_loss": result.get("fbi_loss"),
        "seconds": sum(record["seconds"] for record in records),
        "stopped": result.get("stopped"),
        "options": _options(config),
        "records": records,
    }


def differences(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options in which runs differ.

    Parameters
    ----------
    runs : sequence of dict
        From :func:`read_runs`.

    Returns
    -------
    list of str
        Names in their "options".  The number of epochs is not among them.
    """
    names = dict.fromkeys(name for run in runs for name in run["options"])
    first = runs[0]["options"] if runs else {}
    return [n for n in names if any(run["options"].get(n) != first.get(n) for run in runs)]


_is_result = having(test_accuracy=is_number, fbi_loss=or_none(is_number))


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a configuration, the important ones first and in words."""
    regularizer = config.get("regularizer", "fbi")
    weight = config.get("fbi_weight" if regularizer == "fbi" else "regularizer_weight")
    folder = config.get("data_dir")
    important = {
        "model": config["model"],
        "data": config.get("dataset") if folder is None else Path(str(folder)).name,
        "regularizer": regularizer if weight else "none",
        "weight": weight or 0,
        "rule": config.get("fbi_rule"),
    }
    rest = {n: v for n, v in config.items() if n not in (*important, *NAMED, "epochs")}
    return important | rest


def _records(path: Path) -> list[dict[str, Any]]:
    """The records in metrics.jsonl; none if there is no such file yet."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            lines = file.read(MAX_BYTES + 1).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
        except ValueError as error:
            raise CheckpointError(f"{path}, line {number}: {error}") from error
        if not is_record(record):
            raise CheckpointError(f"{path}, line {number} is not the record of an epoch")
        records.append(record)
    return records


def _result(path: Path) -> dict[str, Any]:
    """What result.json says; nothing if there is no such file yet."""
    try:
        result = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not _is_result(result):
        raise CheckpointError(f"{path} does not hold the numbers of a finished run")
    stopped = result.get("stopped")
    return {**result, "stopped": stopped if isinstance(stopped, str) else None}
