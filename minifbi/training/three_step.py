"""The paper on one screen: Section 3.2, the three-step training scheme."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minifbi.autograd import Tensor, cross_entropy, no_grad
from minifbi.fbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.layers import Sequential
from minifbi.rules import Composite, Rule, get_rule


@dataclass
class Losses:
    """What one pass over a batch found.

    Attributes
    ----------
    loss : Tensor, shape ()
        What is minimised: L of Eq. (4), or L_TSK alone before the gate.
    task_loss : Tensor, shape ()
    fbi_loss : Tensor, shape (), or None
        L_FBI of Eq. (3), where it was computed.
    fbi_terms : dict of str to Tensor
        Its terms, one a functional layer.
    logits : Tensor, shape (N, F)
    penalty : Tensor, shape (), or None
        The penalty of another regularizer in the place of the FBI loss
        (:func:`~minifbi.training.regularized_step`), where it was computed.
    penalty_terms : dict of str to Tensor
        Its summands.
    """

    loss: Tensor
    task_loss: Tensor
    fbi_loss: Tensor | None
    fbi_terms: dict[str, Tensor]
    logits: Tensor
    penalty: Tensor | None = None
    penalty_terms: dict[str, Tensor] = field(default_factory=dict)


def three_step(
    model: Sequential,
    x: Any,
    labels: Any,
    *,
    fbi_weight: float = 0.001,
    fbi_active: bool = True,
    start: str = "target",
    reduction: str = "sum",
    stabilizer: float = 0.0,
    rule: str | Rule | Composite = "zero",
    measure_fbi: bool = False,
) -> Losses:
    """Forward pass, relevance pass, backward pass; leaves the gradients in ``.grad``.

    The gradient that Eq. (5) descends, by the three steps of Section 3.2.

    Parameters
    ----------
    model : Sequential
    x : array or Tensor, shape (N, C, H, W)
        Images, in [0, 1].
    labels : array of int, shape (N,)
    fbi_weight : float
        lambda of Eq. (4).
    fbi_active : bool
        Whether the gate is open; if not, only the task loss is minimised.
    start, reduction, stabilizer, rule
        See :func:`minifbi.fbi.relevance_pass` and :func:`minifbi.fbi.fbi_terms`.
    measure_fbi : bool
        Compute the FBI loss for the record, off the tape, even if inactive.

    Returns
    -------
    Losses
    """
    # Step 1, forward pass: keeps every a_i^+                                    Eq. (1)
    steps = forward_pass(model, x, fused=stabilizer == 0 and get_rule(rule).exact)
    task_loss = cross_entropy(steps[-1].z, labels)
    loss, fbi, terms = task_loss, None, {}

    # Step 2, relevance pass: last layer to first, collects every a_i^-      Eq. (2), (3)
    if fbi_active:
        relevances = relevance_pass(steps, start, labels, stabilizer, rule)
        terms = fbi_terms(steps, relevances, reduction)
        fbi = fbi_loss(terms)
        loss = objective(task_loss, fbi, fbi_weight)  # Eq. (4)
    elif measure_fbi:
        with no_grad():
            relevances = relevance_pass(steps, start, labels, stabilizer, rule)
            terms = fbi_terms(steps, relevances, reduction)
            fbi = fbi_loss(terms)

    # Step 3, backward pass: gradients of Eq. (4) through BOTH passes           Eq. (5)
    model.zero_grad()
    loss.backward()
    return Losses(loss, task_loss, fbi, terms, steps[-1].z)
