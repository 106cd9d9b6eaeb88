"""The images that are explained: from a split of a data set, or from picture files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minifbi.datasets import Dataset, as_digit, read_picture
from minifbi.errors import ConfigError, DataError
from minifbi.explain.base import Floats

DIGITS = tuple("0123456789")
BACKGROUND = 100  # training images, evenly spread
LARGEST_SHOWN = 480  # pixels: height and width of a picture as it is shown


@dataclass(frozen=True)
class Subjects:
    """Images as networks see them, and what is known of them.

    Attributes
    ----------
    images : ndarray, shape (N, C, H, W)
        Pixels in [0, 1].
    names : list of str
        "test image 7", or a file's name.
    labels : list of int, or None
        Their classes, where they come from a data set.
    indices : list of int, or None
        Their places in the split.
    originals : list of ndarray, shape (C, h, w), or None
        The pictures before they were prepared, at most 480 pixels high and wide.
    preparation : str
        What was done to a picture, in words.
    background : ndarray, shape (B, C, H, W), or None
        Some training images, for methods that compare an image with others.
    """

    images: Floats
    names: list[str]
    labels: list[int] | None = None
    indices: list[int] | None = None
    originals: list[NDArray[Any]] | None = None
    preparation: str = ""
    background: Floats | None = None


def from_split(dataset: Dataset, split: str, indices: Sequence[int], dtype: DTypeLike) -> Subjects:
    """The images at these indices.

    Raises
    ------
    ConfigError
        If an index is outside the split.
    """
    part = getattr(dataset, split)
    for index in indices:
        if not 0 <= index < len(part):
            raise ConfigError(
                f"index {index}: the {split} split of {dataset.name} has {len(part):,} images; "
                f"expected 0 to {len(part) - 1}"
            )
    images, labels = part.batch(list(indices), dtype)
    names = [f"{split} image {index}" for index in indices]
    spread = np.linspace(0, len(dataset.train) - 1, BACKGROUND).astype(int)
    background, _ = dataset.train.batch(np.unique(spread), dtype)
    return Subjects(images, names, labels.tolist(), list(indices), background=background)


def from_files(
    paths: Sequence[str],
    input_shape: tuple[int, int, int],
    class_names: Sequence[str],
    *,
    raw: bool,
    dtype: DTypeLike,
) -> Subjects:
    """Pictures, made to fit a network.

    Parameters
    ----------
    paths : sequence of str
        Files that :func:`minifbi.datasets.read_picture` reads.
    input_shape : (int, int, int)
        Channels, height and width of the network's images.
    class_names : sequence of str
        A network for 28 x 28 grey images of the classes "0" to "9" gets a drawing as MNIST's
        own digits are: see :func:`minifbi.datasets.as_digit`.
    raw : bool
        Whether digits are only resized, as all other pictures are.
    dtype : dtype
        Of the images.

    Raises
    ------
    DataError
        If a file is no picture, or a drawing is blank.
    OSError
        If a file cannot be read.
    """
    channels, *size = input_shape
    digits = not raw and input_shape == (1, 28, 28) and tuple(class_names) == DIGITS
    images, originals = [], []
    for path in paths:
        picture = read_picture(path)
        originals.append(_small(picture))
        try:
            images.append(
                as_digit(picture) if digits else _fitting(path, picture, tuple(size), channels)
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    if digits:
        how = (
            "prepared as MNIST's digits are: white on black, 20 pixels high or wide, in the middle "
            "of 28 x 28 (--raw-image: only resized)"
        )
    else:
        kind = {1: ", grey", 3: ", colour"}.get(channels, "")
        how = f"resized to {size[0]} x {size[1]}{kind}"
    pixels = np.stack(images).astype(dtype) / np.dtype(dtype).type(255)
    return Subjects(pixels, _file_names(paths), originals=originals, preparation=how)


def _fitting(
    path: str, picture: NDArray[np.uint8], size: tuple[int, ...], channels: int
) -> NDArray[np.uint8]:
    """A picture in the size of the network's images."""
    if channels not in (1, 3):
        raise DataError(f"the network takes images of {channels} channels; a picture has 1 or 3")
    if picture.shape == (channels, *size):
        return picture
    height, width = size
    return read_picture(path, size=(height, width), channels=channels)


def _small(picture: NDArray[np.uint8]) -> NDArray[Any]:
    """A picture of at most 480 x 480 for the figure, from 0 to 1."""
    from PIL import Image

    channels, height, width = picture.shape
    scale = max(height, width) / LARGEST_SHOWN
    if scale > 1:
        plain = Image.fromarray(picture[0] if channels == 1 else np.moveaxis(picture, 0, -1))
        box = (max(1, round(width / scale)), max(1, round(height / scale)))
        array = np.asarray(plain.resize(box, Image.Resampling.BOX))
        picture = array[None] if channels == 1 else np.moveaxis(array, -1, 0)
    return picture / 255


def _file_names(paths: Sequence[str]) -> list[str]:
    """The names of files, without their folders where they differ without."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)
