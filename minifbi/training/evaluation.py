"""How good a model is on a split, and how large a penalty is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.autograd import Tensor, cross_entropy, no_grad
from minifbi.backends import Array
from minifbi.datasets import Split
from minifbi.datasets.resident import ResidentSplit
from minifbi.fbi import forward_pass
from minifbi.fusion import fuse
from minifbi.layers import Layer
from minifbi.regularizers import Batch, Regularizer
from minifbi.switch import evaluating


def count_hits(logits: Tensor, labels: Any) -> Array:
    """How many rows of the logits (N, F) are largest at their label; shape (), not yet read."""
    return (logits.data.argmax(axis=1) == logits.backend.asarray(labels)).sum()


def evaluate(
    model: Layer, split: Split | ResidentSplit, batch_size: int = 500
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of a model on a split, in evaluation mode.

    Parameters
    ----------
    model : Layer
        Its layers get back their modes afterwards.
    split : Split or ResidentSplit
        Images and their labels.
    batch_size : int
        Images that go through the model together.

    Returns
    -------
    accuracy : float
        Share of images whose largest logit is the label's, 0 to 1.
    loss : float
    """
    hits, losses, sizes = [], [], []
    with evaluating(model), no_grad():
        fast = fuse(model)
        for begin in range(0, len(split), batch_size):
            x, labels = split.batch(slice(begin, begin + batch_size), model.dtype)
            logits = fast(x)
            hits.append(count_hits(logits, labels))
            losses.append(cross_entropy(logits, labels).data)
            sizes.append(len(labels))
        # read at the end: a GPU works on while its batches are queued
        correct = sum(int(n) for n in model.backend.scalars(hits))
        means = model.backend.scalars(losses)
    loss = 0.0
    for mean, size in zip(means, sizes, strict=True):
        loss += mean * size
    return correct / len(split), loss / len(split)


def evaluate_penalty(
    model: Layer, split: Split, regularizer: Regularizer, batch_size: int = 500, seed: int = 0
) -> float:
    """A regularizer's penalty of a model, averaged over a split, in evaluation mode.

    Whatever the model was trained with: with it one can match two ways of training, for
    example find the weight of ``L1()`` for which the mean activation,
    ``evaluate_penalty(model, split, L1("mean"))``, equals that of a network trained with the
    FBI loss.

    Parameters
    ----------
    model : Layer
        Its layers get back their modes afterwards.
    split : Split
        Images and their labels, with masks where the regularizer needs them.
    regularizer : Regularizer
        Whose penalty is measured; ``FBI()`` for L_FBI.
    batch_size : int
        Images that go through the model together.
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
            steps = forward_pass(fuse(model, regularizer.rule), x)
            batch = Batch(model, steps, labels, None if masks is None else masks[part], rng)
            penalty += regularizer.penalty(regularizer.terms(batch)).item() * len(labels)
    return penalty / len(split)
