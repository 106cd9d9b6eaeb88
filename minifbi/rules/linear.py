"""What the rules compute with: the closed trio with other weights, and a division, on the tape.

A rule of relevance propagation asks for a convolution with weights that are not the layer's
own: their positive parts, their squares.  Such a map and its transpose are two more uses of
the trio that each layer has (:mod:`minifbi.layers.conv`), so their gradients need nothing new::

    z = map(x, V)           dL/dx = map_T(dL/dz, V)      dL/dV = map_V(x, dL/dz)
    c = map_T(s, V)         dL/ds = map(dL/dc, V)        dL/dV = map_V(dL/dc, s)
"""

from __future__ import annotations

from collections.abc import Sequence

from minifbi.autograd import Tensor, record
from minifbi.autograd.functions import relu, reshape, unbroadcast
from minifbi.backends import Array
from minifbi.errors import ConfigError
from minifbi.layers import Conv2d, Dense, Step


class LinearMap:
    """The linear map of a Conv2d or Dense layer at work, for weights of one's choice.

    Parameters
    ----------
    step : Step
        The layer with its input; the input's size tells the transpose what to return.

    Raises
    ------
    ConfigError
        If the layer is neither.
    """

    def __init__(self, step: Step) -> None:
        layer = step.layer
        if not isinstance(layer, (Conv2d, Dense)):
            raise ConfigError(
                f"layer {step.name!r} is a {type(layer).__name__}, and this rule needs the weights "
                "of a Conv2d or Dense; give the layer the rule 'zero' or 'epsilon' in a Composite"
            )
        self.layer: Conv2d | Dense = layer
        self.weight: Tensor = layer.weight
        self.bias: Tensor | None = layer.bias
        self._backend, self._shape = step.x.backend, step.x.shape

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """map(x, weight) + bias; x has the shape of the layer's input, bias that of its bias."""
        x_data, weight_data = x.data, weight.data
        z = record(
            self._map(x_data, weight_data),
            (x, weight),
            lambda g: (
                self._transpose(g, weight_data) if x.requires_grad else None,
                self._weight(x_data, g) if weight.requires_grad else None,
            ),
            "linear",
        )
        return z if bias is None else z + self.as_map(bias)

    def transpose(self, s: Tensor, weight: Tensor) -> Tensor:
        """map_T(s, weight); s has the shape of the layer's output."""
        s_data, weight_data = s.data, weight.data
        return record(
            self._transpose(s_data, weight_data),
            (s, weight),
            lambda g: (
                self._map(g, weight_data) if s.requires_grad else None,
                self._weight(g, s_data) if weight.requires_grad else None,
            ),
            "linear_transpose",
        )

    def as_map(self, bias: Tensor) -> Tensor:
        """A bias (O,) in the shape in which it is added to the output."""
        return reshape(bias, (-1, 1, 1)) if isinstance(self.layer, Conv2d) else bias

    # ---- the trio over plain arrays ---------------------------------------------------
    def _map(self, x: Array, weight: Array) -> Array:
        if isinstance(self.layer, Conv2d):
            return self._backend.conv2d(x, weight, self.layer.stride, self.layer.padding)
        return self._backend.dense(x, weight)

    def _transpose(self, g: Array, weight: Array) -> Array:
        if isinstance(self.layer, Conv2d):
            size: tuple[int, int] = self._shape[2:]  # type: ignore[assignment]
            return self._backend.conv2d_transpose(
                g, weight, self.layer.stride, self.layer.padding, size
            )
        return self._backend.dense_transpose(g, weight)

    def _weight(self, x: Array, g: Array) -> Array:
        if isinstance(self.layer, Conv2d):
            return self._backend.conv2d_weight(
                x, g, self.layer.kernel_size, self.layer.stride, self.layer.padding
            )
        return self._backend.dense_weight(x, g)


def signs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Positive and negative part, y^+ and y^-."""
    positive = relu(weight)
    return positive, weight - positive


def divide(a: Tensor, b: Tensor, epsilon: float = 0.0) -> Tensor:
    """a / (b + epsilon * sign(b)), broadcast; sign(0) = +1, and a division by 0 gives 0.

    Parameters
    ----------
    a, b : Tensor
    epsilon : float
        At least 0, in units of b.

    Returns
    -------
    Tensor
    """
    xp, values = b.backend.xp, b.data
    eps = values.dtype.type(epsilon)
    bottom = values + xp.where(values >= 0, eps, -eps)
    possible = bottom != 0
    inverse = possible / xp.where(possible, bottom, 1)
    quotient = a.data * inverse

    def backward(g: Array) -> Sequence[Array]:
        share = g * inverse
        return unbroadcast(share, a.shape), unbroadcast(-share * quotient, b.shape)

    return record(quotient, (a, b), backward, "divide")


def stabilize(ratio: Tensor, z: Tensor, stabilizer: float) -> Tensor:
    """The stabilised ratio: R / (z + eps * sign(z)) for R = z * ratio, with sign(0) = +1.

    Since R = z * ratio, it equals ratio * z / (z + eps * sign(z)): the exact
    ratio, damped where |z| is not large against eps.  Nothing here is ever
    divided by a small number.

    Parameters
    ----------
    ratio : Tensor
        R / z at the output of a layer that divides by z.
    z : Tensor, same shape
        That output, before any ReLU.
    stabilizer : float
        eps > 0, in units of z.

    Returns
    -------
    Tensor, same shape
    """
    xp, values, incoming = z.backend.xp, z.data, ratio.data
    magnitude = xp.abs(values) + values.dtype.type(stabilizer)
    damping = xp.abs(values) / magnitude

    def backward(g: Array) -> Sequence[Array]:
        sign = xp.where(values >= 0, 1, -1).astype(values.dtype)
        eps = values.dtype.type(stabilizer)
        return g * damping, g * incoming * sign * eps / (magnitude * magnitude)

    return record(incoming * damping, (ratio, z), backward, "stabilize")
