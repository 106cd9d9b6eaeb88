"""Checks of the exercises in 02_convolution_three_ways."""

from __future__ import annotations

from typing import Any

import numpy as np

import checks
from checks import Verdict


# ---- exercise 1 --------------------------------------------------------------------------
def shapes_and_costs(result_shape: Any, weight_shape: Any, multiply_adds: Any) -> Verdict:
    """Shapes and multiply-adds of one convolution."""
    formula = "The formula for the size is in section 1; rows and columns differ here."
    shapes = checks.every(
        checks.values(
            result_shape,
            (32, 8, 31, 23),
            "result_shape",
            hint=formula,
            typical=[
                (
                    (32, 8, 30, 22),
                    "the sizes are each 1 short: a window that does not move at all "
                    "stands at one place already.",
                ),
                ((32, 8, 30, 23), "one size is 1 short: round down first, then add 1."),
                ((32, 8, 31, 22), "one size is 1 short: round down first, then add 1."),
                (
                    (32, 8, 32, 24),
                    "rounded up? Where the window no longer fits, there is no place.",
                ),
                (
                    (32, 8, 30.5, 22.5),
                    "a number of places is whole: see the brackets around the "
                    "fraction in section 1.",
                ),
                (
                    (32, 8, 31.5, 23.5),
                    "a number of places is whole: see the brackets around the "
                    "fraction in section 1.",
                ),
                ((32, 8, 62, 46), "what about the window's steps of 2 pixels?"),
                ((32, 8, 61, 45), "what about the window's steps of 2 pixels?"),
                ((32, 3, 31, 23), "each of the kernels makes one channel of the result."),
                ((32, 8, 23, 31), "rows come first: (N, O, rows, columns)."),
            ],
        ),
        checks.values(
            weight_shape,
            (8, 3, 5, 5),
            "weight_shape",
            hint="A window reaches through all channels of the input.",
            typical=[
                ((3, 8, 5, 5), "the right numbers; the kernels are counted first: (O, C, ...)."),
                ((8, 5, 5), "a kernel needs a layer for each channel of the input."),
                ((8, 1, 5, 5), "a kernel needs a layer for each channel of the input."),
            ],
        ),
    )
    if not shapes.ok:
        return shapes
    one_sample = 8 * 31 * 23 * 3 * 5 * 5
    return checks.values(
        multiply_adds,
        32 * one_sample,
        "multiply_adds",
        hint="How many numbers has the result, and how many products are added up for each?",
        rtol=0,
        praise="right, all three. The two partners of this convolution cost exactly as much.",
        typical=[
            (one_sample, "that is for one image. How many are in the batch?"),
            (32 * one_sample // 3, "for each number of the result, all channels are added up."),
            (32 * one_sample // 8, "that is for one kernel. How many are there?"),
            (32 * 8 * 31 * 23, "that many numbers has the result. Each is a sum of how many?"),
            (2 * 32 * one_sample, "a product and its addition count as one multiply-add."),
        ],
    )


# ---- exercise 2 --------------------------------------------------------------------------
def matrix_of(answer: Any) -> Verdict:
    """The matrix of a convolution in one dimension."""

    def reference(w: np.ndarray, n: int) -> np.ndarray:
        rows = n - len(w) + 1
        return np.stack([np.pad(w, (row, n - len(w) - row)) for row in range(rows)])

    return checks.function(
        answer,
        reference,
        [
            (np.array([1.0, 2.0]), 3),
            (np.array([1.0, 2.0, 3.0]), 6),
            (np.array([2.0, -1.0, 0.5, 4.0]), 4),
            (np.array([3.0]), 4),
        ],
        "matrix_of",
        hint="One row for each place of the window, one column for each number of the signal.",
        praise="right. Its transpose is the matrix of exercise 3, for stride 1.",
        typical=[
            (
                lambda w, n: reference(w[::-1], n),
                "the kernel is flipped. Here it meets the signal as it stands: w[0] comes first.",
            ),
            (
                lambda w, n: reference(w, n).T,
                "that is the transpose: rows belong to the result, columns to the signal.",
            ),
        ],
    )


# ---- exercise 3 --------------------------------------------------------------------------
def stamps(g: np.ndarray, w: np.ndarray, stride: int, n: int) -> np.ndarray:
    """The transposed convolution in one dimension, by its definition as a sum of meetings."""
    x = np.zeros(n)
    for a in range(len(g)):
        for i in range(len(w)):
            x[a * stride + i] += g[a] * w[i]
    return x


def last_wins(g: np.ndarray, w: np.ndarray, stride: int, n: int) -> np.ndarray:
    """Stamps that are written over each other."""
    x = np.zeros(n)
    for a in range(len(g)):
        x[a * stride : a * stride + len(w)] = g[a] * w
    return x


def stamp(answer: Any) -> Verdict:
    """The transposed convolution in one dimension."""
    return checks.function(
        answer,
        stamps,
        [
            (np.array([1.0]), np.array([1.0, 2.0]), 1, 2),
            (np.array([1.0, 0.0, 2.0]), np.array([1.0, 2.0, 3.0]), 1, 5),
            (np.array([1.0, -1.0, 2.0]), np.array([1.0, 2.0, 4.0]), 2, 7),
            (np.array([1.0, 2.0]), np.array([3.0, 5.0]), 3, 6),
        ],
        "stamp",
        hint="The window of g[a] begins at a * stride, and its first pixel meets w[0].",
        praise="right, stamps that overlap and pixels that no stamp reaches included.",
        typical=[
            (
                last_wins,
                "where two stamps overlap, the second one wipes out the first: they must add up.",
            ),
            (
                lambda g, w, stride, n: stamps(g, w[::-1], stride, n),
                "the kernel is flipped. The first pixel under a window meets w[0], on the way "
                "back as well.",
            ),
            (
                lambda g, w, stride, n: stamps(g, w, 1, n),
                "the stamps lie too close: from one to the next it is `stride` pixels.",
            ),
        ],
    )


# ---- exercise 4 --------------------------------------------------------------------------
def which_of_the_three(left_out: Any, also_with_fbi: Any) -> Verdict:
    """Which map the first layer can spare."""
    return checks.every(
        checks.choice(
            left_out,
            "conv_T",
            {
                "conv": "without conv there is no forward pass. Which map gives the gradient at "
                "the input?",
                "conv_T": "right: conv_T gives the gradient at the input.",
                "conv_W": "without conv_W the first layer's weights would not be trained.",
            },
        ),
        checks.choice(
            also_with_fbi,
            False,
            {
                True: "look at the row of the relevance pass in the table of section 6: which map "
                "hands the answer down to the image?",
                False: "right: conv_T is left out in the backward pass of conventional training, "
                "but the relevance pass needs it to reach the image.",
            },
        ),
    )
