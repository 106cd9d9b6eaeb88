"""Notebooks 7 and 8: their checks reject typical wrong answers and say where to look.

That they accept the solutions is tested in test_tutorials.py, on the notebooks themselves; here
once more on answers that are right in another way.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

checks_07 = pytest.importorskip("checks_07", reason="installed without tutorials")


# ---- 7, exercise 1: 1/variance -----------------------------------------------------------
def scale_of(a, scale):
    named = {"none": 1.0, "rms": np.sqrt((a**2).mean()), "mean": a.mean(), "max": a.max()}
    return named[scale]


def in_loops(a, scale):
    values = [float(v) / scale_of(a, scale) for v in a.ravel()]
    mean = math.fsum(values) / len(values)
    return len(values) / math.fsum((v - mean) ** 2 for v in values)


def divides_in_place(a, scale):
    a /= scale_of(a, scale)
    return 1 / a.var()


def test_inverse_variance_accepts_loops():
    assert checks_07.inverse_variance(in_loops).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected the function"),
        (lambda a, s: ..., "`...`"),
        (lambda a, s: None, "returned None"),
        (lambda a, s: (a / scale_of(a, s)).var(), "its inverse"),
        (lambda a, s: 1 / (a / scale_of(a, s)).var(ddof=1), "not by n - 1"),
        (lambda a, s: 1 / (a / scale_of(a, s)).std(), "standard deviation"),
        (lambda a, s: scale_of(a, s) / a.var(), "s squared"),
        (lambda a, s: 1 / (a / (a.std() if s == "rms" else scale_of(a, s))).var(), "no mean"),
        (lambda a, s: 1 / (a / ((a**2).mean() if s == "rms" else scale_of(a, s))).var(), "root"),
        (lambda a, s: 1 / a.var(), "Section 6"),
        (lambda a, s: 1 / np.array([one.var() for one in a]), "Section 6"),
        (divides_in_place, "work on a copy"),
        (lambda a, s: a.nothing, "raised AttributeError"),
    ],
)
def test_inverse_variance_rejects(answer, says):
    with np.errstate(all="ignore"):
        verdict = checks_07.inverse_variance(answer)
    assert not verdict
    assert says in verdict.message


# ---- 7, exercise 2: background share -----------------------------------------------------
def test_share_accepts_another_way():
    def answer(a, on_digit):
        mask = np.broadcast_to(on_digit[:, None], a.shape)
        return 1 - (a * mask).sum() / a.sum()

    assert checks_07.share_on_background(answer).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, m: ..., "`...`"),
        (lambda a, m: a.sum(axis=1)[m].sum() / a.sum(), "on the digit"),
        (
            lambda a, m: np.mean([x.sum(0)[~y].sum() / x.sum() for x, y in zip(a, m, strict=True)]),
            "divide once",
        ),
        (lambda a, m: (a > 0).sum(axis=1)[~m].sum() / (a > 0).sum(), "number of active units"),
        (lambda a, m: a[:, 0][~m].sum() / a[:, 0].sum(), "first filter"),
        (lambda a, m: a.sum(1)[~m].sum() / a.sum(1)[m].sum(), "all of the activation"),
        (lambda a, m: a[~m].sum() / a.sum(), "raised IndexError"),
        (lambda a, m: (~m).mean(), "a.sum(axis=1)"),
    ],
)
def test_share_rejects(answer, says):
    verdict = checks_07.share_on_background(answer)
    assert not verdict
    assert says in verdict.message


# ---- 7, exercise 3: the impostor ---------------------------------------------------------
def test_rescaled_accepts_another_way():
    def answer(W1, b1, W2, b2, c):
        return [
            np.diag(np.full(len(W1), c)) @ W1,
            b1 * c,
            W2 @ np.diag(np.full(len(W1), 1 / c)),
            b2,
        ]

    assert checks_07.rescaled(answer).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda W1, b1, W2, b2, c: ..., "`...`"),
        (lambda W1, b1, W2, b2, c: (..., ..., ..., ...), "still `...`"),
        (lambda W1, b1, W2, b2, c: c * W1, "four arrays"),
        (lambda W1, b1, W2, b2, c: (W1, b1, W2, b2), "c * relu(z)"),
        (lambda W1, b1, W2, b2, c: (c * W1, b1, W2 / c, b2), "the bias of the hidden layer"),
        (lambda W1, b1, W2, b2, c: (W1 / c, b1 / c, W2 * c, b2), "smaller by c"),
        (lambda W1, b1, W2, b2, c: (c * W1, c * b1, W2, b2), "it still has W2"),
        (lambda W1, b1, W2, b2, c: (c * W1, c * b1, W2 / c, b2 / c), "b2 is added at the end"),
        (lambda W1, b1, W2, b2, c: (c * W1, c * b1, W2 / c**2, b2), "c times as much"),
        (lambda W1, b1, W2, b2, c: (W1.T, b1, W2, b2), "do not make such a net"),
    ],
)
def test_rescaled_rejects(answer, says):
    verdict = checks_07.rescaled(answer)
    assert not verdict
    assert says in verdict.message


# ---- 7, exercises 4 and 5 ----------------------------------------------------------------
def test_can_be_accepts_numpy_booleans():
    assert checks_07.can_be(lambda m, v: np.bool_(v >= 0) & np.bool_(4 * v <= m * m)).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m, v: ..., "`...`"),
        (lambda m, v: 1, "True or False"),
        (lambda m, v: 0 <= v < m**2 / 4, "gives just that"),
        (lambda m, v: v <= m**2 / 4, "never negative"),
        (lambda m, v: v >= 4 / m**2, "not its inverse"),
        (lambda m, v: 0 <= v <= m / 4, "gives just that"),
        (lambda m, v: True, "How large can the variance"),
    ],
)
def test_can_be_rejects(answer, says):
    verdict = checks_07.can_be(answer)
    assert not verdict
    assert says in verdict.message


def test_slide():
    assert checks_07.slide("b").ok
    for answer in ("a", "c", "d", ..., None, ["b"]):
        assert not checks_07.slide(answer)
