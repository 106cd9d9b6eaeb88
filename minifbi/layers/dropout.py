"""Dropout: a random gate."""

from typing import Any

import numpy as np

from minifbi.arguments import number
from minifbi.backends import Array, Backend
from minifbi.layers.base import Gradients, Layer
from minifbi.layers.linear import Seed


class Dropout(Layer):
    """In training, zero each input with probability `p` and scale the rest by 1 / (1 - p).

    It is a diagonal linear layer: all its methods multiply by the same random gate.  In
    evaluation mode the gate is 1.

    Parameters
    ----------
    p : float
        Probability of dropping, 0 <= p < 1.
    rng : int or numpy.random.Generator
        Seed; the state is saved in checkpoints, so that a resumed run continues it.

    Raises
    ------
    ConfigError
        If p is not in [0, 1).
    """

    shown = ("p",)

    def __init__(self, p: float = 0.5, *, rng: Seed = 0) -> None:
        super().__init__()
        self.p = number("p", p, 0, below=1)
        self.rng = np.random.default_rng(rng)  # a generator stays itself: layers may share one

    def forward(self, backend: Backend, x: Array) -> tuple[Array, Any]:
        if not self.training or self.p == 0:
            return x, 1.0
        # drawn by NumPy on every backend: one seed, one mask
        kept = self.rng.random(x.shape) >= self.p
        gate = backend.asarray((kept / (1 - self.p)).astype(x.dtype))
        return x * gate, gate

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        return (grad * saved,)

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return ratio * saved

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        return u * saved
