"""Images with their labels, checked once, when they are loaded.

All other parts of minifbi rely on these checks: images are ``(N, C, H, W)``,
labels are whole numbers from 0 to ``num_classes - 1``, and no pixel is NaN.
Training need not check again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minifbi.arguments import whole
from minifbi.datasets._checks import (
    FLOAT_DTYPES,
    check_images,
    check_indices,
    check_label_range,
    check_labels,
    check_masks,
    count_mismatch,
    read_only,
)
from minifbi.errors import ConfigError, DataError

__all__ = ["Dataset", "Split", "split_train_validation"]


@dataclass(frozen=True, eq=False)  # "==" of arrays is an array, so equality is identity
class Split:
    """Images and their labels: a training, validation or test set.

    Make one with :meth:`from_arrays`, which checks the arrays.

    Attributes
    ----------
    images : ndarray of uint8, float32 or float64, shape (N, C, H, W)
        N images of C channels, H rows and W columns.  uint8 pixels are in
        0..255 and stay uint8, which takes a quarter of the memory of float32;
        float pixels are in [0, 1].  Read-only.
    labels : ndarray of int64, shape (N,)
        The class of each image, from 0.  Read-only.
    masks : ndarray of bool, shape (N, H, W), or None
        True on pixels that say nothing about the class, as the patches of
        Decoy-MNIST.  None if such pixels are not known.  Read-only.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        masks: ArrayLike | None = None,
        num_classes: int = 10,
        name: str = "data set",
    ) -> "Split":
        """Check images and labels and make a split of them.

        Parameters
        ----------
        images : array of uint8, float32 or float64, (N, H, W) or (N, C, H, W)
            uint8 pixels in 0..255, or float pixels in [0, 1].  At least one
            image.  A writable array is copied, so that the split cannot be
            changed through it; a read-only one is shared.
        labels : array of integers, shape (N,)
            Classes, each from 0 to ``num_classes - 1``.
        masks : array of bool, shape (N, H, W), optional
            True where a pixel says nothing about the class.
        num_classes : int
            How many classes there are.
        name : str
            What to call the data in error messages.

        Returns
        -------
        Split

        Raises
        ------
        DataError
            If the arrays are not as described above; the message gives the
            first wrong value and its place.
        ConfigError
            If `num_classes` is not a whole number of at least 1.
        """
        num_classes = whole("num_classes", num_classes, 1)
        checked_images = check_images(images, name)
        checked_labels = check_labels(labels, num_classes, name)
        if len(checked_images) != len(checked_labels):
            raise count_mismatch(name, len(checked_images), len(checked_labels))
        checked_masks = None if masks is None else check_masks(masks, checked_images.shape, name)
        return cls(
            read_only(checked_images),
            read_only(checked_labels),
            None if checked_masks is None else read_only(checked_masks),
        )

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        return f"Split({len(self.labels):,} images of {channels} x {height} x {width})"

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.images)

    def batch(
        self,
        indices: slice | Sequence[int] | NDArray[np.integer[Any]],
        dtype: DTypeLike = np.float32,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Take some images, as floats between 0 and 1, with their labels.

        Parameters
        ----------
        indices : slice, or B integers
            Which images, in which order; repetitions are allowed.
        dtype : dtype
            float32 or float64, the type of the images that are returned.

        Returns
        -------
        images : ndarray of `dtype`, shape (B, C, H, W)
            Pixels in [0, 1]; uint8 pixels are divided by 255.
        labels : ndarray of int64, shape (B,)
            Both are new arrays, so changing them does not change the split.

        Raises
        ------
        DataError
            If `indices` is neither a slice nor one row of integers.
        IndexError
            If an index is outside -N..N-1.
        ConfigError
            If `dtype` is neither float32 nor float64.
        """
        dtype = np.dtype(dtype)
        if dtype not in FLOAT_DTYPES:
            raise ConfigError(
                f"the dtype of a batch is {dtype}; expected float32 or float64. "
                "Pass dtype=np.float32, or leave it out."
            )
        if not isinstance(indices, slice):
            indices = check_indices(indices)
        images = self.images[indices]
        if images.dtype == np.uint8:
            # Each pixel is converted to `dtype` first, which is exact, then divided and rounded
            # once.  (A table of the 256 possible results gives the same bits, more slowly.)
            scaled: NDArray[Any] = np.divide(images, dtype.type(255), dtype=dtype)
        else:
            scaled = images.astype(dtype)
        return scaled, self.labels[indices].copy()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits that belong together.

    Attributes
    ----------
    name : str
        For reports, for example ``"mnist"``.
    train, validation, test : Split
        Images for learning, for choices such as the best epoch, and for one
        final measurement.
    num_classes : int
        How many classes there are.
    class_names : tuple of str
        One name for each class.
    description : str
        Where the images come from and what was done to them, in one line for
        people; may be empty.

    Raises
    ------
    DataError
        If the images of the splits differ in shape, a label is not below
        `num_classes`, or there is not one name for each class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    description: str = ""

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        whole("num_classes", self.num_classes, 1)
        for which, split in (("validation", self.validation), ("test", self.test)):
            if split.images.shape[1:] != self.image_shape:
                raise DataError(
                    f"{self.name}: {which} images are (C, H, W) = {split.images.shape[1:]}, "
                    f"training images are {self.image_shape}; expected the same shape in all "
                    "splits. Crop or resize the images, or check that the files belong together."
                )
        for which, split in (
            ("training", self.train),
            ("validation", self.validation),
            ("test", self.test),
        ):
            check_label_range(split.labels, self.num_classes, f"{self.name} ({which})")
        if len(self.class_names) != self.num_classes:
            raise DataError(
                f"{self.name}: there are {len(self.class_names)} class names for "
                f"{self.num_classes} classes; expected one name for each class. "
                "Change class_names or num_classes."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W): channels, rows and columns of one image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


_Arrays = tuple[NDArray[Any], NDArray[Any]]


def split_train_validation(images: NDArray[Any], labels: NDArray[Any]) -> tuple[_Arrays, _Arrays]:
    """Set the last twelfth of the training images apart, for validation.

    Of MNIST's 60,000 images, the first 55,000 are for training and the last
    5,000 for validation, in every run, so that runs can be compared.

    Parameters
    ----------
    images : ndarray, shape (N, ...)
        All training images, of any dtype; N is at least 12.
    labels : ndarray, shape (N,)
        Their labels.

    Returns
    -------
    (train_images, train_labels) : tuple of ndarray
        The first ``N - N // 12``.
    (validation_images, validation_labels) : tuple of ndarray
        The last ``N // 12``.  All four are views of the arrays given.

    Raises
    ------
    DataError
        If there are fewer than 12 images, or not as many labels as images.
    """
    count = len(images)
    if len(labels) != count:
        raise count_mismatch("training set", count, len(labels))
    if count < 12:
        raise DataError(
            f"the training set has {count} images; expected at least 12, because its last "
            "twelfth becomes the validation set. Add images."
        )
    cut = count - count // 12
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])
