"""A map that is zero but at the winners of a max-pooling.

Going back through a max-pooling spreads each number to its winner's place in a map four
times as large.  Whoever reads that map next copies it anyway, in the order in which a
kernel wants it.  So it is never written: it stays what it is made from, and
:func:`.pack.pack` spreads it while it copies.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels.jit import ELEMENT, Kernel
from minifbi.backends.numba_kernels.launch import Shape, batch_first, batch_last, pair, planned
from minifbi.backends.numba_kernels.machine import NO_WINNER
from minifbi.errors import ShapeError

NO_WINNERS = np.zeros((0, 0, 0, 0), dtype=np.uint8)


@Kernel
def spread(values: Array, winners: Array, out: Array, window: tuple[int, ...]) -> None:
    """Write the values (C, OH, OW, N) at their winners' places in `out` (C, H, W, N)."""
    _, kw, sh, sw, _, _ = window
    channels, rows, columns, batch = values.shape
    for c in numba.prange(channels):
        out[c] = 0
        for row in range(rows):
            for column in range(columns):
                for n in range(batch):
                    place = winners[c, row, column, n]
                    if place != NO_WINNER:
                        to = out[c, row * sh + place // kw, column * sw + place % kw]
                        to[n] = values[c, row, column, n]


@planned
def unpooled_plan(
    shape: Shape, winners_shape: Shape, kernel: Pair, stride: Pair, size: Pair
) -> tuple[tuple[int, ...], Shape, int]:
    """The window, shape and size of an :class:`Unpooled`.

    Raises
    ------
    ShapeError
        If values, winners and size do not belong together: a kernel checks no bounds.
    """
    if shape != winners_shape or shape[2:] != output_size(size, kernel, stride, (0, 0)):
        raise ShapeError(
            f"relu_unpool: values of shape {shape} and winners of {winners_shape}, for "
            f"windows of {kernel}, {stride} apart, in maps of {size}"
        )
    whole = (*shape[:2], *pair(size))
    return (*pair(kernel), *pair(stride), *pair(size)), whole, math.prod(whole)


class Unpooled:
    """Values and winners, (N, C, OH, OW), that stand for a map (N, C, H, W).

    Parameters
    ----------
    values : array
    winners : uint8 array
        From ``conv2d_relu_pool``; where nobody has won, the map is zero.
    kernel, stride : (int, int)
        The pooling's; no padding, and windows that do not overlap.
    size : (int, int)
        H and W.

    Raises
    ------
    ShapeError
        If values, winners and size do not belong together.

    Attributes
    ----------
    window : six int
        The pooling's kernel and stride, and H and W.
    source : (array, array)
        Values and winners as the kernels read them, (C, OH, OW, N).
    """

    __slots__ = ("dtype", "shape", "size", "source", "window")

    def __init__(
        self, values: Array, winners: Array, kernel: Pair, stride: Pair, size: Pair
    ) -> None:
        self.window, self.shape, self.size = unpooled_plan(
            values.shape, winners.shape, kernel, stride, size
        )
        self.dtype, self.source = values.dtype, (batch_last(values), batch_last(winners))

    def array(self) -> Array:
        """The map, written out, for code that knows only arrays."""
        n, *rest = self.shape
        out = np.empty((*rest, n), self.dtype)
        spread.version(ELEMENT * self.size)(*self.source, out, self.window)
        return batch_first(out)


def source(g: Array | Unpooled) -> tuple[Array, Array]:
    """What the kernels read of a map: the array (C, H, W, N), and its winners."""
    return g.source if isinstance(g, Unpooled) else (batch_last(g), NO_WINNERS)
