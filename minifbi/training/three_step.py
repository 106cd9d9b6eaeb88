"""The paper on one screen: Section 3.2, the three-step training scheme."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minifbi.autograd import Tensor, cross_entropy, no_grad
from minifbi.fbi import forward_pass
from minifbi.layers import Layer
from minifbi.regularizers import FBI, Batch, Regularizer


@dataclass
class Losses:
    """What the three steps on one batch found.

    Attributes
    ----------
    loss : Tensor, shape ()
        What is minimised: L of Eq. (4), or L_TSK alone before the gate.
    task_loss : Tensor, shape ()
        L_TSK.
    logits : Tensor, shape (N, F)
    penalty : Tensor, shape (), or None
        L_FBI of Eq. (3), or what the regularizer in its place adds, where it was computed.
    penalty_terms : dict of str to Tensor of shape ()
        Its summands: for the FBI loss one per functional layer.
    """

    loss: Tensor
    task_loss: Tensor
    logits: Tensor
    penalty: Tensor | None = None
    penalty_terms: dict[str, Tensor] = field(default_factory=dict)


def three_step(
    model: Layer,
    x: Any,
    labels: Any,
    regularizer: Regularizer | None = None,
    *,
    weight: float | None = None,
    active: bool = True,
    measure: bool = False,
    masks: Any = None,
    rng: np.random.Generator | None = None,
) -> Losses:
    """Forward pass, relevance pass, backward pass; leaves the gradients in ``.grad``.

    The gradient that Eq. (5) descends, by the three steps of Section 3.2.

    Parameters
    ----------
    model : Layer
        Its parameters get the gradients; those that were there are forgotten.
    x : array or Tensor, shape (N, C, H, W)
        Images, in [0, 1].
    labels : array of int, shape (N,)
        The true classes.
    regularizer : Regularizer, optional
        What joins the task loss; ``FBI()``, the paper's loss, if left out.
    weight : float, optional
        lambda of Eq. (4), or the weight of another regularizer; its default if left out.
    active : bool
        Whether the gate is open; if not, only the task loss is minimised.
    measure : bool
        Compute the penalty for the record, off the tape, even if the gate is shut.
    masks : array of bool, shape (N, H, W), optional
        Pixels that must not matter, for the regularizer that needs them.
    rng : numpy.random.Generator, optional
        For regularizers that draw random numbers; one of seed 0 if left out.

    Returns
    -------
    Losses
    """
    fbi = FBI() if regularizer is None else regularizer
    fbi_weight = fbi.default_weight if weight is None else weight

    # Step 1, forward pass: keeps every a_i^+                                    Eq. (1)
    steps = forward_pass(model, x)
    task_loss = cross_entropy(steps[-1].z, labels)
    losses = Losses(task_loss, task_loss, steps[-1].z)

    # Step 2, relevance pass: last layer to first, collects every a_i^-      Eq. (2), (3)
    batch = Batch(model, steps, labels, masks, rng or np.random.default_rng(0))
    if active:
        # FBI.terms is two calls: minifbi.fbi.relevance_pass gives every a_i^-, and fbi_terms
        # the |a_{i-1}^+ - a_i^-| of every layer
        losses.penalty_terms = fbi.terms(batch)
        losses.penalty = fbi.penalty(losses.penalty_terms)  # L_FBI: their mean
        losses.loss = fbi.objective(task_loss, losses.penalty, fbi_weight)  # Eq. (4)
    elif measure:
        states = model.random_states()  # measuring must not use up the dropout's numbers
        with no_grad():
            losses.penalty_terms = fbi.terms(batch)
            losses.penalty = fbi.penalty(losses.penalty_terms)
        model.load_random_states(states)

    # Step 3, backward pass: gradients of Eq. (4) through BOTH passes           Eq. (5)
    # (with the gate shut, of L_TSK through the forward pass alone)
    model.zero_grad()
    losses.loss.backward()
    return losses
