"""What is explained: every method explains every target, against the tape and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import CLASSES, build, inputs

from minifbi.autograd import Tensor
from minifbi.autograd.classification import log_softmax
from minifbi.errors import ConfigError, ShapeError
from minifbi.explain import (
    LRP,
    Class,
    Difference,
    Output,
    Unit,
    conservation_report,
    get_explainer,
    parse_target,
    with_background,
)
from minifbi.fbi import forward_pass

NAMES = [str(c) for c in range(10)]
TARGETS = {
    "class": (Class(2), lambda steps: steps[-1].z[:, 2]),
    "difference": (Difference(1, 2), lambda steps: steps[-1].z[:, 1] - steps[-1].z[:, 2]),
    "channel": (Unit("3", 1), lambda steps: steps[3].z[:, 1].sum(axis=(1, 2))),
    "unit": (Unit("1", 0, (2, 3)), lambda steps: steps[1].z[:, 0, 2, 3]),
    "dense unit": (Unit("6", 2), lambda steps: steps[6].z[:, 2]),
    "function": (Output(lambda z: log_softmax(z)[:, 1]), lambda s: log_softmax(s[-1].z)[:, 1]),
}


def net_and_images(backend="numpy"):
    model, (x, labels) = build("max", backend), inputs("max")
    return model.eval(), np.abs(x) / np.abs(x).max(), labels


def tape(model, x, of):
    image = Tensor(x, True, model.backend)
    value = of(forward_pass(model, image))
    value.sum().backward()
    return value.numpy(), image.backend.to_numpy(image.grad)


@pytest.mark.parametrize("name", TARGETS)
def test_gradients_and_lrp_0_of_every_target_are_those_of_the_tape(name, backend):
    model, x, _ = net_and_images(backend)
    target, of = TARGETS[name]
    _, gradient = tape(model, x, of)
    assert np.abs(gradient).max() > 0
    for method, expected in (("gradient", gradient), ("lrp-0", x * gradient)):
        found = get_explainer(method)(model, x, target)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TARGETS)
def test_integrated_and_expected_gradients_are_complete_for_every_target(name):
    model, x, _ = net_and_images()
    target, of = TARGETS[name]
    at_image, at_black = (tape(model, points, of)[0] for points in (x, np.zeros_like(x)))
    found = get_explainer("integrated-gradients:200")(model, x, target).sum(axis=(1, 2, 3))
    size = np.abs(at_image).max() + np.abs(at_black).max()
    np.testing.assert_allclose(found, at_image - at_black, atol=1e-2 * size)
    background = np.clip(x[::-1] * 0.5 + 0.2, 0, 1)
    expected = at_image - tape(model, background, of)[0].mean()
    explainer = get_explainer("expected-gradients:600", background=background)
    np.testing.assert_allclose(
        explainer(model, x, target).sum(axis=(1, 2, 3)), expected, atol=0.1 * size
    )


@pytest.mark.parametrize("method", ["lrp-epsilon-plus-flat", "occlusion", "smoothgrad:3"])
def test_a_batch_of_targets_equals_its_images(method, monkeypatch):
    model, x, labels = net_and_images()
    target = Difference(labels, (labels + 1) % CLASSES)
    explainer = get_explainer(method)
    whole = explainer(model, x, target)
    monkeypatch.setattr("minifbi.explain.base.BATCH_SIZE", 2)
    np.testing.assert_allclose(explainer(model, x, target), whole, rtol=1e-10, atol=1e-13)
    one = explainer(model, x[2:], Difference(int(labels[2]), int(labels[2] + 1) % CLASSES))
    np.testing.assert_allclose(one[0], whole[2], rtol=1e-10, atol=1e-13)


def test_an_int_an_array_a_class_and_a_function_say_the_same():
    model, x, _ = net_and_images()
    first = LRP()(model, x, 1)
    for same in (np.full(len(x), 1), Class(1), lambda z: z[:, 1], Unit("8", 1)):
        np.testing.assert_allclose(LRP()(model, x, same), first, rtol=1e-12)


def test_the_balance_of_a_difference_and_of_a_unit():
    model, x, _ = net_and_images()
    for name in ("difference", "channel"):
        target, of = TARGETS[name]
        report = conservation_report(model, x, target, "epsilon:0.1")
        np.testing.assert_allclose(report.layers[0].above, tape(model, x, of)[0], rtol=1e-12)
        for layer in report.layers:
            np.testing.assert_allclose(layer.residual, 0, atol=1e-12)
        found = LRP("epsilon:0.1")(model, x, target).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(report.at_image, found, rtol=1e-9)
    assert report.layers[0].name == "3"  # the walk starts at the unit's layer


@pytest.mark.parametrize("baseline", ["mean", "one per image"])
def test_a_baseline_per_image(baseline, monkeypatch):
    monkeypatch.setattr("minifbi.explain.base.BATCH_SIZE", 2)
    model, x, labels = net_and_images()
    starts = np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape).copy()
    given = "mean" if baseline == "mean" else starts
    for method in ("integrated-gradients", "occlusion"):
        found = get_explainer(method, baseline=given)(model, x, labels)
        for i in range(len(x)):
            alone = get_explainer(method, baseline=starts[i])(model, x[i : i + 1], labels[i])
            np.testing.assert_allclose(found[i], alone[0], rtol=1e-9, atol=1e-12)
    with pytest.raises(ShapeError, match="2 baselines for 3 images"):
        get_explainer("occlusion", baseline=starts[:2])(model, x, labels)
    with pytest.raises(ConfigError, match="baseline='grey'"):
        get_explainer("integrated-gradients:10,grey")(model, x, labels)


def test_smoothgrad_of_another_method_by_hand():
    model, x, labels = net_and_images()
    found = get_explainer("smoothgrad:2,0.1,of=lrp-epsilon:0.3")(model, x, labels)
    rng = np.random.default_rng(0)
    spread = 0.1 * (x.max(axis=(1, 2, 3)) - x.min(axis=(1, 2, 3)))[:, None, None, None]
    copies = [x + spread * rng.standard_normal(x.shape[1:]) for _ in range(2)]
    expected = np.mean([LRP("epsilon:0.3")(model, copy, labels) for copy in copies], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    nested = with_background(get_explainer("smoothgrad:2,of=expected-gradients:2"), x)
    assert np.abs(nested(model, x, labels)).max() > 0
    with pytest.raises(ConfigError, match="expected-gradients needs images"):
        get_explainer("expected-gradients")(model, x, labels)


# ---- text ------------------------------------------------------------------------------------
def said(target):
    return {key: value for key, value in vars(target).items() if value is not None}


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("4", NAMES, Class(4)),
        ("4-9", NAMES, Difference(4, 9)),
        ("coat", ["shirt", "coat"], Class(1)),
        ("t-shirt-ankle boot", ["t-shirt", "ankle boot"], Difference(0, 1)),
        ("4-9", ["4-9", "x"], Class(0)),  # a whole name comes first
        ("x:5", ["y", "x:5"], Class(1)),
        ("predicted-label", NAMES, Difference(7, 3)),
        ("3:5", NAMES, Unit("3", 5)),
        ("3:5,2,0", NAMES, Unit("3", 5, (2, 0))),
    ],
)
def test_targets_as_text(text, names, expected):
    found = parse_target(text, names, build("max", "numpy"), {"label": 3, "predicted": 7})
    assert type(found) is type(expected)
    assert said(found) == said(expected)


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("10", NAMES, "target '10': expected a class .*'4-9'.*'conv3:5'"),
        ("4-", NAMES, "target '4-'"),
        ("conv9:1", NAMES, "no layer is called 'conv9'; expected one of 0, 1"),
        ("3:1,2", NAMES, "target '3:1,2'"),
        ("3:" + "9" * 5000, NAMES, "target"),
        ("a-b-c", ["a", "b-c", "a-b", "c"], "is 'a' minus 'b-c' or 'a-b' minus 'c'"),
    ],
)
def test_wrong_targets_as_text(text, names, message):
    with pytest.raises(ConfigError, match=message):
        parse_target(text, names, build("max", "numpy"))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (Unit("3", 2), ConfigError, "3:2: the output of layer '3' has shape"),
        (Unit("3", 1, (3, 0)), ConfigError, "3:1,3,0"),
        (Unit("7", 1, (0, 0)), ConfigError, "7:1,0,0"),
        (Unit("conv9", 0), ConfigError, "no layer is called 'conv9'"),
        (Difference(1, CLASSES), ShapeError, f"label {CLASSES} at position 0"),
        (Difference(1, [0, 1]), ShapeError, "expected \\(3,\\): one per image"),
        (lambda z: z, ShapeError, "one number per image"),
    ],
)
def test_wrong_targets(target, error, message):
    model, x, _ = net_and_images()
    for method in ("lrp-0", "grad-cam"):
        with pytest.raises(error, match=message):
            get_explainer(method)(model, x, target)


def test_targets_in_words():
    assert Difference(4, 9).describe() == "4 minus 9"
    assert Class(1).describe(["a", "b"]) == "b"
    assert Unit("conv3", 5, (2, 3)).describe() == "conv3:5,2,3"
