"""Other sizes and colours for the images of a data set."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import refused
from minifbi.datasets.core import Dataset, Split
from minifbi.datasets.idx import DEFAULT_MAX_BYTES
from minifbi.datasets.pictures import check_channels, picture_size
from minifbi.errors import DataError

__all__ = ["convert"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in read_picture


def convert(
    dataset: Dataset,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Dataset:
    """The same data set with images of another size, or grey instead of colour, or the reverse.

    Parameters
    ----------
    dataset : Dataset
        Without masks.  It is not changed, and returned itself if its images are right already.
    image_size : int or (int, int), optional
        Rows and columns to which each image is stretched: bilinear, with antialiasing.
    channels : 1 or 3, optional
        Grey or colour.  Grey is ``0.299 R + 0.587 G + 0.114 B``; the three channels of a grey
        image are equal.

    Returns
    -------
    Dataset
        Its description says what was done.

    Raises
    ------
    DataError
        If the new images would take more than 4 GiB.
    ConfigError
        If an option is outside its range, or the images have neither 1 nor 3 channels.
    """
    had, rows, columns = dataset.image_shape
    check_channels(channels)
    if channels is not None and channels != had and had not in (1, 3):
        raise refused("channels", channels, f"nothing: the images of {dataset.name} have {had}")
    size = (rows, columns) if image_size is None else picture_size("image_size", image_size)
    wanted = (channels or had, *size)
    if wanted == dataset.image_shape:
        return dataset
    count = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    needed = count * math.prod(wanted) * dataset.train.images.itemsize
    if needed > DEFAULT_MAX_BYTES:
        raise DataError(
            f"{dataset.name}: images of {' x '.join(map(str, wanted))} take {needed:,} bytes; "
            f"expected at most {DEFAULT_MAX_BYTES:,} (4 GiB). Give a smaller --image-size "
            "(image_size= in Python)."
        )
    notes = [dataset.description or dataset.name]
    if size != (rows, columns):
        notes.append(f"resized from {rows} x {columns} to {size[0]} x {size[1]}")
    if wanted[0] != had:
        notes.append("grey made colour" if had == 1 else "colour made grey")
    return dataclasses.replace(
        dataset,
        train=_convert(dataset.train, wanted),
        validation=_convert(dataset.validation, wanted),
        test=_convert(dataset.test, wanted),
        description="; ".join(notes),
    )


def _convert(split: Split, shape: tuple[int, int, int]) -> Split:
    """A split whose images have this shape (C, H, W)."""
    channels, rows, columns = shape
    images = split.images
    if channels < images.shape[1]:  # fewer channels first: less to resize
        images = _grey(images)
    if images.shape[2:] != (rows, columns):
        images = _resize(images, rows, columns)
    if channels > images.shape[1]:
        images = np.repeat(images, channels, axis=1)
    images.flags.writeable = False
    return Split(images, split.labels)


def _grey(images: NDArray[Any]) -> NDArray[Any]:
    """Images (N, 1, H, W) from (N, 3, H, W), one after the other to save memory."""
    grey = np.empty((len(images), 1, *images.shape[2:]), images.dtype)
    for image, colours in zip(grey, images, strict=True):
        mixed = np.tensordot(_LUMA, colours, 1)
        image[0] = np.round(mixed) if grey.dtype == np.uint8 else np.clip(mixed, 0, 1)
    return grey


def _resize(images: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Images (N, C, rows, columns), of the same dtype."""
    from PIL import Image

    resized = np.empty((*images.shape[:2], rows, columns), images.dtype)
    for new, old in zip(
        resized.reshape(-1, rows, columns), images.reshape(-1, *images.shape[2:]), strict=True
    ):
        # Pillow has no float64: pixels of 24 bits are as fine as any picture's
        plane = old if old.dtype == np.uint8 else old.astype(np.float32)
        picture = Image.fromarray(plane).resize((columns, rows), Image.Resampling.BILINEAR)
        new[:] = np.asarray(picture)
    # rounding may leave the range by a little
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0, 1)
