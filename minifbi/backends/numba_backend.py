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

from typing import Any, TypeGuard

import numpy as np

from minifbi.backends.base import Array, Pair, Window, output_size
from minifbi.backends.numba_kernels import conv, convolutions, elementwise, machine, pool
from minifbi.backends.numba_kernels.jit import is_cached
from minifbi.backends.numba_kernels.launch import (
    ELEMENT,
    batch_first,
    batch_last,
    compiled,
    elementwise_of,
    maps,
    pair,
    run,
    window_taps,
)
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.taps import forward_taps, transpose_taps
from minifbi.backends.numba_kernels.unpooled import Unpooled
from minifbi.backends.numpy_backend import NumpyBackend


def _apart(window: Window | None) -> TypeGuard[Window]:
    """Whether a pooling's windows neither overlap nor reach beyond the map, and are small."""
    if window is None:
        return False
    kernel, stride, padding = window
    return (
        padding == (0, 0)
        and kernel[0] <= stride[0]
        and kernel[1] <= stride[1]
        and kernel[0] * kernel[1] <= machine.NO_WINNER
    )


def _large_maps(a: Array, b: Array) -> bool:
    """Whether two arrays are maps of one shape, and large enough for a kernel to be worth it."""
    return a.size >= elementwise.PIECE and a.ndim == 4 and compiled(a, b) and a.shape == b.shape


def _array(g: Array | Unpooled) -> Array:
    """What the reference can read."""
    return g.array() if isinstance(g, Unpooled) else g


class NumbaBackend(NumpyBackend):
    """The kernels of :class:`NumpyBackend`, compiled.

    Other floating types than float32 and float64, and empty arrays, are left to
    the reference.
    """

    name = "numba"
    fuses = True

    def warm(self) -> bool:
        return is_cached(conv.conv)

    def images(self, array: Any, dtype: Any) -> Array:
        images = self.asarray(array, dtype)
        return batch_first(batch_last(images)) if images.ndim == 4 else images

    # ---- the closed trio -------------------------------------------------------------
    def conv2d(self, x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
        if not compiled(x, weight) or 0 in (*x.shape, *weight.shape):
            return super().conv2d(x, weight, stride, padding)
        return convolutions.forward(x, weight, None, False, stride, padding)

    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        if not compiled(g, weight) or min(*g.shape, weight.shape[1], *size) < 1:
            return super().conv2d_transpose(_array(g), weight, stride, padding, size)
        return convolutions.transpose(g, weight, stride, padding, size)

    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        if not compiled(x, g) or min(*x.shape, *g.shape) < 1:
            return super().conv2d_weight(x, _array(g), kernel, stride, padding)
        return convolutions.weight_gradient(x, g, kernel, stride, padding)

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
            a, winners = super().conv2d_relu_pool(x, weight, bias, stride, padding, window)
            if _apart(window):  # marked as by the kernel: the way back may be compiled
                return a, np.where(a > 0, winners, np.uint8(machine.NO_WINNER))  # type: ignore[arg-type]
            return a, winners
        if _apart(window):
            return convolutions.pooled(x, weight, bias, stride, padding, *window[:2])
        a = convolutions.forward(x, weight, bias, True, stride, padding)
        return self.max_pool2d(a, *window) if window else (a, None)

    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        if not compiled(g, a) or 0 in g.shape:
            return super().relu_unpool(g, a, winners, window, size)
        if _apart(window):  # nobody has won where a is not above 0
            return Unpooled(g, winners, *window[:2], size)
        gated = elementwise_of(elementwise.gate, g, a)
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
        if _apart(window) and compiled(u, weight) and 0 not in (*u.shape, *weight.shape):
            return convolutions.pooled(
                u, weight, None, stride, padding, *window[:2], winners=winners
            )[0]
        z = self.conv2d(u, weight, stride, padding)
        gathered = self.max_pool2d_gather(z, winners, *window) if window else z
        return (
            elementwise_of(elementwise.gate, gathered, a) if compiled(u, a) else gathered * (a > 0)
        )

    def l1_difference(self, x: Array, ratio: Array) -> Array:
        if not compiled(x, ratio) or x.ndim != 4 or x.shape != ratio.shape:
            return super().l1_difference(x, ratio)
        flat = batch_last(x).reshape(-1)
        sums = np.empty(-(-flat.size // elementwise.PIECE), dtype=x.dtype)
        arguments = (flat, batch_last(ratio).reshape(-1), sums)
        run(elementwise.l1_difference, ELEMENT * flat.size, *arguments)
        return np.asarray(sums.sum(dtype=np.float64), dtype=x.dtype)

    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        if not compiled(x, ratio) or x.ndim != 4 or x.shape != ratio.shape:
            return super().l1_difference_backward(x, ratio, scale)
        x, ratio = batch_last(x), batch_last(ratio)
        grad_x, grad_ratio = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
        arrays = (array.reshape(-1) for array in (x, ratio, grad_x, grad_ratio))
        run(elementwise.l1_difference_backward, ELEMENT * x.size, x.dtype.type(scale), *arrays)
        return batch_first(grad_x), batch_first(grad_ratio)

    def add(self, a: Array, b: Array) -> Array:
        if not _large_maps(a, b):
            return super().add(a, b)
        return elementwise_of(elementwise.add, a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        if not _large_maps(a, b):
            return super().multiply(a, b)
        return elementwise_of(elementwise.multiply, a, b)
