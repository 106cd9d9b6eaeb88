"""Images with their labels, checked once, when they come in.

What every later part of minifbi may rely on is decided here: images are
``(N, C, H, W)``, labels are whole numbers from 0 to ``num_classes - 1``, and no
pixel is NaN.  Training then never has to look again.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minifbi.errors import ConfigError, DataError

__all__ = ["Dataset", "Split", "split_train_validation"]

_FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_IMAGE_DTYPES = (np.dtype(np.uint8), *_FLOAT_DTYPES)


@dataclass(frozen=True, eq=False)  # "==" of arrays is an array, so equality is identity
class Split:
    """Images and their labels: a training, validation or test set.

    Make one with :meth:`from_arrays`, which checks the arrays.

    Attributes
    ----------
    images : ndarray of uint8, float32 or float64, shape (N, C, H, W)
        N images of C channels, H rows and W columns.  uint8 pixels go from 0
        to 255 (kept so, as they take a quarter of the memory of float32);
        float pixels from 0 to 1.  Read-only.
    labels : ndarray of int64, shape (N,)
        The class of each image, from 0.  Read-only.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike,
        *,
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
            If anything above does not hold; the message gives the first
            wrong value and its place.
        ConfigError
            If `num_classes` is not a whole number of at least 1.
        """
        num_classes = _check_num_classes(num_classes)
        checked_images = _check_images(images, name)
        checked_labels = _check_labels(labels, num_classes, name)
        if len(checked_images) != len(checked_labels):
            raise _count_mismatch(name, len(checked_images), len(checked_labels))
        return cls(_read_only(checked_images), _read_only(checked_labels))

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
            Both are new arrays, so changing them leaves the split as it is.

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
        if dtype not in _FLOAT_DTYPES:
            raise ConfigError(
                f"the dtype of a batch is {dtype}; expected float32 or float64. "
                "Pass dtype=np.float32, or leave it out."
            )
        if not isinstance(indices, slice):
            indices = _check_indices(indices)
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
        What the model learns from, what choices are made on, and what is
        looked at once, at the end.
    num_classes : int
        How many classes there are.
    class_names : tuple of str
        One name for each class.

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

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        _check_num_classes(self.num_classes)
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
            _check_label_range(split.labels, self.num_classes, f"{self.name} ({which})")
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


def split_train_validation(
    images: NDArray[Any], labels: NDArray[Any]
) -> tuple[_Arrays, _Arrays]:
    """Set the last twelfth of the training images apart, for validation.

    Of MNIST's 60,000 images, the first 55,000 stay for training and the last
    5,000 are for validation: always the same, so that runs can be compared.

    Parameters
    ----------
    images : ndarray, shape (N, ...)
    labels : ndarray, shape (N,)
        N is at least 12.

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
        raise _count_mismatch("training set", count, len(labels))
    if count < 12:
        raise DataError(
            f"the training set has {count} images; expected at least 12, because its last "
            "twelfth becomes the validation set. Add images."
        )
    cut = count - count // 12
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def _check_num_classes(num_classes: int) -> int:
    try:
        count = operator.index(num_classes)
    except TypeError:
        count = 0  # refused below, with the value as it was given
    if count < 1:
        raise ConfigError(
            f"num_classes is {num_classes!r}; expected a whole number of at least 1. "
            "Give the number of classes, for example num_classes=10."
        )
    return count


def _check_images(images: ArrayLike, name: str) -> NDArray[Any]:
    array = _as_array(images, f"{name}: the images")
    if array.dtype not in _IMAGE_DTYPES:
        raise DataError(
            f"{name}: the images' dtype is {array.dtype}; expected uint8 (0..255) or float32 or "
            "float64 (0 to 1). Convert them with images.astype(...)."
        )
    if array.ndim not in (3, 4):
        raise DataError(
            f"{name}: the images' shape is {array.shape}; expected (N, H, W), or (N, C, H, W) "
            "for images with channels. Reshape them."
        )
    if len(array) == 0:
        raise DataError(f"{name}: there are 0 images; expected at least 1. Add images.")
    if array.size == 0:
        raise DataError(
            f"{name}: the images' shape is {array.shape}, so an image has no pixels; expected "
            "every dimension to be at least 1. Check how the images were made."
        )
    if array.dtype != np.uint8:
        _check_float_pixels(array, name)
    return array[:, np.newaxis] if array.ndim == 3 else array  # one channel: grey


def _check_float_pixels(array: NDArray[Any], name: str) -> None:
    # NaN and infinity show in the minimum or maximum: no temporary array for good images.
    lowest, highest = float(array.min()), float(array.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        bad = ~np.isfinite(array)
        first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
        raise DataError(
            f"{name}: {np.count_nonzero(bad):,} pixels are NaN or infinite, the first at index "
            f"{first} (image {first[0]}); expected finite numbers in [0, 1]. Remove those images "
            "or repair the step that made them."
        )
    if lowest < 0.0 or highest > 1.0:
        advice = (
            "Divide them by 255 if they go from 0 to 255, or pass them as uint8."
            if highest > 1.0
            else "Shift and scale them into [0, 1]."
        )
        raise DataError(
            f"{name}: the pixels go from {lowest:g} to {highest:g}; expected float pixels in "
            f"[0, 1]. {advice}"
        )


def _check_labels(labels: ArrayLike, num_classes: int, name: str) -> NDArray[np.int64]:
    array = _as_array(labels, f"{name}: the labels")
    # An empty list has no type of its own; it fails on the number of labels instead.
    if array.size > 0 and not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{name}: the labels' dtype is {array.dtype}; expected integers, one class number "
            "for each image. Convert them, for example with labels.astype(np.int64)."
        )
    if array.ndim != 1:
        raise DataError(
            f"{name}: the labels' shape is {array.shape}; expected (N,), one class number for "
            "each image. For one-hot rows use labels.argmax(axis=1)."
        )
    _check_label_range(array, num_classes, name)
    return array.astype(np.int64)  # always a new array


def _check_label_range(labels: NDArray[Any], num_classes: int, name: str) -> None:
    bad = (labels < 0) | (labels >= num_classes)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"{name}: label {labels[first]} at index {first} (and {np.count_nonzero(bad) - 1:,} "
            f"more out of range); expected 0 to {num_classes - 1}, as num_classes is "
            f"{num_classes}. Correct the labels or num_classes."
        )


def _check_indices(indices: Any) -> NDArray[np.integer[Any]]:
    array = np.asarray(indices)
    if array.shape == (0,):
        array = array.astype(np.intp)  # NumPy makes floats of an empty list
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"batch indices have shape {array.shape} and dtype {array.dtype}; expected a slice "
            "or one row of integers. Write split.batch([i]) for one image, and "
            "np.flatnonzero(mask) for a mask."
        )
    return array


def _as_array(values: ArrayLike, what: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise DataError(
            f"{what} do not form an array ({error}); expected a NumPy array. "
            "Make all of them the same size and use np.stack."
        ) from error


def _count_mismatch(name: str, num_images: int, num_labels: int) -> DataError:
    return DataError(
        f"{name}: {num_images:,} images and {num_labels:,} labels; expected as many labels as "
        "images. Check that the two belong together."
    )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order and read-only, copied if it could be written to."""
    array = array.copy() if array.flags.writeable else np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
