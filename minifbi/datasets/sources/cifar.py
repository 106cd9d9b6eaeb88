"""The binary files of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from minifbi.arguments import refused
from minifbi.datasets.core import Dataset
from minifbi.datasets.idx import DEFAULT_MAX_BYTES
from minifbi.datasets.pictures import shown_path
from minifbi.datasets.sources.assemble import Arrays, assemble
from minifbi.errors import DataError

__all__ = ["load_cifar"]

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_NAMES_BYTES = 2**16  # more than a list of names can need


def load_cifar(
    folder: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Load a data set in the binary format of CIFAR-10 or CIFAR-100.

    A file is a row of records: one byte of label (two in CIFAR-100, coarse and fine), then 3,072
    bytes, the 32 x 32 pixels of the red, the green and the blue channel.

    ============  ==============================================  =============================
    Data set      Images                                          Names of the classes, optional
    ============  ==============================================  =============================
    CIFAR-10      ``data_batch_1.bin``, ..., ``test_batch.bin``   ``batches.meta.txt``
    CIFAR-100     ``train.bin``, ``test.bin``                     ``fine_label_names.txt`` and
                                                                  ``coarse_label_names.txt``
    ============  ==============================================  =============================

    Any number of ``data_batch`` files is read, and any number of images in a file.

    Parameters
    ----------
    folder : path
        The folder with the files.
    num_classes : int, optional
        10 for CIFAR-10.  In CIFAR-100 it chooses the labels: 100 (the default) the fine ones,
        20 the coarse ones.
    seed : int
        Of the validation set, a twelfth of the training images, drawn class by class.
    name : str, optional
        What to call the data set; by default, the name of the folder.

    Returns
    -------
    Dataset
        Images of uint8, shape (3, 32, 32).

    Raises
    ------
    DataError
        If a file is missing, is no whole number of records, or holds a wrong label.
    ConfigError
        If `num_classes` does not fit.

    References
    ----------
    A. Krizhevsky: Learning multiple layers of features from tiny images. 2009.
    https://www.cs.toronto.edu/~kriz/cifar.html
    """
    root = Path(folder)
    batches = sorted(root.glob("data_batch_*.bin"))
    allowed = {10: "batches.meta.txt"}
    if not batches:
        batches = [root / "train.bin"]
        allowed = {100: "fine_label_names.txt", 20: "coarse_label_names.txt"}
    classes = next(iter(allowed)) if num_classes is None else num_classes
    if classes not in allowed:
        expected = " or ".join(f"{count}" for count in allowed)
        raise refused("num_classes", num_classes, f"{expected}, for the files in {root}")
    labels = 1 if len(allowed) == 1 else 2
    column = 0 if classes in (10, 20) else 1
    tests = [root / ("test_batch.bin" if labels == 1 else "test.bin")]
    _check_sizes([*batches, *tests], labels)
    train, test = (_read(files, labels, column) for files in (batches, tests))
    kind = "CIFAR-10" if labels == 1 else f"CIFAR-100 with its {('coarse', 'fine')[column]} labels"
    return assemble(
        os.path.basename(os.path.realpath(root)) if name is None else name,
        shown_path(root),
        train,
        test=test,
        class_names=_class_names(root / allowed[classes], classes),
        seed=seed,
        kind=f"binary files of {kind}",
    )


def _check_sizes(files: list[Path], labels: int) -> None:
    """Raise DataError unless all files hold whole records and fit into memory."""
    record, total = labels + _PIXELS, 0
    for path in files:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _unreadable(path, error) from error
        if not path.is_file() or size == 0 or size % record:
            raise DataError(
                f"{shown_path(path)}: {size:,} bytes; expected a file of whole records of "
                f"{record:,} bytes, {labels} of label and {_PIXELS:,} of pixels. Download the "
                "binary version of the data set again."
            )
        total += size
    if total > DEFAULT_MAX_BYTES:
        raise DataError(
            f"{shown_path(files[0].parent)}: {total:,} bytes; expected at most "
            f"{DEFAULT_MAX_BYTES:,} (4 GiB). Use fewer files."
        )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{shown_path(path)}: cannot be read ({getattr(error, 'strerror', None) or error}); "
        "expected a file of CIFAR's binary version. Download it again."
    )


def _read(files: list[Path], labels: int, column: int) -> Arrays:
    """Images (N, 3, 32, 32) and labels (N,) of some files, one after the other."""
    try:
        records = np.concatenate([np.fromfile(path, np.uint8) for path in files])
        records = records.reshape(-1, labels + _PIXELS)
    except (OSError, ValueError) as error:  # ValueError: a file that shrank meanwhile
        raise _unreadable(files[0], error) from error
    return records[:, labels:].reshape(-1, *SHAPE), records[:, column]


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    if not path.exists():
        return tuple(str(label) for label in range(count))
    try:
        with path.open("rb") as file:
            text = file.read(_NAMES_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != count or not all(name.isprintable() for name in names):
        raise DataError(
            f"{shown_path(path)}: {len(names)} lines; expected the names of {count} classes, one "
            "per line. Correct the file, or remove it: then the classes are called by number."
        )
    return names
