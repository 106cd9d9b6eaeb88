"""Rules that share relevance out in proportion to contributions: an input of 0 gets none.

Notation: x_i inputs, w_ij weights, b_j biases and z_j = sum_i x_i w_ij + b_j outputs of a
layer; c_ij = x_i w_ij contributions; R_j the relevance at the outputs, R_i at the inputs.
y^+ = max(y, 0), y^- = min(y, 0).
"""

from dataclasses import dataclass

from minifbi.arguments import number, refused
from minifbi.autograd import Tensor, where
from minifbi.layers import Linear, Step
from minifbi.rules.flow import Book, Flow, Rule, pass_on, per_sample, share, share_out
from minifbi.rules.linear import LinearMap, signs


@dataclass(frozen=True)
class Zero(Rule):
    """LRP-0: in proportion to the contributions to z (Bach et al. 2015).

    ::

        R_i = sum_j (x_i w_ij / z_j) R_j

    The bias absorbs b_j / z_j of R_j.  This is Eq. (2) of the paper.
    """

    name = "LRP-0"
    needs_weights = False
    epsilon = 0.0

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        s, z = flow.values, step.z
        if self.epsilon or book is not None or not flow.is_ratio:
            bias = (*step.parameters, None, None)[1] if isinstance(step.layer, Linear) else None
            s = share(flow, z, z, self.epsilon, bias=bias, book=book)
        return Flow(step.relevance(s))  # of LRP-0 the ratio itself: nothing is divided


@dataclass(frozen=True)
class Epsilon(Zero):
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

    def __post_init__(self) -> None:
        number("epsilon", self.epsilon, low=0)


class BySign(Rule):
    """Base of the rules that favour contributions of one sign, for inputs of both.

    They share out by two sums per output.  One favours what speaks for it, the other what speaks
    against it.  A rule says how a sum favours a sign (:meth:`favour`), and what is shared
    out by which sum (:meth:`split`).

    An input that is negative makes of a positive weight a negative contribution, so it is
    weighted by the other sum's weights.  After a ReLU no input is negative, and half of the work
    falls away.
    """

    def favour(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Weights or biases, changed in favour of the positive ones and of the negative ones.

        Parameters
        ----------
        y : Tensor, any shape
            The layer's weights, or its biases.

        Returns
        -------
        tuple of two Tensors, same shape
            For the sum that favours what speaks for an output, and for the other.
        """
        raise NotImplementedError(f"{type(self).__name__} must define favour")

    def split(self, step: Step, flow: Flow) -> list[Flow]:
        """What each of the two sums shares out.

        Parameters
        ----------
        step : Step
            The layer at work.
        flow : Flow
            What arrives at ``step.z``.

        Returns
        -------
        list of Flow
            One for each sum; the first alone if nothing is left for the second.
        """
        raise NotImplementedError(f"{type(self).__name__} must define split")

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        layer, x = LinearMap(step), step.x
        weights = self.favour(layer.weight)
        biases = (None, None) if layer.bias is None else self.favour(layer.bias)
        inputs = signs(x) if bool((x.data < 0).any()) else (x,)
        carried = []
        for i, part in enumerate(self.split(step, flow)):
            summands = list(zip(inputs, (weights[i], weights[1 - i]), strict=False))
            carried.append(share_out(step, part, summands, biases[i], book))
        ratios = [sum(both[1:], both[0]) for both in zip(*carried, strict=True)]
        return Flow(ratios[0] if len(ratios) == 1 else where(x.data >= 0, *ratios))


@dataclass(frozen=True)
class Gamma(BySign):
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

    def favour(self, y: Tensor) -> tuple[Tensor, Tensor]:
        positive, negative = signs(y)
        return y + positive * self.gamma, y + negative * self.gamma

    def split(self, step: Step, flow: Flow) -> list[Flow]:
        above = step.z.data >= 0
        parts = [flow.where(above), flow.where(~above)]
        # under a ReLU nothing arrives where z < 0
        return parts if bool((parts[1].values.data != 0).any()) else parts[:1]


@dataclass(frozen=True)
class AlphaBeta(BySign):
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
            raise refused("alpha", self.alpha, f"1 + beta, that is {1 + self.beta:g}")

    def favour(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return signs(y)

    def split(self, step: Step, flow: Flow) -> list[Flow]:
        return [flow.times(self.alpha), flow.times(-self.beta)] if self.beta else [flow]


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
