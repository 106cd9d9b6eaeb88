"""The closed trio, and convolution with max-pooling: plans that read the maps as they are.

Shapes, tables and the cutting of the work; the arithmetic is in the kernels.  A plan is called
with maps in the kernels' order, (C, H, W, N), and their winners (see :func:`.unpooled.source`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels import conv, conv_few, conv_pool, conv_weight, machine
from minifbi.backends.numba_kernels.launch import DType, Shape, pair
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.pack import pack_weight
from minifbi.backends.numba_kernels.taps import (
    forward_taps,
    grouped_weight_taps,
    transpose_taps,
    weight_taps,
)

# The copies of a piece of work should stay in its core's own cache.  A core shares
# 1 MB or so; this many numbers are half of it in float32.
CACHED_NUMBERS = 128 * 1024
# The weight gradient is computed in about so many pieces, the threads' work, each
# of at most so many output channels.
WEIGHT_PARTS = 8
WEIGHT_CHANNEL_GROUP = 16
# Up to so many output channels, the tile's rows are better used for pixels.
FEW_CHANNELS = machine.ROWS // 2


def rows_together(x_shape: Shape, out_shape: Shape, kernel_rows: int, width: int) -> int:
    """Output rows in a piece of work.

    The packed rows should stay in the cache, and every thread should get some work.
    (The band only says who computes a row, so it may depend on the threads.)
    """
    out_rows, blocks = out_shape[1], -(-out_shape[3] // width)
    fitting = CACHED_NUMBERS // (width * x_shape[1] * x_shape[3]) - kernel_rows
    sharing = out_rows * blocks // (2 * numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return min(max(fitting, kernel_rows, 1), max(sharing, 1), out_rows)


def _packed_size(weight_shape: Shape) -> int:
    """Numbers in a weight (O, C, kh, kw) once it is laid out by ``pack_weight``."""
    o, *rest = weight_shape
    return -(-o // machine.ROWS) * machine.ROWS * math.prod(rest)


def _filled(bias: Array, none: Array) -> Array:
    """A bias with zeros up to a whole tile; `none` are zeros of that length."""
    filled = none.copy()
    filled[: bias.size] = bias
    return filled


@dataclass(frozen=True)
class Convolution:
    """Plan of a convolution, or of its transpose, which reads the weight `turned`.

    Attributes
    ----------
    kernel : compiled function
    shape : tuple of int
        Of the result, (O, OH, OW, N).
    turned : bool
        Whether the weight's first two axes change places.
    orders : two int arrays
        The order in which the tables want rows and columns of the weight.
    packed : int
        Numbers in the packed weight.
    no_bias : array
        Zeros, one an output channel and up to a whole tile.
    window, rest : tuples
        What else the kernel wants.
    """

    kernel: Any
    shape: Shape
    turned: bool
    orders: tuple[Array, Array]
    packed: int
    no_bias: Array
    window: tuple[int, ...]
    rest: tuple[Any, ...]

    def __call__(
        self, x: Array, winners: Array, weight: Array, bias: Array | None = None, relu: bool = False
    ) -> Array:
        weight = weight.transpose(1, 0, 2, 3) if self.turned else weight
        packed, out = np.empty(self.packed, x.dtype), empty(self.shape, x.dtype)
        pack_weight(weight, *self.orders, packed)
        filled = self.no_bias if bias is None else _filled(bias, self.no_bias)
        self.kernel(x, winners, self.window, packed, filled, relu, out, *self.rest)
        return out


@dataclass(frozen=True)
class FewChannels:
    """Plan of a transpose with few input channels, by :mod:`.conv_few`.  See Convolution."""

    kernel: Any
    shape: Shape
    orders: tuple[Array, Array]
    window: tuple[int, ...]
    rest: tuple[Any, ...]

    def __call__(self, g: Array, winners: Array, weight: Array) -> Array:
        row_order, column_order = self.orders
        ordered = weight[:, :, row_order][:, :, :, column_order].transpose(1, 2, 3, 0)
        out = empty(self.shape, g.dtype)
        packed = np.ascontiguousarray(ordered).reshape(-1)
        self.kernel(g, winners, self.window, packed, out, *self.rest)
        return out


def whole(size: Pair) -> tuple[int, ...]:
    """The window of a map that is no :class:`~.unpooled.Unpooled`."""
    return (1, 1, 1, 1, *pair(size))


def forward_plan(
    x_shape: Shape, weight_shape: Shape, dtype: DType, stride: Pair, padding: Pair
) -> Convolution:
    """The convolution of x (N, C, H, W), with bias and ReLU if asked."""
    (n, _, h, w), (o, c, kh, kw) = x_shape, weight_shape
    oh, ow = output_size((h, w), (kh, kw), stride, padding)
    rows, row_order = forward_taps(h, oh, kh, stride[0], padding[0])
    columns, column_order = forward_taps(w, ow, kw, stride[1], padding[1])
    shape, lanes = (o, oh, ow, n), machine.lanes_of(dtype)
    band = rows_together(x_shape, shape, kh, machine.VECTORS * lanes)
    return Convolution(
        conv.conv.version(float(math.prod(shape)) * c * kh * kw),
        shape,
        False,
        (row_order, column_order),
        _packed_size(weight_shape),
        np.zeros(o + machine.ROWS, dtype),
        whole((h, w)),
        (rows, columns, lanes, band, pair((kh, kw))),
    )


def transpose_plan(
    g_shape: Shape,
    weight_shape: Shape,
    dtype: DType,
    stride: Pair,
    padding: Pair,
    size: Pair,
    window: tuple[int, ...] | None = None,
) -> Convolution | FewChannels:
    """The convolution's transpose: g (N, O, OH, OW), or an Unpooled with that window."""
    (n, o, oh, ow), (_, c, kh, kw) = g_shape, weight_shape
    rows, row_order = transpose_taps(size[0], oh, kh, stride[0], padding[0])
    columns, column_order = transpose_taps(size[1], ow, kw, stride[1], padding[1])
    shape, lanes = (c, *pair(size), n), machine.lanes_of(dtype)
    work, orders = float(math.prod(shape)) * o * kh * kw, (row_order, column_order)
    window, kernel = window or whole((oh, ow)), pair((kh, kw))
    if c <= FEW_CHANNELS and stride[1] == 1:
        # with stride 1 the transpose is a convolution with the kernel turned round
        first = int(padding[1] - kw + 1)  # column 0's first input column
        border = conv_few.border_of(ow, shape[2], kw, 1, first)
        band = rows_together(g_shape, shape, kh, lanes)
        rest: tuple[Any, ...] = (rows, (1, first, border), lanes, band, kernel)
        return FewChannels(conv_few.conv_few.version(work), shape, orders, window, rest)
    band = rows_together(g_shape, shape, kh, machine.VECTORS * lanes)
    packed, no_bias = _packed_size((c, o, kh, kw)), np.zeros(c + machine.ROWS, dtype)
    rest = (rows, columns, lanes, band, kernel)
    function = conv.conv.version(work)
    return Convolution(function, shape, True, orders, packed, no_bias, window, rest)


@dataclass(frozen=True)
class Pooled:
    """Plan of convolution and max-pooling without padding or overlap.  See Convolution.

    Without winners: bias, ReLU, maximum; gives the maxima and the winners, NO_WINNER
    where nothing is active.  With them: the convolution read at the winners.
    """

    kernel: Any
    shape: Shape
    orders: tuple[Array, Array]
    packed: int
    no_bias: Array
    rest: tuple[Any, ...]

    def __call__(
        self, x: Array, weight: Array, bias: Array | None, winners: Array | None
    ) -> tuple[Array, Array]:
        packed, out = np.empty(self.packed, x.dtype), empty(self.shape, x.dtype)
        pack_weight(weight, *self.orders, packed)
        filled = self.no_bias if bias is None else _filled(bias, self.no_bias)
        places = empty(self.shape, np.uint8) if winners is None else winners
        self.kernel(x, packed, filled, out, places, winners is not None, *self.rest)
        return out, places


def pooled_plan(
    x_shape: Shape,
    weight_shape: Shape,
    dtype: DType,
    stride: Pair,
    padding: Pair,
    kernel: Pair,
    pool_stride: Pair,
) -> Pooled:
    """Convolution of x (N, C, H, W), then max-pooling by `kernel` and `pool_stride`."""
    whole_map = forward_plan(x_shape, weight_shape, dtype, stride, padding)
    o, *size, n = whole_map.shape
    shape = (o, *output_size((size[0], size[1]), kernel, pool_stride, (0, 0)), n)
    rows, columns, lanes, _, (kh, kw) = whole_map.rest
    width = machine.VECTORS * lanes
    band = rows_together(x_shape, shape, -(-kh // int(pool_stride[0])), width)
    work = float(math.prod(shape)) * math.prod(weight_shape[1:]) * kernel[0] * kernel[1]
    return Pooled(
        conv_pool.conv_pool.version(work),
        shape,
        whole_map.orders,
        whole_map.packed,
        whole_map.no_bias,
        (rows, columns, (*pair(kernel), *pair(pool_stride)), lanes, band, (kh, kw)),
    )


@dataclass(frozen=True)
class WeightGradient:
    """Plan of the convolution's transpose with respect to its weight.

    Attributes
    ----------
    kernel : compiled function
    parts : tuple of int
        Groups of samples, groups of output channels, and numbers, whole vectors of them.
    numbers : int
        How many of the numbers count.
    tiles : tuple of int
        Groups of output channels; then tiles of these and of channels, kernel rows, taps or
        groups of taps, and rows and columns of a tile.
    order : tuple of int
        The axes of `tiles` in the order of the result.
    filled : three tuples of int
        Shapes that the result goes through, and is cut from.
    window, rest : tuples
        What else the kernel wants.
    """

    kernel: Any
    parts: Shape
    numbers: int
    tiles: Shape
    order: Shape
    filled: tuple[Shape, Shape]
    o_group: int
    shape: Shape
    window: tuple[int, ...]
    rest: tuple[Any, ...]

    def __call__(self, x: Array, g: Array, winners: Array) -> Array:
        sums = np.empty(self.parts, x.dtype)
        self.kernel(x, g, winners, self.window, sums, *self.rest)
        # from tiles to (O, C, kh, kw), and without what filled up the last tiles
        total = sums.sum(axis=0)[:, : self.numbers].reshape(self.tiles).transpose(self.order)
        # a group of channels that is no multiple of the rows has its filling in the middle
        middle, result = self.filled
        o, c, _, kw = self.shape
        found = total.reshape(middle)[:, : self.o_group].reshape(result)
        return np.ascontiguousarray(found[:o, :c, :, :kw])


def weight_plan(
    x_shape: Shape,
    g_shape: Shape,
    dtype: DType,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    window: tuple[int, ...] | None,
) -> WeightGradient:
    """The weight gradient of x (N, C, H, W) and g (N, O, OH, OW), or an Unpooled."""
    (batch, channels, h, w), (_, out_channels, oh, ow), (kh, kw) = x_shape, g_shape, pair(kernel)
    rows = weight_taps(h, oh, kh, stride[0], padding[0])
    if channels >= machine.WEIGHT_CHANNELS:  # the tile's columns are channels
        group, border = machine.WEIGHT_CHANNELS, 0
        tile_columns = group
        columns = weight_taps(w, ow, kw, stride[1], padding[1])
        order = (0, 1, 5, 2, 6, 3, 4)
    else:  # they are taps of one kernel row
        group, border = 1, int(padding[1])
        chunks = -(-kw // machine.WEIGHT_TAPS)
        tile_columns = -(-kw // chunks)  # 7 taps as 4 + 3, not 5 + 2
        columns = grouped_weight_taps(ow, chunks, tile_columns)
        order = (0, 1, 5, 2, 3, 4, 6)  # groups and tiles of O, rows, C, kh, taps
    lanes = machine.lanes_of(dtype)
    block = machine.WEIGHT_VECTORS * lanes

    # who does what: fixed by the shapes alone, so that the result is too
    blocks = -(-batch // block)
    o_group = min(WEIGHT_CHANNEL_GROUP, out_channels)
    o_groups = -(-out_channels // o_group)
    sample_group = -(-blocks // max(1, WEIGHT_PARTS // o_groups)) * block
    sample_groups = -(-batch // sample_group)
    band = max(1, min(oh, CACHED_NUMBERS // (block * (w * channels + ow * o_group))))

    x_tiles, o_tiles = -(-channels // group), -(-o_group // machine.WEIGHT_ROWS)
    tiles = (o_tiles, x_tiles, kh, len(columns), machine.WEIGHT_ROWS, tile_columns)
    numbers = math.prod(tiles)
    taps = len(columns) * tile_columns // group
    filled_rows, filled_channels = o_tiles * machine.WEIGHT_ROWS, x_tiles * group
    return WeightGradient(
        conv_weight.conv_weight.version(float(math.prod(g_shape)) * channels * kh * kw),
        (sample_groups, o_groups, -(-numbers // lanes) * lanes),  # the kernel writes whole vectors
        numbers,
        (o_groups, *tiles),
        order,
        (
            (o_groups, filled_rows, filled_channels, kh, taps),
            (o_groups * o_group, filled_channels, kh, taps),
        ),
        o_group,
        (out_channels, channels, kh, kw),
        window or whole((oh, ow)),
        (
            *(rows, columns, pair(stride), sample_group, o_group, band),
            *(group, border, lanes, (0,) * tile_columns),
        ),
    )
