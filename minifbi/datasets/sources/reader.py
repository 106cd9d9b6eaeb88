"""Many pictures become one array, or one message that names what is wrong with which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minifbi.datasets.idx import DEFAULT_MAX_BYTES
from minifbi.datasets.pictures import PictureError, read_picture, shown_path
from minifbi.errors import DataError

__all__ = ["NAMED", "PictureReader"]

NAMED = 5
"""How many files one message names."""


class PictureReader:
    """Reads pictures into arrays of one shape, and remembers which of them were bad.

    `channels` and `shape` (rows, columns) are those of the pictures read so far.
    """

    def __init__(
        self, root: Path, size: tuple[int, int] | None, channels: int | None, count: int
    ) -> None:
        self.root, self.size, self.asked, self.count = root, size, channels, count
        self.channels, self.shape = channels or 1, size
        self.first: Path | None = None  # the one whose shape all must have
        self.bad: list[str] = []
        if size is not None:
            self._check_memory()

    def read(self, files: Sequence[Path]) -> NDArray[np.uint8]:
        """The pictures, shape (N, C, H, W); C is 1 as long as all have been grey."""
        images: NDArray[np.uint8] | None = None
        for i, path in enumerate(files):
            picture = self._picture(path)
            if picture is None:
                continue
            if images is None:
                images = np.zeros((len(files), self.channels, *picture.shape[1:]), np.uint8)
            images = self.coloured(images)
            images[i] = picture
        return np.zeros((0, 1, 1, 1), np.uint8) if images is None else images

    def coloured(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The images with as many channels as the pictures so far need."""
        same = images.shape[1] == self.channels
        return images if same else np.repeat(images, self.channels, axis=1)

    def check(self, more: str = "") -> None:
        """Raise DataError if a picture could not be read; `more` says that others may follow."""
        if self.bad:
            raise DataError(
                f"{shown_path(self.root)}: {more}{len(self.bad)} of {self.count:,} pictures cannot "
                f"be read: {', '.join(self.bad)}. Open them in an image program and save them "
                "again, or remove them."
            )

    def _picture(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            picture = read_picture(path, size=self.size, channels=self.asked)
        except PictureError as error:
            self.bad.append(f"{self._named(path)} ({error.reason})")
            if len(self.bad) == NAMED:
                self.check("at least ")
            return None
        shape = picture.shape[1], picture.shape[2]
        if self.shape is None or len(picture) > self.channels:
            self.shape, self.channels = self.shape or shape, max(self.channels, len(picture))
            self.first = self.first or path
            self._check_memory()
        if shape != self.shape:
            rows, columns = self.shape
            self.check()  # the bad ones first: they must be mended in any case
            raise DataError(
                f"{shown_path(self.root)}: {self._named(self.first or path)} has {rows} x "
                f"{columns} pixels and {self._named(path)} has {shape[0]} x {shape[1]} "
                "(rows x columns); expected pictures of one size. Have them resized with "
                f"--image-size {min(self.shape)} or another size (image_size= in Python)."
            )
        return picture

    def _named(self, path: Path) -> str:
        return shown_path(path.relative_to(self.root))

    def _check_memory(self) -> None:
        rows, columns = self.shape or (0, 0)
        needed = self.count * self.channels * rows * columns
        if needed > DEFAULT_MAX_BYTES:
            raise DataError(
                f"{shown_path(self.root)}: {self.count:,} pictures of {self.channels} x {rows} x "
                f"{columns} take {needed:,} bytes; expected at most {DEFAULT_MAX_BYTES:,} (4 GiB). "
                "Give a smaller --image-size (image_size= in Python), or remove some."
            )
