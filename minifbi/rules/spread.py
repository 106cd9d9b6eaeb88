"""Rules that also give relevance to inputs that are 0, for the pixels and the layers near them.

There is no ratio R / x then: they take and return the relevance itself.

Notation: x_i inputs, w_ij weights, b_j biases and z_j = sum_i x_i w_ij + b_j outputs of a
layer; c_ij = x_i w_ij contributions; R_j the relevance at the outputs, R_i at the inputs.
y^+ = max(y, 0), y^- = min(y, 0).
"""

from dataclasses import dataclass

from minifbi.arguments import number
from minifbi.autograd import Tensor
from minifbi.errors import DataError
from minifbi.layers import Step
from minifbi.rules.flow import Book, Flow, Rule, share_out
from minifbi.rules.linear import LinearMap, signs


@dataclass(frozen=True)
class WSquare(Rule):
    """w-square: by the weights alone (Montavon et al. 2017).

    ::

        R_i = sum_j  w_ij^2 / (sum_i' w_i'j^2) R_j

    The sum is over the inputs that exist, not over padding.  The bias gets nothing: relevance
    is conserved.
    """

    name = "w-square"

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        squares = LinearMap(step).weight ** 2
        return _spread(step, flow, [(_constant(step.x[:1], 1.0), squares)], book)


@dataclass(frozen=True)
class Flat(Rule):
    """Flat: to all inputs that an output sees alike (Lapuschkin et al. 2019).

    ::

        R_i = sum_j  1 / (number of i') R_j

    w-square with all weights 1.  The bias gets nothing: relevance is conserved.
    """

    name = "flat"

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        ones = _constant(LinearMap(step).weight, 1.0)
        return _spread(step, flow, [(_constant(step.x[:1], 1.0), ones)], book)


@dataclass(frozen=True)
class ZBox(Rule):
    """z-box: for a layer whose inputs are pixels between two bounds (Montavon et al. 2017).

    With the bounds l <= x_i <= h ::

        R_i = sum_j v_ij / (sum_i' v_i'j) R_j,        v_ij = x_i w_ij - l w_ij^+ - h w_ij^-

    Every v_ij is at least 0.  A pixel that is 0 may get relevance too, for not being white.
    The bias takes no part: relevance is conserved.

    Parameters
    ----------
    low, high : float
        l and h, the smallest and the largest value that a pixel can have.
    """

    low: float = 0.0
    high: float = 1.0
    name = "z-box"

    def __post_init__(self) -> None:
        number("high", self.high, above=number("low", self.low))

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        x, weight = step.x, LinearMap(step).weight
        smallest, largest = float(x.data.min(initial=self.low)), float(x.data.max(initial=self.low))
        if smallest < self.low or largest > self.high:
            raise DataError(
                f"layer {step.name!r}: z-box needs inputs from {self.low:g} to {self.high:g}, got "
                f"{smallest:g} to {largest:g}; name your bounds, as in 'z-box:-1,1', or clip them"
            )
        bounds = zip((self.low, self.high), signs(weight), strict=True)
        below = [(_constant(x[:1], -bound), part) for bound, part in bounds if bound]
        return _spread(step, flow, [(x, weight), *below], book)


def _spread(
    step: Step, flow: Flow, summands: list[tuple[Tensor, Tensor]], book: Book | None
) -> Flow:
    """The relevance itself, shared out by the summands of :func:`minifbi.rules.flow.share_out`."""
    arrived = Flow(flow.relevance(step.z), is_ratio=False)
    carried = share_out(step, arrived, summands, book=book)
    shares = [x * c for (x, _), c in zip(summands, carried, strict=True)]
    return Flow(sum(shares[1:], shares[0]), is_ratio=False)


def _constant(like: Tensor, value: float) -> Tensor:
    """A constant of the shape of a tensor, all entries `value`."""
    return Tensor(like.backend.xp.full_like(like.data, value), backend=like.backend)
