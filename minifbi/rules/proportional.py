"""Rules that share relevance out in proportion to contributions: an input of 0 gets none.

Notation: x_i inputs, w_ij weights, b_j biases and z_j = sum_i x_i w_ij + b_j outputs of a
layer; c_ij = x_i w_ij contributions; R_j the relevance at the outputs, R_i at the inputs.
y^+ = max(y, 0), y^- = min(y, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

from minifbi.arguments import number, refused
from minifbi.autograd import Tensor
from minifbi.autograd.functions import relu, where
from minifbi.layers import Linear, Step
from minifbi.rules.flow import Book, Flow, pass_on, per_sample, share
from minifbi.rules.linear import LinearMap, signs
from minifbi.rules.rule import Rule


def _bias(step: Step, book: Book | None) -> Tensor | None:
    """The bias of a layer with weights, where it is asked for."""
    if book is None or not isinstance(step.layer, Linear) or step.layer.bias is None:
        return None
    return LinearMap(step).as_map(step.layer.bias)


@dataclass(frozen=True)
class Zero(Rule):
    """LRP-0: in proportion to the contributions to z (Bach et al. 2015).

    ::

        R_i = sum_j (x_i w_ij / z_j) R_j

    The bias absorbs b_j / z_j of R_j.  This is Eq. (2) of the paper.
    """

    name = "LRP-0"
    needs_weights = False

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        if flow.is_ratio and book is None:  # the ratio is what is shared out; nothing is divided
            return Flow(step.relevance(flow.values))
        return Flow(step.relevance(share(flow, step.z, step.z, bias=_bias(step, book), book=book)))


@dataclass(frozen=True)
class Epsilon(Rule):
    """LRP-epsilon: a stabiliser absorbs where z is small (Bach et al. 2015).

    ::

        R_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) R_j,        sign(0) = +1

    The bias absorbs b_j / (z_j + ...) of R_j, the stabiliser epsilon / (|z_j| + epsilon) of it.

    Parameters
    ----------
    epsilon : float
        At least 0, in units of z.
    """

    epsilon: float = 0.01
    name = "epsilon"
    needs_weights = False

    def __post_init__(self) -> None:
        number("epsilon", self.epsilon, low=0)

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        s = share(flow, step.z, step.z, self.epsilon, bias=_bias(step, book), book=book)
        return Flow(step.relevance(s))


Part = tuple[Flow, Tensor, Tensor, Tensor | None, float]


def _by_sign(step: Step, parts: list[Part], book: Book | None) -> Flow:
    """Share relevance out by sums that favour one sign, for inputs of both.

    Each part is (flow, V, U, b, fraction): of `flow`, this fraction is shared out in proportion
    to the summands of sum_i x_i^+ v_ij + x_i^- u_ij + b_j.  V favours what speaks for an output,
    U what speaks against it: an input that is negative makes of a positive weight a negative
    contribution, so it is weighted by the other set.  After a ReLU no input is negative, and
    half of it falls away.
    """
    layer, x = LinearMap(step), step.x
    both = bool((x.data < 0).any())
    up = relu(x) if both else x
    ups, downs = [], []
    for flow, v, u, bias, fraction in parts:
        total = layer.forward(up, v, bias)
        if both:
            total = total + layer.forward(x - up, u)
        absorbed = None if bias is None else layer.as_map(bias)
        s = share(flow, step.z, total, bias=absorbed, fraction=fraction, book=book)
        ups.append(layer.transpose(s, v))
        if both:
            downs.append(layer.transpose(s, u))
    ratio = sum(ups[1:], ups[0])
    return Flow(where(x.data >= 0, ratio, sum(downs[1:], downs[0])) if both else ratio)


@dataclass(frozen=True)
class Gamma(Rule):
    """LRP-gamma: favours contributions of the output's own sign (Montavon et al. 2019).

    For z_j > 0 ::

        R_i = sum_j (c_ij + gamma c_ij^+) / (sum_i' (c_i'j + gamma c_i'j^+) + b_j + gamma b_j^+) R_j

    and for z_j < 0 the same with c^- and b^-, the form of Andéol et al. (2021).  So the sum that
    divides is at least |z_j|, and there is nothing to stabilise.  The bias absorbs its part of that
    sum.  (Montavon et al. write it for x >= 0, where c_ij^+ = x_i w_ij^+.)

    Parameters
    ----------
    gamma : float
        At least 0; 0 is LRP-0, and with growing gamma the rule nears z+.
    """

    gamma: float = 0.25
    name = "gamma"

    def __post_init__(self) -> None:
        number("gamma", self.gamma, low=0)

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        layer = LinearMap(step)
        v, u = (layer.weight + part * self.gamma for part in signs(layer.weight))
        more = less = None
        if layer.bias is not None:
            more, less = (layer.bias + part * self.gamma for part in signs(layer.bias))
        above = step.z.data >= 0
        parts: list[Part] = [(flow.where(above), v, u, more, 1.0)]
        below = flow.where(~above)
        if bool((below.values.data != 0).any()):  # under a ReLU nothing arrives there
            parts.append((below, u, v, less, 1.0))
        return _by_sign(step, parts, book)


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """LRP-alpha-beta: contributions for and against apart (Bach et al. 2015).

    ::

        R_i = sum_j ( alpha c_ij^+ / (sum_i' c_i'j^+ + b_j^+)
                      - beta c_ij^- / (sum_i' c_i'j^- + b_j^-) ) R_j,        alpha - beta = 1

    The bias takes part in both sums by its sign, and absorbs its share.  An output to which
    only one sign contributes hands down alpha R_j or -beta R_j, not R_j: relevance is conserved
    only where both do.

    Parameters
    ----------
    alpha, beta : float
        beta >= 0, alpha = 1 + beta.
    """

    alpha: float = 2.0
    beta: float = 1.0
    name = "alpha-beta"

    def __post_init__(self) -> None:
        number("beta", self.beta, low=0)
        if not abs(number("alpha", self.alpha) - 1 - self.beta) <= 1e-9:
            raise refused(
                "alpha", self.alpha, f"1 + beta, that is {1 + self.beta:g}, to conserve relevance"
            )

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        layer = LinearMap(step)
        v, u = signs(layer.weight)
        more, less = (None, None) if layer.bias is None else signs(layer.bias)
        parts: list[Part] = [(flow, v, u, more, self.alpha)]
        if self.beta:
            parts.append((flow, u, v, less, -self.beta))
        return _by_sign(step, parts, book)


@dataclass(frozen=True)
class ZPlus(AlphaBeta):
    """The z+ rule of Montavon et al. (2017): alpha-beta with alpha = 1, beta = 0.

    ::

        R_i = sum_j c_ij^+ / (sum_i' c_i'j^+ + b_j^+) R_j

    Parameters
    ----------
    alpha, beta : float
        1 and 0: leave them out.
    """

    alpha: float = 1.0
    beta: float = 0.0

    def __str__(self) -> str:
        return "z+"  # its numbers are part of the name


@dataclass(frozen=True)
class Guided(Rule):
    """For ReLU layers: only what is above 0 goes on (Springenberg et al. 2015).

    ::

        r_i = r_j  if z_j > 0 and r_j > 0,  else 0

    With LRP-0 in all other layers the ratio that arrives at the image is guided backpropagation.
    It is not a relevance: nothing is conserved.
    """

    name = "guided"
    needs_weights = False

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        below = flow.where(flow.values.data > 0)
        if book is not None:
            book.stabilizer += per_sample(flow.relevance(step.z) - below.relevance(step.z))
        return pass_on(step, below)
