"""Containers inside containers: relevance goes inside, branches, and adds up."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import residual_net as net

from minifbi import fbi
from minifbi.activation_maps import activation_maps
from minifbi.autograd import Tensor, check_gradients, cross_entropy
from minifbi.errors import ConfigError, ShapeError
from minifbi.explain import LRP, conservation_report
from minifbi.layers import (
    Conv2d,
    Dense,
    Flatten,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.rules import RULES, walk
from minifbi.training import three_step

LABELS = np.array([0, 3, 1])


def images(n=3):
    return np.random.default_rng(9).random((n, 1, 8, 6))


FUNCTIONAL = [
    *("stem", "block1.conv1", "block1.conv2"),
    *("block2.0.0", "block2.1", "block2.shortcut.1", "out"),
]


def test_names_are_those_of_the_functional_layers(backend):
    model = net(backend)
    steps = fbi.forward_pass(model, images())
    relevances = fbi.relevance_pass(steps, "target", LABELS)
    assert list(relevances) == list(fbi.fbi_terms(steps, relevances)) == FUNCTIONAL
    assert [n.removesuffix(".weight") for n in model.parameters() if "weight" in n] == FUNCTIONAL
    assert "K = 7 functional layers" in model.describe((1, 8, 6))
    for step in steps:
        if step.name in relevances:
            assert relevances[step.name].shape == step.x.shape
    state = model.state_dict()
    other = net(backend)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other(images()).numpy(), model(images()).numpy())


@pytest.mark.parametrize("start", fbi.STARTS)
def test_the_ratio_is_the_gradient(start, backend):
    """The closed form, fact 1, by the tape's own gradient: what reaches a place, it all added."""
    model, image = net(backend), Tensor(images(), True, backend)
    steps = fbi.forward_pass(model, image)
    ratio = fbi.start_ratio(steps[-1].z, start, LABELS)
    arrived = {id(p.step.x): (p.step.x, p.at_input.values) for p in walk(steps, ratio)}
    weights = Tensor(ratio.numpy(), backend=backend)
    for x, carried in arrived.values():
        place = Tensor(x.numpy(), True, backend)  # the net from here on, by itself
        rest = model_from(model, steps, x, place)
        (rest * weights).sum().backward()
        np.testing.assert_allclose(
            carried.numpy(), place.backend.to_numpy(place.grad), rtol=1e-9, atol=1e-12
        )


def model_from(model, steps, x, place):
    """Apply what comes after the tensor x to another one in its place."""
    values = {id(x): place}
    known = {id(s.z) for s in steps[: next(i for i, s in enumerate(steps) if s.x is x)]}
    for step in steps:
        if id(step.z) in known or id(step.z) == id(x):
            continue
        inputs = [values.get(id(tensor), tensor) for tensor in step.inputs]
        if not any(id(tensor) in values for tensor in step.inputs):
            continue
        out = inputs[0] + inputs[1] if len(inputs) == 2 else step.layer(inputs[0])
        values[id(step.z)] = out
    return values[id(steps[-1].z)]


def test_a_minus_is_what_the_layer_hands_to_its_own_input(backend):
    """Eq. (2) at a branching point: conv1 and the shortcut have their own share of the input."""
    model = net(backend)
    steps = fbi.forward_pass(model, images())
    relevances = fbi.relevance_pass(steps, "target", LABELS)
    at = {s.name: s for s in steps}
    ratio = fbi.start_ratio(steps[-1].z, "target", LABELS)
    for name in ("out", "flatten", "pool", "relu2"):
        ratio = at[name].relevance(ratio)
    by_chain = at["block2.0.0"].relevance(
        at["block2.0.1"].relevance(at["block2.1"].relevance(ratio))
    )
    aside = at["block2.shortcut.1"].relevance(ratio)
    both = by_chain + at["block2.shortcut.0"].relevance(aside)
    x = at["block2.0.0"].x
    np.testing.assert_allclose(relevances["block2.0.0"].numpy(), (x * by_chain).numpy())
    np.testing.assert_allclose(
        relevances["block2.shortcut.1"].numpy(), (at["block2.shortcut.1"].x * aside).numpy()
    )
    passages = {p.step.name: p for p in walk(steps, fbi.start_ratio(steps[-1].z, "target", LABELS))}
    np.testing.assert_allclose(passages["relu1"].above.values.numpy(), both.numpy(), rtol=1e-12)


@pytest.mark.parametrize("rule", ["zero", "epsilon:0.1", "gamma", "flat", "deep-taylor"])
def test_gradients(rule, backend):
    model = net(backend)
    image = Tensor(0.1 + 0.8 * images(), True, backend)

    def loss():
        steps = fbi.forward_pass(model, image)
        terms = fbi.fbi_terms(steps, fbi.relevance_pass(steps, "target", LABELS, rule))
        return fbi.objective(cross_entropy(steps[-1].z, LABELS), fbi.fbi_loss(terms), 0.3)

    check_gradients(
        loss, {"image": image, **model.parameters()}, directions=2, step=1e-6, tolerance=2e-6
    )


@pytest.mark.parametrize("rule", sorted(RULES))
def test_conservation(rule, backend):
    """Without biases nothing is lost but what the books say, and it all arrives at the image."""
    model = net(backend, bias=False)
    report = conservation_report(model, 0.1 + 0.8 * images(), LABELS, rule)
    logits = model(0.1 + 0.8 * images()).numpy()[np.arange(3), LABELS]
    for layer in report.layers:
        scale = np.abs(layer.above).max() + 1
        np.testing.assert_allclose(layer.residual / scale, 0, atol=1e-9, err_msg=layer.name)
    assert {"block1", "block2"} <= {layer.name for layer in report.layers}
    kept = sum(layer.bias + layer.stabilizer for layer in report.layers)
    # below a branching point stands the sum of both ways
    arrived = report.at_image
    np.testing.assert_array_equal(arrived, report["stem"].below)
    np.testing.assert_allclose(arrived + kept, logits, rtol=1e-7, atol=1e-7)


def test_an_image_that_goes_into_two_layers(backend):
    """What arrives at the pixels comes by the chain and by the shortcut."""
    options = {"backend": backend, "dtype": np.float64, "bias": False, "rng": 3}
    model = Sequential(
        Residual(Conv2d(1, 1, 3, padding=1, **options), shortcut=Conv2d(1, 1, 1, **options)),
        Flatten(),
        Dense(48, 4, **options),
    )
    x = images()
    report = conservation_report(model, x, LABELS)
    logits = model(x).numpy()[np.arange(3), LABELS]
    np.testing.assert_allclose(report.at_image, logits, rtol=1e-10)
    both = report["0.0"].below + report["0.shortcut"].below
    np.testing.assert_allclose(both, report.at_image, rtol=1e-10)
    assert str(report).splitlines()[-1].split()[-1] == f"{logits.mean():.4f}"
    np.testing.assert_allclose(
        LRP()(model, x, LABELS).sum(axis=(1, 2, 3)), report.at_image, rtol=1e-10
    )


def test_pictures_and_steps_see_the_layers_inside(backend):
    model = net(backend, dtype=np.float32)
    maps = activation_maps(model, images()[0], 1, layers=4)
    assert [m.name for m in maps.layers] == ["stem", "block1.conv1", "block1.conv2", "block2.0.0"]
    losses = three_step(model, images().astype(np.float32), LABELS)
    assert list(losses.penalty_terms) == FUNCTIONAL
    assert all(np.isfinite(p.grad).all() for p in net().parameters().values() if p.grad is not None)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        Residual()
    with pytest.raises(ConfigError, match="shortcut"):
        Residual({"shortcut": ReLU()})
    block = Sequential({"block": Residual(Conv2d(1, 2, 3))})
    with pytest.raises(ShapeError, match=r"layer 'block'.*\(1, 2, 3, 3\).*\(1, 1, 5, 5\)"):
        block(np.zeros((1, 1, 5, 5)))
