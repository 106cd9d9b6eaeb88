"""The checks of tutorial 11 reject what students typically write, and say why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from minifbi.layers import Layer
from minifbi.rules import Flow, Rule
from minifbi.rules.flow import share
from minifbi.rules.linear import LinearMap

check = pytest.importorskip("checks.tutorial_11", reason="installed without tutorials")


# ---- exercise 1: the layer Scale ---------------------------------------------------------
def per_channel(values):
    return values.sum(axis=(0, *range(2, values.ndim)))


class Scale(Layer):
    """Right, in another way than the solution: it broadcasts by moving the channel to the end."""

    def __init__(self, channels, gain=1.0, *, backend="auto", dtype=np.float32):
        super().__init__()
        self.gain = self.add_parameter("gain", np.full(channels, gain), backend, dtype)

    @staticmethod
    def times(values, gain):
        return np.moveaxis(np.moveaxis(values, 1, -1) * gain, -1, 1)

    def forward(self, backend, x, gain):
        return self.times(x, gain), {"x": x, "gain": gain}

    def backward(self, backend, grad, saved, needs_x):
        return self.times(grad, saved["gain"]), per_channel(grad * saved["x"])

    def relevance(self, backend, ratio, saved):
        return self.times(ratio, saved["gain"])

    def relevance_backward(self, backend, grad, ratio, saved):
        return self.times(grad, saved["gain"]), per_channel(grad * ratio)


def test_scale_accepts_another_way():
    assert check.scale_layer(Scale).ok


def scale_with(**methods):
    """The right layer with some methods replaced; each gets (self, backend, ...)."""
    return type("Scale", (Scale,), methods)


def gain_of(saved, like):
    return saved["gain"].reshape(-1, *[1] * (like.ndim - 2))


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        ({"forward": lambda s, b, x, g: ...}, "forward (input of shape (4, 3)) returned `...`"),
        ({"forward": lambda s, b, x, g: s.times(x, g)}, "what the others need"),
        ({"forward": lambda s, b, x, g: (x, {"x": x, "gain": g})}, "z = gain * x"),
        ({"forward": lambda s, b, x, g: (x * g, {"x": x, "gain": g})}, "shape (2, 3, 4, 5)"),
        ({"backward": lambda s, b, grad, saved, n: None}, "backward (input of shape (4, 3))"),
        ({"backward": lambda s, b, grad, saved, n: (grad,)}, "two values"),
        (
            {"backward": lambda s, b, grad, saved, n: (grad, per_channel(grad * saved["x"]))},
            "x is multiplied by the gain",
        ),
        (
            {"backward": lambda s, b, g, saved, n: (s.times(g, saved["gain"]), g * saved["x"])},
            "all units of a channel share one gain",
        ),
        (
            {"backward": lambda s, b, g, saved, n: (s.times(g, saved["gain"]), per_channel(g))},
            "dz/dgain? Not 1",
        ),
        ({"relevance": lambda s, b, ratio, saved: ratio}, "the ratio does not"),
        ({"relevance": lambda s, b, r, saved: r / gain_of(saved, r)}, "multiply, not divide"),
        (
            {"relevance": lambda s, b, r, saved: s.times(r, saved["gain"]) * saved["x"]},
            "that is the relevance",
        ),
        ({"relevance": lambda s, b, r, saved: saved.y}, "raised AttributeError"),
        (
            {"relevance_backward": lambda s, b, u, r, saved: (s.times(u, saved["gain"]), None)},
            "forgets the gain",
        ),
        (
            {
                "relevance_backward": lambda s, b, u, r, saved: (
                    s.times(u, saved["gain"]),
                    per_channel(u * saved["x"]),
                )
            },
            "that is what backward does",
        ),
        (
            {"relevance_backward": lambda s, b, u, r, saved: (u, per_channel(u * r))},
            "the ratio is multiplied by the gain",
        ),
        (
            {
                "relevance_backward": lambda s, b, u, r, saved: (
                    s.times(u, saved["gain"]),
                    per_channel(u * r * saved["x"]),
                )
            },
            "there is no x in its line",
        ),
    ],
)
def test_scale_rejects(methods, says):
    verdict = check.scale_layer(scale_with(**methods))
    assert not verdict
    assert says in verdict.message
    assert len(verdict.message) < 400


@pytest.mark.parametrize("answer", [..., None, Layer, Scale(3), 3])
def test_scale_rejects_what_is_no_layer(answer):
    assert not check.scale_layer(answer)


# ---- exercise 2: the rule ----------------------------------------------------------------
def rule(call):
    """A rule whose __call__ is `call(layer, step, flow)`."""

    @dataclass(frozen=True)
    class Squares(Rule):
        def __call__(self, step, flow, book=None):
            return call(LinearMap(step), step, flow)

    return Squares


def right(layer, step, flow):
    """Another way than the solution: the relevance itself travels, not its ratio."""
    weight = layer.weight * layer.weight
    total = layer.forward(step.x * step.x, weight)
    s = share(Flow(flow.relevance(step.z), is_ratio=False), step.z, total)
    return Flow(step.x * step.x * layer.transpose(s, weight), is_ratio=False)


def shared_by(layer, step, flow, x, weight, total=None):
    s = share(flow, step.z, layer.forward(x, weight) if total is None else total)
    return s, layer.transpose(s, weight)


def absolute(layer, step, flow):
    _, back = shared_by(layer, step, flow, step.x.abs(), layer.weight.abs())
    return Flow(back * np.where(step.x.data >= 0, 1.0, -1.0))


def one_x_missing(layer, step, flow):
    return Flow(shared_by(layer, step, flow, step.x**2, layer.weight**2)[1])


def relevance_for_ratio(layer, step, flow):
    return Flow(step.x**2 * shared_by(layer, step, flow, step.x**2, layer.weight**2)[1])


def divided_by_z(layer, step, flow):
    return Flow(step.x * shared_by(layer, step, flow, step.x**2, layer.weight**2, total=step.z)[1])


def without_gradient(layer, step, flow):
    flow = Flow(flow.values.detach(), flow.is_ratio)
    found = right(layer, step, flow)
    return Flow(found.values.detach(), found.is_ratio)


def unfinished(layer, step, flow):
    return Flow(... * step.x)


def test_squares_accepts_another_way():
    assert check.squares_rule(rule(right)).ok


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (absolute, "not their squares"),
        (one_x_missing, "x twice"),
        (relevance_for_ratio, "expects the ratio"),
        (divided_by_z, "not by z"),
        (without_gradient, "no gradient reaches the weights"),
        (unfinished, "still a `...`"),
        (lambda layer, step, flow: Flow(layer.transpose(flow, layer.weight)), "the rule raised"),
        (lambda layer, step, flow: step.nothing, "AttributeError"),
        (lambda layer, step, flow: Flow(step.relevance(flow.values)), "the relevance at one unit"),
    ],
)
def test_squares_rejects(call, says):
    verdict = check.squares_rule(rule(call))
    assert not verdict
    assert says in verdict.message


@pytest.mark.parametrize("answer", [..., None, 3, Flow])
def test_squares_rejects_what_is_no_rule(answer):
    assert "expected the class Squares" in check.squares_rule(answer).message


# ---- exercise 3: photographs -------------------------------------------------------------
def test_grey_accepts_float32():
    assert check.to_grey(lambda p: (p.astype(np.float32).mean(axis=-1) / 255)[:, np.newaxis]).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected the function to_grey"),
        (lambda p: ..., "returned `...`"),
        (lambda p: p.mean(axis=3)[:, None], "divide by 255"),
        (lambda p: p.mean(axis=3) / 255, "axis of channels"),
        (lambda p: p.mean(axis=3, keepdims=True) / 255, "channel comes second"),
        (lambda p: p.sum(axis=3)[:, None] / 255, "no sum"),
        (lambda p: p[:, None, :, :, 0] / 255, "red channel"),
        (lambda p: p.transpose(0, 3, 1, 2) / 255, "in colour"),
        (lambda p: ((p[..., 0] + p[..., 1] + p[..., 2]) / 3)[:, None] / 255, "uint8"),
        (
            lambda p: p.reshape(len(p), 3, *p.shape[1:3]).mean(axis=1)[:, None] / 255,
            "does not move axes",
        ),
        (lambda p: (p.mean(axis=3)[:, None] / 255).astype(object), "Split.from_arrays says"),
    ],
)
def test_grey_rejects(answer, says):
    verdict = check.to_grey(answer)
    assert not verdict
    assert says in verdict.message


# ---- exercise 4: the cut -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "ok", "says"),
    [
        ("c", True, "never seen"),
        ("a", False, "neighbours"),
        ("b", False, "another side"),
        (..., False, "replace `...`"),
        ("C", False, "none of the answers"),
    ],
)
def test_cups(answer, ok, says):
    verdict = check.cups(answer)
    assert verdict.ok is ok
    assert says in verdict.message
