"""The gradient checker finds the faults that people make, in each way back of each kind of layer.

Each fault is planted in one method of one layer; the layer as it stands must pass, and with the
fault the checker must say so, and whose gradient is wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
from every_layer import KINDS

from minifbi.autograd import Tensor, check_gradients
from minifbi.fusion import ConvBlock
from minifbi.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sequential,
)

IMAGES = (2, 2, 6, 5)
OPTIONS = {"rng": 1, "dtype": np.float64}
# Square weights and a padding, so that a forgotten transpose or a shift still has the right shape.
LAYERS = {
    "AvgPool2d": (lambda: AvgPool2d(3, 2, 1), IMAGES),
    # in training mode the relevance pass has an influence on x; test_batchnorm.py checks that
    "BatchNorm2d": (lambda: BatchNorm2d(2, dtype=np.float64).eval(), IMAGES),
    "Conv2d": (lambda: Conv2d(2, 2, 3, padding=1, **OPTIONS), IMAGES),
    "ConvBlock": (
        lambda: ConvBlock(Conv2d(2, 2, 3, padding=1, **OPTIONS), ("pool", MaxPool2d(2))),
        IMAGES,
    ),
    "Dense": (lambda: Dense(5, 5, **OPTIONS), (3, 5)),
    "Dropout": (lambda: Dropout(0.4, rng=3), IMAGES),
    "Flatten": (Flatten, IMAGES),
    "GlobalAvgPool2d": (GlobalAvgPool2d, IMAGES),
    "LeakyReLU": (lambda: LeakyReLU(0.1), IMAGES),
    "MaxPool2d": (lambda: MaxPool2d(3, 2, 1), IMAGES),
    "ReLU": (ReLU, IMAGES),
}
WAYS_BACK = ("backward", "relevance", "relevance_backward")


# ---- faults: from the true method to a wrong one ---------------------------------------------
def on_result(change, which=0):
    """A fault in what comes out: the gradient at the input, or (`which`) at a parameter."""

    def fault(layer, method, true):
        def wrong(backend, *arguments, **options):
            out = true(backend, *arguments, **options)
            if method == "relevance":
                return change(out)
            return tuple(
                change(share) if place == which and share is not None else share
                for place, share in enumerate(out)
            )

        return wrong

    return fault


def on_saved(change):
    """A fault in what the forward pass left: `change` gets it, and the layer."""

    def fault(layer, method, true):
        def wrong(backend, *arguments, **options):
            at = 2 if method == "relevance_backward" else 1
            changed = change(layer, arguments[at])
            return true(backend, *arguments[:at], changed, *arguments[at + 1 :], **options)

        return wrong

    return fault


def shifted_padding(layer, method, true):
    """The window is placed one pixel off, on the way back only."""

    def wrong(backend, grad, *arguments, **options):
        out = true(backend, grad, *arguments, **options)
        first = out if method == "relevance" else out[0]
        if first is None:  # called by the adjoint of the relevance pass, for the weights only
            return out
        off = np.roll(first, 1, axis=-1)
        return off if method == "relevance" else (off, *out[1:])

    return wrong


def without_last(array):
    """The last row of the result got nothing."""
    out = array.copy()
    out[..., -1] = 0
    return out


def other_weight(change):
    def swap(layer, saved):
        return (saved[0], change(saved[1]), *saved[2:])

    return on_saved(swap)


def other_winner(layer, saved):
    """The place beside the winner gets what is the winner's."""
    if len(saved) > 2:  # a block's
        return (*saved[:-1], saved[-1] ^ 1)
    return ((saved[0] + 1) % 9, *saved[1:])


def no_gate(layer, saved):
    return np.ones_like(saved)


GENERAL = {
    "sign": on_result(lambda a: -a),
    "a thousandth too large": on_result(lambda a: 1.001 * a),
    "missing term": on_result(without_last),
    "forgotten": on_result(np.zeros_like),
    "off by one": shifted_padding,
}
OF_WEIGHTS = {
    "sign of the weight's": on_result(lambda a: -a, 1),
    "missing term of the weight's": on_result(without_last, 1),
    "weight's transposed": on_result(lambda a: a.swapaxes(0, 1).copy(), 1),
}
OF_KIND = {
    "Conv2d": {
        "missing transpose": other_weight(lambda w: w.swapaxes(0, 1).copy()),
        "kernel turned round": other_weight(lambda w: w[:, :, ::-1, ::-1].copy()),
    },
    "Dense": {"missing transpose": other_weight(lambda w: w.T.copy())},
    "MaxPool2d": {"wrong winner": on_saved(other_winner)},
    "LeakyReLU": {"forgotten slope": on_saved(no_gate)},
    "ReLU": {"forgotten gate": on_saved(no_gate)},
    "Dropout": {"forgotten gate": on_saved(no_gate)},
}
OF_KIND["ConvBlock"] = {
    **OF_KIND["Conv2d"],
    "wrong winner": on_saved(other_winner),
    "forgotten gate": on_saved(lambda _, s: (*s[:3], abs(s[3]) + 1, s[4])),
}


def faults_of(kind, method):
    """Names of the faults that can be planted in a method."""
    weights = kind in ("Conv2d", "Dense", "ConvBlock") and method != "relevance"
    own = OF_KIND.get(kind, {})
    faults = {**GENERAL, **(OF_WEIGHTS if weights else {}), **own}
    if kind == "Dense":
        faults.pop("off by one")  # it has no place to be off from
        faults["units moved by one"] = shifted_padding
    if kind == "GlobalAvgPool2d":
        faults.pop("off by one")  # all pixels of a map get the same
    if method == "backward" and weights:
        faults["sign of the bias's"] = on_result(lambda a: -a, 2)
    return faults


PLANTED = [
    pytest.param(kind, method, fault, id=f"{kind}-{method}-{name}")
    for kind in LAYERS
    for method in WAYS_BACK
    for name, fault in faults_of(kind, method).items()
]


def report_on(kind, method=None, fault=None):
    """Check all gradients through both passes of a layer, with a fault or without."""
    build, shape = LAYERS[kind]
    layer = build()
    states = layer.random_states()
    rng = np.random.default_rng(2)
    for p in layer.own_parameters.values():
        p.data = rng.standard_normal(p.shape)
    x = Tensor(rng.standard_normal(shape), True)
    output = layer.trace(x)[0].z.shape
    ratio = Tensor(rng.standard_normal(output), True)
    g, u = rng.standard_normal(output), rng.standard_normal(shape)
    if method is not None:
        setattr(layer, method, fault(layer, method, getattr(layer, method)))

    def loss():
        layer.load_random_states(states)  # the same mask each time
        step = layer.trace(x)[0]
        return (step.z * g).sum() + (step.relevance(ratio) * u).sum()

    return check_gradients(
        loss, {"x": x, "ratio": ratio, **layer.own_parameters}, directions=2, raises=False
    )


def test_every_layer_has_its_faults():
    assert {*LAYERS, "Residual", "Sequential"} == set(KINDS), "plant some faults in the new layer"
    assert Sequential.backward is Sequential.__base__.backward  # it has no passes of its own


@pytest.mark.parametrize("kind", LAYERS)
def test_the_layer_as_it_stands_passes(kind):
    report = report_on(kind)
    assert report.ok, str(report)
    assert {"x", "ratio"} <= set(report.errors)


@pytest.mark.parametrize(("kind", "method", "fault"), PLANTED)
def test_a_planted_fault_is_found(kind, method, fault):
    report = report_on(kind, method, fault)
    assert report.wrong, str(report)
    assert not report.untested
    # the relevance pass has no influence on the gradient at x, nor the forward pass at the ratio
    innocent = "ratio" if method == "backward" else "x"
    assert innocent not in report.wrong
