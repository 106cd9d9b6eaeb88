"""The three steps with any regularizer in the place of the FBI loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.autograd import cross_entropy, no_grad
from minifbi.fbi import forward_pass
from minifbi.layers import Sequential
from minifbi.regularizers import FBI, Batch, Regularizer
from minifbi.training.three_step import Losses


def regularized_step(
    model: Sequential,
    x: Any,
    labels: Any,
    regularizer: Regularizer,
    *,
    weight: float | None = None,
    active: bool = True,
    masks: Any = None,
    rng: np.random.Generator | None = None,
    fbi: FBI | None = None,
    measure: bool = False,
) -> Losses:
    """Forward pass, penalty, backward pass; leaves the gradients in ``.grad``.

    With ``FBI()`` as the regularizer it computes what
    :func:`~minifbi.training.three_step` computes, bit for bit.

    Parameters
    ----------
    model : Sequential
    x : array or Tensor, shape (N, C, H, W)
        Images, in [0, 1].
    labels : array of int, shape (N,)
    regularizer : Regularizer
    weight : float, optional
        w of its objective; its default weight if left out.
    active : bool
        Whether the gate is open; if not, only the task loss is minimised.
    masks : array of bool, shape (N, H, W), optional
        Pixels that must not matter.
    rng : numpy.random.Generator, optional
        For regularizers that draw random numbers; one of seed 0 if left out.
    fbi : FBI, optional
        How the FBI loss is measured.
    measure : bool
        Compute the FBI loss, and the penalty even if inactive, for the record, off the tape.

    Returns
    -------
    Losses
    """
    fbi, weight = fbi or FBI(), regularizer.default_weight if weight is None else weight
    rng = np.random.default_rng(0) if rng is None else rng

    # Step 1, forward pass                                                          Eq. (1)
    steps = forward_pass(model, x, fused=regularizer.fused and fbi.fused)
    task_loss = cross_entropy(steps[-1].z, labels)
    losses = Losses(task_loss, task_loss, None, {}, steps[-1].z)
    batch = Batch(model, steps, labels, masks, rng)

    # Step 2, what the regularizer asks of the network, on the same tape
    if active:
        losses.penalty_terms = regularizer.terms(batch)
        losses.penalty = regularizer.penalty(losses.penalty_terms)
        losses.loss = regularizer.objective(task_loss, losses.penalty, weight)
    if measure:
        states = model.random_states()  # measuring must not use up the dropout's numbers
        with no_grad():
            losses.fbi_terms = fbi.terms(batch)
            losses.fbi_loss = fbi.penalty(losses.fbi_terms)
            if not active:
                losses.penalty_terms = regularizer.terms(batch)
                losses.penalty = regularizer.penalty(losses.penalty_terms)
        model.load_random_states(states)

    # Step 3, backward pass: gradients through both                                 Eq. (5)
    model.zero_grad()
    losses.loss.backward()
    return losses
