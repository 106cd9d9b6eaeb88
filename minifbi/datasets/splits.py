"""Draw splits and samples in which each class has its share."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import number, whole
from minifbi.datasets.core import Dataset, Split
from minifbi.errors import ConfigError, DataError

__all__ = ["TEST_SHARE", "VALIDATION_SHARE", "draw_splits", "take"]

VALIDATION_SHARE = 1 / 12
"""Share of the images that becomes the validation set where none is given."""

TEST_SHARE = 1 / 6
"""Share of the images that becomes the test set where none is given."""


def draw_splits(
    labels: ArrayLike,
    *,
    seed: int = 0,
    validation: float = VALIDATION_SHARE,
    test: float = TEST_SHARE,
    name: str = "data set",
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Divide images into training, validation and test set, each class by itself (stratified).

    Of a class with n images, `n * validation` are for validation and `n * test` for the test,
    rounded; but at least 1 each if the class has 3 images.  Of 2 images one is for the test, and a
    single one is for training.

    Parameters
    ----------
    labels : array of int, shape (N,)
        The class of each image, from 0.
    seed : int
        For :func:`numpy.random.default_rng`.
    validation, test : float
        The two shares, from 0 to 1 and together below 1.  No image is drawn for a share of 0.
    name : str
        What to call the data in error messages.

    Returns
    -------
    train, validation, test : ndarray of int
        Indices of the images, in random order.

    Raises
    ------
    DataError
        If no class has enough images for a split.
    ConfigError
        If `seed` or a share is outside its range.
    """
    seed = whole("split_seed", seed, 0)
    shares = number("validation", validation, 0, below=1), number("test", test, 0, below=1)
    if sum(shares) >= 1:
        raise ConfigError(
            f"validation={validation:g} and test={test:g}: expected two shares below 1 together, "
            "so that images are left for training"
        )
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    parts: tuple[list[NDArray[np.intp]], ...] = ([], [], [])
    for label in np.unique(labels):
        chosen = rng.permutation(np.flatnonzero(labels == label))
        for part, indices in zip(parts, np.split(chosen, _cuts(len(chosen), *shares)), strict=True):
            part.append(indices)
    drawn = tuple(rng.permutation(np.concatenate(part)).astype(np.intp) for part in parts)
    for which, indices, share in zip(("validation", "test"), drawn[1:], shares, strict=True):
        if share and not len(indices):
            raise DataError(
                f"{name}: {len(labels)} images in {len(np.unique(labels))} classes are too few to "
                f"draw a {which} set from; expected a class with at least 3. Add images."
            )
    return drawn  # type: ignore[return-value]  # three


def _cuts(count: int, validation: float, test: float) -> tuple[int, int]:
    """Where training ends, and where validation ends."""

    def share(of: float, least: int) -> int:
        return max(int(count * of + 0.5), 1 if count >= least else 0) if of else 0

    tested = min(share(test, 2), count - 1)
    validated = min(share(validation, 3 if test else 2), count - 1 - tested)
    train = count - tested - validated
    return train, train + validated


def take(dataset: Dataset, images: int, *, seed: int = 0) -> Dataset:
    """The same data set with fewer training images, to try things out.

    Each class keeps its share of the training images, rounded; validation and test set stay.

    Parameters
    ----------
    dataset : Dataset
        It is not changed.
    images : int
        How many training images to keep, at most as many as there are.
    seed : int
        For :func:`numpy.random.default_rng`, which draws them.

    Returns
    -------
    Dataset
        The images are in their old order.

    Raises
    ------
    ConfigError
        If `images` or `seed` is outside its range.
    """
    split = dataset.train
    images = whole("images", images, 1, len(split))
    rng = np.random.default_rng(whole("split_seed", seed, 0))
    classes, counts = np.unique(split.labels, return_counts=True)
    exact = counts * images / len(split)
    wanted = np.floor(exact).astype(int)
    # the images that rounding leaves over: to the classes that lost most
    wanted[np.argsort(wanted - exact, kind="stable")[: images - wanted.sum()]] += 1
    kept = np.sort(
        np.concatenate(
            [
                rng.choice(np.flatnonzero(split.labels == label), count, replace=False)
                for label, count in zip(classes, wanted, strict=True)
            ]
        )
    )
    return dataclasses.replace(
        dataset,
        train=Split.from_arrays(
            split.images[kept],
            split.labels[kept],
            masks=None if split.masks is None else split.masks[kept],
            num_classes=dataset.num_classes,
        ),
        description=f"{dataset.description or dataset.name}; "
        f"{images:,} of {len(split):,} training images",
    )
