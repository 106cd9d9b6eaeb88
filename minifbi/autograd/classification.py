"""Softmax and the cross-entropy of classification, written as one operation each."""

from collections.abc import Sequence
from typing import Any

from minifbi.autograd.functions import exp
from minifbi.autograd.tensor import Tensor, record
from minifbi.backends import Array
from minifbi.errors import ShapeError


def log_softmax(logits: Tensor, axis: int = -1) -> Tensor:
    """log(exp(y) / sum exp(y)) along `axis`, shifted by the maximum so that nothing overflows.

    Parameters
    ----------
    logits : Tensor, any shape
        The scores y.
    axis : int
        Along which the exponentials sum to 1.

    Returns
    -------
    Tensor, same shape
    """
    xp = logits.backend.xp
    shifted = logits.data - logits.data.max(axis=axis, keepdims=True)
    value = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))

    def backward(g: Array) -> Sequence[Array]:
        return (g - xp.exp(value) * g.sum(axis=axis, keepdims=True),)

    return record(value, (logits,), backward, "log_softmax")


def softmax(logits: Tensor, axis: int = -1) -> Tensor:
    """exp(y) / sum exp(y) along `axis`.

    Parameters
    ----------
    logits : Tensor, any shape
        The scores y.
    axis : int
        Along which the results sum to 1.

    Returns
    -------
    Tensor, same shape
        Probabilities: at least 0, sum 1 along `axis`.
    """
    return exp(log_softmax(logits, axis))


def cross_entropy(logits: Tensor, labels: Any) -> Tensor:
    """Task loss L_TSK of Eq. (4): mean over the batch of -log softmax(logits)[label].

    Parameters
    ----------
    logits : Tensor, shape (N, F)
        The scores y: one row per image, one column per class.
    labels : array_like of int, shape (N,)
        Classes, 0 to F - 1.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ShapeError
        If logits are not (N, F), or a label is not an integer in range.
    """
    if logits.ndim != 2 or logits.shape[0] == 0:
        raise ShapeError(f"cross_entropy needs logits of shape (N, F), N > 0, got {logits.shape}")
    n, classes = logits.shape
    xp = logits.backend.xp
    hot = (xp.arange(n), logits.backend.labels(labels, n, classes))
    # log_softmax and its gradient written out: softmax minus the one-hot label
    shifted = logits.data - logits.data.max(axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))

    def backward(g: Array) -> Sequence[Array]:
        grad = xp.exp(log_p)
        grad[hot] -= 1
        return (grad * (g / n),)

    return record(xp.asarray(-log_p[hot].mean()), (logits,), backward, "cross_entropy")
