"""The rectifiers: a gate, or a slope, that forward, relevance and both gradients share."""

from __future__ import annotations

from typing import Any

from minifbi.arguments import number
from minifbi.backends import Array, Backend
from minifbi.layers.base import Gradients, Layer


class ReLU(Layer):
    """Rectified linear unit, a = max(z, 0).

    Relevance passes unchanged, a^- at the input equals a^- at the output.  As a
    ratio that is ``1[z > 0] * ratio``: at an inactive unit the ratio is 0/0, and 0
    by our convention.  The same gate serves all methods; it is piecewise
    constant, so no gradient flows through the gate itself.
    """

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        return backend.xp.maximum(x, 0), x > 0  # maximum, not x * gate: NaN must stay NaN

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        return (grad * saved,)

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return ratio * saved

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        return u * saved


class LeakyReLU(ReLU):
    """Leaky rectified linear unit, a = max(z, 0) + negative_slope * min(z, 0) (Maas et al. 2013).

    Where ReLU has the gate 0 or 1, this has the slope `negative_slope` or 1: a = slope * z.  All
    relevance of an output goes to its one input, so the ratio is multiplied by the slope.

    Parameters
    ----------
    negative_slope : float
        At least 0; 0 is ReLU.

    Raises
    ------
    ConfigError
        If the slope is negative or not finite.
    """

    shown = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = number("negative_slope", negative_slope, 0)

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        one, small = x.dtype.type(1), x.dtype.type(self.negative_slope)
        slope = backend.xp.where(x > 0, one, small)
        return x * slope, slope
