"""The folder of a run: its name, and that it belongs to one run only."""

from __future__ import annotations

from pathlib import Path

from minifbi.errors import MinifbiError
from minifbi.training.config import TrainConfig

FILES = (
    "config.json",
    "metrics.jsonl",
    "checkpoint.npz",
    "best.npz",
    "curves.png",
    "activations.png",
    "result.json",
)


class RunFolderError(MinifbiError):
    """A folder that cannot take, or does not hold, a run."""


def default_folder(config: TrainConfig) -> Path:
    """A fresh folder under ``runs/`` named after what is trained."""
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


def claim_folder(folder: Path) -> None:
    """Make the folder of a new run.

    Raises
    ------
    RunFolderError
        If it holds a run already (nothing is touched), or cannot be made.
    """
    found = [name for name in FILES if (folder / name).exists()]
    if found:
        raise RunFolderError(
            f"{folder} already holds a run ({', '.join(found)}); nothing was changed. "
            f"Choose another --out, or go on with --resume {folder}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make the folder {folder}: {error.strerror}") from error
