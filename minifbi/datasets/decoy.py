"""Decoy-MNIST: digits with a patch in a corner that gives the answer away, in training only.

Ross, Hughes and Doshi-Velez ("Right for the Right Reasons: Training Differentiable Models by
Constraining their Explanations", IJCAI 2017) put a grey square of 4 x 4 pixels into a randomly
chosen corner of every digit.  In training its shade is 255 - 25 * label; in the test set it is
random.  A network that reads the shade instead of the digit is accurate in training and fails in
the test.

The patches are added to images in memory, so no file is needed; the same seed gives the same
patches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import choice
from minifbi.datasets.core import Dataset, Split
from minifbi.errors import DataError

__all__ = ["DECOY_SIZE", "add_decoys", "decoy_mnist", "decoy_shade"]

DECOY_SIZE = 4
"""Rows and columns of the patch, in pixels."""

RULES = ("label", "random")

# The random stream of each split, so that the test set's patches do not depend on the size of
# the training set.  `decoy_gap` of minifbi.evaluate makes the test set's again.
TRAIN, VALIDATION, TEST = range(3)


def decoy_shade(labels: ArrayLike) -> NDArray[np.int64]:
    """The patch's grey for each label: 255 - 25 * label (Ross et al. 2017).

    Parameters
    ----------
    labels : array of int
        Classes from 0 to 10, of any shape.

    Returns
    -------
    ndarray of int64, same shape
        Grey levels in 0..255; class 0 is white, 255.

    Raises
    ------
    DataError
        If a label is negative or above 10, where 255 - 25 * label would be negative.
    """
    array = np.asarray(labels, dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() <= 10):
        wrong = array.min() if array.min() < 0 else array.max()
        raise DataError(
            f"label {wrong} has no shade of grey: 255 - 25 * label must lie in 0..255, so labels "
            "go from 0 to 10. Use a data set of at most 11 classes."
        )
    return np.asarray(255 - 25 * array)


def add_decoys(split: Split, rule: str, *, num_classes: int = 10, seed: Any = 0) -> Split:
    """The same images, each with a grey patch of 4 x 4 pixels in a random corner.

    Corners depend only on the seed: both rules put their patches into the same corners, so
    that they differ only in the shades.

    Parameters
    ----------
    split : Split
        Images of at least 8 x 8 pixels; all channels get the patch.  It is not changed.
    rule : {"label", "random"}
        The shade: that of the image's label, or that of a label drawn uniformly.
    num_classes : int
        Number of labels from which the rule "random" draws; at most 11.
    seed : int or sequence of int
        For :func:`numpy.random.default_rng`.

    Returns
    -------
    Split
        With ``masks``: True on the patch, which says nothing about the digit.

    Raises
    ------
    ConfigError
        If `rule` is unknown.
    DataError
        If the images are too small or a label has no shade.
    """
    choice("rule", rule, RULES)
    count, _, height, width = split.images.shape
    if min(height, width) < 2 * DECOY_SIZE:
        raise DataError(
            f"images of {height} x {width} pixels are too small for decoys; expected at least "
            f"{2 * DECOY_SIZE} x {2 * DECOY_SIZE}, so that the corners do not overlap"
        )
    rng = np.random.default_rng(seed)
    bottom, right = rng.integers(0, 2, size=(2, count))  # before the labels, for both rules
    drawn = rng.integers(0, num_classes, size=count)
    grey = decoy_shade(split.labels if rule == "label" else drawn)  # (N,)
    patch = np.arange(DECOY_SIZE)
    image = np.arange(count)[:, None, None]
    rows = (bottom * (height - DECOY_SIZE))[:, None, None] + patch[:, None]  # (N, 4, 1)
    columns = (right * (width - DECOY_SIZE))[:, None, None] + patch  # (N, 1, 4)
    masks = np.zeros((count, height, width), dtype=bool)
    masks[image, rows, columns] = True
    images = split.images.copy()
    shade = grey if images.dtype == np.uint8 else grey / 255  # float pixels lie in [0, 1]
    # an index array on each side of the slice: the channels come last, (N, 4, 4, C)
    images[image, :, rows, columns] = shade[:, None, None, None]
    images.flags.writeable = masks.flags.writeable = False
    return Split(images, split.labels, masks)


def decoy_mnist(dataset: Dataset, seed: int = 0, *, name: str | None = None) -> Dataset:
    """Decoy-MNIST (Ross et al. 2017), made from MNIST or any data set of grey or colour images.

    In training and validation the shade is that of the label, 255 - 25 * label; in the test set
    it is that of a random label.  Corners are random in all splits.

    Parameters
    ----------
    dataset : Dataset
        Without decoys, of at most 11 classes; it is not changed.
    seed : int
        Of the corners and of the random shades; the same seed gives the same patches.
    name : str, optional
        Name of the result; "decoy-" and the name of `dataset` if left out.

    Returns
    -------
    Dataset
        Its splits have ``masks``, True on the patch.

    Raises
    ------
    DataError
        If the images are smaller than 8 x 8 or there are more than 11 classes.

    Examples
    --------
    >>> from minifbi.datasets import load_mnist
    >>> decoys = decoy_mnist(load_mnist())
    >>> int(decoys.train.labels[0]), decoys.train.images[0, 0][decoys.train.masks[0]].tolist()[:3]
    (5, [130, 130, 130])
    """
    decoy_shade(np.array([dataset.num_classes - 1]))  # before any work: does each class have one?

    def decoyed(split: Split, rule: str, stream: int) -> Split:
        return add_decoys(split, rule, num_classes=dataset.num_classes, seed=[seed, stream])

    return Dataset(
        name=name or f"decoy-{dataset.name}",
        train=decoyed(dataset.train, "label", TRAIN),
        validation=decoyed(dataset.validation, "label", VALIDATION),
        test=decoyed(dataset.test, "random", TEST),
        num_classes=dataset.num_classes,
        class_names=dataset.class_names,
        description=dataset.description,
    )
