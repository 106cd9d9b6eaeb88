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

import numpy as np

from minifbi.backends.base import Array, Pair, Window, output_size
from minifbi.backends.numba_kernels import conv, conv_weight, elementwise, machine, pool
from minifbi.backends.numba_kernels.jit import is_cached
from minifbi.backends.numba_kernels.launch import (
    CACHED_NUMBERS,
    ELEMENT,
    FEW_CHANNELS,
    WEIGHT_CHANNEL_GROUP,
    WEIGHT_PARTS,
    batch_first,
    batch_last,
    compiled,
    convolve,
    convolve_few,
    forward,
    gate,
    maps,
    pair,
    run,
    window_taps,
)
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.pack import pack_weight
from minifbi.backends.numba_kernels.taps import (
    forward_taps,
    grouped_weight_taps,
    transpose_taps,
    weight_taps,
)
from minifbi.backends.numpy_backend import NumpyBackend


class NumbaBackend(NumpyBackend):
    """The kernels of :class:`NumpyBackend`, compiled.

    Other floating types than float32 and float64, and empty arrays, are left to
    the reference.
    """

    name = "numba"

    def warm(self) -> bool:
        return is_cached(conv.conv)

    def images(self, array: Any, dtype: Any) -> Array:
        images = self.asarray(array, dtype)
        return batch_first(batch_last(images)) if images.ndim == 4 else images

    # ---- the closed trio -------------------------------------------------------------
    def conv2d(self, x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
        if not compiled(x, weight) or 0 in (*x.shape, *weight.shape):
            return super().conv2d(x, weight, stride, padding)
        return forward(x, weight, None, False, stride, padding)

    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        (oh, ow), (kh, kw) = g.shape[2:], weight.shape[2:]
        shape = (weight.shape[1], *size, g.shape[0])
        if not compiled(g, weight) or min(*shape, *g.shape) < 1:
            return super().conv2d_transpose(g, weight, stride, padding, size)
        rows, row_order = transpose_taps(size[0], oh, kh, stride[0], padding[0])
        columns, column_order = transpose_taps(size[1], ow, kw, stride[1], padding[1])
        turned = weight.transpose(1, 0, 2, 3)
        if shape[0] <= FEW_CHANNELS and stride[1] == 1:
            # with stride 1 the transpose is a convolution with the kernel turned round
            return convolve_few(
                g, turned, rows, row_order, column_order, (1, padding[1] - kw + 1), shape
            )
        packed = pack_weight(turned, row_order, column_order)
        bias = np.zeros(shape[0] + machine.ROWS, dtype=g.dtype)
        return convolve(g, packed, bias, False, rows, columns, shape, (kh, kw))

    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        batch, channels, h, w = x.shape
        out_channels, oh, ow = g.shape[1:]
        kh, kw = kernel
        if not compiled(x, g) or min(*x.shape, *g.shape) < 1:
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
        numbers = math.prod(tiles)
        filled = -(-numbers // lanes) * lanes  # a kernel writes whole vectors
        sums = np.empty((sample_groups, o_groups, filled), dtype=x.dtype)
        run(
            conv_weight.conv_weight,
            float(g.size) * channels * kh * kw,
            batch_last(x),
            batch_last(g),
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

    def dense(self, x: Array, weight: Array) -> Array:
        # A matrix product is a convolution of 1 x 1 maps.  NumPy's would be as fast by
        # itself, but its threads go on spinning for a while after each call, and take the
        # cores from ours.
        return self.conv2d(maps(x), maps(weight), (1, 1), (0, 0))[:, :, 0, 0]

    def dense_transpose(self, g: Array, weight: Array) -> Array:
        return self.conv2d_transpose(maps(g), maps(weight), (1, 1), (0, 0), (1, 1))[:, :, 0, 0]

    def dense_weight(self, x: Array, g: Array) -> Array:
        # (O, F) = g^T x is a product over the samples: here they play the part of channels,
        # and the features that of samples
        return self.conv2d(maps(x.T), maps(g.T), (1, 1), (0, 0))[:, :, 0, 0].T

    # ---- pooling ---------------------------------------------------------------------
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        out_size = output_size(x.shape[2:], kernel, stride, padding)
        shape = (x.shape[1], *out_size, x.shape[0])
        if not compiled(x) or min(shape) < 1:
            return super().max_pool2d(x, kernel, stride, padding)
        rows, columns = window_taps(forward_taps, x.shape[2:], out_size, kernel, stride, padding)
        out = empty(shape, x.dtype)
        winners = empty(shape, np.min_scalar_type(kernel[0] * kernel[1] - 1))
        run(pool.max_pool, ELEMENT * x.size, batch_last(x), rows, columns, kernel[1], out, winners)
        return batch_first(out), batch_first(winners)

    def max_pool2d_scatter(
        self, g: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        shape = (g.shape[1], *size, g.shape[0])
        if not compiled(g) or min(*shape, *g.shape) < 1:
            return super().max_pool2d_scatter(g, winners, kernel, stride, padding, size)
        rows, columns = window_taps(transpose_taps, size, g.shape[2:], kernel, stride, padding)
        out = empty(shape, g.dtype)
        geometry = (*pair(stride), *pair(padding), int(kernel[1]))
        run(
            pool.max_scatter,
            ELEMENT * out.size,
            batch_last(g),
            batch_last(winners),
            rows,
            columns,
            geometry,
            out,
        )
        return batch_first(out)

    def max_pool2d_gather(
        self, x: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> Array:
        shape = (x.shape[1], *winners.shape[2:], x.shape[0])
        if not compiled(x) or min(*shape, *x.shape) < 1:
            return super().max_pool2d_gather(x, winners, kernel, stride, padding)
        rows, columns = window_taps(
            forward_taps, x.shape[2:], winners.shape[2:], kernel, stride, padding
        )
        out = empty(shape, x.dtype)
        run(
            pool.max_gather,
            ELEMENT * x.size,
            batch_last(x),
            batch_last(winners),
            rows,
            columns,
            int(kernel[1]),
            out,
        )
        return batch_first(out)

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        out_size = output_size(x.shape[2:], kernel, stride, padding)
        shape = (x.shape[1], *out_size, x.shape[0])
        if not compiled(x) or min(*shape, *x.shape) < 1:
            return super().avg_pool2d(x, kernel, stride, padding)
        rows, columns = window_taps(forward_taps, x.shape[2:], out_size, kernel, stride, padding)
        out = empty(shape, x.dtype)
        run(
            pool.window_mean,
            ELEMENT * out.size,
            batch_last(x),
            rows,
            columns,
            x.dtype.type(kernel[0] * kernel[1]),
            out,
        )
        return batch_first(out)

    def avg_pool2d_transpose(
        self, g: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        shape = (g.shape[1], *size, g.shape[0])
        if not compiled(g) or min(*shape, *g.shape) < 1:
            return super().avg_pool2d_transpose(g, kernel, stride, padding, size)
        rows, columns = window_taps(transpose_taps, size, g.shape[2:], kernel, stride, padding)
        out = empty(shape, g.dtype)
        run(
            pool.window_mean,
            ELEMENT * out.size,
            batch_last(g),
            rows,
            columns,
            g.dtype.type(kernel[0] * kernel[1]),
            out,
        )
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
        if not compiled(x, weight) or 0 in (*x.shape, *weight.shape):
            return super().conv2d_relu_pool(x, weight, bias, stride, padding, window)
        a = forward(x, weight, bias, True, stride, padding)
        return self.max_pool2d(a, *window) if window else (a, None)

    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        if not compiled(g, a) or 0 in g.shape:
            return super().relu_unpool(g, a, winners, window, size)
        gated = gate(g, a)
        return self.max_pool2d_scatter(gated, winners, *window, size) if window else gated

    def bias_gradient(self, g: Array, a: Array) -> Array:
        if not compiled(g, a) or 0 in g.shape or g.shape != a.shape:
            return super().bias_gradient(g, a)
        g, a = batch_last(g), batch_last(a)
        sums = np.empty(g.shape[:2], dtype=g.dtype)
        run(elementwise.open_sums, ELEMENT * g.size, g, a, sums)
        return sums.sum(axis=1)

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
        return gate(gathered, a) if compiled(u, a) else gathered * (a > 0)

    def l1_difference(self, x: Array, ratio: Array) -> Array:
        if not compiled(x, ratio) or x.ndim != 4:
            return super().l1_difference(x, ratio)
        flat = batch_last(x).reshape(-1)
        sums = np.empty(-(-flat.size // elementwise.PIECE), dtype=x.dtype)
        arguments = (flat, batch_last(ratio).reshape(-1), sums)
        run(elementwise.l1_difference, ELEMENT * flat.size, *arguments)
        return np.asarray(sums.sum(dtype=np.float64), dtype=x.dtype)

    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        if not compiled(x, ratio) or x.ndim != 4:
            return super().l1_difference_backward(x, ratio, scale)
        x, ratio = batch_last(x), batch_last(ratio)
        grad_x, grad_ratio = (empty(x.shape, x.dtype) for _ in range(2))
        run(
            elementwise.l1_difference_backward,
            ELEMENT * x.size,
            x.reshape(-1),
            ratio.reshape(-1),
            x.dtype.type(scale),
            grad_x.reshape(-1),
            grad_ratio.reshape(-1),
        )
        return batch_first(grad_x), batch_first(grad_ratio)
