"""Optimisers against their formulas written out, and schedules at known points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minifbi.autograd import Tensor
from minifbi.backends import get_backend
from minifbi.errors import CheckpointError, ConfigError
from minifbi.optim import SGD, Adam, adam_step, learning_rate

GRADS = [np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.0, -1.0]), np.array([-0.7, 4.0, 2.0])]
START = np.array([0.1, 0.2, -0.3])


def run(optimizer_class, backend="numpy", dtype=np.float64, **options):
    p = Tensor(START, requires_grad=True, backend=backend, dtype=dtype)
    optimizer = optimizer_class({"p": p}, **options)
    for grad in GRADS:
        p.grad = p.backend.asarray(grad, dtype)
        optimizer.step()
    return p, optimizer


def test_sgd_momentum_and_weight_decay(backend):
    p, _ = run(SGD, backend, lr=0.1, momentum=0.9, weight_decay=0.01)
    expected, velocity = START.copy(), np.zeros(3)
    for grad in GRADS:
        velocity = 0.9 * velocity + grad + 0.01 * expected
        expected = expected - 0.1 * velocity
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-14)


def test_adam_is_algorithm_1(backend):
    p, _ = run(Adam, backend, lr=0.01, weight_decay=0.1)
    expected, m, v = START.copy(), np.zeros(3), np.zeros(3)
    for t, grad in enumerate(GRADS, start=1):
        g = grad + 0.1 * expected
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        expected = expected - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (40, 10, 3, 5), (300, 70)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_for_adam_is_adam_step(backend, shape, dtype):
    k, rng = get_backend(backend), np.random.default_rng(0)
    if k.adam is None:
        assert backend == "numpy"  # which runs adam_step itself; the others have a kernel
        return
    p = rng.standard_normal(shape).astype(dtype)
    known, found = [(p, np.zeros(shape, dtype), np.zeros(shape, dtype)) for _ in range(2)]
    found = [k.asarray(array) for array in found]
    for t in (1, 2, 3):
        grad = (10.0 ** rng.integers(-6, 3, shape) * rng.standard_normal(shape)).astype(dtype)
        options = (0.01, (0.8, 0.99), 1e-6, t)
        known = (adam_step(known[0], grad, *known[1:], *options), *known[1:])
        # as gradients come: not always in the parameter's order in memory
        ours = k.asarray(grad.T.copy()).T
        found = (k.adam(found[0], ours, *found[1:], *options), *found[1:])
    for ours, theirs in zip(found, known, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(
            k.to_numpy(ours), theirs, rtol=1e-6 if dtype == np.float32 else 1e-14
        )


def test_adam_first_step_is_the_learning_rate_whatever_the_scale():
    p = Tensor(np.zeros(2), requires_grad=True)
    optimizer = Adam({"p": p}, lr=0.01)
    p.grad = np.array([1e-3, -1e5])
    optimizer.step()
    np.testing.assert_allclose(p.data, [-0.01, 0.01], rtol=1e-4)


@pytest.mark.parametrize("optimizer_class", [SGD, Adam])
def test_float32_stays_float32_and_old_arrays_stay(optimizer_class):
    p = Tensor(START, requires_grad=True, dtype=np.float32)
    array = p.data
    optimizer = optimizer_class({"p": p})
    p.grad = np.ones(3, np.float32)
    optimizer.step()
    assert p.data.dtype == np.float32
    assert not np.allclose(p.data, START)
    np.testing.assert_array_equal(array, START.astype(np.float32))


@pytest.mark.parametrize("optimizer_class", [SGD, Adam])
def test_state_continues_exactly(optimizer_class):
    whole, _ = run(optimizer_class)
    p = Tensor(START, requires_grad=True)
    first = optimizer_class({"p": p})
    p.grad = GRADS[0]
    first.step()
    q = Tensor(p.data, requires_grad=True)
    second = optimizer_class({"p": q})
    second.load_state_dict(first.state_dict())
    for grad in GRADS[1:]:
        q.grad = grad
        second.step()
    np.testing.assert_array_equal(q.data, whole.data)


def test_a_parameter_without_gradient_is_left_alone():
    p = Tensor(START, requires_grad=True)
    Adam({"p": p}, weight_decay=1.0).step()
    np.testing.assert_array_equal(p.data, START)


def test_state_of_another_optimizer_is_refused():
    _, sgd = run(SGD)
    _, adam = run(Adam)
    with pytest.raises(CheckpointError, match="does not belong"):
        adam.load_state_dict(sgd.state_dict())


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (SGD, {"lr": -1.0}),
        (SGD, {"lr": math.nan}),
        (SGD, {"momentum": 1.0}),
        (SGD, {"weight_decay": -0.1}),
        (Adam, {"betas": (0.9, 1.0)}),
        (Adam, {"eps": 0.0}),
    ],
)
def test_wrong_options(optimizer_class, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        optimizer_class({"p": Tensor([1.0], True)}, **options)


def test_no_parameters():
    with pytest.raises(ConfigError, match="no parameters"):
        SGD({})


def test_schedules():
    assert learning_rate(0.1, "constant", 99, 100) == 0.1
    assert learning_rate(0.1, "cosine", 0, 100) == pytest.approx(0.1)
    assert learning_rate(0.1, "cosine", 50, 100) == pytest.approx(0.05)
    assert learning_rate(0.1, "cosine", 100, 100) == pytest.approx(0.0, abs=1e-17)
    assert learning_rate(0.1, "cosine", 130, 100) == pytest.approx(0.0, abs=1e-17)
    steps = [learning_rate(1.0, "step", s, 100) for s in (0, 49, 50, 74, 75, 99)]
    assert steps == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(ConfigError, match="linear"):
        learning_rate(0.1, "linear", 0, 1)
