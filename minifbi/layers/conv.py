"""Convolution: three maps, of which each is the adjoint of another (:mod:`.linear` says why).

On the numpy backend these methods run as they stand.  A compiled backend runs a convolution, its
ReLU and its pooling as one :class:`minifbi.fusion.ConvBlock`, which calls `backward` and
`relevance` here.
"""

from typing import Any

import numpy as np

from minifbi.arguments import whole
from minifbi.backends import Array, Backend
from minifbi.layers.base import Gradients
from minifbi.layers.linear import Linear, Seed
from minifbi.layers.window import Sides, Window


class Conv2d(Window, Linear):
    """Two-dimensional convolution (cross-correlation, as in PyTorch).

    With x = a_{i-1}^+ and the ratio r = a_{i+1}^- / a_i^+ at the output::

        forward              z = conv(x, W) + b                               Eq. (1)
        adjoint of forward   dL/dx = conv_T(dL/dz, W)
                             dL/dW = conv_W(x, dL/dz);  dL/db = sum dL/dz
        relevance            a_i^- = x * c  with  c = conv_T(r, W)            Eq. (2)
        adjoint of relevance, for u = dL/dc:
                             dL/dr = conv(u, W);  dL/dW += conv_W(u, r)

    The methods below are the first three; the last follows from them, for every layer with
    weights, in :meth:`Linear.relevance_backward
    <minifbi.layers.linear.Linear.relevance_backward>`.

    The bias takes part in Eq. (1) and gets no relevance: what belongs to it is lost
    from the sum, "absorbed".

    Parameters
    ----------
    in_channels, out_channels : int
        Number of maps that go in, and of filters; at least 1.
    kernel_size : int or (int, int)
        Height and width of a filter, in pixels; one number stands for both.
    stride : int or (int, int)
        Pixels from one window to the next.
    padding : int or (int, int)
        Rows and columns of zeros added at each border.
    bias : bool
        Whether each filter has a number that is added to its output.
    rng : int or numpy.random.Generator
        Seed of the initial weights (He).
    backend : str or Backend
        Where the weights live, and so where the layer computes.
    dtype : float32 or float64
        Of the weights; inputs must have the same.

    Attributes
    ----------
    weight : Tensor, shape (out_channels, in_channels, kh, kw)
    bias : Tensor, shape (out_channels,), or None

    Raises
    ------
    ConfigError
        If there are no channels, or a window makes no sense.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sides,
        stride: Sides = 1,
        padding: Sides = 0,
        bias: bool = True,
        *,
        rng: Seed = 0,
        backend: str | Backend = "numpy",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_channels = whole("in_channels", in_channels, 1)
        self.out_channels = whole("out_channels", out_channels, 1)
        self._init_window(kernel_size, stride, padding)
        shape = (out_channels, in_channels, *self.kernel_size)
        self._init_weights(shape, bias, rng, backend, dtype)

    def __repr__(self) -> str:
        return (
            f"Conv2d({self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None})"
        )

    def check_input(self, shape: tuple[int, ...]) -> None:
        needs = f": its weight has shape {self.weight.data.shape}"
        self._check_size(shape, self.in_channels, needs)

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
        grad_x = None
        if needs_x:
            grad_x = backend.conv2d_transpose(grad, weight, self.stride, self.padding, x.shape[2:])
        grad_weight = backend.conv2d_weight(x, grad, self.kernel_size, self.stride, self.padding)
        grads = (grad_x, grad_weight)
        return (*grads, grad.sum(axis=(0, 2, 3))) if has_bias else grads

    # ---- Eq. (2) ---------------------------------------------------------------------
    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        x, weight, _ = saved
        return backend.conv2d_transpose(ratio, weight, self.stride, self.padding, x.shape[2:])
