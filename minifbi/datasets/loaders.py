"""Find a data set by its name, or read one's own from a file or folder.

MNIST comes with minifbi, and Decoy-MNIST is made from it.  Fashion-MNIST is downloaded, only
when asked for.  :mod:`minifbi.datasets.sources` reads anybody's own data.
"""

import hashlib
import os
from importlib import resources

from minifbi.datasets._download import download
from minifbi.datasets._known import (
    CLASS_NAMES,
    DATASET_NAMES,
    FASHION_MNIST_MEGABYTES,
    FASHION_MNIST_SHA256,
    FASHION_MNIST_URL,
    MNIST_SHA256,
)
from minifbi.datasets.core import Dataset
from minifbi.datasets.decoy import decoy_mnist
from minifbi.datasets.idx import read_idx
from minifbi.datasets.resizing import convert
from minifbi.datasets.sources.find import load_path
from minifbi.datasets.sources.idx_folder import make_dataset, read_files
from minifbi.datasets.splits import take
from minifbi.errors import ConfigError, DataError

__all__ = [
    "DATASET_NAMES",
    "FASHION_MNIST_URL",
    "load_dataset",
    "load_fashion_mnist",
    "load_mnist",
]


def load_dataset(
    name: str | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    split_seed: int = 0,
    images: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Dataset:
    """Load a data set by its name, or from a file or folder.

    Parameters
    ----------
    name : str, optional
        ``"mnist"``, which comes with minifbi and is the default, ``"fashion-mnist"``, which is
        downloaded once (31 MB), or ``"decoy-mnist"``, which is MNIST with
        misleading patches, see :func:`~minifbi.datasets.decoy_mnist`.  With
        `data_dir` any name is allowed, and only names the data set, which otherwise has the name
        of the folder; but ``"decoy-mnist"`` also puts its patches on those images.
    data_dir : path, optional
        A folder of pictures with a sub-folder for each class, a folder with four IDX files, with
        CIFAR's binary files or with a ``train.csv``, or a file ``.npz`` or ``.csv``; see
        :mod:`minifbi.datasets.sources`.  Which it is, is found out by looking.
    num_classes : int, optional
        Number of classes in `data_dir`; by default the data say so.
    image_size : int or (int, int), optional
        Rows and columns to which the images are stretched.  Pictures of different sizes need it.
    channels : 1 or 3, optional
        Make the images grey or colour.
    split_seed : int
        Of the splits that are not given and therefore drawn, and of `images`.
    images : int, optional
        Use only this many training images, each class its share, to try things out.
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
        If the name is unknown, `num_classes` does not fit the data, or another option is outside
        its range.
    DataError
        If a file is missing, damaged or not what it should be.
    """
    if data_dir is None:
        data = _load_known("mnist" if name is None else name, num_classes, cache_dir, progress)
    else:
        data = load_path(
            data_dir,
            name=name,
            num_classes=num_classes,
            image_size=image_size,
            channels=channels,
            seed=split_seed,
        )
    data = convert(data, image_size=image_size, channels=channels)
    if name == "decoy-mnist":  # after resizing, which would blur the patches
        data = decoy_mnist(data, name=name)
    return data if images is None else take(data, images, seed=split_seed)


def _load_known(
    name: str,
    num_classes: int | None,
    cache_dir: str | os.PathLike[str] | None,
    progress: bool,
) -> Dataset:
    if name not in DATASET_NAMES:
        raise ConfigError(
            f"data set {name!r} is unknown; expected one of {', '.join(DATASET_NAMES)}. For your "
            "own images, give their folder or file as data_dir (--data-dir)."
        )
    if num_classes not in (None, len(CLASS_NAMES[name])):
        raise ConfigError(
            f"num_classes is {num_classes} and {name} has {len(CLASS_NAMES[name])} classes. "
            "Leave num_classes out; it is for your own images in data_dir (--data-dir)."
        )
    if name == "fashion-mnist":
        return load_fashion_mnist(cache_dir, progress=progress)
    return load_mnist()


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
    return make_dataset("mnist", arrays, list(MNIST_SHA256))


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
    return read_files("fashion-mnist", paths)
