"""What the rules compute with: the closed trio with other weights, and a division, on the tape.

A rule of relevance propagation asks for a convolution with weights that are not the layer's
own: their positive parts, their squares.  Such a map and its transpose are two more uses of the
layer's ``forward`` and ``relevance`` (:mod:`minifbi.layers.linear`), with their adjoints.
"""

from minifbi.autograd import Tensor, record
from minifbi.errors import ConfigError
from minifbi.layers import Linear, Step
from minifbi.layers.tape import apply, carry_back


class LinearMap:
    """The linear map of a layer at work, with weights that the rule chooses.

    Parameters
    ----------
    step : Step
        The layer with its input; the input's size tells the transpose what to return.

    Raises
    ------
    ConfigError
        If the layer has no weights.
    """

    def __init__(self, step: Step) -> None:
        if not isinstance(step.layer, Linear):
            raise ConfigError(
                f"layer {step.name!r} is a {type(step.layer).__name__}, and this rule needs the "
                "weights of a Conv2d or Dense; use 'zero' or 'epsilon' there, in a Composite"
            )
        self.layer, self._x = step.layer, step.x.data
        self.weight, *bias = step.parameters
        self.bias = bias[0] if bias else None

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """map(x, weight) + bias; x has the shape of the layer's input, bias that of its bias."""
        return apply(self.layer, x, (weight,) if bias is None else (weight, bias))[0]

    def transpose(self, s: Tensor, weight: Tensor) -> Tensor:
        """map_T(s, weight); s has the shape of the layer's output."""
        return carry_back(self.layer, s, (self._x, weight.data, False), (weight,))


def signs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Positive and negative part, y^+ and y^-."""
    positive = weight.relu()
    return positive, weight - positive


def divide(a: Tensor, b: Tensor, epsilon: float = 0.0) -> Tensor:
    """a / (b + epsilon * sign(b)), broadcast; sign(0) = +1, and a division by 0 gives 0.

    Parameters
    ----------
    a, b : Tensor
        Of shapes that broadcast.
    epsilon : float
        At least 0, in units of b.

    Returns
    -------
    Tensor, the broadcast shape
    """
    xp, eps = b.backend.xp, b.dtype.type(epsilon)
    bottom = b.data + xp.where(b.data >= 0, eps, -eps)
    possible = bottom != 0
    inverse = possible / xp.where(possible, bottom, 1)
    return a * record(inverse, (b,), lambda g: (-g * (inverse * inverse),), "inverse")
