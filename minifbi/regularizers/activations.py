"""Penalties on activations: the FBI loss, and plain L1, its near relative."""

from __future__ import annotations

from collections.abc import Mapping

from minifbi.autograd import Tensor, record
from minifbi.errors import ConfigError
from minifbi.fbi import REDUCTIONS, fbi_loss, fbi_terms, objective, relevance_pass
from minifbi.regularizers.base import ZERO, Batch, Regularizer, total
from minifbi.rules import Composite, Rule, get_rule


class FBI(Regularizer):
    """The paper's own: L_FBI of Eq. (3), in the objective of Eq. (4).

    Without a stabiliser the relevance a_i^- is a_{i-1}^+ * g_i, where g_i is the gradient of the
    explained logit at a_{i-1}^+.  So L_FBI = (1/K) sum_i || a_{i-1}^+ * (1 - g_i) ||_1, an
    L1 penalty that spares the activations through which the answer grows with slope 1.

    Parameters
    ----------
    start, rule
        See :func:`minifbi.fbi.relevance_pass`.
    reduction
        See :func:`minifbi.fbi.fbi_terms`.
    """

    label = "FBI loss"
    default_weight = 0.001

    def __init__(
        self,
        start: str = "target",
        reduction: str = "sum",
        rule: str | Rule | Composite = "zero",
    ) -> None:
        self.start, self.reduction = start, reduction
        self.rule: Composite = get_rule(rule)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        relevances = relevance_pass(batch.steps, self.start, batch.labels, self.rule)  # Eq. (2)
        return fbi_terms(batch.steps, relevances, self.reduction)  # Eq. (3)

    def penalty(self, terms: Mapping[str, Tensor]) -> Tensor:
        return fbi_loss(terms)  # Eq. (3)

    def objective(self, task_loss: Tensor, penalty: Tensor, weight: float) -> Tensor:
        return objective(task_loss, penalty, weight)  # Eq. (4)


class L1(Regularizer):
    """Sparse activations: P = (1/(K-1)) sum_{i=2}^{K} || a_{i-1}^+ ||_1 (Glorot et al. 2011).

    The activations are those that Eq. (3) compares, the inputs of the convolution and dense
    layers, so that it differs from the FBI loss in one factor only, 1 for |1 - g_i|.  The
    image (i = 1) is left out, since nothing can be learnt about its norm.

    Source: X. Glorot, A. Bordes and Y. Bengio, "Deep Sparse Rectifier Neural Networks", AISTATS
    2011, Section 3.3, where all hidden activations are penalised with the weight 0.001.

    Parameters
    ----------
    reduction : {"sum", "mean"}
        As in Eq. (3): "sum" over the units of a sample and mean over the batch, or "mean" over
        all elements; then P is the mean activation.

    Raises
    ------
    ConfigError
        If the reduction is unknown, or, in use, if the network has no hidden layer.
    """

    label = "L1 penalty"
    default_weight = 0.001
    rule = ZERO

    def __init__(self, reduction: str = "sum") -> None:
        if reduction not in REDUCTIONS:
            raise ConfigError(f"reduction={reduction!r}: expected one of {', '.join(REDUCTIONS)}")
        self.reduction = reduction

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        hidden = [step for step in batch.steps if step.layer.functional][1:]
        if not hidden:
            raise ConfigError(
                "an L1 penalty on activations needs hidden activations: a network with at least "
                "two convolution or dense layers"
            )
        terms = {}
        for step in hidden:
            count = len(batch) if self.reduction == "sum" else step.x.size
            terms[step.name] = l1_norm(step.x) * (1.0 / count)
        return terms

    def penalty(self, terms: Mapping[str, Tensor]) -> Tensor:
        return total(terms) * (1.0 / len(terms))


def l1_norm(x: Tensor) -> Tensor:
    """Sum of |x|, shape (); the gradient at 0 is 0.

    One operation and not ``x.abs().sum()``, so that the gradient lies in memory as x does.
    """
    xp, values = x.backend.xp, x.data
    return record(xp.abs(values).sum(), (x,), lambda g: (g * xp.sign(values),), "l1_norm")
