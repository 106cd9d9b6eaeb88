"""The checks of tutorial 2 reject what students typically write, and say why."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi import get_backend

check = pytest.importorskip("checks.tutorial_02", reason="installed without tutorials")

SHAPE, WEIGHT = (32, 8, 31, 23), (8, 3, 5, 5)
COST = 32 * 8 * 31 * 23 * 3 * 5 * 5


# ---- exercise 1: shapes and costs --------------------------------------------------------
def test_the_numbers_are_those_of_the_kernels():
    x, w = np.zeros((32, 3, 64, 48), np.float32), np.zeros(WEIGHT, np.float32)
    assert get_backend("numpy").conv2d(x, w, (2, 2), (1, 1)).shape == SHAPE


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((..., WEIGHT, COST), "result_shape is still"),
        ((SHAPE, ..., COST), "weight_shape is still"),
        ((SHAPE, WEIGHT, ...), "multiply_adds is still"),
        (((32, 8, 30, 22), WEIGHT, COST), "1 short"),
        (((32, 8, 31.5, 23.5), WEIGHT, COST), "whole"),
        (((32, 8, 32, 24), WEIGHT, COST), "rounded up"),
        (((32, 8, 62, 46), WEIGHT, COST), "steps of 2"),
        (((32, 8, 23, 31), WEIGHT, COST), "rows come first"),
        (((32, 3, 31, 23), WEIGHT, COST), "one channel of the result"),
        (((8, 31, 23), WEIGHT, COST), "shape"),
        ((SHAPE, (3, 8, 5, 5), COST), "counted first"),
        ((SHAPE, (8, 5, 5), COST), "each channel"),
        ((SHAPE, WEIGHT, COST // 32), "for one image"),
        ((SHAPE, WEIGHT, COST // 3), "all channels"),
        ((SHAPE, WEIGHT, COST // 8), "for one kernel"),
        ((SHAPE, WEIGHT, COST // 75), "a sum of how many"),
        ((SHAPE, WEIGHT, 2 * COST), "as one multiply-add"),
        ((SHAPE, WEIGHT, COST + 1), "that is not it"),
    ],
)
def test_shapes_and_costs_rejects(answers, says):
    verdict = check.shapes_and_costs(*answers)
    assert not verdict.ok
    assert says in verdict.message


def test_shapes_and_costs_accepts():
    assert check.shapes_and_costs(list(SHAPE), np.array(WEIGHT), float(COST)).ok


# ---- exercise 2: the matrix --------------------------------------------------------------
def matrix(w, n):
    """Column by column, as the result of unit signals: another way than the solution's."""
    return np.stack([np.correlate(unit, w, mode="valid") for unit in np.eye(n)], axis=1)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda w, n: matrix(w[::-1], n), "flipped"),
        (lambda w, n: matrix(w, n).T, "transpose"),
        (lambda w, n: np.zeros((n - len(w) + 1, n)), "instead of"),
        (lambda w, n: matrix(w, n)[:-1], "shape"),
        (lambda w, n: np.stack([np.convolve(u, w) for u in np.eye(n)], axis=1), "shape"),
        (lambda w, n: matrix(w, n).tolist()[0], "shape"),
        (lambda w, n: w, "shape"),
        (lambda w, n: None, "None"),
    ],
)
def test_matrix_rejects(answer, says):
    verdict = check.matrix_of(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_matrix_accepts():
    assert check.matrix_of(matrix).ok


# ---- exercise 3: stamps ------------------------------------------------------------------
def by_backend(g, w, stride, n):
    found = get_backend("numpy").conv2d_transpose(
        g[None, None, None], w[None, None, None], (1, stride), (0, 0), (1, n)
    )
    return found[0, 0, 0]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (check.last_wins, "add up"),
        (lambda g, w, stride, n: check.stamps(g, w[::-1], stride, n), "flipped"),
        (lambda g, w, stride, n: check.stamps(g, w, 1, n), "too close"),
        (lambda g, w, stride, n: check.stamps(g, w, stride, n)[:-1], "shape"),
        (lambda g, w, stride, n: np.convolve(g, w), "expected shape"),
        (lambda g, w, stride, n: np.zeros(n), "instead of"),
        (lambda g, w, stride, n: g * w, "expected shape"),
        (lambda g, w, stride, n: ..., "..."),
    ],
)
def test_stamp_rejects(answer, says):
    verdict = check.stamp(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_stamp_accepts_the_backends_own():
    assert check.stamp(by_backend).ok


# ---- exercise 4: which of the three ------------------------------------------------------
@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((..., ...), "replace"),
        (("conv", False), "no forward pass"),
        (("conv_W", False), "not be trained"),
        (("conv_T", True), "row of the relevance pass"),
        (("conv_T", "no"), "none of the answers"),
        (("conv_T", ...), "replace"),
    ],
)
def test_which_rejects(answers, says):
    verdict = check.which_of_the_three(*answers)
    assert not verdict.ok
    assert says in verdict.message


def test_which_accepts():
    assert check.which_of_the_three("conv_T", False).ok
