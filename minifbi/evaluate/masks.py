"""Where the digit is: in the image, and on the grid of a layer inside the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import number
from minifbi.errors import ShapeError
from minifbi.evaluate._common import check_masks
from minifbi.layers import AvgPool2d, Conv2d, Flatten, MaxPool2d, Step

__all__ = ["UnitGrid", "digit_mask", "pool_mask", "unit_grids"]

WINDOWED = (Conv2d, MaxPool2d, AvgPool2d)


@dataclass(frozen=True)
class UnitGrid:
    """Where the units of a layer's maps lie in the image.

    The unit in row i and column j is centred on the pixel position
    (start[0] + i * step[0], start[1] + j * step[1]).  Its cell is the rectangle of size `step`
    around that position.  Unlike receptive fields, cells do not overlap.

    Attributes
    ----------
    start : (float, float)
        Row and column of the first unit's centre, in pixels; the first pixel's is 0.
    step : (float, float)
        Pixels from one unit to the next: the product of the strides below.
    """

    start: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (1.0, 1.0)

    def above(
        self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> UnitGrid:
        """The grid of the output of a convolution or pooling over this one.

        Parameters
        ----------
        kernel, stride, padding : (int, int)
            Of the convolution or pooling, each (vertical, horizontal).

        Returns
        -------
        UnitGrid
        """
        start = tuple(
            s + ((k - 1) / 2 - p) * d
            for s, d, k, p in zip(self.start, self.step, kernel, padding, strict=True)
        )
        step = tuple(d * s for d, s in zip(self.step, stride, strict=True))
        return UnitGrid(start, step)  # type: ignore[arg-type]


def unit_grids(steps: Sequence[Step]) -> dict[str, UnitGrid]:
    """The grid of each layer's output, up to the first Flatten.

    Parameters
    ----------
    steps : sequence of Step
        A forward pass over images, layer by layer (not fused).

    Returns
    -------
    dict of str to UnitGrid
        By the layer's name.
    """
    grids: dict[str, UnitGrid] = {}
    grid = UnitGrid()
    for step in steps:
        layer = step.layer
        if isinstance(layer, Flatten) or step.z.ndim != 4:
            break
        if isinstance(layer, WINDOWED):
            grid = grid.above(layer.kernel_size, layer.stride, layer.padding)
        grids[step.name] = grid
    return grids


def digit_mask(
    images: ArrayLike, threshold: float = 0.0, exclude: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """The pixels with ink: those above the threshold in any channel.

    Parameters
    ----------
    images : array of float, shape (N, C, H, W)
        Pixels in [0, 1], bright ink on a background of 0.
    threshold : float
        In [0, 1).
    exclude : array of bool, shape (N, H, W), optional
        Pixels that do not count as ink, such as ``Split.masks`` of Decoy-MNIST.

    Returns
    -------
    ndarray of bool, shape (N, H, W)

    Raises
    ------
    ConfigError, ShapeError
        If the threshold is outside [0, 1), or shapes do not fit.
    """
    threshold = number("threshold", threshold, 0, below=1)
    array = np.asarray(images)
    if array.ndim != 4:
        raise ShapeError(f"the images have shape {array.shape}; expected (N, C, H, W)")
    mask = np.asarray((array > threshold).any(axis=1))
    if exclude is not None:
        mask &= ~check_masks(exclude, array)
    return mask


def pool_mask(
    mask: NDArray[np.bool_], size: Sequence[int], grid: UnitGrid | None = None
) -> NDArray[np.bool_]:
    """Max-pool a mask of pixels to a layer's grid: True where a unit's cell has a True pixel.

    Parameters
    ----------
    mask : ndarray of bool, shape (N, H, W)
        One mask per image, True for example where there is ink.
    size : (h, w)
        Height and width of the layer's maps.
    grid : UnitGrid, optional
        Where its units are; without it, h x w cells of equal size tile the image.

    Returns
    -------
    ndarray of bool, shape (N, h, w)
    """
    n, height, width = mask.shape
    h, w = size
    if grid is None:
        step = (height / h, width / w)
        grid = UnitGrid(((step[0] - 1) / 2, (step[1] - 1) / 2), step)
    top, bottom = _cell_edges(grid.start[0], grid.step[0], h, height)
    left, right = _cell_edges(grid.start[1], grid.step[1], w, width)
    # summed area table: the number of True pixels in a rectangle is four look-ups
    table = np.zeros((n, height + 1, width + 1), dtype=np.int32)
    table[:, 1:, 1:] = mask.cumsum(axis=1, dtype=np.int32).cumsum(axis=2, dtype=np.int32)
    rows = table[:, bottom] - table[:, top]  # (N, h, W + 1)
    return np.asarray(rows[:, :, right] - rows[:, :, left] > 0)


def _cell_edges(
    start: float, step: float, count: int, pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First pixel of each cell, and the first after it, inside the image.

    A pixel at position p belongs to the cell with centre - step/2 <= p < centre + step/2.
    """
    edges = start + (np.arange(count + 1) - 0.5) * step
    # 1e-9: an edge that should be whole must not slip over a pixel by rounding
    first = np.clip(np.ceil(edges - 1e-9), 0, pixels).astype(np.intp)
    return first[:-1], first[1:]
