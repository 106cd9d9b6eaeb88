"""Find a data set, read its four files and make a :class:`Dataset` from them.

MNIST comes with minifbi, and Decoy-MNIST is made from it.  Fashion-MNIST is downloaded, only
when asked for.  Any other data in the same format is read from a folder.
"""

import hashlib
import os
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import whole
from minifbi.datasets._download import download
from minifbi.datasets._known import (
    CLASS_NAMES,
    DATASET_NAMES,
    FASHION_MNIST_MEGABYTES,
    FASHION_MNIST_SHA256,
    FASHION_MNIST_URL,
    IDX_STEMS,
    MNIST_SHA256,
)
from minifbi.datasets.core import Dataset, Split, split_train_validation
from minifbi.datasets.decoy import decoy_mnist
from minifbi.datasets.idx import read_idx
from minifbi.errors import ConfigError, DataError

__all__ = [
    "DATASET_NAMES",
    "FASHION_MNIST_URL",
    "load_dataset",
    "load_fashion_mnist",
    "load_idx_folder",
    "load_mnist",
]


def load_dataset(
    name: str = "mnist",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    num_classes: int = 10,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Dataset:
    """Load a data set by its name, or from a folder.

    Parameters
    ----------
    name : str
        ``"mnist"``, which comes with minifbi, ``"fashion-mnist"``, which is
        downloaded once (31 MB), or ``"decoy-mnist"``, which is MNIST with
        misleading patches, see :func:`~minifbi.datasets.decoy_mnist`.  With
        `data_dir` any name is allowed, and only names the data set; but
        ``"decoy-mnist"`` also puts its patches on those images.
    data_dir : path, optional
        A folder with four IDX files, see :func:`load_idx_folder`.  Nothing is
        downloaded.
    num_classes : int
        Number of classes in `data_dir`.
    cache_dir : path, optional
        Folder for downloads, see :func:`load_fashion_mnist`.
    progress : bool
        Whether to announce a download on standard error.

    Returns
    -------
    Dataset

    Raises
    ------
    ConfigError
        If the name is unknown, or `num_classes` does not fit it.
    DataError
        If a file is missing, damaged or not what it should be.
    """
    if data_dir is not None:
        folder = load_idx_folder(data_dir, num_classes=num_classes, name=name)
        return decoy_mnist(folder, name=name) if name == "decoy-mnist" else folder
    if name not in DATASET_NAMES:
        raise ConfigError(
            f"data set {name!r} is unknown; expected one of {', '.join(DATASET_NAMES)}. For your "
            "own images, give the folder with their IDX files as data_dir (--data-dir)."
        )
    if num_classes != len(CLASS_NAMES[name]):
        raise ConfigError(
            f"num_classes is {num_classes} and {name} has {len(CLASS_NAMES[name])} classes. "
            "Leave num_classes out; it is for your own images in data_dir (--data-dir)."
        )
    if name == "mnist":
        return load_mnist()
    if name == "decoy-mnist":
        return decoy_mnist(load_mnist())
    return load_fashion_mnist(cache_dir, progress=progress)


def load_mnist() -> Dataset:
    """Load MNIST, handwritten digits, from the files that come with minifbi.

    Returns
    -------
    Dataset
        55,000 training, 5,000 validation and 10,000 test images, uint8 of
        shape (1, 28, 28), in 10 classes.

    Raises
    ------
    DataError
        If an installed file is missing or damaged.
    """
    folder = resources.files("minifbi.datasets").joinpath("data", "mnist")
    arrays = []
    for filename, expected in MNIST_SHA256.items():
        # as_file gives a real path, also where the package is imported from a zip file.
        try:
            with resources.as_file(folder.joinpath(filename)) as path:
                found = hashlib.sha256(path.read_bytes()).hexdigest()
                if found != expected:
                    raise DataError(
                        f"{path}: the SHA-256 sum is {found}; expected {expected}. The installed "
                        "package is damaged: reinstall minifbi "
                        "(pip install --force-reinstall minifbi)."
                    )
                arrays.append(read_idx(path))
        except OSError as error:
            raise DataError(
                f"{filename}: cannot be read from the installed package ({error}); expected the "
                "MNIST file that comes with minifbi. The installed package is damaged: reinstall "
                "minifbi (pip install --force-reinstall minifbi)."
            ) from error
    return _make_dataset("mnist", arrays, list(MNIST_SHA256), CLASS_NAMES["mnist"])


def load_fashion_mnist(
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
    base_url: str = FASHION_MNIST_URL,
) -> Dataset:
    """Load Fashion-MNIST, pictures of clothes; download it at the first call.

    The files are kept in the folder ``fashion-mnist`` of the cache.  A file is put
    there only when it is complete and has the right SHA-256 sum; later calls
    compare the sum again and need no network.

    Parameters
    ----------
    cache_dir : path, optional
        The cache, see :func:`~minifbi.datasets.cache_folder`.
    progress : bool
        Whether to announce a download on standard error.
    base_url : str
        Where the four files are, with a slash at the end.

    Returns
    -------
    Dataset
        55,000 training, 5,000 validation and 10,000 test images, uint8 of
        shape (1, 28, 28), in 10 classes.

    Raises
    ------
    DataError
        If a file cannot be downloaded, or what comes is not the published
        file.
    """
    paths = download(
        "fashion-mnist",
        base_url,
        FASHION_MNIST_SHA256,
        cache_dir,
        progress,
        FASHION_MNIST_MEGABYTES,
    )
    return _read_files("fashion-mnist", paths, CLASS_NAMES["fashion-mnist"])


def load_idx_folder(
    folder: str | os.PathLike[str], num_classes: int = 10, name: str | None = None
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
    num_classes : int
        How many classes there are; labels go from 0 to ``num_classes - 1``.
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
    num_classes = whole("num_classes", num_classes, 1, 256)  # a label in an IDX file is a byte
    folder = Path(folder)
    paths = _find_files(folder)
    # realpath, as Path.resolve fails where symbolic links go round in a circle
    name = Path(os.path.realpath(folder)).name if name is None else name
    class_names = CLASS_NAMES.get(name, ())
    if len(class_names) != num_classes:
        class_names = tuple(str(label) for label in range(num_classes))
    return _read_files(name, paths, class_names)


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
        dotted = stem.replace("-idx", ".idx")
        # The order decides which one is read: uncompressed files first.
        candidates = (stem, dotted, f"{stem}.gz", f"{dotted}.gz")
        existing = [candidate for candidate in candidates if candidate in present]
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


def _read_files(name: str, paths: list[Path], class_names: tuple[str, ...]) -> Dataset:
    return _make_dataset(
        name, [read_idx(path) for path in paths], [str(path) for path in paths], class_names
    )


def _make_dataset(
    name: str,
    arrays: list[NDArray[np.uint8]],
    filenames: list[str],
    class_names: tuple[str, ...],
) -> Dataset:
    """Check the four arrays, cut the validation set off, and put all together."""
    num_classes = len(class_names)
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
                num_classes=num_classes,
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
        num_classes=num_classes,
        class_names=class_names,
    )
