"""The paper on one screen: Section 3.2, the three-step training scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minifbi.autograd import Tensor, cross_entropy, no_grad
from minifbi.fbi import forward_pass
from minifbi.layers import Sequential
from minifbi.regularizers import FBI, Batch, Regularizer


@dataclass
class Losses:
    """What one pass over a batch found.

    Attributes
    ----------
    loss : Tensor, shape ()
        What is minimised: L of Eq. (4), or L_TSK alone before the gate.
    task_loss : Tensor, shape ()
        L_TSK, the mean cross-entropy of the batch.
    penalty : Tensor, shape (), or None
        What joins the task loss: L_FBI of Eq. (3), or the penalty of another regularizer.
        None where it was not computed.
    penalty_terms : dict of str to Tensor, shape ()
        Its terms; those of the FBI loss have the names of the functional layers.
    logits : Tensor, shape (N, F)
        The outputs of the network, with the weights that it had before the update.
    """

    loss: Tensor
    task_loss: Tensor
    penalty: Tensor | None
    penalty_terms: dict[str, Tensor]
    logits: Tensor


def three_step(
    model: Sequential,
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

    The gradient that Eq. (5) descends, by the three steps of Section 3.2.  Another
    regularizer in the place of the FBI loss is asked for its penalty in step 2.

    Parameters
    ----------
    model : Sequential
    x : array or Tensor, shape (N, C, H, W)
        Images, in [0, 1].
    labels : array of int, shape (N,)
    regularizer : Regularizer, optional
        What joins the task loss; ``FBI()``, the FBI loss of the paper, if left out.
    weight : float, optional
        lambda of Eq. (4), 0 to 1, or w of another regularizer; its default weight if left
        out.
    active : bool
        Whether the gate is open; if not, only the task loss is minimised.
    measure : bool
        Compute the penalty for the record even if inactive, off the tape.  Dropout's random
        numbers are not used up by it.
    masks : array of bool, shape (N, H, W), optional
        Pixels that must not matter, for regularizers that need them.
    rng : numpy.random.Generator, optional
        For regularizers that draw random numbers; one of seed 0 if left out.

    Returns
    -------
    Losses

    Raises
    ------
    ConfigError
        If the weight is outside its range.
    NonFiniteError
        If a pixel is not finite.
    """
    regularizer = FBI() if regularizer is None else regularizer
    weight = regularizer.default_weight if weight is None else weight

    # Step 1, forward pass: keeps every a_i^+                                    Eq. (1)
    steps = forward_pass(model, x, fused=regularizer.fused)
    loss = task_loss = cross_entropy(steps[-1].z, labels)

    # Step 2, relevance pass: last layer to first, collects every a_i^-      Eq. (2), (3)
    batch = Batch(model, steps, labels, masks, rng or np.random.default_rng(0))
    penalty, terms = None, {}
    if active:
        terms = regularizer.terms(batch)
        penalty = regularizer.penalty(terms)
        loss = regularizer.objective(task_loss, penalty, weight)  # Eq. (4)
    elif measure:
        states = model.random_states()
        with no_grad():
            terms = regularizer.terms(batch)
            penalty = regularizer.penalty(terms)
        model.load_random_states(states)

    # Step 3, backward pass: gradients of Eq. (4) through BOTH passes           Eq. (5)
    model.zero_grad()
    loss.backward()
    return Losses(loss, task_loss, penalty, terms, steps[-1].z)
