"""Batch normalisation: its numbers, its part in both passes, and the network without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minifbi
from minifbi.autograd import Tensor, check_gradients, cross_entropy
from minifbi.errors import ConfigError, ShapeError
from minifbi.explain import LRP, conservation_report
from minifbi.fusion import fold_batchnorm, fuse
from minifbi.layers import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.rules import RULES

LABELS = np.array([0, 2, 1, 1])


def norm(channels, rng, backend="numpy"):
    """A BatchNorm2d in the middle of its training."""
    layer = BatchNorm2d(channels, backend=backend, dtype=np.float64)
    place = layer.backend.asarray
    layer.weight.data = place(rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels))
    layer.bias.data = place(rng.normal(0, 0.3, channels))
    layer.running_mean = place(rng.normal(0, 0.3, channels))
    layer.running_var = place(rng.uniform(0.5, 2, channels))
    return layer


def net(backend="numpy", seed=0):
    """Behind convolutions, in a shortcut, and once where it cannot be folded."""
    rng = np.random.default_rng(seed)
    options = {"rng": rng, "backend": backend, "dtype": np.float64}
    chain = {
        "norm": norm(3, rng, backend),  # before its convolution
        "conv1": Conv2d(3, 4, 3, stride=2, padding=1, bias=False, **options),
        "bn1": norm(4, rng, backend),
        "relu": ReLU(),
        "conv2": Conv2d(4, 4, 3, padding=1, bias=False, **options),
        "bn2": norm(4, rng, backend),
    }
    shortcut = {"conv": Conv2d(3, 4, 1, stride=2, bias=False, **options), "bn": norm(4, rng)}
    if backend != "numpy":
        shortcut["bn"] = norm(4, rng, backend)
    return Sequential(
        {
            "stem": Sequential({"conv": Conv2d(2, 3, 3, padding=1, bias=False, **options)}),
            "bn": norm(3, rng, backend),
            "leaky": LeakyReLU(0.1),
            "block": Residual(chain, shortcut=Sequential(shortcut)),
            "relu": ReLU(),
            "pool": GlobalAvgPool2d(),
            "flatten": Flatten(),
            "out": Dense(4, 3, **options),
        }
    )


def images(n=4):
    return np.random.default_rng(9).normal(size=(n, 2, 6, 6))


def objective(model, x, rule="zero", weight=0.5):
    steps = minifbi.forward_pass(model, x)
    terms = minifbi.fbi_terms(steps, minifbi.relevance_pass(steps, "target", LABELS, rule))
    task = cross_entropy(steps[-1].z, LABELS)
    return minifbi.objective(task, minifbi.fbi_loss(terms), fbi_weight=weight)


# ---- one layer ---------------------------------------------------------------------------
def test_it_is_the_formula(backend):
    rng = np.random.default_rng(1)
    layer = norm(3, rng, backend)
    x = rng.normal(2, 3, (5, 3, 4, 6))
    numpy = layer.backend.to_numpy
    gamma, beta = (p.numpy()[:, None, None] for p in (layer.weight, layer.bias))
    before = {name: numpy(array).copy() for name, array in layer.buffers().items()}
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))

    expected = gamma * (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5) + beta
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-10, atol=1e-12)
    count = x.size // 3
    moved = 0.9 * before["running_mean"] + 0.1 * mean
    np.testing.assert_allclose(numpy(layer.running_mean), moved, rtol=1e-12)
    moved = 0.9 * before["running_var"] + 0.1 * var * count / (count - 1)
    np.testing.assert_allclose(numpy(layer.running_var), moved, rtol=1e-12)

    layer.eval()
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var"]
    mean, var = (state[name][:, None, None] for name in ("running_mean", "running_var"))
    expected = gamma * (x - mean) / np.sqrt(var + 1e-5) + beta
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-10, atol=1e-12)
    assert all((layer.state_dict()[name] == state[name]).all() for name in state)


def test_relevance_is_multiplied_by_the_scale_and_the_shift_absorbs(backend):
    rng = np.random.default_rng(2)
    layer = norm(3, rng, backend)
    x = rng.normal(size=(5, 3, 2, 2))
    for training in (True, False):
        (step,) = layer.train(training).trace(x)
        ratio = rng.normal(size=x.shape)
        carried = step.relevance(Tensor(ratio, backend=backend)).numpy()
        var = x.var((0, 2, 3)) if training else layer.backend.to_numpy(layer.running_var)
        scale = layer.weight.numpy() / np.sqrt(var + 1e-5)
        np.testing.assert_allclose(carried, ratio * scale[:, None, None], rtol=1e-10)
        shift = step.z.numpy() - x * scale[:, None, None]
        lost = (step.z.numpy() * ratio - x * carried).sum()
        np.testing.assert_allclose(lost, (shift * ratio).sum(), rtol=1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("rule", ["zero", "epsilon:0.1", "epsilon-plus"])
def test_gradients_through_both_passes(training, rule, backend):
    model = net(backend).train(training)
    x = Tensor(images(), requires_grad=True, backend=backend)
    inputs = {**model.parameters(), "image": x}
    assert check_gradients(lambda: objective(model, x, rule), inputs).ok


def test_the_variance_gets_a_gradient_from_the_relevance_pass():
    """With mean and var held fixed on the tape, the loss has another gradient."""
    model, x = net(), images()
    objective(model, x, weight=1.0).backward()
    through = model.parameters()["stem.conv.weight"].grad
    model.zero_grad()
    for _, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):
            layer.momentum = 1.0
    for _ in range(20):  # each layer's statistics need those before it to be settled
        minifbi.forward_pass(model, x)
    for _, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):  # evaluation mode normalises by the biased variance too
            layer.running_var = layer.running_var * (len(x) * 36 - 1) / (len(x) * 36)
    model.eval()
    objective(model, x, weight=1.0).backward()
    fixed = model.parameters()["stem.conv.weight"].grad
    assert np.abs(through - fixed).max() > 0.1 * np.abs(fixed).max()


def test_what_does_not_fit_is_refused():
    layer = BatchNorm2d(3)
    for shape in ((2, 3), (2, 4, 5, 5), (3, 5, 5)):
        with pytest.raises(ShapeError, match=r"expected \(N, 3, H, W\)"):
            layer(np.ones(shape, np.float32))
    with pytest.raises(ShapeError, match="one number per channel"):
        layer(np.ones((1, 3, 1, 1), np.float32))
    layer.eval()(np.ones((1, 3, 1, 1), np.float32))
    for options in ({"num_features": 0}, {"num_features": 2, "momentum": 2}):
        with pytest.raises(ConfigError):
            BatchNorm2d(**options)


@given(scale=st.floats(-3, 3), shift=st.floats(-3, 3), seed=st.integers(0, 99))
def test_training_mode_forgets_scale_and_shift_of_its_input(scale, shift, seed):
    x = np.random.default_rng(seed).normal(size=(4, 1, 3, 3))
    layer = BatchNorm2d(1, eps=0, dtype=np.float64)
    if abs(scale) > 0.1:
        z = layer(x).numpy() * np.sign(scale)
        np.testing.assert_allclose(layer(scale * x + shift).numpy(), z, atol=1e-9)


# ---- without it --------------------------------------------------------------------------
def test_folding_changes_no_output_and_no_gradient(backend):
    model, x = net(backend), images()
    before = model.state_dict()
    folded = fold_batchnorm(model)
    names = [name for name, layer in folded.named_layers() if isinstance(layer, BatchNorm2d)]
    assert names == ["block.norm"]  # it stands before a convolution
    assert model.training
    assert not folded.training
    assert all((before[name] == array).all() for name, array in model.state_dict().items())
    model.eval()
    np.testing.assert_allclose(folded(x).numpy(), model(x).numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(fuse(folded)(x).numpy(), model(x).numpy(), rtol=1e-11, atol=1e-12)
    x_model, x_folded = (Tensor(x, requires_grad=True, backend=backend) for _ in range(2))
    for network, image in ((model, x_model), (folded, x_folded)):
        steps = minifbi.forward_pass(network, image)
        relevance = minifbi.relevance_pass(steps, "target", LABELS)
        steps[-1].z[np.arange(4), LABELS].sum().backward()
        first = relevance["stem.conv"].numpy()
    # LRP-0 is activation times gradient here: LeakyReLU and ReLU are linear on each side of 0
    grad = model.backend.to_numpy(x_model.grad)
    np.testing.assert_allclose(model.backend.to_numpy(x_folded.grad), grad, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first, x * grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_explaining_folds(rule):
    model, x = net(), np.random.default_rng(9).random((4, 2, 6, 6))
    model.layers["block"].chain.pop("norm")
    model.layers["block"].layers.pop("norm")
    folded = fold_batchnorm(model)
    assert not any(isinstance(layer, BatchNorm2d) for _, layer in folded.named_layers())
    np.testing.assert_array_equal(LRP(rule)(model, x, LABELS), LRP(rule)(folded, x, LABELS))
    report = conservation_report(model, x, LABELS, rule)
    for layer in report.layers:
        assert np.abs(layer.residual).max() < 1e-9
    assert model.training


def test_what_is_mine_stays_mine():
    """A container with a way of its own is not taken apart; a layer keeps its own mode."""

    class Mine(Sequential):
        def trace(self, x, name=""):
            return super().trace(x, name)

    class Named(Sequential):
        def __init__(self, rng):
            super().__init__(Conv2d(2, 3, 3, rng=rng, dtype=np.float64), norm(3, rng))

    rng = np.random.default_rng(3)
    mine = Mine(Conv2d(2, 3, 3, rng=rng, dtype=np.float64), norm(3, rng))
    assert len(fold_batchnorm(Sequential(mine))["0"]) == 2
    model = Named(rng).eval()
    assert len(fold_batchnorm(model)) == 1
    np.testing.assert_allclose(fold_batchnorm(model)(images()).numpy(), model(images()).numpy())
    dense = Sequential(Flatten(), Dense(72, 5, rng=rng, dtype=np.float64))
    assert fold_batchnorm(dense).parameters().keys() == dense.parameters().keys()
    shared = Conv2d(2, 2, 3, padding=1, rng=rng, dtype=np.float64)  # used twice, normed twice
    twice = Sequential(shared, norm(2, rng), shared, norm(2, rng)).eval()
    np.testing.assert_allclose(fold_batchnorm(twice)(images()).numpy(), twice(images()).numpy())
