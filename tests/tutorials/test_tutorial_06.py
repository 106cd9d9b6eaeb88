"""The checks of tutorial 6 reject what students typically write, and say why."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi import Tensor, fbi_loss, fbi_terms, forward_pass, relevance_pass
from minifbi.autograd import enable_grad, no_grad
from minifbi.layers import Dense, ReLU, Sequential
from minifbi.training import Gate

check = pytest.importorskip("checks.tutorial_06", reason="installed without tutorials")


# ---- exercise 1: two roads ---------------------------------------------------------------
@pytest.mark.parametrize(("second", "roads"), [(3.0, (1.0, 1.5)), (0.5, (0.25, 0.25))])
def test_the_two_roads_are_those_of_minifbi(second, roads):
    """The gradient through one pass is what is left when the other pass is cut off the tape."""
    kind = {"bias": False, "dtype": np.float64}
    net = Sequential({"a": Dense(3, 3, **kind), "relu": ReLU(), "b": Dense(3, 1, **kind)})
    net.load_state_dict({"a.weight": np.full((3, 3), 2.0), "b.weight": np.full((1, 3), second)})
    x, weight = np.array([[1.0, 2.0, 3.0]]), net.parameters()["a.weight"]

    def gradient(forward, back):
        # off the tape, the activations are constants; the layers still lead to the weights
        with enable_grad() if forward else no_grad():
            steps = forward_pass(net, x)
        relevances = relevance_pass(steps, "logits")
        if not back:
            with_constant_ratio = {
                step.name: step.x * Tensor(relevances[step.name].numpy() / step.x.numpy())
                for step in steps
                if step.name in relevances
            }
            relevances = with_constant_ratio
        net.zero_grad()
        fbi_loss(fbi_terms(steps, relevances)).backward()
        return weight.grad

    for found, expected in zip((gradient(True, False), gradient(False, True)), roads, strict=True):
        np.testing.assert_allclose(found, expected * np.ones((3, 1)) * x)
    np.testing.assert_allclose(gradient(True, True), sum(roads) * np.ones((3, 1)) * x)
    assert check.two_roads(*roads).ok == (second == 0.5)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((..., 0.25), "through_forward is still"),
        ((0.25, ...), "through_relevance is still"),
        ((1.0, 0.25), "weights of 3"),
        ((0.5, 0.25), "1/K"),
        ((-0.25, 0.25), "grows with h"),
        ((0.125, 0.25), "1/K comes once"),
        ((2.0, 0.25), "what is the relevance of a hidden unit"),
        ((0.25, 1.5), "weights of 3"),
        ((0.25, 0.5), "1/K"),
        ((0.25, -0.25), "Put in the numbers"),
        ((0.25, 0.75), "not to all three"),
        ((0.25, 7), "x times a sum"),
    ],
)
def test_two_roads_rejects(answers, says):
    verdict = check.two_roads(*answers)
    assert not verdict
    assert says in verdict.message


# ---- exercise 2: a gate ------------------------------------------------------------------
def by_gate(accuracies, interval, threshold):
    """minifbi's own."""
    gate = Gate(threshold)
    for n, accuracy in enumerate(accuracies):
        gate.look((n + 1) * interval, accuracy)
    return gate.step


def opening(accuracies, interval, threshold, exceeds=lambda a, t: a > t, last=False):
    """The same with switches for mistakes."""
    found = None
    for n, accuracy in enumerate(accuracies):
        if exceeds(accuracy, threshold) and (last or found is None):
            found = (n + 1) * interval
    return found


def test_opens_at_accepts_the_gate_itself():
    assert check.opens_at(by_gate).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected the function"),
        (lambda a, i, t: ..., "write its body"),
        (lambda a, i, t: None, "returned None"),
        (lambda a, i, t: opening(a, 1, t), "counts the measurements"),
        (lambda a, i, t: (opening(a, 1, t) or 1) - 1, "a place in the list"),
        (lambda a, i, t: (opening(a, i, t) or i) - i, "not at 0"),
        (lambda a, i, t: opening(a, i, t, last=True), "first time"),
        (lambda a, i, t: opening(a, i, t, lambda acc, level: acc >= level), "must exceed"),
        (lambda a, i, t: opening(a, i, t) or 0, "expected None"),
        (lambda a, i, t: next(n for n, v in enumerate(a, 1) if v > t) * i, "StopIteration"),
        (lambda a, i, t: a / i, "TypeError"),
    ],
)
def test_opens_at_rejects(answer, says):
    verdict = check.opens_at(answer)
    assert not verdict
    assert says in verdict.message


# ---- exercise 3: pairs -------------------------------------------------------------------
def interval(a, b, factor, ddof=1, power=0.5, paired=True):
    """The interval with switches for mistakes, without NumPy's own functions."""
    m = len(a)
    d = [y - x for x, y in zip(a, b, strict=True)]
    mean = sum(d) / m
    square = sum((v - mean) ** 2 for v in d) / (m - ddof)
    if not paired:
        square = sum(sum((v - sum(u) / m) ** 2 for v in u) / (m - ddof) for u in (a, b))
    return mean, factor * square**0.5 / m**power


def test_paired_accepts_another_way():
    assert check.paired(interval).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, b, f: ..., "write its body"),
        (lambda a, b, f: interval(a, b, f)[0], "must return 2 values"),
        (lambda a, b, f: interval(b, a, f), "turned around"),
        (lambda a, b, f: interval(a, b, f, ddof=0), "ddof=1"),
        (lambda a, b, f: interval(a, b, f, power=0), "the mean of m varies less"),
        (lambda a, b, f: interval(a, b, f, power=1), "square root of m"),
        (lambda a, b, f: interval(a, b, f, paired=False), "within each pair"),
        (lambda a, b, f: interval(a, b, 1.0), "factor is missing"),
        (lambda a, b, f: (0.0, 1.0), "First the differences"),
    ],
)
def test_paired_rejects(answer, says):
    verdict = check.paired(answer)
    assert not verdict
    assert says in verdict.message


# ---- exercise 4 --------------------------------------------------------------------------
def test_five_and_five():
    assert check.five_and_five("c").ok
    for answer in ("a", "b", "d", "e", ..., None):
        assert not check.five_and_five(answer)
