"""How good a model is on a split, and how large a penalty is there."""

from __future__ import annotations

import numpy as np

from minifbi.autograd import cross_entropy, no_grad
from minifbi.datasets import Split
from minifbi.fbi import forward_pass
from minifbi.layers import Sequential
from minifbi.layers.base import evaluating
from minifbi.regularizers import Batch, Regularizer


def evaluate(model: Sequential, split: Split, batch_size: int = 500) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of a model on a split, in evaluation mode.

    Parameters
    ----------
    model : Sequential
    split : Split
    batch_size : int

    Returns
    -------
    accuracy : float
        Share of images whose largest logit is the label's, 0 to 1.
    loss : float
    """
    correct, loss = 0, 0.0
    with evaluating(model), no_grad():
        for begin in range(0, len(split), batch_size):
            x, labels = split.batch(slice(begin, begin + batch_size), model.dtype)
            logits = model.trace(x, fused=True)[-1].z
            correct += int((logits.numpy().argmax(axis=1) == labels).sum())
            loss += cross_entropy(logits, labels).item() * len(labels)
    return correct / len(split), loss / len(split)


def evaluate_penalty(
    model: Sequential, split: Split, regularizer: Regularizer, batch_size: int = 500, seed: int = 0
) -> float:
    """A regularizer's penalty of a model, averaged over a split, in evaluation mode.

    Whatever the model was trained with: with it one can match two ways of training, for
    example find the weight of ``L1()`` for which the mean activation,
    ``evaluate_penalty(model, split, L1("mean"))``, equals that of a network trained with the
    FBI loss.

    Parameters
    ----------
    model : Sequential
    split : Split
    regularizer : Regularizer
    batch_size : int
    seed : int
        For regularizers that draw random numbers.

    Returns
    -------
    float
    """
    rng, penalty = np.random.default_rng(seed), 0.0
    masks = getattr(split, "masks", None)
    with evaluating(model), no_grad():
        for begin in range(0, len(split), batch_size):
            part = slice(begin, begin + batch_size)
            x, labels = split.batch(part, model.dtype)
            steps = forward_pass(model, x, fused=regularizer.fused)
            batch = Batch(model, steps, labels, None if masks is None else masks[part], rng)
            penalty += regularizer.penalty(regularizer.terms(batch)).item() * len(labels)
    return penalty / len(split)
