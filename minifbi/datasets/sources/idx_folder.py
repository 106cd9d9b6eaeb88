"""The four IDX files of a data set, in a folder."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import whole
from minifbi.datasets._known import IDX_STEMS
from minifbi.datasets.core import Dataset, Split, split_train_validation
from minifbi.datasets.idx import read_idx
from minifbi.datasets.sources.assemble import names_of
from minifbi.errors import DataError

__all__ = ["idx_candidates", "load_idx_folder", "make_dataset", "read_files"]


def load_idx_folder(
    folder: str | os.PathLike[str], num_classes: int | None = None, name: str | None = None
) -> Dataset:
    """Load a data set from a folder with four IDX files.

    The files have MNIST's usual names: ``train-images-idx3-ubyte``,
    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte`` (``t10k`` is the test set), or the same with a
    dot (``train-images.idx3-ubyte``).  Each may be compressed, with ``.gz``
    added; where both are there, the uncompressed one is read.

    Parameters
    ----------
    folder : path
        The folder.
    num_classes : int, optional
        How many classes there are; labels go from 0 to ``num_classes - 1``.  By default one
        more than the largest label, or as many as a data set of this `name` is known to have.
    name : str, optional
        What to call the data set; by default, the name of the folder.

    Returns
    -------
    Dataset
        Any number of images (at least 12 for training, 1 for the test), of
        any one size.  The last twelfth of the training images is the
        validation set.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the files do not fit together.
    ConfigError
        If `num_classes` is not a whole number from 1 to 256.
    """
    if num_classes is not None:
        num_classes = whole("num_classes", num_classes, 1, 256)  # a label in an IDX file is a byte
    folder = Path(folder)
    paths = _find_files(folder)
    # realpath, as Path.resolve fails where symbolic links go round in a circle
    name = Path(os.path.realpath(folder)).name if name is None else name
    return read_files(name, paths, num_classes)


def idx_candidates(stem: str) -> tuple[str, ...]:
    """The names that one of the four files may have; the first that exists is read."""
    dotted = stem.replace("-idx", ".idx")
    return stem, dotted, f"{stem}.gz", f"{dotted}.gz"  # uncompressed files first


def _find_files(folder: Path) -> list[Path]:
    """Return the paths of the four files, in the order of IDX_STEMS."""
    try:
        present = {entry.name for entry in folder.iterdir() if entry.is_file()}
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{folder}: cannot be read as a folder ({reason}); expected a folder "
            f"with the files {', '.join(IDX_STEMS)}, each plain or .gz. Check the path "
            "(--data-dir) and its permissions."
        ) from error
    found = []
    missing = []
    for stem in IDX_STEMS:
        existing = [candidate for candidate in idx_candidates(stem) if candidate in present]
        if existing:
            found.append(folder / existing[0])
        else:
            missing.append(stem)
    if missing:
        raise DataError(
            f"{folder}: missing {', '.join(missing)}; expected the four files "
            f"{', '.join(IDX_STEMS)}, each plain or .gz (.idx instead of -idx is accepted "
            "too). Copy the missing files into the folder, or rename them."
        )
    return found


def read_files(name: str, paths: list[Path], num_classes: int | None = None) -> Dataset:
    """The data set in four files, in the order of IDX_STEMS."""
    arrays = [read_idx(path) for path in paths]
    return make_dataset(name, arrays, [str(path) for path in paths], num_classes)


def make_dataset(
    name: str,
    arrays: list[NDArray[np.uint8]],
    filenames: list[str],
    num_classes: int | None = None,
) -> Dataset:
    """Check the four arrays, cut the validation set off, and put all together."""
    class_names = names_of(name, arrays[1::2], num_classes)
    splits = []
    for i in (0, 2):  # training, then test
        images, labels = arrays[i], arrays[i + 1]
        images.flags.writeable = False  # no other reference, so the split need not copy
        # Checked before the training set is cut, so that an index in a message is the index
        # in the file.
        splits.append(
            Split.from_arrays(
                images,
                labels,
                num_classes=len(class_names),
                name=f"{filenames[i]} with {filenames[i + 1]}",
            )
        )
    everything, test = splits
    train, validation = split_train_validation(everything.images, everything.labels)
    return Dataset(
        name=name,
        train=Split(*train),
        validation=Split(*validation),
        test=test,
        num_classes=len(class_names),
        class_names=class_names,
    )
