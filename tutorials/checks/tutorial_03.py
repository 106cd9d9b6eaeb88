"""Checks of the exercises of notebook 3, the forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from checks import Verdict, call, choice, every, function, values


# ---- exercise 1 --------------------------------------------------------------------------
def count(pool5_shape: Any, conv1_parameters: Any, dense6_parameters: Any) -> Verdict:
    """Exercise 1: the paper's network on (3, 32, 32)."""
    return every(
        values(
            pool5_shape,
            (32, 4, 4),
            "pool5_shape",
            hint="Which layers of the table change the number of rows, and by how much?",
            typical=[
                ((32, 3, 3), "that is the shape for images of 28 x 28."),
                ((32, 8, 8), "count the poolings: there are three."),
                ((32, 32, 32), "the convolutions keep the size, but the poolings do not."),
                ((4, 4, 32), "the channels come first."),
                ((3, 4, 4), "each filter of conv5 makes one channel."),
                ((16, 4, 4), "conv3, conv4 and conv5 make more channels than conv1 and conv2."),
            ],
        ),
        values(
            conv1_parameters,
            1216,
            "conv1_parameters",
            hint="Filters, times the numbers under the kernel (in all channels), and the biases.",
            typical=[
                (1200, "each filter has a bias, too."),
                (416, "that is for one channel; a kernel reaches through all three."),
                (400, "that is for one channel and without biases."),
                (1248, "there is one bias for each filter, not one for each filter and channel."),
            ],
        ),
        values(
            dense6_parameters,
            65664,
            "dense6_parameters",
            hint="Units, times the numbers that arrive at each (flatten them), and the biases.",
            typical=[
                (65536, "each unit has a bias, too."),
                (36992, "that is for images of 28 x 28: use your pool5_shape."),
                (128 * 33, "all numbers of the maps arrive, not one for each channel."),
                (128 * 17, "the maps of all channels arrive."),
            ],
            praise="right, all three. Larger images do not need larger kernels: only dense6 grew "
            "with the area.",
        ),
    )


# ---- exercise 2 --------------------------------------------------------------------------
def _windows(a: Any, size: int, stride: int) -> Any:
    views = np.lib.stride_tricks.sliding_window_view(a, (size, size))[::stride, ::stride]
    return views.reshape(*views.shape[:2], -1)  # (rows, columns, size * size)


def max_pool(answer: Any) -> Verdict:
    """Exercise 2: maxima and winners."""

    def right(a, size, stride, last=False):
        windows = _windows(a, size, stride)
        inside = windows.argmax(axis=2)
        if last:
            inside = size * size - 1 - windows[:, :, ::-1].argmax(axis=2)
        rows, columns = np.indices(inside.shape) * stride
        flat = (rows + inside // size) * a.shape[1] + columns + inside % size
        return windows.max(axis=2), flat

    def in_window(a, size, stride):
        windows = _windows(a, size, stride)
        return windows.max(axis=2), windows.argmax(axis=2)

    def transposed(a, size, stride):
        maxima, flat = right(a, size, stride)
        return maxima, flat % a.shape[1] * a.shape[0] + flat // a.shape[1]

    def wrong_width(a, size, stride):
        maxima, flat = right(a, size, stride)
        return maxima, flat // a.shape[1] * maxima.shape[1] + flat % a.shape[1]

    def by_size(a, size, stride):
        return right(a, size, size)

    def averages(a, size, stride):
        return _windows(a, size, stride).mean(axis=2), right(a, size, stride)[1]

    rng = np.random.default_rng(3)
    small = np.array([[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 7.0]])
    return function(
        answer,
        right,
        [
            (small, 2, 2),
            (rng.standard_normal((6, 6)), 2, 2),
            (rng.standard_normal((7, 9)), 3, 2),
            (-rng.random((5, 4)), 2, 1),
            (np.array([[0.0, 2.0, 2.0], [1.0, 2.0, 0.0], [2.0, 2.0, 2.0]]), 2, 1),
            (rng.standard_normal((5, 7)), 2, 2),
        ],
        "max_pool",
        hint="Which rows and columns does the window at place (r, q) cover?",
        praise="right, also for overlapping windows, odd sizes, negative numbers and ties.",
        typical=[
            (
                in_window,
                "these are numbers of places inside of the window; count in the whole map.",
            ),
            (transposed, "the pixels are numbered row by row: row times width, plus column."),
            (wrong_width, "row times width, plus column: the width of the map that comes in."),
            (by_size, "the places of the windows are `stride` apart, not `size`."),
            (averages, "that is average pooling."),
            (
                lambda a, size, stride: right(a, size, stride, last=True),
                "several pixels are equal here, and the first in reading order wins.",
            ),
        ],
    )


# ---- exercise 3 --------------------------------------------------------------------------
def loss_and_gradient(answer: Any) -> Verdict:
    """Exercise 3: cross-entropy and its gradient."""

    def parts(scores, labels):
        z = scores - scores.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        hot = np.eye(scores.shape[1])[labels]
        return -(log_p * hot).sum(axis=1), np.exp(log_p), hot

    def right(scores, labels):
        losses, p, hot = parts(scores, labels)
        return losses.mean(), (p - hot) / len(scores)

    def summed(scores, labels):
        losses, p, hot = parts(scores, labels)
        return losses.sum(), p - hot

    def turned(scores, labels):
        losses, p, hot = parts(scores, labels)
        return -losses.mean(), (hot - p) / len(scores)

    def no_true_class(scores, labels):
        losses, p, _ = parts(scores, labels)
        return losses.mean(), p / len(scores)

    def of_largest(scores, labels):
        return right(scores, scores.argmax(axis=1))

    def over_batch(scores, labels):
        _, p, _ = parts(scores.T, np.zeros(scores.shape[1], dtype=int))
        p = p.T
        chosen = p[np.arange(len(labels)), labels]
        return -np.log(chosen).mean(), (p - np.eye(scores.shape[1])[labels]) / len(scores)

    rng = np.random.default_rng(5)
    labels = np.array([1, 0, 3, 2, 2])
    typical = [
        (
            summed,
            "the loss is the mean over the images, and so is the gradient of it: divide by N.",
        ),
        (turned, "the sign is wrong: a loss is large when the answer is bad."),
        (no_true_class, "the probability alone is not the gradient: subtract 1 at the true class."),
        (of_largest, "look at the probability of the true class, not of the largest score."),
        (over_batch, "the probabilities of one image sum to 1: sum over the classes, axis=1."),
    ]
    verdict = function(
        answer,
        right,
        [(np.array([[2.0, 1.0, -1.0]]), np.array([1])), (rng.standard_normal((5, 4)), labels)],
        "loss_and_gradient",
        hint="Section 5 has both formulas; mind the mean over the batch.",
        typical=typical,
    )
    if not verdict.ok:
        return verdict
    large = np.array([[1000.0, 0.0, 3.0], [-1000.0, -1001.0, -2000.0]])
    where = np.array([1, 0])
    with np.errstate(all="ignore"):
        got, failed = call(answer, (large, where), "loss_and_gradient")
    if failed is not None:
        return failed
    trap = "Subtract the largest score of each image first, and take no logarithm of a rounded 0."
    loss, gradient = right(large, where)
    return every(
        values(got[0], loss, "the loss for scores as large as 1000", hint=trap),
        values(got[1], gradient, "the gradient for scores as large as 1000", hint=trap),
        praise="right, and no score is too large for it.",
    )


# ---- exercise 4 --------------------------------------------------------------------------
def what_may_go(answer: Any) -> Verdict:
    """Exercise 4: what the passes do not need."""
    return choice(
        answer,
        "z",
        {
            "input": "no: the weights' gradient needs it, and so does the relevance, which is the "
            "input times something.",
            "z": "right: of z, both passes need only whether it was positive. minifbi's fused "
            "block keeps not even that: a pooled number is positive just when its winner was.",
            "winners": "no: a pooled number does not say which of the four it was, and only the "
            "winner gets gradient and relevance.",
        },
    )
