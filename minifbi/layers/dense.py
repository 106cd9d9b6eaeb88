"""The fully connected layer: the closed trio as three matrix products."""

from typing import Any

import numpy as np

from minifbi.arguments import expect_shape, whole
from minifbi.backends import Array, Backend
from minifbi.layers.base import Gradients
from minifbi.layers.linear import Linear, Seed


class Dense(Linear):
    """Fully connected layer (PyTorch's ``Linear``).

    With x = a_{i-1}^+, one sample per row, and the ratio r at the output::

        forward              z = x W^T + b                                    Eq. (1)
        adjoint of forward   dL/dx = dL/dz W;  dL/dW = (dL/dz)^T x;  dL/db = sum dL/dz
        relevance            a_i^- = x * c  with  c = r W                     Eq. (2)
        adjoint of relevance, for u = dL/dc:
                             dL/dr = u W^T;  dL/dW += r^T u

    Parameters
    ----------
    in_features, out_features : int
        Number of inputs and of outputs per sample; at least 1.
    bias : bool
        Whether each output has a number that is added to it.
    rng : int or numpy.random.Generator
        Seed of the initial weights (He).
    backend : str or Backend
        Where the weights live, and so where the layer computes.
    dtype : float32 or float64
        Of the weights; inputs must have the same.

    Attributes
    ----------
    weight : Tensor, shape (out_features, in_features)
    bias : Tensor, shape (out_features,), or None

    Raises
    ------
    ConfigError
        If there are no features on one side.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: Seed = 0,
        backend: str | Backend = "numpy",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_features = whole("in_features", in_features, 1)
        self.out_features = whole("out_features", out_features, 1)
        self._init_weights((out_features, in_features), bias, rng, backend, dtype)

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features}, bias={self.bias is not None})"

    def check_input(self, shape: tuple[int, ...]) -> None:
        hint = "; put a Flatten() before it" if len(shape) > 2 else ""
        needs = f": its weight has shape {self.weight.data.shape}{hint}"
        expect_shape("Dense got an input", shape, ("N", self.in_features), needs)

    # ---- Eq. (1) ---------------------------------------------------------------------
    def forward(
        self, backend: Backend, x: Array, weight: Array, bias: Array | None = None
    ) -> tuple[Array, Any]:
        z = backend.dense(x, weight)
        if bias is not None:
            z += bias
        return z, (x, weight, bias is not None)

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        x, weight, has_bias = saved
        grad_x = backend.dense_transpose(grad, weight) if needs_x else None
        grad_weight = backend.dense_weight(x, grad)
        return (grad_x, grad_weight, grad.sum(axis=0)) if has_bias else (grad_x, grad_weight)

    # ---- Eq. (2) ---------------------------------------------------------------------
    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        _, weight, _ = saved
        return backend.dense_transpose(ratio, weight)
