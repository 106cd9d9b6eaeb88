"""Layers with weights: the closed trio, and the adjoint of the relevance pass that follows from it.

A layer computes z = map(x, W) + b, and map is linear in x and in W.  So, but for the bias,
everything that three-step training asks of the layer is one of three maps::

    map(x, W)                the layer itself, without its bias
    map_T(g, W)              its transpose with respect to x
    map_W(x, g)              its transpose with respect to W

    forward                  z = map(x, W) + b                                          Eq. (1)
    adjoint of forward       dL/dx = map_T(dL/dz, W);  dL/dW = map_W(x, dL/dz);  dL/db = sum dL/dz
    relevance                a^- = x * c  with  c = map_T(r, W)                         Eq. (2)
    adjoint of relevance     dL/dr = map(dL/dc, W);  dL/dW += map_W(dL/dc, r)

A layer's file shows forward, its adjoint and relevance.  The adjoint of relevance is written
once, here.  With u = dL/dc, <u, c> = <u, map_T(r, W)> equals <map(u, W), r>.  So <u, c> depends
on r and W as a forward pass of u does whose output is multiplied by r: the gradient at r is
map(u, W), and the gradient at W is that of a forward pass of u, with r as the gradient at its
output.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.autograd import Tensor
from minifbi.backends import Array, Backend
from minifbi.layers.base import Gradients, Layer

Seed = int | np.random.Generator


class Linear(Layer):
    """Base of Conv2d, Dense, BatchNorm2d and :class:`minifbi.fusion.ConvBlock`.

    What their ``forward`` saves is (x, weight, whether there is a bias), and what else the layer
    needs on the way back, such as the gates of a ConvBlock.

    Attributes
    ----------
    weight : Tensor, shape (outputs, inputs, ...)
    bias : Tensor, shape (outputs,), or None
    """

    functional = True
    proportional = True
    weight: Tensor
    bias: Tensor | None

    def _init_weights(self, shape: Any, bias: bool, rng: Seed, backend: Any, dtype: Any) -> None:
        normal = he_normal(shape, int(np.prod(shape[1:])), rng)
        self.weight = self.add_parameter("weight", normal, backend, dtype)
        self.bias = self.add_parameter("bias", np.zeros(shape[0]), backend, dtype) if bias else None

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        return self.forward(backend, u, saved[1])[0]  # map(u, W)

    def relevance_backward(
        self, backend: Backend, grad: Array, ratio: Array, saved: Any
    ) -> Gradients:
        _, weight, has_bias, *gates = saved
        grad_ratio = self.jvp(backend, grad, saved)  # map(dL/dc, W)
        as_forward = (grad, weight, False, *gates)  # what a forward pass of dL/dc would save
        _, grad_weight = self.backward(backend, ratio, as_forward, needs_x=False)
        return (grad_ratio, grad_weight, None) if has_bias else (grad_ratio, grad_weight)


def he_normal(shape: tuple[int, ...], fan_in: int, rng: Seed) -> NDArray[np.float64]:
    """Normal numbers of standard deviation sqrt(2 / fan_in), in float64.

    This keeps the mean square of ReLU activations the same from layer to layer (He, Zhang, Ren
    and Sun, "Delving Deep into Rectifiers", 2015, Eq. 10).  Drawn in float64 whatever the dtype
    of the model, so that a float32 and a float64 model of one seed are the same to rounding.
    """
    return np.random.default_rng(rng).standard_normal(shape) * np.sqrt(2.0 / fan_in)
