"""A CSV table with a label and the pixels of an image in each row."""

from __future__ import annotations

import csv
import math
import os
import warnings
from pathlib import Path

import numpy as np

from minifbi.arguments import whole
from minifbi.datasets.core import Dataset
from minifbi.datasets.pictures import shown_path
from minifbi.datasets.sources.assemble import Arrays, assemble, names_of
from minifbi.errors import DataError

__all__ = ["load_csv", "table_files"]

MAX_CSV_BYTES = 2**30
"""Size of the largest table that is read: 1 GiB, of which the pixels take at most a half."""

_MAX_LINE = 2**20


def load_csv(
    path: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Load a data set from a CSV file, as Kaggle's course on digits has it.

    Each row is an image: its label, then its pixels from 0 to 255, row by row.  The images are
    grey and square: 784 pixels are 28 x 28.  A first line with names, such as
    ``label,pixel0,pixel1,...``, may say that the label is in another column.

    Parameters
    ----------
    path : path
        The file, or a folder with ``train.csv`` (or one ``*_train.csv``) and, if there is one,
        ``test.csv`` (``*_test.csv``).  Kaggle's ``test.csv`` has no labels, so that no accuracy can
        be measured on it: then it is not used.
    num_classes : int, optional
        How many classes there are; by default one more than the largest label, or as many as a
        data set of this `name` is known to have.
    seed : int
        Of the validation set, a twelfth of the rows, and of the test set, a sixth, where there
        is no other; drawn class by class.
    name : str, optional
        What to call the data set; by default, the name of the file or folder.

    Returns
    -------
    Dataset
        Grey images of uint8.

    Raises
    ------
    DataError
        If a file cannot be read, is larger than 1 GiB, or is no such table.
    ConfigError
        If an option is outside its range.
    """
    path = Path(path)
    if num_classes is not None:
        num_classes = whole("num_classes", num_classes, 1, 256)
    train_file, test_file = table_files(path) if path.is_dir() else (path, None)
    train = _read(train_file)
    if train is None:
        raise DataError(
            f"{shown_path(train_file)}: no column is called label; expected label,pixel0,... "
            "in the first line. Use the file that has labels, such as train.csv."
        )
    test = None if test_file is None else _read(test_file)
    kind = "CSV table"
    if test is not None:
        kind = "CSV tables of training and test images"
    elif test_file is not None:
        kind = f"CSV table {train_file.name} ({test_file.name} has no labels, it is not used)"
    name = os.path.basename(os.path.realpath(path)).removesuffix(".csv") if name is None else name
    labels = [pair[1] for pair in (train, test) if pair is not None]
    return assemble(
        name,
        shown_path(path),
        train,
        test=test,
        class_names=names_of(name, labels, num_classes),
        seed=seed,
        kind=kind,
    )


def table_files(folder: Path) -> tuple[Path, Path | None]:
    """The tables of training and test images in a folder.

    Raises
    ------
    DataError
        If there is none for training, or more than one.
    """
    found = sorted(folder.glob("train.csv")) or sorted(folder.glob("*_train.csv"))
    if len(found) != 1:
        raise DataError(
            f"{shown_path(folder)}: {len(found)} tables named train.csv or *_train.csv; expected "
            "one. Give the path of the file itself."
        )
    test = found[0].with_name(found[0].name.removesuffix("train.csv") + "test.csv")
    return found[0], test if test.is_file() else None


def _read(path: Path) -> Arrays | None:
    """Images (N, H, W) and labels (N,) of a table; None if it has names and no labels."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        if path.stat().st_size > MAX_CSV_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes; the limit is {MAX_CSV_BYTES:,}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise ValueError("its first line does not end")
        names = next(csv.reader([line]), [])
        header = bool(names) and not names[0].strip().isdecimal()
        column = 0
        if header:
            columns = [name.strip().lower() for name in names]
            if "label" not in columns:
                return None
            column = columns.index("label")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no rows: Split says so
            table = np.loadtxt(
                path,
                np.uint8,
                comments=None,
                delimiter=",",
                skiprows=int(header),
                ndmin=2,
                quotechar='"',
                encoding="utf-8-sig",
            )
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(
            f"{shown_path(path)}: cannot be read ({reason}); expected a CSV table with a label and "
            "pixels from 0 to 255 in each row, label,pixel0,pixel1,... Check the file."
        ) from error
    pixels = table.shape[1] - 1
    side = math.isqrt(max(pixels, 0))
    if not len(table) or side < 1 or side * side != pixels:
        raise DataError(
            f"{shown_path(path)}: {len(table):,} rows of {max(pixels, 0):,} pixels; expected at "
            "least 1 row, a label and the pixels of a square image, such as 784 for 28 x 28."
        )
    return np.delete(table, column, axis=1).reshape(-1, side, side), table[:, column]
