"""What travels from layer to layer, what a rule is, and how relevance is shared out.

Between two layers travels either the ratio or the relevance itself:

=============  ==================================================================
the ratio      r with R = a * r, where a is the activation there.  All rules in which an
               input that is 0 gets no relevance can carry it: then nothing has to be
               divided by a (:mod:`minifbi.layers.base` says why that matters in training).
the relevance  R.  The rules that also give relevance to inputs that are 0 (w-square, flat, z-box)
               have no such ratio.
=============  ==================================================================

Layers that compute no weighted sum pass either on: R goes through a ReLU and dropout
unchanged, through max-pooling to the winners, through Flatten in another shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.autograd import Tensor, where
from minifbi.layers import Dropout, Flatten, MaxPool2d, ReLU, Step
from minifbi.rules.linear import LinearMap, divide


@dataclass(slots=True)
class Flow:
    """What arrives at a place of the network.

    Attributes
    ----------
    values : Tensor
        The ratio or the relevance, in the shape of the activation a at that place.
    is_ratio : bool
        Which of the two.
    """

    values: Tensor
    is_ratio: bool = True

    def relevance(self, a: Tensor) -> Tensor:
        """R, given the activation `a` at that place.

        Parameters
        ----------
        a : Tensor, shape of `values`
            The activation there.

        Returns
        -------
        Tensor, same shape
        """
        return a * self.values if self.is_ratio else self.values

    def plus(self, other: Flow, a: Tensor) -> Flow:
        """The sum of two that arrive at one place, where the activation is `a`.

        Parameters
        ----------
        other : Flow
            A ratio or a relevance at the same place.
        a : Tensor, shape of `values`
            The activation there; turns a ratio into relevance where only one is a ratio.

        Returns
        -------
        Flow
        """
        if self.is_ratio and other.is_ratio:
            return Flow(self.values + other.values)
        return Flow(self.relevance(a) + other.relevance(a), is_ratio=False)

    def times(self, factor: float) -> Flow:
        """The same, multiplied by a number.

        Parameters
        ----------
        factor : float
            May be negative.

        Returns
        -------
        Flow
        """
        return Flow(self.values * factor, self.is_ratio)

    def where(self, mask: Any) -> Flow:
        """The same where `mask` (a boolean array) holds, nothing elsewhere.

        Parameters
        ----------
        mask : array of bool, shape of `values`
            True where the flow is kept.

        Returns
        -------
        Flow
        """
        return Flow(where(mask, self.values, 0.0), self.is_ratio)


@dataclass
class Book:
    """What a rule did not pass on, for each sample.

    Parameters
    ----------
    samples : int
        N, the size of the batch.

    Attributes
    ----------
    bias : ndarray of float64, shape (N,)
        Absorbed by the bias: its share in the sum that divides.
    stabilizer : ndarray of float64, shape (N,)
        Absorbed by the stabiliser, or at outputs with nothing to share it among (0/0 = 0).
    """

    samples: int

    def __post_init__(self) -> None:
        self.bias, self.stabilizer = np.zeros(self.samples), np.zeros(self.samples)


class Rule:
    """How a layer hands relevance from its outputs to its inputs.

    Attributes
    ----------
    name : str
        What to call it in tables; its numbers follow.
    needs_weights : bool
        Whether the rule asks for the weights themselves, so that it suits Conv2d
        and Dense only; the others suit every layer.
    """

    name = "rule"
    needs_weights = True

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        """From the output of a layer to its input, on the tape.

        Parameters
        ----------
        step : Step
            The layer at work.
        flow : Flow
            What arrives at ``step.z``.
        book : Book, optional
            Where to write what is not passed on.

        Returns
        -------
        Flow
            What arrives at ``step.x``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def __str__(self) -> str:
        numbers = [f"{value:g}" for value in vars(self).values() if isinstance(value, (int, float))]
        return f"{self.name} {', '.join(numbers)}".strip()


def per_sample(values: Tensor) -> NDArray[np.float64]:
    """Sum over all units of each sample, in float64: shape (N,)."""
    array = np.asarray(values.numpy(), np.float64)
    return np.asarray(array.reshape(len(array), -1).sum(axis=1))


def share(
    flow: Flow,
    z: Tensor,
    total: Tensor,
    epsilon: float = 0.0,
    *,
    bias: Tensor | None = None,
    book: Book | None = None,
) -> Tensor:
    """Relevance for each unit of `total`: s = R / (total + epsilon * sign(total)).

    From a ratio it is computed as ratio * (z / total), which stays harmless where z and
    `total` are small together.  0/0 is 0.

    Parameters
    ----------
    flow : Flow
        What arrives at the output of a layer.
    z : Tensor
        That output.
    total : Tensor
        What the rule divides by: the sum of all that the rule shares among.
    epsilon : float
        The stabiliser, at least 0, in units of `total`.
    bias : Tensor, shape (O,), optional
        The part of `total` that belongs to the bias, one number per map or feature of z.
    book : Book, optional
        Where to write what is not passed on.

    Returns
    -------
    Tensor, shape of z
    """
    if not flow.is_ratio:
        s = divide(flow.values, total, epsilon)
    elif total is z and epsilon == 0:
        s = flow.values
    else:
        s = flow.values * divide(z, total, epsilon)
    if book is not None:
        book.stabilizer += per_sample(flow.relevance(z) - s * total)
        if bias is not None:
            book.bias += per_sample(s * bias.reshape(-1, *(1,) * (z.ndim - 2)))
    return s


def share_out(
    step: Step,
    flow: Flow,
    summands: Sequence[tuple[Tensor, Tensor]],
    bias: Tensor | None = None,
    book: Book | None = None,
) -> list[Tensor]:
    """Share relevance out in proportion to the summands of a sum that a rule chooses.

    For summands (x, v), with inputs x_i and weights v_ij that stand in for the layer's own::

        t_j = sum of x_i v_ij over i and over all summands, + b_j
        R_i = x_i c_i,   c_i = sum_j v_ij R_j / t_j,   summed over all summands

    Montavon et al. (2019, Table 1) give most rules this form.

    Parameters
    ----------
    step : Step
        A layer with weights.
    flow : Flow
        What arrives at its output.
    summands : sequence of (Tensor, Tensor)
        Each an input and weights, in the shapes of the layer's own; an input of one sample
        stands for all.
    bias : Tensor, shape (O,), optional
        b, which absorbs its share.
    book : Book, optional
        Where to write what is not passed on.

    Returns
    -------
    list of Tensor, shape of x
        c, one per summand.
    """
    layer, ((x, v), *others) = LinearMap(step), summands
    total = layer.forward(x, v, bias)
    for x, v in others:
        total = total + layer.forward(x, v)
    s = share(flow, step.z, total, bias=bias, book=book)
    return [layer.transpose(s, v) for _, v in summands]


def pass_on(step: Step, flow: Flow) -> Flow:
    """Through a layer without weights and without a sum to be divided by.

    A relevance goes through a layer of another kind as a ratio.
    """
    # what arrives at an output of Flatten or MaxPool2d goes to one input, whole
    if flow.is_ratio or isinstance(step.layer, (Flatten, MaxPool2d)):
        return Flow(step.relevance(flow.values), flow.is_ratio)
    if isinstance(step.layer, (ReLU, Dropout)):
        return flow
    return Flow(step.relevance(share(flow, step.z, step.z)))
