"""The readable reference: every kernel in a few lines of NumPy.

This file is the specification.  The other backends must agree with it to
rounding, and the tests hold them to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.backends.base import Array, Backend, Pair, Window


class NumpyBackend(Backend):
    """im2col, matrix product, col2im.

    The code uses nothing but ``self.xp``, so that a backend whose arrays obey
    NumPy's interface inherits it and overrides only what it does better.
    """

    name = "numpy"
    xp: Any = np

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        return self.xp.asarray(array, dtype=dtype)

    def to_numpy(self, array: Array) -> Any:
        return np.asarray(array)

    # ---- windows ---------------------------------------------------------------------
    def _windows(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, value: float = 0.0
    ) -> Array:
        """Every window of x, padded with `value`, as a view: (N, C, OH, OW, kh, kw)."""
        if padding != (0, 0):
            (ph, pw) = padding
            x = self.xp.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=value)
        view = self.xp.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
        return view[:, :, :: stride[0], :: stride[1]]

    def _add_windows(self, parts: Array, stride: Pair, padding: Pair, size: Pair) -> Array:
        """Transpose of pad-and-window (col2im): where windows overlap, their parts add up.

        `parts` is (N, C, OH, OW, kh, kw); the result is (N, C, H, W) with `size` = (H, W).
        """
        n, c, oh, ow, kh, kw = parts.shape
        (sh, sw), (ph, pw), (h, w) = stride, padding, size
        padded = self.xp.zeros((n, c, h + 2 * ph, w + 2 * pw), dtype=parts.dtype)
        for i in range(kh):
            for j in range(kw):
                # one place of the window, in all windows at once: these never overlap
                rows = slice(i, i + sh * oh, sh)
                columns = slice(j, j + sw * ow, sw)
                padded[:, :, rows, columns] += parts[..., i, j]
        return padded[:, :, ph : ph + h, pw : pw + w]

    # ---- the closed trio -------------------------------------------------------------
    def _im2col(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Pair]:
        """Each window as one column, (C*kh*kw, N*OH*OW); and OH, OW."""
        windows = self._windows(x, kernel, stride, padding)
        n, c, oh, ow, kh, kw = windows.shape
        columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * kh * kw, n * oh * ow)
        return columns, (oh, ow)

    def conv2d(self, x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
        o, _, kh, kw = weight.shape
        columns, size = self._im2col(x, (kh, kw), stride, padding)  # (C*kh*kw, N*OH*OW)
        z = weight.reshape(o, -1) @ columns  # (O, N*OH*OW)
        return z.reshape(o, len(x), *size).transpose(1, 0, 2, 3)  # (N, O, OH, OW)

    def _col2im(
        self, columns: Array, shape: tuple[int, ...], stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        """Transpose of ``_im2col``: columns (C*kh*kw, N*OH*OW) -> (N, C, H, W), `size` = (H, W).

        `shape` is (C, kh, kw, N, OH, OW).
        """
        parts = columns.reshape(shape).transpose(3, 0, 4, 5, 1, 2)
        return self._add_windows(parts, stride, padding, size)

    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        o, c, kh, kw = weight.shape
        g_rows = g.transpose(1, 0, 2, 3).reshape(o, -1)  # (O, N*OH*OW)
        columns = weight.reshape(o, -1).T @ g_rows  # (C*kh*kw, N*OH*OW)
        return self._col2im(columns, (c, kh, kw, len(g), *g.shape[2:]), stride, padding, size)

    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        o = g.shape[1]
        columns, _ = self._im2col(x, kernel, stride, padding)  # (C*kh*kw, N*OH*OW)
        g_rows = g.transpose(1, 0, 2, 3).reshape(o, -1)  # (O, N*OH*OW)
        return (g_rows @ columns.T).reshape(o, x.shape[1], *kernel)

    def dense(self, x: Array, weight: Array) -> Array:
        return x @ weight.T

    def dense_transpose(self, g: Array, weight: Array) -> Array:
        return g @ weight

    def dense_weight(self, x: Array, g: Array) -> Array:
        return g.T @ x

    # ---- pooling ---------------------------------------------------------------------
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        windows = self._windows(x, kernel, stride, padding, -np.inf)
        flat = windows.reshape(*windows.shape[:4], kernel[0] * kernel[1])  # (N, C, OH, OW, kh*kw)
        winners = flat.argmax(axis=-1)  # argmax takes the first of equals
        if padding != (0, 0):
            # where all that is real is -inf too, the border may have come first
            real = self._windows(self.xp.ones_like(x), kernel, stride, padding)
            real = real.reshape(flat.shape)
            inside = self.xp.take_along_axis(real, winners[..., None], axis=-1)[..., 0] > 0
            winners = self.xp.where(inside, winners, real.argmax(axis=-1))
        maxima = self.xp.take_along_axis(flat, winners[..., None], axis=-1)[..., 0]
        return maxima, winners.astype(np.min_scalar_type(kernel[0] * kernel[1] - 1))

    def _winner_mask(self, winners: Array, kernel: Pair) -> Array:
        """True at the winner's place of each window: (N, C, OH, OW, kh, kw)."""
        places = self.xp.arange(kernel[0] * kernel[1], dtype=winners.dtype).reshape(kernel)
        return winners[..., None, None] == places

    def max_pool2d_scatter(
        self, g: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        parts = self.xp.where(self._winner_mask(winners, kernel), g[..., None, None], 0)
        return self._add_windows(parts.astype(g.dtype, copy=False), stride, padding, size)

    def max_pool2d_gather(
        self, x: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> Array:
        windows = self._windows(x, kernel, stride, padding)
        # not a sum of products with the mask: 0 * inf would be NaN
        picked = self.xp.where(self._winner_mask(winners, kernel), windows, 0)
        return picked.sum(axis=(-2, -1)).astype(x.dtype, copy=False)

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        return self._windows(x, kernel, stride, padding).mean(axis=(-2, -1))

    def avg_pool2d_transpose(
        self, g: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        share = g / (kernel[0] * kernel[1])  # each input's share of the mean
        parts = self.xp.broadcast_to(share[..., None, None], (*g.shape, *kernel))
        return self._add_windows(parts, stride, padding, size)

    # ---- channels --------------------------------------------------------------------
    def scale_shift(self, x: Array, scale: Array, shift: Array | None) -> Array:
        z = x * scale[:, None, None]
        return z if shift is None else z + shift[:, None, None]

    def channel_sums(self, g: Array, x: Array | None) -> tuple[Array, Array]:
        total = g.sum(axis=(0, 2, 3))
        return total, total if x is None else (g * x).sum(axis=(0, 2, 3))

    # ---- fused kernels, spelled out --------------------------------------------------
    def conv2d_relu_pool(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        window: Window | None,
    ) -> tuple[Array, Array | None]:
        z = self.conv2d(x, weight, stride, padding)
        if bias is not None:
            z = z + bias[:, None, None]
        a = self.xp.maximum(z, 0)
        return self.max_pool2d(a, *window) if window else (a, None)

    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        gated = g * (a > 0)
        return self.max_pool2d_scatter(gated, winners, *window, size) if window else gated

    def bias_gradient(self, g: Array, a: Array) -> Array:
        return (g * (a > 0)).sum(axis=(0, 2, 3))

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
        return (self.max_pool2d_gather(z, winners, *window) if window else z) * (a > 0)

    def l1_difference(self, x: Array, ratio: Array) -> Array:
        return self.xp.asarray(self.xp.abs(x - x * ratio).sum())

    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        sigma = self.xp.sign(x - x * ratio) * scale
        return sigma * (1 - ratio), -sigma * x

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b
