"""The checker: it passes what is right, finds planted mistakes, and says whose they are."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi.autograd import Tensor, check_gradients, record
from minifbi.errors import ConfigError, GradientError
from minifbi.layers import Conv2d, Dense, ReLU, Sequential


def parameter(backend, *shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), True, backend)


def planted(forward, backward):
    """An operation of one tensor with a backward of our choice."""
    return lambda x: record(forward(x.data), (x,), lambda g: (backward(x.data, g),), "planted")


def first_element_off(array):
    """The same array but for one element."""
    array[0, 0] += 1
    return array


right_square = planted(lambda x: x * x, lambda x, g: 2 * x * g)
MISTAKES = {
    "wrong factor": planted(lambda x: x * x, lambda x, g: 3 * x * g),
    "wrong by a thousandth": planted(lambda x: x * x, lambda x, g: 2.002 * x * g),
    "wrong sign": planted(lambda x: x * x, lambda x, g: -2 * x * g),
    "forgotten accumulation": planted(lambda x: x * x, lambda x, g: x * g),
    "forgotten gradient": planted(lambda x: x * x, lambda x, g: 0 * g),
    "missing term": planted(lambda x: x * x + x, lambda x, g: 2 * x * g),
    "transposed": planted(lambda x: x * x, lambda x, g: (2 * x * g).T),
    "one element wrong": planted(lambda x: x * x, lambda x, g: first_element_off(2 * x * g)),
    "not a number": planted(lambda x: x * x, lambda x, g: g * np.nan),
}


def test_right_gradients_pass(backend):
    w, x = parameter(backend, 3, 3), parameter(backend, 3, 3, seed=1)
    report = check_gradients(lambda: (right_square(w) @ x).tanh().sum(), {"w": w, "x": x})
    assert report.ok
    assert report.wrong == []
    assert max(report.errors.values()) < 1e-7
    assert str(report).count("ok") == 2


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found_and_named(mistake, backend):
    w, x = parameter(backend, 3, 3), parameter(backend, 3, 3, seed=1)

    def loss():
        return (MISTAKES[mistake](w) * x).sum() + x.exp().sum()

    report = check_gradients(loss, {"w": w, "x": x}, raises=False)
    assert report.wrong == ["w"]
    assert not report.ok
    assert "WRONG  w" in str(report)
    with pytest.raises(GradientError, match="WRONG  w") as caught:
        check_gradients(loss, {"w": w, "x": x})
    assert "WRONG  x" not in str(caught.value)


class TransposedWeightGradient(Dense):
    def backward(self, backend, grad, saved, needs_x):
        grad_x, grad_weight, *rest = super().backward(backend, grad, saved, needs_x)
        return (grad_x, grad_weight.T, *rest)


class NoBiasGradient(Conv2d):
    def backward(self, backend, grad, saved, needs_x):
        return (*super().backward(backend, grad, saved, needs_x)[:2], None)


class RelevanceForgetsTheWeight(Dense):
    """lrp_toolbox's mistake: the relevance pass as if the weights were constants."""

    def relevance_backward(self, backend, grad, ratio, saved):
        grad_ratio, _, *rest = super().relevance_backward(backend, grad, ratio, saved)
        return (grad_ratio, None, *rest)


def test_a_mistake_in_one_layer_of_a_net(backend):
    options = {"rng": 1, "backend": backend, "dtype": np.float64}
    images = np.random.default_rng(0).standard_normal((2, 1, 3, 3))
    rows = images.reshape(2, 9)

    dense = Sequential(Dense(9, 4, **options), ReLU(), TransposedWeightGradient(4, 4, **options))
    report = check_gradients(lambda: (dense(rows) ** 2).sum(), dense.parameters(), raises=False)
    assert report.wrong == ["2.weight"]
    assert list(report.errors) == ["0.weight", "0.bias", "2.weight", "2.bias"]

    conv = Sequential(NoBiasGradient(1, 2, 2, **options), ReLU(), Conv2d(2, 1, 2, **options))
    report = check_gradients(lambda: (conv(images) ** 2).sum(), conv.parameters(), raises=False)
    assert report.wrong == ["0.bias"]

    layer = RelevanceForgetsTheWeight(9, 4, **options)
    x, ratio = Tensor(rows, backend=backend), Tensor(np.ones((2, 4)), True, backend)
    report = check_gradients(
        lambda: (layer.trace(x)[0].relevance(ratio) ** 2).sum(),
        {"ratio": ratio, **layer.parameters()},
        raises=False,
    )
    assert report.wrong == ["weight"]


# ---- kinks -----------------------------------------------------------------------------------
def test_kinks_are_set_aside(backend):
    # one element is so near to 0 that the first steps cross it, and shorter ones do not
    w = Tensor([1.0, -2.0, 1e-6], True, backend)
    report = check_gradients(lambda: w.abs().sum(), {"w": w})
    assert report.ok
    assert report.kinks["w"] > 0
    assert "kinks avoided" in str(report)
    smooth = Tensor([1.0, -2.0, 1.0], True, backend)
    assert check_gradients(lambda: smooth.abs().sum(), {"w": smooth}).kinks["w"] == 0


def test_a_mistake_is_found_beside_a_kink(backend):
    w = Tensor([1.0, -2.0, 1e-6], True, backend)
    wrong = MISTAKES["wrong factor"]
    report = check_gradients(lambda: (w.abs() + wrong(w)).sum(), {"w": w}, raises=False)
    assert report.kinks["w"] > 0
    assert report.wrong == ["w"]


def test_untested_is_not_ok(backend):
    w, x = Tensor([0.0], True, backend), Tensor([1.0], True, backend)
    report = check_gradients(lambda: (w.abs() + x).sum(), {"w": w, "x": x}, raises=False)
    assert report.untested == ["w"]
    assert report.wrong == []
    assert not report.ok
    assert "w: every direction crossed a kink" in str(report)
    with pytest.raises(GradientError, match="nothing was tested"):
        check_gradients(lambda: (w.abs() + x).sum(), {"w": w, "x": x})


def test_nan_in_any_direction_is_wrong(backend):
    w = parameter(backend, 5)
    calls = iter(range(100))

    def loss():  # NaN from the second direction on: 1 call for the gradient, 5 a direction
        return (w * w).sum() * (1.0 if next(calls) <= 5 else np.nan)

    report = check_gradients(loss, {"w": w}, directions=2, raises=False)
    assert report.wrong == ["w"]


# ---- manners ---------------------------------------------------------------------------------
def test_values_and_gradients_are_put_back(backend):
    w, x = parameter(backend, 3), parameter(backend, 3, seed=1)
    x.grad = x.data + 1
    before = w.data, w.data.copy(), x.data, x.data.copy(), x.grad
    check_gradients(lambda: (w * x).sum(), {"w": w, "x": x})
    assert w.data is before[0]
    assert (w.data == before[1]).all()
    assert x.data is before[2]
    assert (x.data == before[3]).all()
    assert w.grad is None
    assert x.grad is before[4]


@pytest.mark.parametrize("fails_at", [0, 1, 4])
def test_also_when_the_loss_fails(fails_at, backend):
    w = parameter(backend, 3)
    w.grad = known = w.data + 1
    data, calls = w.data, iter(range(100))

    def loss():
        if next(calls) == fails_at:
            raise KeyError("the loss broke")
        return (w * w).sum()

    with pytest.raises(KeyError, match="the loss broke"):
        check_gradients(loss, {"w": w})
    assert w.data is data
    assert w.grad is known


def test_a_parameter_that_the_loss_ignores(backend):
    w, idle = parameter(backend, 3), parameter(backend, 3)
    assert check_gradients(lambda: (w * w).sum(), {"w": w, "idle": idle}).errors["idle"] == 0


def test_one_seed_one_answer(backend):
    w = parameter(backend, 4)
    reports = [check_gradients(lambda: w.exp().sum(), {"w": w}, seed=s).errors for s in (1, 1, 2)]
    assert reports[0] == reports[1]
    assert reports[0] != reports[2]


def test_gradients_are_compared_at_their_own_scale(backend):
    """A huge loss must not hide a wrong gradient, a tiny one must not fail a right one."""
    w = parameter(backend, 4)
    for scale in (1e-8, 1e8):
        assert check_gradients(lambda s=scale: (w * w).sum() * s, {"w": w}).ok
        report = check_gradients(
            lambda s=scale: MISTAKES["wrong by a thousandth"](w).sum() * s, {"w": w}, raises=False
        )
        assert report.wrong == ["w"]


def test_what_cannot_be_checked(backend):
    with pytest.raises(ConfigError, match="at least one parameter"):
        check_gradients(lambda: Tensor([1.0]), {})
    single = Tensor(np.ones(2, np.float32), True, backend)
    with pytest.raises(ConfigError, match="'w' is float32"):
        check_gradients(lambda: single.sum(), {"w": single})
    constant = Tensor(np.ones(2), False, backend)
    with pytest.raises(ConfigError, match="requires_grad=False"):
        check_gradients(lambda: constant.sum(), {"w": constant})
    w = parameter(backend, 2)
    with pytest.raises(RuntimeError, match="no tape"):
        check_gradients(lambda: Tensor([1.0], backend=backend), {"w": w})
