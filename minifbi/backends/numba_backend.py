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

import math
from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, Window, output_size
from minifbi.backends.numba_kernels import conv, conv_few, conv_weight, elementwise, machine, pool
from minifbi.backends.numba_kernels.pack import pack_weight
from minifbi.backends.numba_kernels.taps import (
    forward_taps,
    grouped_weight_taps,
    transpose_taps,
    weight_taps,
)
from minifbi.backends.numpy_backend import NumpyBackend

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# The copies of a piece of work should stay in its core's own cache.  A core shares
# 1 MB or so; this many numbers are half of it in float32.
CACHED_NUMBERS = 128 * 1024
# The weight gradient is computed in about so many pieces, the threads' work, each
# of at most so many output channels.
WEIGHT_PARTS = 8
WEIGHT_CHANNEL_GROUP = 16


# Up to so many output channels, the tile's rows are better used for pixels.
FEW_CHANNELS = machine.ROWS // 2


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
        if not _compiled(x, weight) or 0 in (*x.shape, *weight.shape):
            return super().conv2d(x, weight, stride, padding)
        return _forward(x, weight, None, False, stride, padding)

    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        (oh, ow), (kh, kw) = g.shape[2:], weight.shape[2:]
        shape = (weight.shape[1], *size, g.shape[0])
        if not _compiled(g, weight) or min(*shape, *g.shape) < 1:
            return super().conv2d_transpose(g, weight, stride, padding, size)
        rows, row_order = transpose_taps(size[0], oh, kh, stride[0], padding[0])
        columns, column_order = transpose_taps(size[1], ow, kw, stride[1], padding[1])
        turned = weight.transpose(1, 0, 2, 3)
        if shape[0] <= FEW_CHANNELS and stride[1] == 1:
            # with stride 1 the transpose is a convolution with the kernel turned round
            return _convolve_few(
                g, turned, rows, row_order, column_order, (1, padding[1] - kw + 1), shape
            )
        packed = pack_weight(turned, row_order, column_order)
        bias = np.zeros(shape[0] + machine.ROWS, dtype=g.dtype)
        return _convolve(g, packed, bias, False, rows, columns, shape, (kh, kw))

    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        batch, channels, h, w = x.shape
        out_channels, oh, ow = g.shape[1:]
        kh, kw = kernel
        if not _compiled(x, g) or min(*x.shape, *g.shape) < 1:
            return super().conv2d_weight(x, g, kernel, stride, padding)
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
        sums = np.zeros((sample_groups, o_groups, math.prod(tiles)), dtype=x.dtype)
        conv_weight.conv_weight(
            batch_last(x),
            batch_last(g),
            sums,
            rows,
            columns,
            _pair(stride),
            sample_group,
            o_group,
            band,
            group,
            border,
            lanes,
            (0,) * tile_columns,
        )
        # from tiles to (O, C, kh, kw), and without what filled up the last tiles
        total = sums.sum(axis=0).reshape(o_groups, *tiles)
        if group == 1:
            result = total.transpose(0, 1, 5, 2, 3, 4, 6)  # o_groups, o_tiles, rows, C, kh, taps...
        else:
            result = total.transpose(0, 1, 5, 2, 6, 3, 4)
        # an o_group that is no multiple of the rows has its filling in the middle
        result = result.reshape(o_groups, o_tiles * machine.WEIGHT_ROWS, x_tiles * group, kh, -1)
        result = result[:, :o_group].reshape(-1, x_tiles * group, kh, result.shape[-1])
        return np.ascontiguousarray(result[:out_channels, :channels, :, :kw])

    def dense(self, x: Array, weight: Array) -> Array:
        # A matrix product is a convolution of 1 x 1 maps.  NumPy's would be as fast by
        # itself, but its threads go on spinning for a while after each call, and take the
        # cores from ours.
        return self.conv2d(_maps(x), _maps(weight), (1, 1), (0, 0))[:, :, 0, 0]

    def dense_transpose(self, g: Array, weight: Array) -> Array:
        return self.conv2d_transpose(_maps(g), _maps(weight), (1, 1), (0, 0), (1, 1))[:, :, 0, 0]

    def dense_weight(self, x: Array, g: Array) -> Array:
        return self.conv2d_weight(_maps(x), _maps(g), (1, 1), (1, 1), (0, 0))[:, :, 0, 0]

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
        rows, columns = _window_taps(transpose_taps, size, g.shape[2:], kernel, stride, padding)
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

    # ---- fused kernels ---------------------------------------------------------------
    def conv2d_relu_pool(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        window: Window | None,
    ) -> tuple[Array, Array | None]:
        if not _compiled(x, weight) or 0 in (*x.shape, *weight.shape):
            return super().conv2d_relu_pool(x, weight, bias, stride, padding, window)
        a = _forward(x, weight, bias, True, stride, padding)
        return self.max_pool2d(a, *window) if window else (a, None)

    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        if not _compiled(g, a) or 0 in g.shape:
            return super().relu_unpool(g, a, winners, window, size)
        gated = _gate(g, a)
        return self.max_pool2d_scatter(gated, winners, *window, size) if window else gated

    def conv2d_gather(
        self,
        u: Array,
        weight: Array,
        stride: Pair,
        padding: Pair,
        a: Array,
        winners: Array | None,
        window: Window | None,
    ) -> Array:
        z = self.conv2d(u, weight, stride, padding)
        gathered = self.max_pool2d_gather(z, winners, *window) if window else z
        return _gate(gathered, a) if _compiled(u, a) else gathered * (a > 0)

    def l1_difference(self, x: Array, ratio: Array) -> Array:
        if not _compiled(x, ratio) or x.ndim != 4:
            return super().l1_difference(x, ratio)
        flat = batch_last(x).reshape(-1)
        sums = np.empty(-(-flat.size // elementwise.PIECE), dtype=x.dtype)
        elementwise.l1_difference(flat, batch_last(ratio).reshape(-1), sums)
        return np.asarray(sums.sum(dtype=np.float64), dtype=x.dtype)

    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        if not _compiled(x, ratio) or x.ndim != 4:
            return super().l1_difference_backward(x, ratio, scale)
        x, ratio = batch_last(x), batch_last(ratio)
        grad_x, grad_ratio = (empty_batch_last(x.shape, x.dtype) for _ in range(2))
        elementwise.l1_difference_backward(
            x.reshape(-1),
            ratio.reshape(-1),
            x.dtype.type(scale),
            grad_x.reshape(-1),
            grad_ratio.reshape(-1),
        )
        return batch_first(grad_x), batch_first(grad_ratio)


# ---- preparation ---------------------------------------------------------------------


def _compiled(*arrays: Array) -> bool:
    """Whether the kernels take these arrays: one dtype, float32 or float64."""
    dtype = arrays[0].dtype
    return dtype in FLOATS and all(array.dtype == dtype for array in arrays)


def _maps(matrix: Array) -> Array:
    """A matrix (rows, columns) as (rows, columns, 1, 1)."""
    return matrix[:, :, None, None]


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


def _forward(
    x: Array, weight: Array, bias: Array | None, relu: bool, stride: Pair, padding: Pair
) -> Array:
    """The convolution, with bias and ReLU if asked."""
    (h, w), (o, _, kh, kw) = x.shape[2:], weight.shape
    oh, ow = output_size((h, w), (kh, kw), stride, padding)
    rows, row_order = forward_taps(h, oh, kh, stride[0], padding[0])
    columns, column_order = forward_taps(w, ow, kw, stride[1], padding[1])
    filled = np.zeros(o + machine.ROWS, dtype=x.dtype)
    if bias is not None:
        filled[:o] = bias
    packed = pack_weight(weight, row_order, column_order)
    return _convolve(x, packed, filled, relu, rows, columns, (o, oh, ow, x.shape[0]), (kh, kw))


def _band(x: Array, shape: tuple[int, ...], kernel_rows: int, width: int) -> int:
    """Output rows in a piece of work.

    The packed rows should stay in the cache, and every thread should get some work.
    (The band only says who computes a row, so it may depend on the threads.)
    """
    out_rows, blocks = shape[1], -(-shape[3] // width)
    fitting = CACHED_NUMBERS // (width * x.shape[1] * x.shape[3]) - kernel_rows
    sharing = out_rows * blocks // (2 * numba.get_num_threads())
    return min(max(fitting, kernel_rows, 1), max(sharing, 1), out_rows)


def _convolve(
    x: Array,
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
    band = _band(x, shape, kernel[0], machine.VECTORS * lanes)
    out = empty_batch_last(shape, x.dtype)
    conv.conv(batch_last(x), packed, bias, relu, rows, columns, out, lanes, band, _pair(kernel))
    return batch_first(out)


def _convolve_few(
    x: Array,
    weight: Array,
    rows: Array,
    row_order: tuple[int, ...],
    column_order: tuple[int, ...],
    columns: tuple[int, int],
    shape: tuple[int, ...],
) -> Array:
    """Run the kernel for few output channels; `columns` is (stride, first input column)."""
    kernel = weight.shape[2:]
    flat = np.ascontiguousarray(
        weight[:, :, list(row_order)][:, :, :, list(column_order)].transpose(0, 2, 3, 1)
    ).reshape(-1)
    stride, first = int(columns[0]), int(columns[1])
    border = conv_few.border_of(x.shape[3], shape[2], kernel[1], stride, first)
    lanes = machine.lanes_of(x.dtype)
    band = _band(x, shape, kernel[0], machine.VECTORS * lanes)
    out = empty_batch_last(shape, x.dtype)
    conv_few.conv_few(
        batch_last(x), flat, rows, (stride, first, border), out, lanes, band, _pair(kernel)
    )
    return batch_first(out)


def _gate(g: Array, a: Array) -> Array:
    """g where a > 0, else 0; (N, C, H, W)."""
    g = batch_last(g)
    out = empty_batch_last(g.shape, g.dtype)
    elementwise.gate(g.reshape(-1), batch_last(a).reshape(-1), out.reshape(-1))
    return batch_first(out)
