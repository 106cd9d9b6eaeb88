"""The folder of a run: its name, and that it belongs to one run only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minifbi.errors import CheckpointError
from minifbi.strict_json import read_json
from minifbi.training.config import TrainConfig
from minifbi.training.lock import RunFolderError

FILES = (
    "config.json",
    "metrics.jsonl",
    "checkpoint.npz",
    "previous.npz",
    "best.npz",
    "curves.png",
    "activations.png",
    "result.json",
)


def default_folder(config: TrainConfig) -> Path:
    """A fresh folder under ``runs/`` named after what is trained.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    Path
    """
    weight = f"{config.penalty_weight:g}"
    kind = f"fbi{weight}" if config.regularizer == "fbi" else f"{config.regularizer}-{weight}"
    if not config.penalty_weight:
        kind = "conventional"
    data = config.dataset if config.data_dir is None else Path(config.data_dir).name
    name = f"{config.model}-{data}-{kind}-seed{config.seed}"
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
        values = read_json(folder / "config.json")
        if not isinstance(values, dict):
            raise ValueError(f"it holds {str(values)[:40]!r}; expected the options by name")
        values.pop("versions", None)
    except FileNotFoundError:
        raise RunFolderError(
            f"{folder} holds no run: it has neither checkpoint.npz nor config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {folder / 'config.json'}: {error}") from error
    return values
