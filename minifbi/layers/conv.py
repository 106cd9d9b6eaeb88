"""Convolution: the closed trio at work.

A convolution is linear in its input and linear in its weights.  So everything
that three-step training asks of it is one of three maps:

====================================  ========================================
``conv2d(x, W)``                      the convolution
``conv2d_transpose(g, W)``            its transpose with respect to x
``conv2d_weight(x, g)``               its transpose with respect to W
====================================  ========================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.backends import Array, Backend, output_size
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers.base import Gradients, Layer, pair
from minifbi.layers.init import he_normal


class Conv2d(Layer):
    """Two-dimensional convolution (cross-correlation, as in PyTorch).

    With x = a_{i-1}^+ and the ratio r = a_{i+1}^- / a_i^+ at the output::

        forward              z = conv(x, W) + b                               Eq. (1)
        adjoint of forward   dL/dx = conv_T(dL/dz, W)
                             dL/dW = conv_W(x, dL/dz);  dL/db = sum dL/dz
        relevance            a_i^- = x * c  with  c = conv_T(r, W)            Eq. (2)
        adjoint of relevance, for u = dL/dc (that is x * dL/da_i^-):
                             dL/dr = conv(u, W);  dL/dW += conv_W(u, r)

    The bias takes part in Eq. (1) and gets no relevance: what belongs to it is lost
    from the sum, "absorbed".

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int)
    padding : int or (int, int)
        Zeros around the border.
    bias : bool
    rng : int or numpy.random.Generator
        Seed of the initial weights (He).
    backend : str or Backend
    dtype : float32 or float64

    Attributes
    ----------
    weight : Tensor, shape (out_channels, in_channels, kh, kw)
    bias : Tensor, shape (out_channels,), or None

    Raises
    ------
    ConfigError
        If there are no channels, or a window makes no sense.
    """

    functional = True
    proportional = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        *,
        rng: int | np.random.Generator = 0,
        backend: str | Backend = "numpy",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise ConfigError(
                f"Conv2d needs at least one channel each way, got in_channels={in_channels}, "
                f"out_channels={out_channels}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = pair(stride, "stride", 1)
        self.padding = pair(padding, "padding", 0)
        shape = (out_channels, in_channels, *self.kernel_size)
        fan_in = in_channels * self.kernel_size[0] * self.kernel_size[1]
        self.weight = self.add_parameter("weight", he_normal(shape, fan_in, rng), backend, dtype)
        self.bias = (
            self.add_parameter("bias", np.zeros(out_channels), backend, dtype) if bias else None
        )

    def __repr__(self) -> str:
        return (
            f"Conv2d({self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None})"
        )

    def check_input(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] != self.in_channels:
            raise ShapeError(
                f"Conv2d got an input of shape {shape}, expected (N, {self.in_channels}, H, W): "
                f"its weight has shape {self.weight.shape}, so the input needs "
                f"{self.in_channels} channels"
            )
        if min(output_size(shape[2:], self.kernel_size, self.stride, self.padding)) < 1:  # type: ignore[arg-type]
            least = tuple(k - 2 * p for k, p in zip(self.kernel_size, self.padding, strict=True))
            raise ShapeError(
                f"Conv2d got an input of shape {shape}: its kernel {self.kernel_size} with "
                f"padding {self.padding} needs images of at least {least[0]} x {least[1]}"
            )

    # ---- Eq. (1) ---------------------------------------------------------------------
    def forward(
        self, backend: Backend, x: Array, weight: Array, bias: Array | None = None
    ) -> tuple[Array, Any]:
        z = backend.conv2d(x, weight, self.stride, self.padding)
        if bias is not None:
            z += bias[:, None, None]
        return z, (x, weight, bias is not None)

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        x, weight, has_bias = saved
        size = x.shape[2:]
        grad_x = (
            backend.conv2d_transpose(grad, weight, self.stride, self.padding, size)
            if needs_x
            else None
        )
        grad_weight = backend.conv2d_weight(x, grad, self.kernel_size, self.stride, self.padding)
        if not has_bias:
            return grad_x, grad_weight
        return grad_x, grad_weight, grad.sum(axis=(0, 2, 3))

    # ---- Eq. (2) ---------------------------------------------------------------------
    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        x, weight, _ = saved
        return backend.conv2d_transpose(ratio, weight, self.stride, self.padding, x.shape[2:])

    def relevance_backward(
        self, backend: Backend, grad: Array, ratio: Array, saved: Any
    ) -> Gradients:
        _, weight, has_bias = saved
        grad_ratio = backend.conv2d(grad, weight, self.stride, self.padding)
        grad_weight = backend.conv2d_weight(
            grad, ratio, self.kernel_size, self.stride, self.padding
        )
        return (grad_ratio, grad_weight, None) if has_bias else (grad_ratio, grad_weight)
