"""Fast on a CPU: the kernels compiled by Numba, on all cores.

Arrays keep the logical shape (N, C, H, W), but in memory the batch is *last*:
what the kernels return is a transposed view of a C-contiguous (C, H, W, N) array
(PyTorch's ``channels_last`` is the same kind of trick).  A vector register then
holds one pixel of 4 to 16 samples, and no kernel size, stride, padding or image
width leaves part of it unused.  NumPy's elementwise operations keep the memory
order, so that only the images themselves, at the first layer, are ever copied.

This file only prepares shapes and tables; the kernels are in
:mod:`minifbi.backends.numba_kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels import conv, conv_weight, pool, simd
from minifbi.backends.numba_kernels.taps import forward_taps, transpose_taps
from minifbi.backends.numpy_backend import NumpyBackend

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# A piece of work copies its input into a small array, which should stay in the
# core's own cache; numbers, not bytes.
PACKED_NUMBERS = 64 * 1024
# The weight gradient's sum over samples is split into groups of at least this
# many output channels times samples.
WEIGHT_CHANNEL_GROUP = 16


def batch_last(array: Array) -> Array:
    """(N, C, H, W) as a contiguous (C, H, W, N) array; a copy only if it must be."""
    return np.require(array.transpose(1, 2, 3, 0), requirements=("C", "A", "W"))


def empty_batch_last(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised (C, H, W, N) array that starts at a cache line.

    A vector that straddles two cache lines costs two loads.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def batch_first(array: Array) -> Array:
    """The logical (N, C, H, W) view of a (C, H, W, N) array."""
    return array.transpose(3, 0, 1, 2)


class NumbaBackend(NumpyBackend):
    """The kernels of :class:`NumpyBackend`, compiled.

    Other floating types than float32 and float64, and empty arrays, are left to
    the reference.
    """

    name = "numba"

    # ---- the closed trio -------------------------------------------------------------
    def conv2d(self, x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
        (h, w), (kh, kw) = x.shape[2:], weight.shape[2:]
        oh, ow = output_size((h, w), (kh, kw), stride, padding)
        shape = (weight.shape[0], oh, ow, x.shape[0])
        if not _compiled(x, weight) or min(*shape, *x.shape) < 1:
            return super().conv2d(x, weight, stride, padding)
        rows, row_order = forward_taps(h, oh, kh, stride[0], padding[0])
        columns, column_order = forward_taps(w, ow, kw, stride[1], padding[1])
        packed = conv.pack_weight(weight, row_order, column_order)
        return _convolve(x, packed, rows, columns, shape, (kh, kw))

    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        (oh, ow), (kh, kw) = g.shape[2:], weight.shape[2:]
        shape = (weight.shape[1], *size, g.shape[0])
        if not _compiled(g, weight) or min(*shape, *g.shape) < 1:
            return super().conv2d_transpose(g, weight, stride, padding, size)
        rows, row_order = transpose_taps(size[0], oh, kh, stride[0], padding[0])
        columns, column_order = transpose_taps(size[1], ow, kw, stride[1], padding[1])
        packed = conv.pack_weight(weight.transpose(1, 0, 2, 3), row_order, column_order)
        return _convolve(g, packed, rows, columns, shape, (kh, kw))

    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        batch, channels, height, width = x.shape
        out_channels, _, columns = g.shape[1:]
        if not _compiled(x, g) or min(*x.shape, *g.shape) < 1:
            return super().conv2d_weight(x, g, kernel, stride, padding)
        by_channel = channels >= simd.WEIGHT_CHANNELS
        if by_channel:
            tile_columns = simd.WEIGHT_CHANNELS
        else:
            # 7 taps are 4 + 3 rather than 5 + 2: fewer are computed in vain
            chunks = -(-kernel[1] // simd.WEIGHT_TAPS)
            tile_columns = -(-kernel[1] // chunks)
        lanes = simd.lanes_of(x.dtype)
        block = simd.WEIGHT_VECTORS * lanes
        channel_group = min(WEIGHT_CHANNEL_GROUP, out_channels)
        channel_groups = -(-out_channels // channel_group)
        blocks = -(-batch // block)
        parts = min(blocks, max(1, 8 // channel_groups))
        sample_group = -(-blocks // parts) * block
        parts = -(-batch // sample_group)
        # rows of g such that they and the rows of x they meet stay in the cache
        row_numbers = block * (width * channels + columns * channel_group)
        band = max(1, min(g.shape[2], 4 * PACKED_NUMBERS // row_numbers))
        sums = np.empty((parts, out_channels, channels, *kernel), dtype=x.dtype)
        conv_weight.conv_weight(
            batch_last(x),
            batch_last(g),
            sums,
            _pair(stride),
            _pair(padding),
            sample_group,
            channel_group,
            band,
            lanes,
            by_channel,
            (0,) * tile_columns,
        )
        return sums.sum(axis=0) if parts > 1 else sums[0]

    # ---- pooling ---------------------------------------------------------------------
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        out_size = output_size(x.shape[2:], kernel, stride, padding)
        shape = (x.shape[1], *out_size, x.shape[0])
        if not _compiled(x) or min(shape) < 1:
            return super().max_pool2d(x, kernel, stride, padding)
        rows, columns = _window_taps(forward_taps, x.shape[2:], out_size, kernel, stride, padding)
        out = empty_batch_last(shape, x.dtype)
        winners = empty_batch_last(shape, np.min_scalar_type(kernel[0] * kernel[1] - 1))
        pool.max_pool(batch_last(x), rows, columns, kernel[1], out, winners)
        return batch_first(out), batch_first(winners)

    def max_pool2d_scatter(
        self, g: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        shape = (g.shape[1], *size, g.shape[0])
        if not _compiled(g) or min(*shape, *g.shape) < 1:
            return super().max_pool2d_scatter(g, winners, kernel, stride, padding, size)
        rows, columns = _window_taps(
            transpose_taps, size, g.shape[2:], kernel, stride, padding
        )
        out = empty_batch_last(shape, g.dtype)
        geometry = (*_pair(stride), *_pair(padding), int(kernel[1]))
        pool.max_scatter(batch_last(g), batch_last(winners), rows, columns, geometry, out)
        return batch_first(out)

    def max_pool2d_gather(
        self, x: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> Array:
        shape = (x.shape[1], *winners.shape[2:], x.shape[0])
        if not _compiled(x) or min(*shape, *x.shape) < 1:
            return super().max_pool2d_gather(x, winners, kernel, stride, padding)
        rows, columns = _window_taps(
            forward_taps, x.shape[2:], winners.shape[2:], kernel, stride, padding
        )
        out = empty_batch_last(shape, x.dtype)
        pool.max_gather(batch_last(x), batch_last(winners), rows, columns, int(kernel[1]), out)
        return batch_first(out)

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        out_size = output_size(x.shape[2:], kernel, stride, padding)
        shape = (x.shape[1], *out_size, x.shape[0])
        if not _compiled(x) or min(*shape, *x.shape) < 1:
            return super().avg_pool2d(x, kernel, stride, padding)
        rows, columns = _window_taps(forward_taps, x.shape[2:], out_size, kernel, stride, padding)
        out = empty_batch_last(shape, x.dtype)
        pool.window_mean(batch_last(x), rows, columns, x.dtype.type(kernel[0] * kernel[1]), out)
        return batch_first(out)

    def avg_pool2d_transpose(
        self, g: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        shape = (g.shape[1], *size, g.shape[0])
        if not _compiled(g) or min(*shape, *g.shape) < 1:
            return super().avg_pool2d_transpose(g, kernel, stride, padding, size)
        rows, columns = _window_taps(transpose_taps, size, g.shape[2:], kernel, stride, padding)
        out = empty_batch_last(shape, g.dtype)
        pool.window_mean(batch_last(g), rows, columns, g.dtype.type(kernel[0] * kernel[1]), out)
        return batch_first(out)


# ---- preparation ---------------------------------------------------------------------


def _compiled(*arrays: Array) -> bool:
    """Whether the kernels take these arrays: one dtype, float32 or float64."""
    dtype = arrays[0].dtype
    return dtype in FLOATS and all(array.dtype == dtype for array in arrays)


def _pair(pair: Pair) -> Pair:
    """Plain ints: NumPy's would be another type to the compiler."""
    return int(pair[0]), int(pair[1])


def _window_taps(
    taps: Any, size: Pair, out_size: Pair, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[Array, Array]:
    """The two tables of a pooling, vertical and horizontal."""
    rows, _ = taps(size[0], out_size[0], kernel[0], stride[0], padding[0])
    columns, _ = taps(size[1], out_size[1], kernel[1], stride[1], padding[1])
    return rows, columns


def _convolve(
    x: Array, packed: Array, rows: Array, columns: Array, shape: tuple[int, ...], kernel: Pair
) -> Array:
    """Run the convolution kernel; `shape` is that of the result, (O, OH, OW, N)."""
    width = simd.VECTORS * simd.lanes_of(x.dtype)
    out_rows, batch = shape[1], shape[3]
    blocks = -(-batch // width)
    # The packed rows should stay in the cache, and every thread should get some work.
    # (The band only says who computes a row, so it may depend on the threads.)
    row_numbers = width * x.shape[1] * x.shape[3]
    fitting = PACKED_NUMBERS * 2 // row_numbers - kernel[0]
    sharing = out_rows * blocks // (2 * numba.get_num_threads())
    band = min(max(fitting, kernel[0], 1), max(sharing, 1), out_rows)
    out = empty_batch_last(shape, x.dtype)
    conv.conv(batch_last(x), packed, rows, columns, out, width, band, _pair(kernel))
    return batch_first(out)
