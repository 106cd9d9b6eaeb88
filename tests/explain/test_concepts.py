"""Relevance at inner layers and through channels, and the two counter-examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import build, inputs
from small_nets import residual_net as net

from minifbi.autograd import Tensor
from minifbi.datasets import load_mnist
from minifbi.errors import ConfigError
from minifbi.evaluate import randomization
from minifbi.explain import (
    LRP,
    Difference,
    GradCAM,
    Unit,
    get_explainer,
    layer_relevances,
    rank_channels,
    relevance_at,
)
from minifbi.fbi import forward_pass
from minifbi.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential
from minifbi.models import lenet
from minifbi.optim import Adam
from minifbi.training import three_step


def images(shape=(1, 8, 4), seed=5):
    return np.random.default_rng(seed).random((3, *shape))


@pytest.mark.parametrize("rule", ["zero", "epsilon:0.1", "epsilon-plus-flat", "gamma"])
@pytest.mark.parametrize("layer", ["block1.conv1", "block1", "block2.shortcut.1"])
def test_the_channels_add_up_to_the_whole(layer, rule, backend):
    """Through one channel at a time, then the sum over all: relevance is linear in its start.

    Gamma's cases by the sign of z stay, so it is linear too.  In a block, what goes the other way
    round the layer is in every part, and is taken out.
    """
    model, x = net(backend), images()
    target = Difference(1, 0)
    count = relevance_at(model, x, target, layer).shape[1]
    whole = LRP(rule)(model, x, target)
    masked = [LRP(rule, through={layer: [c]})(model, x, target) for c in range(count)]
    around = LRP(rule, through={layer: []})(model, x, target)
    np.testing.assert_allclose(
        sum(masked) - (count - 1) * around, whole, rtol=1e-9, atol=1e-12 * np.abs(whole).max()
    )
    every = LRP(rule, through={layer: list(range(count))})(model, x, target)
    np.testing.assert_allclose(every, whole, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2), unique=True), st.sampled_from(["zero", "epsilon:0.2", "z-plus"]))
def test_any_two_parts_of_the_channels_add_up(channels, rule):
    model, x = build("max", "numpy"), np.abs(inputs("max")[0])
    rest = [c for c in range(3) if c not in channels]
    parts = [LRP(rule, through={"0": chosen})(model, x, 2) for chosen in (channels, rest)]
    np.testing.assert_allclose(sum(parts), LRP(rule)(model, x, 2), rtol=1e-9, atol=1e-12)


def test_relevance_of_layers_is_activation_times_gradient(backend):
    model, x = net(backend), images()
    found = layer_relevances(model, x, 1)
    image = Tensor(x, True, model.backend)
    steps = forward_pass(model.eval(), image)
    assert list(found) == [step.name for step in steps]
    for step in steps:  # the derivative in a direction of the activations, by the tape
        relevance = found[step.name]
        assert relevance.shape == step.z.shape
    # in the main chain: z times d logit / d z
    rest = Sequential({name: model[name] for name in ("relu2", "pool", "flatten", "out")})
    block = Tensor(next(s.z for s in steps if s.name == "block2").data, True, model.backend)
    rest(block)[:, 1].sum().backward()
    to_numpy = model.backend.to_numpy
    np.testing.assert_allclose(
        relevance_at(model, x, 1, "block2"),
        to_numpy(block.data) * to_numpy(block.grad),
        rtol=1e-9,
        atol=1e-12,
    )


def test_channels_are_ranked_by_their_relevance():
    model, x = net(), images()
    ranked = rank_channels(model, x, Difference(1, 0), "block2", "epsilon:0.1")
    at = relevance_at(model, x, Difference(1, 0), "block2", "epsilon:0.1")
    expected = at.sum(axis=(2, 3)).mean(axis=0)
    assert [value for _, value in ranked] == sorted(expected, reverse=True)
    assert [expected[c] for c, _ in ranked] == [value for _, value in ranked]
    only = [c for c, value in rank_channels(model, x, 1, "out") if value]
    assert only == [1]  # the class itself


def test_a_unit_beside_the_main_way():
    """Nothing reaches the chain of a block from a unit of its shortcut."""
    model, x = net(), images()
    found = layer_relevances(model, x, Unit("block2.shortcut.1", 0))
    assert "block2.shortcut.1" in found
    assert "block2.1" not in found
    assert "stem" in found


@pytest.mark.parametrize("through", [{"out2": [0]}, {"relu2": [0]}, {"stem": [3]}, {"stem": [-1]}])
def test_wrong_channels(through):
    with pytest.raises(ConfigError, match=r"through=|channel of stem="):
        LRP(through=through)(net(), images(), Unit("block1.conv2", 0))
    with pytest.raises(ConfigError, match="layer 'conv7': no relevance arrives"):
        relevance_at(net(), images(), 0, "conv7")


# ---- guided backpropagation and Grad-CAM ------------------------------------------------------
def test_guided_backpropagation_by_hand(backend):
    """One hidden ReLU layer: r = W1^T (1[z > 0] 1[w2 > 0] w2)."""
    rng = np.random.default_rng(0)
    options = {"rng": rng, "backend": backend, "dtype": np.float64}
    model = Sequential(Flatten(), Dense(12, 9, **options), ReLU(), Dense(9, 3, **options))
    x = images((1, 3, 4))
    first, second = (model[i].weight.numpy() for i in (1, 3))
    gate = (x.reshape(3, -1) @ first.T > 0) * np.maximum(second[2], 0)
    found = get_explainer("guided-backpropagation")(model, x, 2)
    np.testing.assert_allclose(found, (gate @ first).reshape(x.shape), rtol=1e-12)


def test_grad_cam_by_a_plain_formula(backend):
    model, (x, _) = build("max", backend), inputs("max")
    x = np.abs(x)
    steps = forward_pass(model.eval(), x)
    maps = steps[4].z.numpy()  # the ReLU after the second convolution, 2 maps of 3 x 3
    rest = Sequential({str(i): model[i] for i in range(5, 9)})
    leaf = Tensor(maps, True, model.backend)
    rest(leaf)[:, 1].sum().backward()
    alpha = model.backend.to_numpy(leaf.grad).mean(axis=(2, 3))
    cam = np.maximum(np.einsum("nk,nkhw->nhw", alpha, maps), 0)
    assert cam.max() > 0
    found = get_explainer("grad-cam")(model, x, 1)[:, 0]
    for i in range(7):  # each pixel by itself, between the four centres around it
        for j in range(6):
            v, u = np.clip((i + 0.5) * 3 / 7 - 0.5, 0, 2), np.clip((j + 0.5) * 3 / 6 - 0.5, 0, 2)
            top, left = min(int(v), 1), min(int(u), 1)
            a, b = v - top, u - left
            four = cam[:, top : top + 2, left : left + 2]
            value = (1 - a) * ((1 - b) * four[:, 0, 0] + b * four[:, 0, 1])
            value = value + a * ((1 - b) * four[:, 1, 0] + b * four[:, 1, 1])
            np.testing.assert_allclose(found[:, i, j], value, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(GradCAM("4")(model, x, 1)[:, 0], found)


def test_grad_cam_of_a_block_sees_its_sum():
    model, x = net(), images()
    found = GradCAM()(model, x, 1)
    np.testing.assert_array_equal(found, GradCAM("relu2")(model, x, 1))
    with pytest.raises(ConfigError, match="layer='out'; expected one with maps"):
        GradCAM("out")(model, x, 1)
    with pytest.raises(ConfigError, match="this network has none"):
        GradCAM()(Sequential(Flatten(), Dense(32, 2, dtype=np.float64)), x, 1)


def test_grad_cam_shares_a_map_among_the_channels():
    options = {"dtype": np.float64, "rng": np.random.default_rng(1)}
    model = Sequential(Conv2d(3, 4, 3, **options), ReLU(), MaxPool2d(2), Flatten())
    model = Sequential({**model.layers, "4": Dense(36, 2, **options)})
    found = GradCAM()(model, images((3, 8, 8)), 0)
    np.testing.assert_array_equal(found[:, 0], found[:, 2])


def test_guided_backpropagation_hardly_notices_that_the_upper_layers_are_random():
    """On trained MNIST, as Adebayo et al. (2018) found: the gradient notices."""
    data = load_mnist()
    model = lenet(backend="numpy", seed=0)
    optimizer = Adam(model.parameters(), lr=1e-3)
    for step in range(40):
        pixels, labels = data.train.batch(slice(100 * step, 100 * step + 100))
        three_step(model, pixels, labels, active=False)
        optimizer.step()
    pixels, labels = data.test.batch(slice(0, 8))
    accuracy = (model.eval()(pixels).numpy().argmax(axis=1) == labels).mean()
    assert accuracy > 0.8
    alike = {}
    for name in ("guided-backpropagation", "gradient"):
        found = randomization(model, get_explainer(name), pixels, labels, seed=1)
        alike[name] = float(np.mean(found.spearman[2]))  # the three dense layers
    assert alike["guided-backpropagation"] > alike["gradient"] + 0.2, alike
