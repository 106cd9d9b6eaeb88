"""The checks of :mod:`minifbi.datasets.core`, with their error messages."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.errors import DataError

FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
IMAGE_DTYPES = (np.dtype(np.uint8), *FLOAT_DTYPES)


def check_images(images: ArrayLike, name: str) -> NDArray[Any]:
    """Return the images as a checked array of shape (N, C, H, W)."""
    array = _as_array(images, f"{name}: the images")
    if array.dtype not in IMAGE_DTYPES:
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


def check_labels(labels: ArrayLike, num_classes: int, name: str) -> NDArray[np.int64]:
    """Return the labels as a new, checked array of int64, shape (N,)."""
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
    check_label_range(array, num_classes, name)
    return array.astype(np.int64)  # always a new array


def check_label_range(labels: NDArray[Any], num_classes: int, name: str) -> None:
    """Raise DataError if a label is not in 0..num_classes-1."""
    bad = (labels < 0) | (labels >= num_classes)
    if bad.any():
        first = int(bad.argmax())
        more = np.count_nonzero(bad) - 1
        others = f" (and {more:,} more out of range)" if more else ""
        raise DataError(
            f"{name}: label {labels[first]} at index {first}{others}; expected 0 to "
            f"{num_classes - 1}, as num_classes is {num_classes}. Correct the labels or "
            "num_classes."
        )


def check_masks(masks: ArrayLike, images_shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    """Return the masks as a checked array of shape (N, H, W)."""
    array = _as_array(masks, f"{name}: the masks")
    expected = (images_shape[0], *images_shape[2:])
    if array.dtype != np.bool_ or array.shape != expected:
        raise DataError(
            f"{name}: the masks are {array.dtype} of shape {array.shape}; expected bool of shape "
            f"{expected}, one mask (H, W) for each image: True where a pixel says nothing about "
            "the class. Convert them, for example with masks > 0."
        )
    return array


def check_indices(indices: Any) -> NDArray[np.integer[Any]]:
    """Return the indices of a batch as one row of integers."""
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


def count_mismatch(name: str, num_images: int, num_labels: int) -> DataError:
    """Return the error for images and labels that are not equally many."""
    return DataError(
        f"{name}: {num_images:,} images and {num_labels:,} labels; expected as many labels as "
        "images. Check that the two belong together."
    )


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order and read-only, copied if it could be written to."""
    base: Any = array
    while base is not None and not getattr(getattr(base, "flags", None), "writeable", False):
        base = getattr(base, "base", None)  # a read-only view of an array that can be written to
    array = np.ascontiguousarray(array) if base is None else array.copy()
    array.flags.writeable = False
    return array
