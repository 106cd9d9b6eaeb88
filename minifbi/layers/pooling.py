"""Pooling: how relevance passes a maximum and a mean."""

from __future__ import annotations

from typing import Any

from minifbi.arguments import expect_shape
from minifbi.backends import Array, Backend
from minifbi.errors import ConfigError
from minifbi.layers.base import Gradients, Layer
from minifbi.layers.window import Sides, Window


class _Pool2d(Window, Layer):
    """What both poolings share: their window."""

    shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0) -> None:
        super().__init__()
        self._init_window(kernel_size, kernel_size if stride is None else stride, padding)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ConfigError(
                f"{type(self).__name__}: padding {self.padding} is more than half of the window "
                f"{self.kernel_size}, so some windows would hold nothing but padding"
            )

    def check_input(self, shape: tuple[int, ...]) -> None:
        self._check_size(shape)


class MaxPool2d(_Pool2d):
    """Maximum of each window; the winner takes all, gradient and relevance alike.

    Overlapping windows and sizes that do not tile are allowed (what the last
    window cannot cover is left out, as in PyTorch).  On ties the first in reading order
    wins; the padding never wins.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window, in pixels.
    stride : int or (int, int), optional
        Pixels from one window to the next; the window's size if left out.
    padding : int or (int, int)
        At most half of the window.
    """

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        z, winners = backend.max_pool2d(x, *self.window)
        return z, (winners, x.shape[2:])

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        winners, size = saved
        return (backend.max_pool2d_scatter(grad, winners, *self.window, size),)

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        # a winner of several windows collects from each: its value is in each of their outputs
        winners, size = saved
        return backend.max_pool2d_scatter(ratio, winners, *self.window, size)

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        winners, _ = saved
        return backend.max_pool2d_gather(u, winners, *self.window)


class _Mean(Layer):
    """What both means share: they save their window, and the size of the maps."""

    proportional = True

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        return (backend.avg_pool2d_transpose(grad, *saved),)

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return backend.avg_pool2d_transpose(ratio, *saved)

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        *window, _ = saved
        return backend.avg_pool2d(u, *window)


class AvgPool2d(_Pool2d, _Mean):
    """Mean of each window; relevance in proportion to each input's share of the sum.

    A mean is a linear layer with the weights 1 / (kh * kw), so its relevance is
    Eq. (2) with these weights: the ratio goes back through the transpose.  The zeros
    of the padding count (PyTorch's ``count_include_pad=True``).

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window, in pixels.
    stride : int or (int, int), optional
        Pixels from one window to the next; the window's size if left out.
    padding : int or (int, int)
        At most half of the window.
    """

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        return backend.avg_pool2d(x, *self.window), (*self.window, x.shape[2:])


class GlobalAvgPool2d(_Mean):
    """Mean of each whole map, (N, C, H, W) to (N, C, 1, 1): PyTorch's ``AdaptiveAvgPool2d(1)``.

    An :class:`AvgPool2d` whose window is the map, whatever its size (Lin, Chen and Yan, "Network
    in Network", 2014).
    """

    def check_input(self, shape: tuple[int, ...]) -> None:
        expect_shape("GlobalAvgPool2d got an input", shape, ("N", "C", "H", "W"))

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        size = x.shape[2:]
        window = (size, size, (0, 0))
        return backend.avg_pool2d(x, *window), (*window, size)
