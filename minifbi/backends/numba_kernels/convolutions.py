"""The closed trio, and its combinations with max-pooling: how each kernel is called.

Shapes, tables and the cutting of the work; the arithmetic is in the kernels.  All of
them take maps (N, C, H, W) as :mod:`.launch` describes.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels import conv, conv_few, conv_pool, conv_weight, machine
from minifbi.backends.numba_kernels.launch import batch_first, batch_last, pair, run
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.pack import pack_weight
from minifbi.backends.numba_kernels.taps import (
    forward_taps,
    grouped_weight_taps,
    transpose_taps,
    weight_taps,
)
from minifbi.backends.numba_kernels.unpooled import Unpooled, source
from minifbi.errors import ShapeError

# The copies of a piece of work should stay in its core's own cache.  A core shares
# 1 MB or so; this many numbers are half of it in float32.
CACHED_NUMBERS = 128 * 1024
# The weight gradient is computed in about so many pieces, the threads' work, each
# of at most so many output channels.
WEIGHT_PARTS = 8
WEIGHT_CHANNEL_GROUP = 16
# Up to so many output channels, the tile's rows are better used for pixels.
FEW_CHANNELS = machine.ROWS // 2


def rows_together(x: Any, out_shape: tuple[int, ...], kernel_rows: int, width: int) -> int:
    """Output rows in a piece of work.

    The packed rows should stay in the cache, and every thread should get some work.
    (The band only says who computes a row, so it may depend on the threads.)
    """
    out_rows, blocks = out_shape[1], -(-out_shape[3] // width)
    fitting = CACHED_NUMBERS // (width * x.shape[1] * x.shape[3]) - kernel_rows
    sharing = out_rows * blocks // (2 * numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return min(max(fitting, kernel_rows, 1), max(sharing, 1), out_rows)


def _forward_tables(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair
) -> tuple[Any, ...]:
    """Packed weight, filled bias, the two tables, and the output's height and width."""
    (h, w), (o, c, kh, kw) = x.shape[2:], weight.shape
    oh, ow = output_size((h, w), (kh, kw), stride, padding)
    if x.shape[1] != c or min(oh, ow) < 1:  # a kernel checks no bounds
        raise ShapeError(f"conv2d: an input of shape {x.shape} and a weight of {weight.shape}")
    rows, row_order = forward_taps(h, oh, kh, stride[0], padding[0])
    columns, column_order = forward_taps(w, ow, kw, stride[1], padding[1])
    filled = np.zeros(o + machine.ROWS, dtype=x.dtype)
    if bias is not None:
        filled[:o] = bias
    return pack_weight(weight, row_order, column_order), filled, rows, columns, (oh, ow)


def forward(
    x: Array, weight: Array, bias: Array | None, relu: bool, stride: Pair, padding: Pair
) -> Array:
    """The convolution, with bias and ReLU if asked."""
    packed, filled, rows, columns, size = _forward_tables(x, weight, bias, stride, padding)
    shape = (weight.shape[0], *size, x.shape[0])
    return _convolve(x, packed, filled, relu, rows, columns, shape, weight.shape[2:])


def transpose(g: Array | Unpooled, weight: Array, stride: Pair, padding: Pair, size: Pair) -> Array:
    """The convolution's transpose with respect to its input, a map of the given size."""
    (oh, ow), (kh, kw) = g.shape[2:], weight.shape[2:]
    if g.shape[1] != weight.shape[0]:
        raise ShapeError(f"conv2d_transpose: a g of shape {g.shape}, a weight of {weight.shape}")
    rows, row_order = transpose_taps(size[0], oh, kh, stride[0], padding[0])
    columns, column_order = transpose_taps(size[1], ow, kw, stride[1], padding[1])
    turned = weight.transpose(1, 0, 2, 3)
    shape = (weight.shape[1], *size, g.shape[0])
    if shape[0] <= FEW_CHANNELS and stride[1] == 1:
        # with stride 1 the transpose is a convolution with the kernel turned round
        first = padding[1] - kw + 1
        return _convolve_few(g, turned, rows, row_order, column_order, first, shape)
    packed = pack_weight(turned, row_order, column_order)
    bias = np.zeros(shape[0] + machine.ROWS, dtype=g.dtype)
    return _convolve(g, packed, bias, False, rows, columns, shape, (kh, kw))


def _convolve(
    x: Array | Unpooled,
    packed: Array,
    bias: Array,
    relu: bool,
    rows: Array,
    columns: Array,
    shape: tuple[int, ...],
    kernel: Pair,
) -> Array:
    """Run the convolution kernel; `shape` is that of the result, (O, OH, OW, N)."""
    lanes = machine.lanes_of(x.dtype)
    band = rows_together(x, shape, kernel[0], machine.VECTORS * lanes)
    out = empty(shape, x.dtype)
    work = float(out.size) * x.shape[1] * kernel[0] * kernel[1]
    arguments = (packed, bias, relu, rows, columns, out, lanes, band, pair(kernel))
    run(conv.conv, work, *source(x), *arguments)
    return batch_first(out)


def _convolve_few(
    x: Array | Unpooled,
    weight: Array,
    rows: Array,
    row_order: Array,
    column_order: Array,
    first: int,
    shape: tuple[int, ...],
) -> Array:
    """Run the kernel for few output channels; `first` is column 0's first input column."""
    kernel = weight.shape[2:]
    flat = np.ascontiguousarray(
        weight[:, :, row_order][:, :, :, column_order].transpose(0, 2, 3, 1)
    ).reshape(-1)
    columns = (1, int(first), conv_few.border_of(x.shape[3], shape[2], kernel[1], 1, int(first)))
    lanes = machine.lanes_of(x.dtype)
    band = rows_together(x, shape, kernel[0], lanes)
    out = empty(shape, x.dtype)
    work = float(out.size) * x.shape[1] * kernel[0] * kernel[1]
    arguments = (flat, rows, columns, out, lanes, band, pair(kernel))
    run(conv_few.conv_few, work, *source(x), *arguments)
    return batch_first(out)


def pooled(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    kernel: Pair,
    pool_stride: Pair,
    winners: Array | None = None,
) -> tuple[Array, Array]:
    """Convolution and max-pooling without padding or overlap.

    Without `winners`: bias, ReLU, maximum; returns the maxima and the winners, NO_WINNER
    where nothing is active.  With them: the convolution read at the winners.
    """
    packed, filled, rows, columns, size = _forward_tables(x, weight, bias, stride, padding)
    out_size = output_size(size, kernel, pool_stride, (0, 0))
    shape = (weight.shape[0], *out_size, x.shape[0])
    if min(out_size) < 1:
        raise ShapeError(f"conv2d_relu_pool: windows of {kernel} do not fit into maps of {size}")
    out = empty(shape, x.dtype)
    places = empty(shape, np.uint8) if winners is None else batch_last(winners)
    if places.shape != shape or places.dtype != np.uint8:
        raise ShapeError(
            f"conv2d_gather: winners of shape {batch_first(places).shape} and {places.dtype}, "
            f"not {batch_first(out).shape} and uint8"
        )
    lanes = machine.lanes_of(x.dtype)
    window = (*pair(kernel), *pair(pool_stride))
    run(
        conv_pool.conv_pool,
        float(out.size) * math.prod(weight.shape[1:]) * kernel[0] * kernel[1],
        batch_last(x),
        packed,
        filled,
        rows,
        columns,
        window,
        out,
        places,
        winners is not None,
        lanes,
        rows_together(x, shape, -(-weight.shape[2] // pool_stride[0]), machine.VECTORS * lanes),
        pair(weight.shape[2:]),
    )
    return batch_first(out), batch_first(places)


def weight_gradient(
    x: Array, g: Array | Unpooled, kernel: Pair, stride: Pair, padding: Pair
) -> Array:
    """The convolution's transpose with respect to its weight."""
    batch, channels, h, w = x.shape
    out_channels, oh, ow = g.shape[1:]
    kh, kw = kernel
    if g.shape[0] != batch or (oh, ow) != output_size((h, w), kernel, stride, padding):
        raise ShapeError(
            f"conv2d_weight: an x of shape {x.shape} and a g of {g.shape}, with kernel {kernel}, "
            f"stride {stride}, padding {padding}"
        )
    rows = weight_taps(h, oh, kh, stride[0], padding[0])
    if channels >= machine.WEIGHT_CHANNELS:  # the tile's columns are channels
        group, border = machine.WEIGHT_CHANNELS, 0
        tile_columns = group
        columns = weight_taps(w, ow, kw, stride[1], padding[1])
    else:  # they are taps of one kernel row
        group, border = 1, int(padding[1])
        chunks = -(-kw // machine.WEIGHT_TAPS)
        tile_columns = -(-kw // chunks)  # 7 taps as 4 + 3, not 5 + 2
        columns = grouped_weight_taps(ow, chunks, tile_columns)
    lanes = machine.lanes_of(x.dtype)
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
    filled = -(-numbers // lanes) * lanes  # the kernel writes whole vectors
    sums = np.empty((sample_groups, o_groups, filled), dtype=x.dtype)
    run(
        conv_weight.conv_weight,
        float(g.size) * channels * kh * kw,
        batch_last(x),
        *source(g),
        sums,
        rows,
        columns,
        pair(stride),
        sample_group,
        o_group,
        band,
        group,
        border,
        lanes,
        (0,) * tile_columns,
    )
    # from tiles to (O, C, kh, kw), and without what filled up the last tiles
    total = sums.sum(axis=0)[:, :numbers].reshape(o_groups, *tiles)
    if group == 1:
        result = total.transpose(0, 1, 5, 2, 3, 4, 6)  # o_groups, o_tiles, rows, C, kh, taps...
    else:
        result = total.transpose(0, 1, 5, 2, 6, 3, 4)
    # an o_group that is no multiple of the rows has its filling in the middle
    result = result.reshape(o_groups, o_tiles * machine.WEIGHT_ROWS, x_tiles * group, kh, -1)
    result = result[:, :o_group].reshape(-1, x_tiles * group, kh, result.shape[-1])
    return np.ascontiguousarray(result[:out_channels, :channels, :, :kw])
