"""Flatten: maps become rows of features."""

import math
from typing import Any

from minifbi.backends import Array, Backend
from minifbi.errors import ShapeError
from minifbi.layers.base import Gradients, Layer


class Flatten(Layer):
    """Reshape (N, C, H, W) to (N, C * H * W); relevance and gradients are shaped back."""

    def check_input(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            raise ShapeError(f"Flatten got an input of shape {shape}, expected (N, ...)")

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        # the product and not -1, which an empty batch leaves undefined
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), x.shape

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        return (grad.reshape(saved),)

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return ratio.reshape(saved)

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        return u.reshape(len(u), math.prod(saved[1:]))
