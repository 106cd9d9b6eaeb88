"""Notebooks 7 and 8: their checks reject typical wrong answers and say where to look.

That they accept the solutions is tested in test_tutorials.py, on the notebooks themselves; here
once more on answers that are right in another way.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

checks_07 = pytest.importorskip("checks.tutorial_07", reason="installed without tutorials")
checks_08 = pytest.importorskip("checks.tutorial_08", reason="installed without tutorials")


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


# ---- 8, exercise 1: the Gini index -------------------------------------------------------
def gini_by_pairs(a):
    """Mean absolute difference of all pairs, over twice the mean."""
    a = np.ravel(a)
    return np.abs(a[:, None] - a[None]).mean() / (2 * a.mean())


def gini_with(a, k, order=np.sort):
    a = order(np.ravel(a))
    return ((2 * k(len(a)) - len(a) - 1) * a).sum() / (len(a) * a.sum())


def from_1(n):
    return np.arange(1, n + 1)


def test_gini_accepts_another_formula():
    assert checks_08.gini_index(gini_by_pairs).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a: ..., "`...`"),
        (lambda a: gini_with(a, np.arange), "k counts from 1"),
        (lambda a: gini_with(a, from_1, lambda a: a), "sorted first"),
        (lambda a: gini_with(a, from_1, lambda a: -np.sort(-a)), "order is ascending"),
        (lambda a: gini_with(a, from_1) * np.size(a), "the n below"),
        (lambda a: gini_with(a, from_1, lambda a: a.sort() or a), "work on a copy"),
        (lambda a: 1 - gini_with(a, from_1), "Sort first"),
        (lambda a: np.sort(a) @ from_1(len(a)), "Sort first"),
    ],
)
def test_gini_rejects(answer, says):
    verdict = checks_08.gini_index(answer)
    assert not verdict
    assert says in verdict.message


# ---- 8, exercises 2 and 3: intervals -----------------------------------------------------
def test_interval_accepts_a_list_and_the_standard_error():
    from scipy.stats import sem

    def answer(a, b, t):
        return [np.mean(a - b) - t * sem(a - b), np.mean(a - b) + t * sem(a - b)]

    assert checks_08.paired_interval(answer).ok


def interval(a, b, half):
    return (a - b).mean() - half, (a - b).mean() + half


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, b, t: ..., "`...`"),
        (lambda a, b, t: (..., ...), "still `...`"),
        (lambda a, b, t: (a - b).mean(), "2 values"),
        (lambda a, b, t: interval(a, b, t * (a - b).std() / len(a) ** 0.5), "n - 1"),
        (lambda a, b, t: interval(a, b, t * (a - b).std(ddof=1)), "/ sqrt(n)"),
        (lambda a, b, t: interval(a, b, t * (a - b).std(ddof=1) / len(a)), "root of n"),
        (
            lambda a, b, t: interval(a, b, t * np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))),
            "who belongs to whom",
        ),
        (lambda a, b, t: interval(b, a, t * (a - b).std(ddof=1) / len(a) ** 0.5), "it is a - b"),
        (lambda a, b, t: interval(a, b, -t * (a - b).std(ddof=1) / len(a) ** 0.5), "lower end"),
        (lambda a, b, t: interval(a, b, (a - b).std(ddof=1) / len(a) ** 0.5), "seed by seed"),
    ],
)
def test_interval_rejects(answer, says):
    verdict = checks_08.paired_interval(answer)
    assert not verdict
    assert says in verdict.message


def test_at_least_one_accepts_a_sum():
    assert checks_08.at_least_one(lambda k: sum(0.05 * 0.95**j for j in range(k))).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda k: ..., "`...`"),
        (lambda k: 0.95**k, "none of them"),
        (lambda k: 0.05 * k, "on average"),
        (lambda k: 0.05**k, "all of them"),
        (lambda k: 1 - 0.95, "the opposite is asked"),
    ],
)
def test_at_least_one_rejects(answer, says):
    verdict = checks_08.at_least_one(answer)
    assert not verdict
    assert says in verdict.message


# ---- 8, exercises 4 and 5 ----------------------------------------------------------------
def test_two_networks():
    assert checks_08.two_networks("b").ok
    for answer in ("a", "c", "d", ..., None, ["b"]):
        assert not checks_08.two_networks(answer)


RIGHT = {name: right[-1] for name, (right, _) in checks_08.CHECKLIST.items()}


def test_checklist_accepts_every_answer_that_can_be_defended():
    assert checks_08.checklist(RIGHT).ok
    for name, (right, _) in checks_08.CHECKLIST.items():
        for answer in right:
            assert checks_08.checklist({**RIGHT, name: answer}).ok


@pytest.mark.parametrize("name", list(RIGHT))
def test_checklist_says_where_to_look(name):
    right, where = checks_08.CHECKLIST[name]
    for wrong in {"yes", "no", "unclear"} - set(right):
        verdict = checks_08.checklist({**RIGHT, name: wrong})
        assert not verdict
        assert f"12 of 13 can be defended. Look again at {name}: {where}" in verdict.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected a dict"),
        (dict.fromkeys(RIGHT, ...), "replace each"),
        ({**RIGHT, "seeds": ...}, "not answered yet: seeds"),
        ({k: v for k, v in RIGHT.items() if k != "seeds"}, "not answered yet: seeds"),
        ({**RIGHT, "seed": "no"}, "not on the list"),
        ({**RIGHT, "seeds": "maybe"}, 'answer "yes", "no"'),
        ({**RIGHT, "seeds": True}, 'answer "yes", "no"'),
        ({**RIGHT, "seeds": ["no"]}, 'answer "yes", "no"'),
    ],
)
def test_checklist_rejects(answer, says):
    verdict = checks_08.checklist(answer)
    assert not verdict
    assert says in verdict.message
