"""Each penalty against an independent formula, and its gradient against differences."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import BATCH, CLASSES, build, inputs

from minifbi import fusion
from minifbi.autograd import Tensor, check_gradients, cross_entropy, log_softmax, no_grad
from minifbi.errors import ConfigError, ShapeError
from minifbi.fbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.layers import Dense, Sequential
from minifbi.models import alexnet
from minifbi.regularizers import (
    FBI,
    L1,
    L2,
    REGULARIZERS,
    Batch,
    InputGradient,
    Regularizer,
    RightReasons,
    SaliencyGuided,
    get_regularizer,
    regularizer_names,
)
from minifbi.training import three_step

NETS = ["max", "overlapping", "avg", "strided", "dropout"]
MASKS = np.random.default_rng(5).random((BATCH, 7, 6)) < 0.3


def batch_of(model, x, labels, masks=MASKS, fused=False):
    """After a fresh forward pass, with random numbers that are the same each time."""
    steps = forward_pass(fusion._rewritten(model) if fused else model, x)
    return Batch(model, steps, labels, masks, np.random.default_rng(11))


def penalty_of(regularizer, *arguments, **options):
    return regularizer.penalty(regularizer.terms(batch_of(*arguments, **options)))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {k: p.backend.to_numpy(p.grad) for k, p in model.parameters().items()}


# ---- gradients -----------------------------------------------------------------------------
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", list(REGULARIZERS))
def test_gradient_of_the_whole_objective(name, net, backend):
    model, (x, labels) = build(net, backend), inputs(net)
    regularizer, states = get_regularizer(name), model.random_states()

    def loss():
        model.load_random_states(states)  # the same dropout mask each time
        batch = batch_of(model, x, labels)
        task = cross_entropy(batch.logits, labels)
        return regularizer.objective(task, regularizer.penalty(regularizer.terms(batch)), 0.3)

    parameters = model.parameters()
    assert len(parameters) == (10 if net == "strided" else 8)
    check_gradients(loss, parameters, directions=2)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("net", ["max", "avg"])
@pytest.mark.parametrize("name", ["input-gradient", "right-reasons"])
def test_double_backpropagation_is_the_derivative_of_a_gradient(name, net, fused, backend):
    """With f the function whose gradient g at the image is penalised and v = A * A * g,

        d/dtheta sum (A g)^2 = 2 d/dh [ grad_theta f(x + h v) ]  at h = 0,

    which needs first derivatives only, and no relevance pass (Pearlmutter 1994).
    """
    model, (x, labels) = build(net, backend), inputs(net)

    def f(images):
        y = model(images)
        if name == "input-gradient":
            return cross_entropy(y, labels) * float(BATCH)
        return log_softmax(y).sum()

    image = Tensor(x, True, backend)
    f(image).backward()
    g = image.backend.to_numpy(image.grad)
    allowed = MASKS[:, None] if name == "right-reasons" else np.ones_like(g)

    regularizer = get_regularizer(name)
    penalty = penalty_of(regularizer, model, x, labels, fused=fused)
    assert penalty.item() == pytest.approx(((allowed * g) ** 2).sum() / BATCH, rel=1e-12)
    ours, v, h = gradients(model, penalty), allowed**2 * g, 1e-5
    plus, minus = gradients(model, f(x + h * v)), gradients(model, f(x - h * v))
    for key, gradient in ours.items():
        expected = 2 * (plus[key] - minus[key]) / (2 * h) / BATCH
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9, err_msg=key)


# ---- each penalty by hand --------------------------------------------------------------------
def linear_softmax():
    """y = W x: everything can be written down."""
    rng = np.random.default_rng(2)
    model = Sequential(Dense(6, CLASSES, bias=False, rng=rng, dtype=np.float64))
    x, labels = rng.random((BATCH, 6)), np.array([0, 3, 1])
    weight = model.parameters()["0.weight"].data
    p = np.exp(x @ weight.T)
    return model, x, labels, weight, p / p.sum(axis=1, keepdims=True)


def test_input_gradient_of_a_linear_net():
    model, x, labels, weight, p = linear_softmax()
    expected = np.mean(
        [np.sum(((q - np.eye(CLASSES)[k]) @ weight) ** 2) for q, k in zip(p, labels, strict=True)]
    )
    assert penalty_of(InputGradient(), model, x, labels).item() == pytest.approx(expected)


def test_right_reasons_of_a_convolution_by_hand(backend):
    """Eq. (1) of Ross et al. 2017, from the gradient of each log-probability by itself."""
    model, (x, labels) = build("max", backend), inputs("max")
    g = np.zeros_like(x)
    for k in range(CLASSES):
        image = Tensor(x, True, backend)
        log_softmax(model(image))[:, k].sum().backward()
        g += image.backend.to_numpy(image.grad)
    expected = sum(g[n, 0, i, j] ** 2 for n, i, j in zip(*np.nonzero(MASKS), strict=True)) / BATCH
    assert penalty_of(RightReasons(), model, x, labels).item() == pytest.approx(expected)
    nowhere = np.zeros_like(MASKS)
    assert penalty_of(RightReasons(), model, x, labels, masks=nowhere).item() == 0


@pytest.mark.parametrize("fused", [False, True])
def test_l1_is_the_fbi_loss_without_the_gradient(fused, backend):
    """Term by term: ||a * (1 - g)||_1 with g = 0 in every layer but the first."""
    model, (x, labels) = build("max", backend), inputs("max")
    batch = batch_of(model, np.abs(x), labels, fused=fused)
    terms = L1().terms(batch)
    hidden = [step for step in batch.steps if step.layer.functional][1:]
    assert list(terms) == [step.name for step in hidden] == ["3", "6", "8"]
    for step in hidden:
        assert terms[step.name].item() == pytest.approx(step.x.numpy().sum() / BATCH)
    assert L1().penalty(terms).item() == pytest.approx(sum(t.item() for t in terms.values()) / 3)
    means = L1("mean").terms(batch)
    assert means["6"].item() == pytest.approx(hidden[1].x.numpy().mean())


def test_l2_leaves_the_biases_out(backend):
    model, (x, labels) = build("max", backend), inputs("max")
    weights = {k: p for k, p in model.parameters().items() if k.endswith("weight")}
    penalty = penalty_of(L2(), model, x, labels)
    expected = 0.5 * sum((p.numpy() ** 2).sum() for p in weights.values())
    assert penalty.item() == pytest.approx(expected)
    model.zero_grad()
    penalty.backward()
    for key, p in model.parameters().items():
        if key in weights:
            np.testing.assert_allclose(p.backend.to_numpy(p.grad), p.numpy())  # weight decay
        else:
            assert p.grad is None


@pytest.mark.parametrize("absolute", [True, False])
def test_saliency_guided_by_hand(absolute, backend):
    model, (x, labels) = build("max", backend), inputs("max")
    image = Tensor(x, True, backend)
    model(image)[np.arange(BATCH), labels].sum().backward()
    g = image.backend.to_numpy(image.grad)
    regularizer = SaliencyGuided(0.25, absolute)
    masked = regularizer.mask(x, g, np.random.default_rng(11))
    for n in range(BATCH):  # round(0.25 * 42) = 10 pixels, and no other one is changed
        saliency = (np.abs(g[n, 0]) if absolute else g[n, 0]).ravel()
        np.testing.assert_array_equal(
            np.sort(np.argsort(saliency)[:10]), np.flatnonzero((masked[n] != x[n]).ravel())
        )
    with no_grad():
        p, q = (np.exp(log_softmax(model(images)).numpy()) for images in (x, masked))
    expected = (p * np.log(p / q)).sum() / BATCH
    assert expected > 0
    assert penalty_of(regularizer, model, x, labels).item() == pytest.approx(expected)


@given(
    share=st.floats(0.01, 0.99),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 6), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_masking_keeps_the_most_salient_and_the_range(share, shape, seed):
    rng = np.random.default_rng(seed)
    images, gradient = rng.random(shape), rng.standard_normal(shape)
    before = images.copy()
    masked = SaliencyGuided(share).mask(images, gradient, rng)
    np.testing.assert_array_equal(images, before)
    assert masked.shape == shape
    changed = (masked != images).any(axis=1)  # one place in all channels
    count = max(1, round(share * shape[2] * shape[3]))
    assert (changed.sum(axis=(1, 2)) <= count).all()
    saliency = np.abs(gradient).sum(axis=1)
    for n in range(shape[0]):
        if changed[n].any() and not changed[n].all():
            assert (saliency[n][~changed[n]] >= np.sort(saliency[n], axis=None)[count - 1]).any()
            assert saliency[n][changed[n]].max() <= np.sort(saliency[n], axis=None)[count - 1]
    assert (masked <= images.max(axis=(2, 3), keepdims=True)).all()
    assert (masked >= images.min(axis=(2, 3), keepdims=True)).all()


def test_nothing_to_mask_nothing_to_pay(backend):
    """A constant image stays what it is: its range is a single value."""
    model = build("max", backend)
    x, labels = np.full((BATCH, 1, 7, 6), 0.5), np.zeros(BATCH, int)
    assert penalty_of(SaliencyGuided(), model, x, labels).item() == pytest.approx(0, abs=1e-14)


# ---- the step --------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", ["zero", "epsilon:0.01"])
def test_the_fbi_loss_is_a_regularizer_like_the_others(rule, backend):
    """Against its equations called one by one; and it is what a step without a name takes."""
    rng = np.random.default_rng(0)
    x, labels = rng.random((8, 1, 28, 28), np.float32), rng.integers(0, 10, 8)
    model = alexnet(backend=backend)

    def gradients():
        return {k: p.backend.to_numpy(p.grad).copy() for k, p in model.parameters().items()}

    losses = three_step(model, x, labels, FBI("predicted", "mean", rule=rule), weight=0.3)
    found = gradients()
    model.zero_grad()
    steps = forward_pass(model, x)
    terms = fbi_terms(steps, relevance_pass(steps, "predicted", labels, rule=rule), "mean")
    task = cross_entropy(steps[-1].z, labels)
    loss = objective(task, fbi_loss(terms), 0.3)
    loss.backward()
    assert losses.loss.item() == loss.item()
    assert losses.penalty.item() == fbi_loss(terms).item()
    assert losses.penalty_terms.keys() == terms.keys()
    for key, gradient in gradients().items():
        np.testing.assert_array_equal(found[key], gradient, err_msg=key)
    default, explicit = three_step(model, x, labels), three_step(model, x, labels, FBI())
    assert default.loss.item() == explicit.loss.item() != default.task_loss.item()


@pytest.mark.parametrize("name", list(REGULARIZERS))
def test_objective_gate_and_measuring(name, backend):
    model, (x, labels) = build("dropout", backend), inputs("dropout")
    regularizer, states = get_regularizer(name), model.random_states()

    def step(**options):
        model.load_random_states(states)
        losses = three_step(model, x, labels, regularizer, masks=MASKS, **options)
        found = {k: p.backend.to_numpy(p.grad) for k, p in model.parameters().items()}
        return losses, found, model.random_states()

    shut, plain, after = step(active=False)
    assert shut.loss is shut.task_loss
    assert shut.penalty is None
    measured, same, after_measuring = step(active=False, measure=True)
    assert measured.penalty.item() > 0
    assert list(measured.penalty_terms)
    assert not measured.penalty.requires_grad
    assert after == after_measuring
    active, _, _ = step(weight=0.2)
    task, penalty = active.task_loss.item(), active.penalty.item()
    by_hand = 0.8 * task + 0.2 * penalty if name == "fbi" else task + 0.2 * penalty
    assert active.loss.item() == pytest.approx(by_hand)
    default, _, _ = step()
    explicit, _, _ = step(weight=regularizer.default_weight)
    assert default.loss.item() == explicit.loss.item()
    for key, gradient in plain.items():
        np.testing.assert_array_equal(gradient, same[key])


# ---- mistakes --------------------------------------------------------------------------------
def test_mistakes_are_named():
    model, (x, labels) = build("max", "numpy"), inputs("max")
    with pytest.raises(ConfigError, match="decoy-mnist"):
        penalty_of(RightReasons(), model, x, labels, masks=None)
    with pytest.raises(ShapeError, match=r"\(3, 7, 6\)"):
        penalty_of(RightReasons(), model, x, labels, masks=MASKS[:, :3])
    with pytest.raises(ShapeError, match="int64"):
        penalty_of(RightReasons(), model, x, labels, masks=MASKS.astype(int))
    linear, rows, classes, *_ = linear_softmax()
    with pytest.raises(ConfigError, match="at least two"):
        penalty_of(L1(), linear, rows, classes)
    with pytest.raises(ShapeError, match="masks pixels"):
        penalty_of(SaliencyGuided(), linear, rows, classes)
    with pytest.raises(ConfigError, match="max"):
        L1("max")
    for share in (0, 1, math.nan):
        with pytest.raises(ConfigError, match="share"):
            SaliencyGuided(share)
    with pytest.raises(ConfigError, match="dropblock"):
        get_regularizer("dropblock")
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="weight"):
            L2().objective(Tensor(1.0), Tensor(1.0), weight)
    with pytest.raises(ConfigError, match="no terms"):
        L2().penalty({})
    with pytest.raises(NotImplementedError, match="Regularizer"):
        Regularizer().terms(batch_of(model, *inputs("max")))


def test_names():
    assert regularizer_names() == (
        *("fbi", "none", "l2", "l1"),
        *("input-gradient", "right-reasons", "saliency-guided"),
    )
    assert [get_regularizer(name).needs_masks for name in REGULARIZERS].count(True) == 1
    partial = functools.partial(get_regularizer, "saliency-guided", share=0.1)
    assert partial().share == 0.1
