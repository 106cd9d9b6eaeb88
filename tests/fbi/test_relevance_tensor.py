"""a_i^- is an ordinary tensor; one kernel differentiates Eq. (2) and (3), and nobody may notice."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi import fbi
from minifbi.autograd import Tensor, no_grad
from minifbi.errors import ShapeError
from minifbi.layers import Dense, ReLU, Sequential
from minifbi.optim import SGD

X = np.random.default_rng(3).standard_normal((5, 4))
LABELS = np.array([0, 1, 2, 0, 1])


@pytest.fixture
def steps():
    options = {"dtype": np.float64, "rng": np.random.default_rng(1)}
    net = Sequential({"a": Dense(4, 6, **options), "r": ReLU(), "b": Dense(6, 3, **options)})
    return fbi.forward_pass(net, X)


def gradient(steps, relevances):
    for step in steps:
        for p in step.layer.own_parameters.values():
            p.grad = None
    fbi.fbi_loss(fbi.fbi_terms(steps, relevances)).backward()
    return steps[0].layer.weight.grad


def test_made_without_a_tape_it_is_a_constant(steps):
    with no_grad():
        relevances = fbi.relevance_pass(steps, labels=LABELS)
    detached = {
        name: Tensor(r.numpy()) for name, r in fbi.relevance_pass(steps, labels=LABELS).items()
    }
    assert not any(r.requires_grad for r in relevances.values())
    np.testing.assert_allclose(gradient(steps, relevances), gradient(steps, detached))


def test_the_factors_on_the_tape_change_no_gradient(steps):
    """Eq. (3) from the factors that stand on the tape, and from a tensor of unknown origin."""
    by_factors = gradient(steps, fbi.relevance_pass(steps, labels=LABELS))
    copies = {name: r + 0.0 for name, r in fbi.relevance_pass(steps, labels=LABELS).items()}
    np.testing.assert_allclose(gradient(steps, copies), by_factors)


def test_it_is_the_product(steps):
    relevances = fbi.relevance_pass(steps, labels=LABELS)
    for name, x in (("a", steps[0].x), ("b", steps[2].x)):
        product = relevances[name]
        a_plus, ratio = product.node.inputs
        assert a_plus is x
        np.testing.assert_array_equal(product.numpy(), x.data * ratio.data)
        np.testing.assert_array_equal((product * 2).numpy(), 2 * product.numpy())


def test_data_replaced_before_backward_change_nothing(steps):
    """What backward needs was bound when the loss was computed."""
    expected = gradient(steps, fbi.relevance_pass(steps, labels=LABELS, rule="epsilon:0.01"))
    loss = fbi.fbi_loss(
        fbi.fbi_terms(steps, fbi.relevance_pass(steps, labels=LABELS, rule="epsilon:0.01"))
    )
    for step in steps:
        step.x.data = step.x.data * 100
        step.z.data = step.z.data * 100
    steps[0].layer.weight.grad = None
    loss.backward()
    np.testing.assert_allclose(steps[0].layer.weight.grad, expected)


def test_a_ratio_of_another_shape_is_refused(steps, backend):
    with pytest.raises(ShapeError, match=r"\(7, 3\).*\(5, 3\)"):
        steps[-1].relevance(Tensor(np.ones((7, 3))))


def test_an_assigned_weight_takes_effect(steps):
    layer = steps[0].layer
    layer.weight = Tensor(np.zeros((6, 4)), requires_grad=True)
    assert layer.parameters()["weight"] is layer.weight
    np.testing.assert_array_equal(layer(X).numpy(), np.zeros((5, 6)))


def test_a_numpy_learning_rate_keeps_float32():
    layer = Dense(2, 2)
    optimizer = SGD(layer.parameters(), lr=np.float64(0.1))
    optimizer.lr = np.float64(0.2)
    layer(np.ones((1, 2))).sum().backward()
    optimizer.step()
    assert layer.dtype == np.float32
