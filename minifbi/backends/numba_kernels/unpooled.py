"""A map that is zero but at the winners of a max-pooling.

Going back through a max-pooling spreads each number to its winner's place in a map four
times as large.  Whoever reads that map next copies it anyway, in the order in which a
kernel wants it.  So it is never written: it stays what it is made from, and
:func:`.pack.pack` spreads it while it copies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels.launch import batch_last
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.errors import ShapeError

_NO_WINNERS = np.zeros((0, 0, 0, 0), dtype=np.uint8)


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
        If values, winners and size do not belong together: a kernel checks no bounds.
    """

    __slots__ = ("dtype", "shape", "size", "values", "window", "winners")

    def __init__(
        self, values: Array, winners: Array, kernel: Pair, stride: Pair, size: Pair
    ) -> None:
        if values.shape != winners.shape or values.shape[2:] != output_size(
            size, kernel, stride, (0, 0)
        ):
            raise ShapeError(
                f"relu_unpool: values of shape {values.shape} and winners of {winners.shape}, for "
                f"windows of {kernel}, {stride} apart, in maps of {size}"
            )
        self.values, self.winners = values, winners
        self.window = tuple(int(n) for n in (*kernel, *stride, *size))
        self.dtype, self.shape = values.dtype, (*values.shape[:2], *size)
        self.size = math.prod(self.shape)

    def array(self) -> Array:
        """The map, written out, for code that knows only arrays."""
        kh, kw, sh, sw, h, w = self.window
        return NumpyBackend().max_pool2d_scatter(
            self.values, self.winners, (kh, kw), (sh, sw), (0, 0), (h, w)
        )


def source(g: Array | Unpooled) -> tuple[Any, Any, tuple[int, ...]]:
    """What the kernels read of a map: the array (C, H, W, N), its winners, its window."""
    if isinstance(g, Unpooled):
        return batch_last(g.values), batch_last(g.winners), g.window
    return batch_last(g), _NO_WINNERS, (1, 1, 1, 1, int(g.shape[2]), int(g.shape[3]))
