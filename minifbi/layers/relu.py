"""The rectifier: a gate that forward, relevance and both gradients share."""

from __future__ import annotations

from typing import Any

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
