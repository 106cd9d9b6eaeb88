"""Two rewritings of a model: for speed, and for explaining.

**For speed** (:func:`fuse`), convolution, ReLU and max-pooling become one layer.  Training spends
much of its time carrying large maps to and from memory: the convolution writes one, the bias, the
ReLU and the pooling each read and write one.  A block hands all of it to the backend at once, which
may add the bias and rectify while the numbers still are in registers.  It is a layer with weights
like another (:mod:`minifbi.layers.linear`), with a gate behind its map::

    forward               a, winners = pool(relu(map(x, W) + b))
    way back of a gate    s = unpool(g * [a > 0])
    adjoint of forward    dL/dx = map_T(s, W);  dL/dW = map_W(x, s)    for g = dL/da
    relevance             c = map_T(s, W)                              for g = the ratio
    J u                   [a > 0] * (map(u, W) at the winners)

The pooled activation serves as the gate: it is above 0 exactly where the winner of its window is
active, and where all of a window is inactive nothing passes.

The readable layers are the reference, and tests hold the two equal.  The blocks hold the very
layers of the model: parameters, names and random states are shared, and what is saved,
printed and looked at is the model itself.  The numpy backend runs the model as it is written.

**For explaining** (:func:`fold_batchnorm`), a batch normalisation disappears into the weights of
the convolution before it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from minifbi.autograd import Tensor, no_grad
from minifbi.backends import Array, Backend, output_size
from minifbi.errors import ShapeError
from minifbi.layers import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.layers.base import Gradients
from minifbi.rules import Composite, get_rule


def fuse(model: Any, rule: str | Composite | None = "zero") -> Any:
    """The model that a compiled backend runs in the place of `model`: the same numbers, faster.

    Parameters
    ----------
    model : Layer
        A network; it is not changed.
    rule : str, Composite or None
        The rule of the relevance pass that follows.  A rule other than LRP-0 needs the output of
        every layer, so nothing is rewritten.  None says that the caller looks at every layer;
        nothing is rewritten then either.

    Returns
    -------
    Layer
        `model` itself where nothing is to be rewritten; else a container that shares its layers.
    """
    if not model.backend.fuses or rule is None or not get_rule(rule).exact:
        return model
    return _rewritten(model)


def _rewritten(model: Any) -> Any:
    if type(model) is Residual:
        return Residual(_blocks(model.chain), shortcut=_rewritten(model.shortcut))
    return Sequential(_blocks(model.layers)) if type(model) is Sequential else model


def _blocks(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """A chain with each Conv2d, ReLU (and MaxPool2d) in a row replaced by a ConvBlock.

    A block has the name of its convolution.
    """
    chain, found = list(layers.items()), dict[str, Layer]()
    while chain:
        (name, layer), *chain = chain
        kinds = [type(part) for part in (layer, *(part for _, part in chain[:2]))]
        pool = None
        if kinds[:2] == [Conv2d, ReLU]:
            chain.pop(0)
            if kinds[2:] == [MaxPool2d]:
                pool = chain.pop(0)
            found[name] = ConvBlock(layer, pool)  # type: ignore[arg-type]
        else:
            found[name] = _rewritten(layer)
    return found


class ConvBlock(Linear):
    """Conv2d, ReLU and, optionally, MaxPool2d in one.

    Parameters
    ----------
    conv : Conv2d
        Its parameters are the block's.
    pool : (str, MaxPool2d), optional
        With its name, for error messages.
    """

    def __init__(self, conv: Conv2d, pool: tuple[str, Layer] | None = None) -> None:
        super().__init__()
        self.conv, self.pool = conv, pool
        self.own_parameters = conv.own_parameters
        self.pool_window: Any = None if pool is None else pool[1].window  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"ConvBlock({self.conv!r}, {self.pool and self.pool[1]!r})"

    def check_input(self, shape: tuple[int, ...]) -> None:
        self.conv.check_input(shape)
        if self.pool is not None:
            name, pool = self.pool
            try:
                pool.check_input((shape[0], self.conv.out_channels, *self._size(shape[2:])))
            except ShapeError as error:
                raise ShapeError(f"layer {name!r}: {error}") from None

    def _size(self, size: Any) -> tuple[int, int]:
        """Height and width of the convolution's output."""
        return output_size(size, *self.conv.window)

    def _spread(self, backend: Backend, g: Array, saved: Any) -> Array:
        """The way back through pooling and ReLU: from the block's output to the convolution's."""
        x, _, _, a, winners = saved
        return backend.relu_unpool(g, a, winners, self.pool_window, self._size(x.shape[2:]))

    def forward(
        self, backend: Backend, x: Array, weight: Array, bias: Array | None = None
    ) -> tuple[Array, Any]:
        _, stride, padding = self.conv.window
        a, winners = backend.conv2d_relu_pool(x, weight, bias, stride, padding, self.pool_window)
        return a, (x, weight, bias is not None, a, winners)

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        x, weight, has_bias, a, _ = saved
        s = self._spread(backend, grad, saved)
        gradients = self.conv.backward(backend, s, (x, weight, False), needs_x)
        # dL/db is the sum of s; grad, summed where a > 0, gives the same from fewer numbers
        return (*gradients, backend.bias_gradient(grad, a)) if has_bias else gradients

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return self.conv.relevance(backend, self._spread(backend, ratio, saved), saved[:3])

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        _, weight, _, a, winners = saved
        _, stride, padding = self.conv.window
        return backend.conv2d_gather(u, weight, stride, padding, a, winners, self.pool_window)


# ---- for explaining ----------------------------------------------------------------------
def fold_batchnorm(model: Any) -> Any:
    """The equivalent network in evaluation mode, with batch normalisation folded into weights.

    A BatchNorm2d behind a convolution multiplies each of its outputs by a number s and adds a
    number t.  A convolution with the weights s W and the bias s b + t does the same.  Outputs are
    equal to rounding, and so is relevance by LRP-0.  Other rules look at each layer's sums, so they
    give other heatmaps when two layers become one.  The literature and other packages (zennit's
    ``SequentialMergeBatchNorm``) fold first.

    Parameters
    ----------
    model : Layer
        A network; it is not changed.

    Returns
    -------
    Layer
        A copy in evaluation mode.  Each convolution has its name, and the batch normalisation
        behind it is gone.  One that follows something else (a sum, a ReLU) stays.  A container
        of your own that overrides ``trace`` stays as it is.
    """
    with no_grad():
        return _folded(model).eval()


def _folded(model: Any) -> Any:
    kind = type(model)
    if isinstance(model, Residual) and kind.trace is Residual.trace:
        shortcut = None if model.shortcut is None else _folded(model.shortcut)
        return Residual(_folded_chain(model.chain), shortcut=shortcut)
    if isinstance(model, Sequential) and kind.trace is Sequential.trace:
        folded = Sequential(_folded_chain(model.layers))
        folded.input_shape = model.input_shape
        return folded
    return _copy_of(model)


def _copy_of(layer: Any) -> Any:
    """A layer with the same parameters and a mode of its own."""
    other = copy.copy(layer)
    other.own_parameters, other.own_buffers = {**layer.own_parameters}, {**layer.own_buffers}
    return other


def _folded_chain(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    found = dict[str, Layer]()
    for name, layer in layers.items():
        if not (type(layer) is BatchNorm2d and _merge(found, layer)):
            found[name] = _folded(layer)
    return found


def _merge(chain: dict[str, Layer], norm: BatchNorm2d) -> bool:
    """Put the affine map of `norm` into the last layer of a chain, if that has weights."""
    name = next(reversed(chain), None)
    if name is None:
        return False
    last = chain[name]
    if type(last) is Sequential:
        return _merge(last.layers, norm)
    if type(last) not in (Conv2d, Dense):
        return False
    scale, shift = (part.data for part in norm.affine())
    weight, bias = last.own_parameters["weight"], last.own_parameters.get("bias")
    where: dict[str, Any] = {"requires_grad": True, "backend": weight.backend}
    rows = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    last.weight = last.own_parameters["weight"] = Tensor(weight.data * rows, **where)
    total = shift if bias is None else bias.data * scale + shift
    last.bias = last.own_parameters["bias"] = Tensor(total, **where)
    return True
