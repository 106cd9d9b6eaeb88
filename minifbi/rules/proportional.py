"""Rules that share relevance out in proportion to contributions: an input of 0 gets none.

Notation: x_i inputs, w_ij weights, b_j biases and z_j = sum_i x_i w_ij + b_j outputs of a
layer; c_ij = x_i w_ij contributions; R_j the relevance at the outputs, R_i at the inputs.
y^+ = max(y, 0), y^- = min(y, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from minifbi.autograd import Tensor
from minifbi.autograd.functions import relu, where
from minifbi.layers import Linear, Step
from minifbi.rules.flow import Book, Flow, share
from minifbi.rules.linear import LinearMap, signs
from minifbi.rules.rule import Rule, check


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

    needs_weights = False

    def __str__(self) -> str:
        return "LRP-0"

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
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
    needs_weights = False

    def __post_init__(self) -> None:
        check(self.epsilon >= 0, "epsilon", self.epsilon, "a finite number, at least 0")

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g}"

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        s = share(flow, step.z, step.z, self.epsilon, bias=_bias(step, book), book=book)
        return Flow(step.relevance(s))


class _Signed:
    """Sums that favour one sign, for inputs of both.

    Two sets of weights: V favours what speaks for an output, U what speaks against it.  An
    input that is negative makes of a positive weight a negative contribution, so it is
    weighted by the other set::

        for      = sum_i x_i^+ v_ij + x_i^- u_ij        (+ its part of the bias)
        against  = sum_i x_i^+ u_ij + x_i^- v_ij        (+ its part of the bias)

    After a ReLU no input is negative, and half of it falls away.
    """

    def __init__(self, step: Step, v: Tensor, u: Tensor) -> None:
        self.map, self.x, self.v, self.u = LinearMap(step), step.x, v, u
        self.up, self.down = step.x, None
        if bool((step.x.data < 0).any()):
            self.up = relu(step.x)
            self.down = step.x - self.up

    def _sum(self, first: Tensor, second: Tensor, bias: Tensor | None) -> Tensor:
        total = self.map.forward(self.up, first, bias)
        return total if self.down is None else total + self.map.forward(self.down, second)

    def sum_for(self, bias: Tensor | None) -> Tensor:
        """The first sum, with `bias` (O,) in it."""
        return self._sum(self.v, self.u, bias)

    def sum_against(self, bias: Tensor | None) -> Tensor:
        """The second."""
        return self._sum(self.u, self.v, bias)

    def ratio(self, s: Tensor, t: Tensor | None) -> Tensor:
        """The ratio at the inputs: `s` is shared out by the first sum, `t` by the second."""

        def back(first: Tensor, second: Tensor) -> Tensor:
            ratio = self.map.transpose(s, first)
            return ratio if t is None else ratio + self.map.transpose(t, second)

        up = back(self.v, self.u)
        return up if self.down is None else where(self.x.data >= 0, up, back(self.u, self.v))


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

    def __post_init__(self) -> None:
        check(self.gamma >= 0, "gamma", self.gamma, "a finite number, at least 0")

    def __str__(self) -> str:
        return f"gamma {self.gamma:g}"

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        layer = LinearMap(step)
        positive, negative = signs(layer.weight)
        v, u = layer.weight + positive * self.gamma, layer.weight + negative * self.gamma
        sums = _Signed(step, v, u)
        more = less = None
        if layer.bias is not None:
            positive, negative = signs(layer.bias)
            more, less = layer.bias + positive * self.gamma, layer.bias + negative * self.gamma
        above = step.z.data >= 0
        s = share(
            flow.where(above),
            step.z,
            sums.sum_for(more),
            bias=None if more is None else layer.as_map(more),
            book=book,
        )
        below = flow.where(~above)
        if not bool((below.values.data != 0).any()):  # under a ReLU: nothing arrives there
            return Flow(sums.ratio(s, None))
        t = share(
            below,
            step.z,
            sums.sum_against(less),
            bias=None if less is None else layer.as_map(less),
            book=book,
        )
        return Flow(sums.ratio(s, t))


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

    def __post_init__(self) -> None:
        check(self.beta >= 0, "beta", self.beta, "a finite number, at least 0")
        check(
            math.isclose(self.alpha - self.beta, 1.0, abs_tol=1e-9),
            "alpha",
            self.alpha,
            f"1 + beta, that is {1 + self.beta:g}, so that relevance is conserved",
        )

    def __str__(self) -> str:
        return f"alpha-beta {self.alpha:g}, {self.beta:g}"

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        layer = LinearMap(step)
        sums = _Signed(step, *signs(layer.weight))
        more = less = None
        if layer.bias is not None:
            more, less = signs(layer.bias)
        s = share(
            flow,
            step.z,
            sums.sum_for(more),
            bias=None if more is None else layer.as_map(more),
            fraction=self.alpha,
            book=book,
        )
        if self.beta == 0:
            return Flow(sums.ratio(s, None))
        t = share(
            flow,
            step.z,
            sums.sum_against(less),
            bias=None if less is None else layer.as_map(less),
            fraction=-self.beta,
            book=book,
        )
        return Flow(sums.ratio(s, t))


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
        return "z+"
