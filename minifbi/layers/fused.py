"""Convolution, ReLU and max-pooling as one layer: the same numbers, fewer trips to memory.

Training spends much of its time carrying large maps to and from memory: the
convolution writes one, the bias, the ReLU and the pooling each read and write
one.  A block hands all of it to the backend at once, which may add the bias and
rectify while the numbers still are in registers.  Its methods are those of its three
layers composed, in the closed trio's terms::

    forward              a, winners = pool(relu(conv(x, W) + b))
    adjoint of forward   g = unpool(dL/da * [a > 0]);  then as Conv2d for dL/dz = g
    relevance            s = unpool(ratio * [a > 0]);  c = conv_T(s, W)
    adjoint of relevance dL/dratio = [a > 0] * (conv(u, W) at the winners);  dL/dW += conv_W(u, s)

The pooled activation serves as the gate: a winner is active just when its maximum is
positive, and where all of a window is inactive nothing passes.

:func:`fuse` finds the blocks in a chain of layers.  ``Sequential.trace(x,
fused=True)`` uses them, and so does the trainer; the readable layers are the
reference, and tests hold the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minifbi.autograd import Tensor
from minifbi.backends import Array, Backend, Window, output_size
from minifbi.errors import ShapeError
from minifbi.layers.base import Gradients, Layer
from minifbi.layers.conv import Conv2d
from minifbi.layers.pooling import MaxPool2d
from minifbi.layers.relu import ReLU


@dataclass
class _Saved:
    """What the forward pass remembers, and what relevance leaves for its adjoint."""

    x: Array
    weight: Array
    has_bias: bool
    a: Array
    winners: Array | None
    spread: tuple[Array, Array] | None = None


class ConvBlock(Layer):
    """Conv2d, ReLU and, optionally, MaxPool2d in one.

    Parameters
    ----------
    conv : Conv2d
        Its parameters are the block's.
    pool : MaxPool2d, optional
    pool_name : str
        For error messages.
    """

    functional = True
    proportional = True

    def __init__(
        self, conv: Conv2d, pool: MaxPool2d | None = None, pool_name: str = "pool"
    ) -> None:
        super().__init__()
        self.conv, self.pool, self.pool_name = conv, pool, pool_name
        self.window: Window | None = (
            None if pool is None else (pool.kernel_size, pool.stride, pool.padding)
        )

    def __repr__(self) -> str:
        return f"ConvBlock({self.conv!r}, {self.pool!r})"

    def own_parameters(self) -> dict[str, Tensor]:
        return self.conv.own_parameters()

    def check_input(self, shape: tuple[int, ...]) -> None:
        self.conv.check_input(shape)
        if self.pool is not None:
            try:
                self.pool.check_input((shape[0], self.conv.out_channels, *self._size(shape[2:])))
            except ShapeError as error:
                raise ShapeError(f"layer {self.pool_name!r}: {error}") from None

    def _size(self, size: Any) -> tuple[int, int]:
        """Height and width of the convolution's output."""
        conv = self.conv
        return output_size(size, conv.kernel_size, conv.stride, conv.padding)

    def _unpool(self, backend: Backend, g: Array, saved: _Saved) -> Array:
        size = self._size(saved.x.shape[2:])
        return backend.relu_unpool(g, saved.a, saved.winners, self.window, size)

    # ---- Eq. (1) ---------------------------------------------------------------------
    def forward(
        self, backend: Backend, x: Array, weight: Array, bias: Array | None = None
    ) -> tuple[Array, Any]:
        conv = self.conv
        a, winners = backend.conv2d_relu_pool(
            x, weight, bias, conv.stride, conv.padding, self.window
        )
        return a, _Saved(x, weight, bias is not None, a, winners)

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        grad_z = self._unpool(backend, grad, saved)
        gradients = self.conv.backward(
            backend, grad_z, (saved.x, saved.weight, False), needs_x=needs_x
        )
        if not saved.has_bias:
            return gradients
        # what the pooling sent back is a sum over fewer numbers than grad_z
        return (*gradients, backend.bias_gradient(grad, saved.a))

    # ---- Eq. (2) ---------------------------------------------------------------------
    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        s = self._unpool(backend, ratio, saved)
        saved.spread = (ratio, s)
        return self.conv.relevance(backend, s, (saved.x, saved.weight, False))

    def relevance_backward(
        self, backend: Backend, grad: Array, ratio: Array, saved: Any
    ) -> Gradients:
        conv = self.conv
        # kept from the relevance pass, unless another one over the same step came between
        known, s = saved.spread
        if known is not ratio:
            s = self._unpool(backend, ratio, saved)
        grad_ratio = backend.conv2d_gather(
            grad, saved.weight, conv.stride, conv.padding, saved.a, saved.winners, self.window
        )
        grad_weight = backend.conv2d_weight(grad, s, conv.kernel_size, conv.stride, conv.padding)
        return (grad_ratio, grad_weight, None) if saved.has_bias else (grad_ratio, grad_weight)


def fuse(layers: Sequence[tuple[str, Layer]]) -> Iterator[tuple[str, Layer]]:
    """The same chain with each Conv2d, ReLU (and MaxPool2d) in a row replaced by a ConvBlock.

    Parameters
    ----------
    layers : sequence of (name, Layer)

    Yields
    ------
    (str, Layer)
        A block has the name of its convolution.
    """
    position = 0
    while position < len(layers):
        name, layer = layers[position]
        kinds = [type(follower) for _, follower in layers[position : position + 3]]
        if kinds == [Conv2d, ReLU, MaxPool2d]:
            pool_name, pool = layers[position + 2]
            yield name, ConvBlock(layer, pool, pool_name)  # type: ignore[arg-type]
            position += 3
        elif kinds[:2] == [Conv2d, ReLU]:
            yield name, ConvBlock(layer)  # type: ignore[arg-type]
            position += 2
        else:
            yield name, layer
            position += 1
