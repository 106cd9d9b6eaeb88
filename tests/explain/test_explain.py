"""Explainers against gradients of the tape, closed forms, and what each of them promises."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import CLASSES, build, inputs

from minifbi import fbi
from minifbi.autograd import Tensor, is_grad_enabled
from minifbi.datasets import load_mnist
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.explain import (
    EXPLAINERS,
    LRP,
    IntegratedGradients,
    conservation_report,
    with_background,
)
from minifbi.explain import get_explainer as by_name
from minifbi.layers import Conv2d, Dense, Flatten, Sequential
from minifbi.models import alexnet, build_model
from minifbi.rules import RULES, Composite, Flat, Gamma

CONV_NETS = ("max", "overlapping", "avg", "strided", "dropout")


def get_explainer(name, **options):
    """An explainer that has images to draw baselines from, if it needs some."""
    background = inputs("max", seed=9)[0]
    return with_background(by_name(name, **options), background)


def images_of(name):
    x, labels = inputs(name)
    return np.abs(x) / np.abs(x).max(), labels


def gradient_of_the_tape(model, x, classes):
    image = Tensor(x, True, model.backend)
    model.eval()
    model(image)[np.arange(len(classes)), classes].sum().backward()
    return image.backend.to_numpy(image.grad)


def logits(model, x, classes):
    return model.eval()(x).numpy()[np.arange(len(classes)), classes]


# ---- what all explainers promise -------------------------------------------------------------
@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_batch_equals_its_images_and_nothing_is_left_behind(name, backend):
    model, (x, labels) = build("dropout", backend), images_of("dropout")
    model.train()
    states, before = str(model.random_states()), x.copy()
    explainer = get_explainer(name)
    together = explainer(model, x, labels)
    assert together.shape == x.shape
    assert together.dtype == np.float64
    assert np.isfinite(together).all()
    assert np.abs(together).max() > 0
    for i in range(len(x)):
        alone = explainer(model, x[i : i + 1], labels[i : i + 1])[0]
        np.testing.assert_allclose(alone, together[i], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(explainer(model, x, labels), together)  # seeded
    assert model.training
    assert str(model.random_states()) == states
    assert all(p.grad is None for p in model.parameters().values())
    assert is_grad_enabled()
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_the_class_is_of_ones_choice(name, backend):
    model, (x, _) = build("max", backend), images_of("max")
    one, other = (get_explainer(name)(model, x, np.full(len(x), c)) for c in (0, 1))
    assert np.abs(one - other).max() > 1e-6
    np.testing.assert_array_equal(get_explainer(name)(model, x, 1), other)


def test_batches_do_not_show(backend, monkeypatch):
    model, (x, labels) = build("max", backend), images_of("max")
    whole = LRP("epsilon-plus-flat")(model, x, labels)
    monkeypatch.setattr("minifbi.explain.base.BATCH_SIZE", 2)
    parts = LRP("epsilon-plus-flat")(model, x, labels)
    np.testing.assert_allclose(parts, whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("net", ["alexnet", "lenet", "mlp"])
def test_every_explainer_on_digits_in_float32(net, backend):
    x, labels = load_mnist().test.batch(slice(0, 2))
    model = build_model(net, backend=backend)
    for name in EXPLAINERS:
        if net == "mlp" and name == "grad-cam":  # it has no maps
            continue
        found = with_background(by_name(name), x)(model, x, labels)
        assert found.shape == x.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert np.abs(found).max() > 0


# ---- relevance propagation -------------------------------------------------------------------
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CONV_NETS)
def test_lrp_is_the_relevance_pass_of_training(name, rule, backend):
    model, (x, labels) = build(name, backend), images_of(name)
    model.eval()
    expected = fbi.relevance_pass(fbi.forward_pass(model, x), "target", labels, rule=rule)["0"]
    found = get_explainer("lrp-0" if rule == "zero" else f"lrp-{rule}")(model, x, labels)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)


def test_relevance_reaches_the_image_through_a_flatten_in_front(backend):
    rng = np.random.default_rng(0)
    net = Sequential(Flatten(), Dense(6, 3, rng=rng, backend=backend, dtype=np.float64))
    x = rng.random((2, 1, 2, 3))
    for rule in ("zero", "flat", "z-box"):
        found = LRP(rule)(net, x, [0, 2])
        steps = fbi.forward_pass(net, x)
        expected = fbi.relevance_pass(steps, "target", [0, 2], rule=rule)["1"].numpy()
        np.testing.assert_allclose(found, expected.reshape(x.shape), rtol=1e-12)


# ---- gradients -------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", CONV_NETS)
def test_gradient_is_that_of_the_tape(name, bias, backend):
    model, (x, labels) = build(name, backend, bias), images_of(name)
    expected = gradient_of_the_tape(model, x, labels)
    ours = get_explainer("gradient")(model, x, labels)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    for same in ("lrp-0", "gradient-x-input"):
        product = get_explainer(same)(model, x, labels)
        np.testing.assert_allclose(product, x * expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_are_complete(baseline, backend):
    model, (x, labels) = build("max", backend), images_of("max")
    start = np.full_like(x, baseline)
    expected = logits(model, x, labels) - logits(model, start, labels)
    errors = []
    for steps in (20, 2000):
        found = IntegratedGradients(steps=steps, baseline=baseline)(model, x, labels)
        errors.append(np.abs(found.sum(axis=(1, 2, 3)) - expected).max())
    assert errors[1] < 1e-3 * np.abs(expected).max()
    assert errors[1] < errors[0]
    image = IntegratedGradients(20, np.full(x.shape[1:], baseline))(model, x, labels)
    np.testing.assert_array_equal(image, IntegratedGradients(20, baseline)(model, x, labels))


def test_integrated_gradients_of_a_linear_net_are_exact(backend):
    rng = np.random.default_rng(1)
    net = Sequential(Flatten(), Dense(12, 3, rng=rng, backend=backend, dtype=np.float64))
    x = rng.random((2, 1, 3, 4))
    found = IntegratedGradients(steps=1, baseline=0.3)(net, x, [2, 1])
    weight = net[1].weight.numpy()[[2, 1]].reshape(x.shape)
    np.testing.assert_allclose(found, (x - 0.3) * weight, rtol=1e-12)


def test_smoothgrad(backend):
    model, (x, labels) = build("max", backend), images_of("max")
    still = get_explainer("smoothgrad", samples=3, noise=0.0)(model, x, labels)
    gradient = get_explainer("gradient")(model, x, labels)
    np.testing.assert_allclose(still, gradient, rtol=1e-10, atol=1e-13)
    # by hand: the mean of the tape's gradients at two noisy copies
    rng = np.random.default_rng(7)
    spread = 0.2 * (x.max(axis=(1, 2, 3)) - x.min(axis=(1, 2, 3)))[:, None, None, None]
    copies = [x + spread * rng.standard_normal(x.shape[1:]) for _ in range(2)]
    expected = np.mean([gradient_of_the_tape(model, c, labels) for c in copies], axis=0)
    found = get_explainer("smoothgrad", samples=2, noise=0.2, seed=7)(model, x, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    other = get_explainer("smoothgrad", samples=2, noise=0.2, seed=8)(model, x, labels)
    assert np.abs(other - found).max() > 1e-6


# ---- occlusion -------------------------------------------------------------------------------
@pytest.mark.parametrize(("patch", "stride", "baseline"), [(1, 1, 0.0), (3, 2, 0.0), (4, 3, 0.6)])
def test_occlusion_by_hand(patch, stride, baseline, backend):
    model, (x, labels) = build("max", backend), images_of("max")
    found = get_explainer("occlusion", patch=patch, stride=stride, baseline=baseline)(
        model, x, labels
    )
    h, w = x.shape[2:]
    rows, columns = ({*range(0, n - patch + 1, stride), n - patch} for n in (h, w))
    drops = [[[] for _ in range(w)] for _ in range(h)]
    before = logits(model, x, labels)
    for top in rows:
        for left in columns:
            hidden = x.copy()
            hidden[:, :, top : top + patch, left : left + patch] = baseline
            for i in range(top, top + patch):
                for j in range(left, left + patch):
                    drops[i][j].append(before - logits(model, hidden, labels))
    expected = np.array([[np.mean(cell, axis=0) for cell in row] for row in drops])  # (H, W, N)
    np.testing.assert_allclose(found[:, 0], expected.transpose(2, 0, 1), rtol=1e-9, atol=1e-12)


def test_occlusion_of_a_linear_net_is_pixel_times_weight(backend):
    rng = np.random.default_rng(1)
    net = Sequential(Flatten(), Dense(12, 3, rng=rng, backend=backend, dtype=np.float64))
    x = rng.random((2, 1, 3, 4))
    weight = net[1].weight.numpy()[[2, 1]].reshape(x.shape)
    found = get_explainer("occlusion", patch=1, stride=1)(net, x, [2, 1])
    np.testing.assert_allclose(found, x * weight, rtol=1e-9, atol=1e-12)


# ---- conservation ----------------------------------------------------------------------------
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CONV_NETS)
def test_the_balance_adds_up(name, rule, backend):
    model, (x, labels) = build(name, backend), images_of(name)
    report = conservation_report(model, x, labels, rule)
    assert [s.name for s in report.layers] == list(reversed(model.layers))
    scale = max(np.abs(s.above).max() for s in report.layers)
    for layer in report.layers:
        np.testing.assert_allclose(layer.residual, 0, atol=1e-12 * scale, err_msg=layer.name)
    for upper, lower in zip(report.layers[:-1], report.layers[1:], strict=True):
        np.testing.assert_allclose(lower.above, upper.below, atol=1e-12 * scale)
    np.testing.assert_allclose(report.layers[0].above, logits(model, x, labels), rtol=1e-12)
    found = LRP(rule)(model, x, labels).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(report.layers[-1].below, found, atol=1e-12 * scale)


def test_who_keeps_what(backend):
    model, (x, labels) = build("max", backend), images_of("max")

    def kept(rule, what):
        report = conservation_report(model, x, labels, rule)
        return sum(np.abs(getattr(s, what)) for s in report.layers)

    assert (kept("zero", "bias") > 0.01).all()
    np.testing.assert_allclose(kept("zero", "stabilizer"), 0, atol=1e-12)
    assert (kept("epsilon:0.1", "stabilizer") > 0.001).all()
    for rule in ("flat", "w-square"):
        assert (kept(rule, "bias") == 0).all()
        np.testing.assert_allclose(kept(rule, "stabilizer"), 0, atol=1e-12)
    bare = conservation_report(build("max", backend, bias=False), x, labels, "epsilon:0.1")
    assert all((s.bias == 0).all() for s in bare.layers)


def test_balance_of_one_dense_layer_by_hand():
    """z = 2 * 1 - 1 * 1 + 1 = 2 with eps = 2: R = 2 goes 1 to the inputs' 1, 0.5 to the bias."""
    net = Sequential({"flatten": Flatten(), "dense": Dense(2, 1, dtype=np.float64)})
    net.load_state_dict({"dense.weight": [[2.0, -1.0]], "dense.bias": [1.0]})
    report = conservation_report(net, np.ones((1, 1, 1, 2)), [0], "epsilon:2")
    dense = report["dense"]
    assert (dense.above, dense.below, dense.bias, dense.stabilizer) == (2.0, 0.5, 0.5, 1.0)
    assert dense.rule == "epsilon 2"
    assert str(report) == (
        "layer            rule        above    bias  stabiliser   below\n"
        "--------------------------------------------------------------\n"
        "dense            epsilon 2  2.0000  0.5000      1.0000  0.5000\n"
        "--------------------------------------------------------------\n"
        "logit to pixels             2.0000  0.5000      1.0000  0.5000"
    )
    with pytest.raises(ConfigError, match="no layer is called 'conv'"):
        report["conv"]


# ---- names and errors ------------------------------------------------------------------------
def test_names():
    assert get_explainer("lrp-gamma:0.5") == LRP("gamma:0.5")
    assert get_explainer("lrp-gamma", gamma=0.5).composite == Composite.uniform(Gamma(0.5))
    assert LRP(Flat()).composite == Composite.uniform(Flat())
    assert {"lrp-0", "lrp-epsilon-gamma-box", "lrp-epsilon-alpha2-beta1-flat"} <= set(EXPLAINERS)
    assert len(EXPLAINERS) == len(RULES) + 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lrp", {}, "unknown method 'lrp': expected one of lrp-0, lrp-epsilon"),
        ("gradient:3", {}, "method 'gradient' got '3'; expected no numbers"),
        ("gradient", {"steps": 3}, "method 'gradient' got '' {'steps': 3}; expected no numbers"),
        ("lrp-gamma:x", {}, "rule 'gamma' got 'x'"),
        ("lrp-gamma", {"epsilon": 1}, "expected gamma"),
        ("integrated-gradients", {"steps": 0}, "steps=0: expected a whole number, at least 1"),
        ("smoothgrad", {"noise": -1}, "noise=-1"),
        ("occlusion", {"patch": 2, "stride": 3}, "stride=3: expected at most patch=2"),
    ],
)
def test_wrong_names_and_options(name, options, message):
    with pytest.raises(ConfigError, match=message):
        get_explainer(name, **options)


@pytest.mark.parametrize(
    ("images", "classes", "error", "message"),
    [
        (np.ones((1, 7, 6)), [0], ShapeError, r"\(1, 7, 6\); expected \(images, channels"),
        (np.ones((2, 1, 7, 6), np.uint8), [0, 1], DataError, "Divide uint8 pixels by 255"),
        (np.ones((2, 1, 7, 6)), [0], ShapeError, r"classes have shape \(1,\), expected \(2,\)"),
        (np.ones((2, 1, 7, 6)), [0, CLASSES], ShapeError, f"label {CLASSES} at position 1"),
        (np.ones((2, 1, 7, 6)), [0.0, 1.0], ShapeError, "expected integers"),
        (np.ones((2, 3, 7, 6)), [0, 1], ShapeError, "3"),
    ],
)
@pytest.mark.parametrize("name", ["lrp-0", "lrp-flat", "occlusion"])
def test_wrong_input(name, images, classes, error, message):
    with pytest.raises(error, match=message):
        get_explainer(name)(build("max", "numpy"), images, classes)


def test_a_baseline_must_fit():
    with pytest.raises(ShapeError, match=r"baseline has shape \(3, 3\)"):
        IntegratedGradients(baseline=np.zeros((3, 3)))(build("max", "numpy"), *images_of("max"))


def test_lrp_0_of_the_papers_net_sums_to_the_logit_without_biases(backend):
    x, labels = load_mnist().test.batch(slice(0, 4))
    model = alexnet(bias=False, backend=backend)
    sums = LRP()(model, x, labels).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, logits(model, x, labels), rtol=1e-3, atol=1e-4)
    assert isinstance(model["conv1"], Conv2d)


def test_one_class_for_all_images_in_the_report_too():
    model, x = build("max", "numpy"), inputs("max")[0]
    report = conservation_report(model, x, 1)
    assert report.target.classes.tolist() == [1] * len(x)
    same = conservation_report(model, x, np.ones(len(x), int))
    np.testing.assert_array_equal(report.layers[0].above, same.layers[0].above)
    with pytest.raises(ShapeError, match="one per image"):
        conservation_report(model, x, [1] * (len(x) + 1))
