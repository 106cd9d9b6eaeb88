"""A split whose images stay on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.autograd import Tensor
from minifbi.backends import Array, Backend
from minifbi.datasets.core import Split

SHARE = 0.5  # of the free memory that images may take; the rest is for the steps


class ResidentSplit:
    """A :class:`~minifbi.datasets.Split` copied to a device once, and read there.

    The pixels keep their type: uint8 images of MNIST take 43 MB, and each batch is gathered
    and scaled where it is used, with the same rounding as on the host.

    Parameters
    ----------
    split : Split
        Its images and labels are copied to the device.
    backend : Backend
        The device, such as that of the cupy backend.

    Attributes
    ----------
    masks : ndarray of bool or None
        On the host: only one of the regularizers reads them.
    """

    def __init__(self, split: Split, backend: Backend) -> None:
        self.backend, self.masks = backend, split.masks
        self.images = backend.asarray(split.images)
        self.labels = backend.asarray(split.labels)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def batch(self, indices: Any, dtype: Any = np.float32) -> tuple[Tensor, Array]:
        """Take some images, as floats between 0 and 1, with their labels.

        Parameters
        ----------
        indices : slice, or integer array on the device or the host
            Which images, in this order.
        dtype : dtype
            float32 or float64, of the images.

        Returns
        -------
        images : Tensor, shape (B, C, H, W)
        labels : array of int64, shape (B,)
            Both on the device.  Split.from_arrays has checked both.
        """
        dtype = np.dtype(dtype)
        if not isinstance(indices, slice):
            indices = self.backend.asarray(indices)
        pixels = self.images[indices]
        images = pixels.astype(dtype)
        if pixels.dtype == np.uint8:
            images = images / dtype.type(255)
        x = Tensor(self.backend.images(images, dtype), backend=self.backend)
        return x, self.labels[indices]


def bring_near(split: Split, backend: Backend) -> Split | ResidentSplit:
    """A split where the backend computes, if that is not here and there is room for it.

    Parameters
    ----------
    split : Split
        Images and labels on the host.
    backend : Backend
        Where the batches will be used.

    Returns
    -------
    Split or ResidentSplit
        The split itself on a CPU, or where its images would take more than half of the
        device's free memory: its batches are then carried there one by one.
    """
    free = backend.free_memory()
    if free is None or split.images.nbytes + split.labels.nbytes > SHARE * free:
        return split
    return ResidentSplit(split, backend)
