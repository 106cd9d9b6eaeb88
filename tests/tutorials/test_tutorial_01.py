"""The checks of tutorial 1 reject what students typically write, and say why."""

from __future__ import annotations

import numpy as np
import pytest

check = pytest.importorskip("checks.tutorial_01", reason="installed without tutorials")


# ---- exercise 1: slopes of a quotient ----------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, b: ..., "..."),
        (lambda a, b: (1 / b, a / b**2), "grow or shrink"),
        (lambda a, b: (1 / b, 1 / a), "the slope for a is right"),
        (lambda a, b: (1 / b, -1 / b**2), "a = 1 only"),
        (lambda a, b: (b, a), "product"),
        (lambda a, b: (-a / b**2, 1 / b), "wrong order"),
        (lambda a, b: (1 / b, -a / b), "Nudge"),
        (lambda a, b: 1 / b, "2 values"),
        (lambda a, b: print(end=""), "None"),
    ],
)
def test_slopes_rejects(answer, says):
    verdict = check.slopes_of_quotient(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_slopes_accepts_other_ways_to_write_it():
    assert check.slopes_of_quotient(lambda a, b: [b**-1.0, -(a / b) / b]).ok


# ---- exercise 2: an order for the way back -----------------------------------------------
def nearest_first(result, made_from):
    order, waiting = [], [result]
    while waiting:
        name = waiting.pop(0)
        if name not in order:
            order.append(name)
            waiting += made_from[name]
    return order


def as_they_come(result, made_from):  # depth first, written down on the way in
    order = []

    def visit(name):
        if name not in order:
            order.append(name)
            for source in made_from[name]:
                visit(source)

    visit(result)
    return order


def not_reversed(result, made_from):
    order = []

    def visit(name):
        if name not in order:
            for source in made_from[name]:
                visit(source)
            order.append(name)

    visit(result)
    return order


def every_use(result, made_from):
    return [result] + [n for source in made_from[result] for n in every_use(source, made_from)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (nearest_first, "before it has heard from"),
        (as_they_come, "before it has heard from"),
        (not_reversed, "before it has heard from"),
        (every_use, "more than once"),
        (lambda result, made_from: list(made_from), "was not made"),
        (lambda result, made_from: sorted(made_from, reverse=True), "before it has heard"),
        (lambda result, made_from: [result], "does not list"),
        (lambda result, made_from: [*not_reversed(result, made_from)[::-1], "q"], "was not made"),
        (lambda result, made_from: "yx", "str"),
        (lambda result, made_from: ..., "`...`"),
        (lambda result: [result], "TypeError"),
    ],
)
def test_order_rejects(answer, says):
    verdict = check.backward_order_of(answer)
    assert not verdict.ok
    assert says in verdict.message


def by_counting_users(result, made_from):
    """Kahn's algorithm: another right order than the solution's."""
    names = set(as_they_come(result, made_from))
    users = dict.fromkeys(names, 0)
    for name in names:
        for source in made_from[name]:
            users[source] += 1
    order, ready = [], [result]
    while ready:
        name = ready.pop()
        order.append(name)
        for source in made_from[name]:
            users[source] -= 1
            if users[source] == 0:
                ready.append(source)
    return order


def test_order_accepts_any_that_is_right():
    assert check.backward_order_of(by_counting_users).ok
    assert check.backward_order_of(lambda *a: tuple(not_reversed(*a)[::-1])).ok


def test_order_of_tapes_that_the_check_uses_is_not_trivial():
    """Each tempting order is wrong on some tape; the simplest one is right on the first."""
    result, tape = check.tapes()[0]
    assert check.wrong_with(nearest_first(result, tape), result, tape) == ""
    wrong = [check.wrong_with(nearest_first(r, t), r, t) for r, t in check.tapes()]
    assert sum(map(bool, wrong)) >= 3


# ---- exercise 3: unbroadcast -------------------------------------------------------------
def right(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda g, shape: g, "has shape (4, 3), expected (3,)"),
        (lambda g, shape: g.sum(), "has shape ()"),
        (lambda g, shape: g.sum(axis=0), "has shape"),
        (lambda g, shape: right(g, shape).reshape(-1), "has shape"),
        (lambda g, shape: right(g, shape) * np.prod(shape) / g.size, "is a mean"),
        (lambda g, shape: g.reshape(-1)[: int(np.prod(shape))].reshape(shape), "over several"),
        (lambda g, shape: right(g.max(axis=0) if g.ndim > len(shape) else g, shape), "instead of"),
        (lambda g, shape: right(g.T, shape) if g.shape == (3, 3) else right(g, shape), "instead"),
        (lambda g, shape: np.add(g, 1, out=g), "work on a copy"),
        (lambda g, shape: ..., "..."),
    ],
)
def test_unbroadcast_rejects(answer, says):
    verdict = check.unbroadcast(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_unbroadcast_accepts():
    assert check.unbroadcast(right).ok


def test_unbroadcast_agrees_with_minifbi():
    from minifbi.autograd.functions import unbroadcast

    assert check.unbroadcast(unbroadcast).ok


# ---- exercise 4: the culprit -------------------------------------------------------------
@pytest.mark.parametrize("answer", ["cube", "gaussian", "softplus", 3, ..., None, ["swish"]])
def test_culprit_rejects(answer):
    assert not check.culprit(answer).ok


def test_culprit_accepts():
    assert check.culprit("swish").ok
