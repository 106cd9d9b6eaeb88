"""Eq. (5): gradients of the whole objective, through the forward and the relevance pass."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import build, inputs

from minifbi import fbi
from minifbi.autograd import Tensor, check_gradients, cross_entropy
from minifbi.datasets import load_mnist
from minifbi.models import alexnet


def total_loss(model, x, labels, start, rule, reduction, fbi_weight=0.3):
    steps = fbi.forward_pass(model, x)
    relevances = fbi.relevance_pass(steps, start, labels, rule)
    loss = fbi.fbi_loss(fbi.fbi_terms(steps, relevances, reduction))
    return fbi.objective(cross_entropy(steps[-1].z, labels), loss, fbi_weight)


@pytest.mark.parametrize("reduction", fbi.REDUCTIONS)
@pytest.mark.parametrize("rule", ["zero", "epsilon:0.01"])
@pytest.mark.parametrize("start", fbi.STARTS)
@pytest.mark.parametrize("name", ["max", "overlapping", "avg", "dropout"])
def test_objective(name, start, rule, reduction, backend):
    model, (x, labels) = build(name, backend), inputs(name)
    image = Tensor(x, True, backend)
    states = model.random_states()

    def loss():
        model.load_random_states(states)  # the same dropout mask each time
        return total_loss(model, image, labels, start, rule, reduction)

    checked = {"image": image, **model.parameters()}
    assert len(checked) == 9
    # R / (z + 0.01) bends on the scale of 0.01: differences need a step that is short beside it
    check_gradients(loss, checked, directions=2, step=1e-5 if rule == "zero" else 2e-6)


@pytest.mark.parametrize("name", ["dense", "strided", "max"])
def test_objective_without_biases(name, backend):
    model, (x, labels) = build(name, backend, bias=False), inputs(name)
    image = Tensor(x, True, backend)
    check_gradients(
        lambda: total_loss(model, image, labels, "target", "zero", "sum", fbi_weight=1.0),
        {"image": image, **model.parameters()},
    )


def test_an_input_gradient_penalty_needs_no_second_order_engine(backend):
    """The ratio that reaches the image is the input gradient, and it can be differentiated."""
    model, (x, labels) = build("max", backend), inputs("max")

    def penalty():
        steps = fbi.forward_pass(model, x)
        ratio = fbi.start_ratio(steps[-1].z, "target", labels)
        for step in reversed(steps):
            ratio = step.relevance(ratio)
        return (ratio * ratio).sum()

    image = Tensor(x, True, backend)
    model(image)[np.arange(len(labels)), labels].sum().backward()
    gradient = image.backend.to_numpy(image.grad)
    assert penalty().item() == pytest.approx((gradient**2).sum(), rel=1e-12)
    check_gradients(penalty, {k: p for k, p in model.parameters().items() if "weight" in k})


@pytest.mark.parametrize("fbi_weight", [0.001, 1.0])
def test_float32_gradients_of_the_papers_net_on_digits(fbi_weight, backend):
    test = load_mnist().test
    images, labels = np.asarray(test.images[:8]) / 255, np.asarray(test.labels[:8])

    def gradients(dtype):
        model = alexnet(backend=backend, dtype=dtype, seed=0)
        total_loss(model, images, labels, "target", "zero", "sum", fbi_weight).backward()
        assert all(p.grad.dtype == dtype for p in model.parameters().values())
        return {k: p.backend.to_numpy(p.grad) for k, p in model.parameters().items()}

    single, double = gradients(np.float32), gradients(np.float64)
    assert len(double) == 16
    for key, reference in double.items():
        difference = np.linalg.norm(single[key] - reference)
        if key == "dense8.bias" and fbi_weight == 1:
            assert np.linalg.norm(reference) == difference == 0  # relevance never sees this bias
        else:
            assert difference < 1e-4 * np.linalg.norm(reference), key
