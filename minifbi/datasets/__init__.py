"""Data sets: images and labels, read from files and checked.

>>> from minifbi.datasets import load_mnist
>>> mnist = load_mnist()
>>> images, labels = mnist.train.batch(slice(0, 64))
>>> images.shape, labels.shape
((64, 1, 28, 28), (64,))
"""

from minifbi.datasets._download import cache_folder
from minifbi.datasets.core import Dataset, Split, split_train_validation
from minifbi.datasets.decoy import add_decoys, decoy_mnist, decoy_shade
from minifbi.datasets.digits import as_digit
from minifbi.datasets.idx import read_idx, write_idx
from minifbi.datasets.loaders import (
    DATASET_NAMES,
    load_dataset,
    load_fashion_mnist,
    load_mnist,
)
from minifbi.datasets.pictures import read_picture
from minifbi.datasets.sources import (
    load_cifar,
    load_csv,
    load_idx_folder,
    load_image_folder,
    load_npz,
)
from minifbi.datasets.splits import draw_splits

__all__ = ["DATASET_NAMES", "Dataset", "Split", "add_decoys", "as_digit", "cache_folder"]
__all__ += ["decoy_mnist", "decoy_shade", "draw_splits", "load_cifar", "load_csv", "load_dataset"]
__all__ += ["load_fashion_mnist", "load_idx_folder", "load_image_folder", "load_mnist", "load_npz"]
__all__ += ["read_idx", "read_picture", "split_train_validation", "write_idx"]
