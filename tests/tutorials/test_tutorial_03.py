"""The checks of tutorial 3 reject what students typically write, and say why."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minifbi import alexnet, forward_pass

check = pytest.importorskip("checks.tutorial_03", reason="installed without tutorials")

POOL5, CONV1, DENSE6 = (32, 4, 4), 1216, 65664


# ---- exercise 1: count -------------------------------------------------------------------
def test_the_numbers_are_those_of_the_network():
    net = alexnet((3, 32, 32), backend="numpy")
    steps = {step.name: step for step in forward_pass(net, np.zeros((1, 3, 32, 32)))}
    sizes = {name: p.size for name, p in net.parameters().items()}
    assert steps["pool5"].z.shape[1:] == POOL5
    assert sizes["conv1.weight"] + sizes["conv1.bias"] == CONV1
    assert sizes["dense6.weight"] + sizes["dense6.bias"] == DENSE6


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((..., CONV1, DENSE6), "pool5_shape is still"),
        ((POOL5, ..., DENSE6), "conv1_parameters is still"),
        ((POOL5, CONV1, ...), "dense6_parameters is still"),
        (((32, 3, 3), CONV1, DENSE6), "28 x 28"),
        (((32, 8, 8), CONV1, DENSE6), "count the poolings"),
        (((4, 4, 32), CONV1, DENSE6), "channels come first"),
        (((16, 4, 4), CONV1, DENSE6), "more channels"),
        ((512, CONV1, DENSE6), "expected shape (3,)"),
        ((POOL5, 1200, DENSE6), "a bias"),
        ((POOL5, 416, DENSE6), "all three"),
        ((POOL5, 1248, DENSE6), "one bias for each filter"),
        ((POOL5, 75, DENSE6), "Filters, times"),
        ((POOL5, CONV1, 65536), "a bias"),
        ((POOL5, CONV1, 36992), "your pool5_shape"),
        ((POOL5, CONV1, 128 * 33), "one for each channel"),
        ((POOL5, CONV1, 128 * 17), "all channels"),
        ((POOL5, CONV1, 128), "flatten"),
    ],
)
def test_count_rejects(answers, says):
    verdict = check.count(*answers)
    assert not verdict
    assert says in verdict.message


def test_count_accepts():
    assert check.count(list(POOL5), float(CONV1), DENSE6).ok


# ---- exercise 2: pooling that remembers --------------------------------------------------
def pooling(a, size, stride, better=lambda new, old: new > old, worst=-math.inf, width=None):
    """Pixel by pixel: another way than the solution's."""
    rows, columns = (a.shape[0] - size) // stride + 1, (a.shape[1] - size) // stride + 1
    maxima, winners = np.full((rows, columns), worst), np.zeros((rows, columns), dtype=int)
    for r, q in np.ndindex(rows, columns):
        for i, j in np.ndindex(size, size):
            row, column = r * stride + i, q * stride + j
            if better(a[row, column], maxima[r, q]):
                maxima[r, q] = a[row, column]
                winners[r, q] = row * (width or a.shape[1]) + column
    return maxima, winners


def in_window(a, size, stride):
    maxima, winners = pooling(a, size, stride)
    rows, columns = np.indices(maxima.shape) * stride
    width = a.shape[1]
    return maxima, (winners // width - rows) * size + winners % width - columns


def test_max_pool_accepts_loops_over_pixels():
    assert check.max_pool(pooling).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected the function"),
        (lambda a, size, stride: ..., "`...`"),
        (lambda a, size, stride: pooling(a, size, stride)[0], "must return 2 values"),
        (in_window, "inside of the window"),
        (lambda a, size, stride: pooling(a, size, stride, width=a.shape[0]), "the width"),
        (
            lambda a, size, stride: pooling(a, size, stride, width=(a.shape[1] - size) // 2 + 1),
            "the width of the map that comes in",
        ),
        (lambda a, size, stride: pooling(a, size, size), "not `size`"),
        (lambda a, size, stride: pooling(a, size, stride, worst=0.0), "result 0"),
        (
            lambda a, size, stride: pooling(a, size, stride, lambda new, old: new >= old),
            "first in reading order",
        ),
        (lambda a, size, stride: pooling(-a, size, stride), "result 0"),
    ],
)
def test_max_pool_rejects(answer, says):
    verdict = check.max_pool(answer)
    assert not verdict
    assert says in verdict.message


# ---- exercise 3: the loss and its gradient -----------------------------------------------
def cross_entropy(scores, labels, axis=1, mean=True, safe=True, turn=1.0, hot=1.0):
    """Cross-entropy with switches for mistakes."""
    n = len(scores)
    z = scores - scores.max(axis=axis, keepdims=True) if safe else scores
    p = np.exp(z) / np.exp(z).sum(axis=axis, keepdims=True)
    losses = -np.log(p[np.arange(n), labels])
    gradient = p.copy()
    gradient[np.arange(n), labels] -= hot
    share = n if mean else 1
    return turn * losses.sum() / share, turn * gradient / share


def log_sum_exp(scores, labels):
    """Right, written in another way."""
    total = np.logaddexp.reduce(scores, axis=1)
    true = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    p = np.exp(scores - total[:, None])
    return np.mean(total - true), (p - np.eye(scores.shape[1])[labels]) / len(scores)


def test_loss_accepts_another_way():
    assert check.loss_and_gradient(log_sum_exp).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda s, t: ..., "`...`"),
        (lambda s, t: log_sum_exp(s, t)[0], "must return 2 values"),
        (lambda s, t: cross_entropy(s, t, mean=False), "divide by N"),
        (lambda s, t: cross_entropy(s, t, turn=-1.0), "the sign is wrong"),
        (lambda s, t: cross_entropy(s, t, hot=0.0), "subtract 1 at the true class"),
        (lambda s, t: cross_entropy(s, s.argmax(axis=1)), "not of the largest score"),
        (lambda s, t: cross_entropy(s, t, axis=0), "sum to 1"),
        (lambda s, t: cross_entropy(s, t, safe=False), "contains nan"),
        (cross_entropy, "contains inf"),  # log of a probability that rounded to 0
        (lambda s, t: (log_sum_exp(s, t)[0], 0 * s), "both formulas"),
    ],
)
def test_loss_rejects(answer, says):
    with np.errstate(all="ignore"):
        verdict = check.loss_and_gradient(answer)
    assert not verdict
    assert says in verdict.message


# ---- exercise 4 --------------------------------------------------------------------------
def test_what_may_go():
    assert check.what_may_go("z").ok
    for answer in ("input", "winners", "nothing", ..., None):
        assert not check.what_may_go(answer)
