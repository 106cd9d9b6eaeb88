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

from minifbi.backends.base import Array, Pair, Window
from minifbi.backends.numba_kernels import (
    columns,
    conv,
    convolutions,
    elementwise,
    machine,
    pooling,
)
from minifbi.backends.numba_kernels.jit import ELEMENT, is_cached
from minifbi.backends.numba_kernels.launch import (
    FLOATS,
    batch_first,
    batch_last,
    elementwise_of,
    planned,
)
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.unpooled import NO_WINNERS, Unpooled, source
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.errors import ShapeError


@planned
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


def _maps(a: Array, b: Array) -> bool:
    """Whether two arrays are maps of one shape and one dtype that the kernels take."""
    return a.ndim == 4 and a.shape == b.shape and a.dtype == b.dtype and a.dtype in FLOATS


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
        return is_cached(conv.conv.shared)

    def images(self, array: Any, dtype: Any) -> Array:
        images = self.asarray(array, dtype)
        return batch_first(batch_last(images)) if images.ndim == 4 else images

    # ---- the closed trio -------------------------------------------------------------
    def conv2d(self, x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
        dtypes = x.dtype, weight.dtype
        plan = convolutions.forward(x.shape, weight.shape, dtypes, stride, padding)
        if plan is None:
            return super().conv2d(x, weight, stride, padding)
        return plan(batch_last(x), NO_WINNERS, weight).transpose(3, 0, 1, 2)

    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        dtypes, window = (g.dtype, weight.dtype), getattr(g, "window", None)
        plan = convolutions.transpose(g.shape, weight.shape, dtypes, stride, padding, size, window)
        if plan is None:
            return super().conv2d_transpose(_array(g), weight, stride, padding, size)
        return plan(*source(g), weight).transpose(3, 0, 1, 2)

    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        dtypes, window = (x.dtype, g.dtype), getattr(g, "window", None)
        plan = convolutions.weight_gradient(
            x.shape, g.shape, dtypes, kernel, stride, padding, window
        )
        if plan is None:
            return super().conv2d_weight(x, _array(g), kernel, stride, padding)
        return plan(batch_last(x), *source(g))

    # A matrix product is a convolution of 1 x 1 maps.  NumPy's would be as fast by
    # itself, but its threads go on spinning for a while after each call, and take the
    # cores from ours.
    def dense(self, x: Array, weight: Array) -> Array:
        if (
            0 < len(x) <= columns.SAMPLES
        ):  # lanes are features: a sum over them is a weight gradient
            features, kinds = weight.T[:, :, None, None], x.T[:, :, None, None]
            return self.conv2d_weight(features, kinds, (1, 1), (1, 1), (0, 0))[:, :, 0, 0]
        maps, weights = x[:, :, None, None], weight[:, :, None, None]
        return self.conv2d(maps, weights, (1, 1), (0, 0))[:, :, 0, 0]

    def dense_transpose(self, g: Array, weight: Array) -> Array:
        if 0 < len(g) <= columns.SAMPLES:
            return self.dense_weight(weight, g.T)
        maps, weights = g[:, :, None, None], weight[:, :, None, None]
        return self.conv2d_transpose(maps, weights, (1, 1), (0, 0), (1, 1))[:, :, 0, 0]

    def dense_weight(self, x: Array, g: Array) -> Array:
        # (O, F) = g^T x is a product over the samples: here they play the part of channels,
        # and the features that of samples
        maps, weights = x.T[:, :, None, None], g.T[:, :, None, None]
        return self.conv2d(maps, weights, (1, 1), (0, 0))[:, :, 0, 0].T

    # ---- pooling ---------------------------------------------------------------------
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        plan = pooling.max_pool(x.shape, x.dtype, kernel, stride, padding)
        if plan is None:
            return super().max_pool2d(x, kernel, stride, padding)
        out = empty(plan.shape, x.dtype)
        winners = empty(plan.shape, np.min_scalar_type(kernel[0] * kernel[1] - 1))
        plan.kernel(batch_last(x), out, winners, *plan.rest)
        return batch_first(out), batch_first(winners)

    def max_pool2d_scatter(
        self, g: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        plan = pooling.max_scatter(g.shape, g.dtype, kernel, stride, padding, size)
        if plan is None:
            return super().max_pool2d_scatter(g, winners, kernel, stride, padding, size)
        out = empty(plan.shape, g.dtype)
        plan.kernel(batch_last(g), batch_last(winners), out, *plan.rest)
        return batch_first(out)

    def max_pool2d_gather(
        self, x: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> Array:
        plan = pooling.max_gather(x.shape, x.dtype, kernel, stride, padding, winners.shape[2:])
        if plan is None:
            return super().max_pool2d_gather(x, winners, kernel, stride, padding)
        out = empty(plan.shape, x.dtype)
        plan.kernel(batch_last(x), batch_last(winners), out, *plan.rest)
        return batch_first(out)

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        plan = pooling.average(x.shape, x.dtype, kernel, stride, padding)
        if plan is None:
            return super().avg_pool2d(x, kernel, stride, padding)
        out = empty(plan.shape, x.dtype)
        plan.kernel(batch_last(x), out, *plan.rest)
        return batch_first(out)

    def avg_pool2d_transpose(
        self, g: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        plan = pooling.average_transpose(g.shape, g.dtype, kernel, stride, padding, size)
        if plan is None:
            return super().avg_pool2d_transpose(g, kernel, stride, padding, size)
        out = empty(plan.shape, g.dtype)
        plan.kernel(batch_last(g), out, *plan.rest)
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
        dtypes, apart = (x.dtype, weight.dtype), _apart(window)
        if apart:
            windows = window[:2]  # type: ignore[index]
            plan = convolutions.pooled(x.shape, weight.shape, dtypes, stride, padding, *windows)
        else:
            plan = convolutions.forward(x.shape, weight.shape, dtypes, stride, padding)
        if plan is None:
            a, winners = super().conv2d_relu_pool(x, weight, bias, stride, padding, window)
            if apart:  # marked as by the kernel: the way back may be compiled
                return a, np.where(a > 0, winners, np.uint8(machine.NO_WINNER))  # type: ignore[arg-type]
            return a, winners
        if apart:
            a, winners = plan(batch_last(x), weight, bias, None)
            return a.transpose(3, 0, 1, 2), winners.transpose(3, 0, 1, 2)
        a = plan(batch_last(x), NO_WINNERS, weight, bias, True).transpose(3, 0, 1, 2)
        return self.max_pool2d(a, *window) if window else (a, None)

    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        if g.dtype != a.dtype or g.dtype not in FLOATS or 0 in g.shape:
            return super().relu_unpool(g, a, winners, window, size)
        if _apart(window):  # nobody has won where a is not above 0
            spread = Unpooled(g, winners, *window[:2], size)
            return spread if len(g) > columns.SAMPLES else spread.array()
        gated = elementwise_of(elementwise.gate, g, a)
        return self.max_pool2d_scatter(gated, winners, *window, size) if window else gated

    def bias_gradient(self, g: Array, a: Array) -> Array:
        if not _maps(g, a) or g.size == 0:
            return super().bias_gradient(g, a)
        g, a = batch_last(g), batch_last(a)
        sums = np.empty(g.shape[:2], dtype=g.dtype)
        elementwise.open_sums.version(ELEMENT * g.size)(g, a, sums)
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
        if _apart(window):
            plan = convolutions.pooled(
                u.shape, weight.shape, (u.dtype, weight.dtype), stride, padding, *window[:2]
            )
            if plan is not None:
                places = batch_last(winners)
                if places.shape != plan.shape or places.dtype != np.uint8:
                    raise ShapeError(
                        f"conv2d_gather: winners of shape {batch_first(places).shape} and "
                        f"{places.dtype}, not {(plan.shape[3], *plan.shape[:3])} and uint8"
                    )
                return plan(batch_last(u), weight, None, places)[0].transpose(3, 0, 1, 2)
        z = self.conv2d(u, weight, stride, padding)
        gathered = self.max_pool2d_gather(z, winners, *window) if window else z
        if u.dtype in FLOATS and u.dtype == a.dtype:
            return elementwise_of(elementwise.gate, gathered, a)
        return gathered * (a > 0)

    def scale_shift(self, x: Array, scale: Array, shift: Array | None) -> Array:
        if not (_maps(x, x) and x.dtype == scale.dtype):
            return super().scale_shift(x, scale, shift)
        maps, shift = batch_last(x), np.zeros_like(scale) if shift is None else shift
        out = empty(maps.shape, maps.dtype)
        rows = (len(maps), -1)
        elementwise.scale_shift.version(ELEMENT * x.size)(
            maps.reshape(rows), scale, shift, out.reshape(rows)
        )
        return out.transpose(3, 0, 1, 2)

    def channel_sums(self, g: Array, x: Array | None) -> tuple[Array, Array]:
        x = g if x is None else x
        if not _maps(g, x):
            return super().channel_sums(g, x)
        rows = (g.shape[1], -1)
        g, x = batch_last(g).reshape(rows), batch_last(x).reshape(rows)
        sums = np.empty((len(g), -(-g.shape[1] // elementwise.PIECE), 2), g.dtype)
        elementwise.channel_sums.version(ELEMENT * g.size)(g, x, sums)
        total, product = sums.sum(axis=1, dtype=np.float64).astype(g.dtype).T
        return np.ascontiguousarray(total), np.ascontiguousarray(product)

    def l1_difference(self, x: Array, ratio: Array) -> Array:
        if not _maps(x, ratio):
            return super().l1_difference(x, ratio)
        x, ratio = batch_last(x).reshape(-1), batch_last(ratio).reshape(-1)
        sums = np.empty(-(-x.size // elementwise.PIECE), dtype=x.dtype)
        elementwise.l1_difference.version(ELEMENT * x.size)(x, ratio, sums)
        return np.asarray(sums.sum(dtype=np.float64), dtype=x.dtype)

    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        if not _maps(x, ratio):
            return super().l1_difference_backward(x, ratio, scale)
        x, ratio = batch_last(x), batch_last(ratio)
        grad_x, grad_ratio = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
        elementwise.l1_difference_backward.version(ELEMENT * x.size)(
            x.dtype.type(scale),
            *(x.reshape(-1), ratio.reshape(-1), grad_x.reshape(-1), grad_ratio.reshape(-1)),
        )
        return grad_x.transpose(3, 0, 1, 2), grad_ratio.transpose(3, 0, 1, 2)

    def add(self, a: Array, b: Array) -> Array:
        if a.size >= elementwise.PIECE and _maps(a, b):
            return elementwise_of(elementwise.add, a, b)
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        if a.size >= elementwise.PIECE and _maps(a, b):
            return elementwise_of(elementwise.multiply, a, b)
        return a * b

    def adam(
        self,
        p: Array,
        grad: Array,
        mean: Array,
        square: Array,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        t: int,
    ) -> Array:
        (b1, b2), out = betas, np.empty(p.shape, p.dtype)
        numbers = (b1, 1 - b1, b2, 1 - b2, lr / (1 - b1**t), 1 - b2**t, eps)
        p, grad, mean, square = (
            p.reshape(-1),
            grad.reshape(-1),
            mean.reshape(-1),
            square.reshape(-1),
        )
        elementwise.adam.version(ELEMENT * p.size)(p, grad, mean, square, numbers, out.reshape(-1))
        return out
