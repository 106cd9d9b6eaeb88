"""Find out what a path holds, and read it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from minifbi.arguments import refused
from minifbi.datasets._known import IDX_STEMS
from minifbi.datasets.core import Dataset
from minifbi.datasets.pictures import PICTURE_SUFFIXES, shown_path
from minifbi.datasets.sources.arrays import load_npz
from minifbi.datasets.sources.cifar import load_cifar
from minifbi.datasets.sources.folders import class_folders, load_image_folder
from minifbi.datasets.sources.idx_folder import idx_candidates, load_idx_folder
from minifbi.datasets.sources.table import load_csv
from minifbi.errors import DataError

__all__ = ["load_path"]

_EXPECTED = (
    "expected a folder of pictures with a sub-folder for each class, a folder of IDX files "
    f"({IDX_STEMS[0]} and three more), of CIFAR's binary files (data_batch_1.bin, ... or "
    "train.bin), or with train.csv; or a file .npz or .csv"
)


def load_path(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Load whatever data set a path holds.

    Parameters
    ----------
    path : path
        A folder of pictures, IDX files, CIFAR's binary files or a CSV table, or a file .npz or
        .csv.  See the readers in :mod:`minifbi.datasets.sources`.
    name : str, optional
        What to call the data set; by default, the name of the file or folder.
    num_classes : int, optional
        How many classes there are; by default the data say so.
    image_size, channels
        Only used for pictures, see :func:`~minifbi.datasets.load_image_folder`.
    seed : int
        Of the splits that are drawn.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the path holds none of these, or several, or what it holds is damaged.
    ConfigError
        If an option is outside its range, or `num_classes` is not what the data have.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "IDX files":
        data = load_idx_folder(path, num_classes, name)
        counts = [len(data.train) + len(data.validation), len(data.test)]
        return _described(data, f"IDX files: {counts[0]:,} and {counts[1]:,} images")
    options: dict[str, Any] = {"seed": seed, "name": name}
    if kind == "pictures":
        data = load_image_folder(path, image_size=image_size, channels=channels, **options)
        if num_classes not in (None, data.num_classes):
            raise refused(
                "num_classes",
                num_classes,
                f"{data.num_classes}, the number of class folders in {shown_path(path)}; leave "
                "it out",
            )
        return data
    reader = {"an .npz file": load_npz, "a CSV table": load_csv}.get(kind, load_cifar)
    return reader(path, num_classes=num_classes, **options)


def _kind(path: Path) -> str:
    """What is there, in the words of a message."""
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix not in (".npz", ".csv"):
            raise DataError(
                f"{shown_path(path)}: is a file that ends in {suffix!r}; {_EXPECTED}. Check the "
                "path (--data-dir)."
            )
        return "an .npz file" if suffix == ".npz" else "a CSV table"
    folders = class_folders(path)  # also says if there is no such folder
    names = {entry.name for entry in os.scandir(path) if entry.is_file()}
    found = []
    if any(name in names for stem in IDX_STEMS for name in idx_candidates(stem)):
        found.append("IDX files")
    cifar10 = any(name.startswith("data_batch_") and name.endswith(".bin") for name in names)
    if cifar10 or {"train.bin", "test.bin"} <= names:
        found.append("CIFAR's binary files")
    if "train.csv" in names or any(name.endswith("_train.csv") for name in names):
        found.append("a CSV table")
    # a folder beside such files may be anything: it counts if there are pictures in it
    if folders and (not found or any(_has_pictures(path / name) for name in folders)):
        found.append("pictures")
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{shown_path(path)}: holds {' and '.join(found)}; expected one data set. Move one of "
            "them into a folder of its own, or give the path of the file."
        )
    hint = ""
    if {"data_batch_1", "test_batch"} & names:
        hint = (
            " These are CIFAR's files for Python, which are not read, since unpickling a file may "
            "run code in it: download the binary version."
        )
    raise DataError(f"{shown_path(path)}: holds no data set; {_EXPECTED}.{hint}")


def _has_pictures(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(PICTURE_SUFFIXES) for entry in entries)
    except OSError:
        return False


def _described(data: Dataset, description: str) -> Dataset:
    return dataclasses.replace(data, description=f"{description} of {data.num_classes} classes")
