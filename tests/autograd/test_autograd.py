"""Every operation on tensors: its value against NumPy, its gradient against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from minifbi import autograd as ag
from minifbi.autograd import Tensor, check_gradients
from minifbi.autograd import functions as F
from minifbi.errors import ShapeError

fuzz = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # `backend` is a constant
)


class Case(NamedTuple):
    """One operation: on tensors, the same in NumPy, and the shapes of its inputs."""

    tensors: Callable[..., Tensor]
    arrays: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    positive: bool = False


def same(f: Callable[..., Any], *shapes: tuple[int, ...], positive: bool = False) -> Case:
    """For an expression that reads the same on tensors and on arrays."""
    return Case(f, f, shapes, positive)


MASK = np.array([[True, False, True], [False, False, True]])
A23, A34, A234 = (2, 3), (3, 4), (2, 3, 4)

CASES: dict[str, Case] = {
    # elementwise
    "add": same(lambda a, b: a + b, A23, A23),
    "add broadcast": same(lambda a, b: a + b, A23, (3,)),
    "add number": same(lambda a: 2 + a + 0.5, A23),
    "subtract": same(lambda a, b: a - b, A23, (2, 1)),
    "subtract from number": same(lambda a: 1 - a, A23),
    "multiply": same(lambda a, b: a * b, A234, (3, 1)),
    "multiply by array": same(lambda a: np.arange(3.0) * a, A23),
    "divide": same(lambda a, b: a / b, A23, (3,), positive=True),
    "divide number": same(lambda a: 3 / a, A23, positive=True),
    "negative": same(lambda a: -a, A23),
    "power 3": same(lambda a: a**3, A23),
    "power -1.5": same(lambda a: a**-1.5, A23, positive=True),
    "sqrt": Case(lambda a: a.sqrt(), np.sqrt, (A23,), positive=True),
    "exp": Case(lambda a: a.exp(), np.exp, (A23,)),
    "log": Case(lambda a: a.log(), np.log, (A23,), positive=True),
    "tanh": Case(lambda a: a.tanh(), np.tanh, (A23,)),
    "sigmoid": Case(lambda a: a.sigmoid(), lambda a: 1 / (1 + np.exp(-a)), (A23,)),
    "relu": Case(lambda a: a.relu(), lambda a: np.where(a > 0, a, 0), (A34,)),
    "abs": same(lambda a: abs(a), A34),
    "clip": same(lambda a: a.clip(-0.5, 0.8), A34),
    "where": Case(
        lambda a, b: ag.where(MASK, a, b), lambda a, b: np.where(MASK, a, b), (A23, (3,))
    ),
    "where number": Case(lambda a: ag.where(MASK, a, 7), lambda a: np.where(MASK, a, 7), (A23,)),
    "maximum": Case(ag.maximum, np.maximum, (A34, (4,))),
    "maximum number": Case(lambda a: ag.maximum(a, 0.3), lambda a: np.maximum(a, 0.3), (A34,)),
    "minimum": Case(ag.minimum, np.minimum, (A34, (3, 1))),
    # matrices
    "matmul": same(lambda a, b: a @ b, A23, A34),
    "matmul vector": same(lambda a, b: a @ b, A23, (3,)),
    "vector matmul": same(lambda a, b: a @ b, (3,), A34),
    "vector vector": same(lambda a, b: a @ b, (3,), (3,)),
    "stacks": same(lambda a, b: a @ b, (5, 2, 3), (5, 3, 4)),
    "stack and matrix": same(lambda a, b: a @ b, (5, 2, 3), A34),
    "matrix and stack": same(lambda a, b: a @ b, A23, (5, 3, 4)),
    "stacks broadcast": same(lambda a, b: a @ b, (5, 1, 2, 3), (4, 3, 2)),
    "vector and stack": same(lambda a, b: a @ b, (3,), (5, 3, 4)),
    "stack and vector": same(lambda a, b: a @ b, (5, 2, 3), (3,)),
    "array at tensor": same(lambda b: np.arange(6.0).reshape(2, 3) @ b, A34),
    # reductions
    **{
        f"{name} axis={axis} keepdims={keep}": same(
            lambda a, name=name, axis=axis, keep=keep: getattr(a, name)(axis=axis, keepdims=keep),
            A234,
        )
        for name in ("sum", "mean", "var")
        for axis in (None, 0, -1, (0, 2), (-2,))
        for keep in (False, True)
    },
    **{
        f"{name} axis={axis} keepdims={keep}": same(
            lambda a, name=name, axis=axis, keep=keep: getattr(a, name)(axis=axis, keepdims=keep),
            A234,
        )
        for name in ("max", "min")
        for axis in (None, 0, 1, -1)
        for keep in (False, True)
    },
    # shapes
    "reshape": same(lambda a: a.reshape(4, 6), A234),
    "reshape tuple": same(lambda a: a.reshape((3, -1)), A234),
    "flatten": Case(lambda a: a.flatten(1), lambda a: a.reshape(2, -1), (A234,)),
    "transpose": same(lambda a: a.transpose(1, 2, 0), A234),
    "transpose negative": same(lambda a: a.transpose(0, -1, 1), (2, 3, 3)),
    "transpose square": same(lambda a: a.transpose(-1, 0), (3, 3)),
    "transpose all": same(lambda a: a.T, A234),
    "squeeze": same(lambda a: a.squeeze(1), (2, 1, 3)),
    "expand_dims": Case(lambda a: a.expand_dims(-1), lambda a: np.expand_dims(a, -1), (A23,)),
    "broadcast_to": Case(
        lambda a: a.broadcast_to((4, 2, 3)), lambda a: np.broadcast_to(a, (4, 2, 3)), ((2, 1),)
    ),
    "pad": Case(lambda a: a.pad(((1, 0), (2, 3))), lambda a: np.pad(a, ((1, 0), (2, 3))), (A23,)),
    "take int": same(lambda a: a[1], A234),
    "take slices": same(lambda a: a[:, ::-1, 1:3], A234),
    "take ellipsis": same(lambda a: a[..., -1], A234),
    "take new axis": same(lambda a: a[:, None], A23),
    "take repeated": same(lambda a: a[[0, 1, 1, 1]], A23),
    "take pairs repeated": same(lambda a: a[np.array([0, 1, 1]), np.array([2, 0, 0])], A23),
    "take mask": same(lambda a: a[MASK], A23),
    "concatenate": Case(
        lambda a, b: ag.concatenate([a, b, a], axis=1),
        lambda a, b: np.concatenate([a, b, a], axis=1),
        (A23, (2, 4)),
    ),
    "concatenate last": Case(
        lambda a, b: ag.concatenate([a, b], axis=-1),
        lambda a, b: np.concatenate([a, b], axis=-1),
        (A23, (2, 1)),
    ),
    "stack": Case(lambda a, b: ag.stack([a, b]), lambda a, b: np.stack([a, b]), (A23, A23)),
    "stack last": Case(
        lambda a, b: ag.stack([a, b], axis=-1), lambda a, b: np.stack([a, b], axis=-1), (A23, A23)
    ),
    # classification
    **{
        f"{f.__name__} axis={axis}": Case(
            lambda a, f=f, axis=axis: f(a, axis=axis),
            lambda a, f=f, axis=axis: (lambda p: p if f is ag.softmax else np.log(p))(
                np.exp(a) / np.exp(a).sum(axis, keepdims=True)
            ),
            (A34,),
        )
        for f in (ag.softmax, ag.log_softmax)
        for axis in (0, 1, -1)
    },
}


def leaves(case_shapes, backend, rng, positive=False):
    arrays = [rng.standard_normal(shape) for shape in case_shapes]
    if positive:
        arrays = [np.abs(a) + 0.5 for a in arrays]
    return arrays, [Tensor(a, True, backend) for a in arrays]


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name, backend):
    case = CASES[name]
    rng = np.random.default_rng(len(name))
    arrays, tensors = leaves(case.shapes, backend, rng, case.positive)
    expected = case.arrays(*arrays)
    out = case.tensors(*tensors)
    assert out.shape == np.shape(expected)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-12, atol=1e-14)

    weights = rng.standard_normal(out.shape)  # a different gradient at every element
    names = {f"input {i}": t for i, t in enumerate(tensors)}
    check_gradients(lambda: (case.tensors(*tensors) * weights).sum(), names)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name, backend):
    case = CASES[name]
    arrays, _ = leaves(case.shapes, backend, np.random.default_rng(0), case.positive)
    tensors = [Tensor(a.astype(np.float32), True, backend) for a in arrays]
    out = case.tensors(*tensors)
    assert out.dtype == np.float32
    out.backward(np.ones(out.shape))
    assert [t.grad.dtype for t in tensors] == [np.float32] * len(tensors)


def test_numpy_float64_numbers_do_not_promote_float32(backend):
    x = Tensor(np.array([0.5, 2.0], np.float32), backend=backend)
    two = np.float64(2)
    for out in (x**two, x * two, two + x, x / two, x.clip(np.float64(0), two)):
        assert out.dtype == np.float32


DERIVATIVES = {
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.log(), lambda x: 1 / x),
    "tanh": (lambda x: x.tanh(), lambda x: 1 / np.cosh(x) ** 2),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    "sqrt": (lambda x: x.sqrt(), lambda x: 0.5 / np.sqrt(x)),
    "cube": (lambda x: x**3, lambda x: 3 * x * x),
    "inverse": (lambda x: 1 / x, lambda x: -1 / x**2),
    "sum of squares": (lambda x: (x * x).sum(), lambda x: 2 * x),
    "variance": (lambda x: x.var(), lambda x: 2 * (x - x.mean()) / x.size),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_textbook_derivatives(name, backend):
    f, derivative = DERIVATIVES[name]
    values = np.array([0.3, 1.0, 2.5])
    x = Tensor(values, True, backend)
    out = f(x)
    out.backward(np.ones(out.shape))
    np.testing.assert_allclose(x.backend.to_numpy(x.grad), derivative(values), rtol=1e-12)


def gradient(f, values, backend):
    x = Tensor(values, True, backend)
    out = f(x)
    out.backward(np.ones(out.shape))
    return x.backend.to_numpy(x.grad).tolist()


def test_gradients_at_kinks_and_ties(backend):
    assert gradient(lambda x: x.relu(), [-1.0, 0.0, 2.0], backend) == [0, 0, 1]
    assert gradient(lambda x: x.abs(), [-1.0, 0.0, 2.0], backend) == [-1, 0, 1]
    assert gradient(lambda x: x.clip(0, 1), [-1.0, 0.0, 0.5, 1.0, 2.0], backend) == [0, 1, 1, 1, 0]
    assert gradient(lambda x: x.max(), [1.0, 5.0, 5.0], backend) == [0, 1, 0]
    assert gradient(lambda x: x.min(), [1.0, 1.0, 5.0], backend) == [1, 0, 0]
    assert gradient(lambda x: ag.maximum(x, [2.0, 2.0]), [2.0, 1.0], backend) == [1, 0]
    assert gradient(lambda x: ag.minimum(x, [2.0, 2.0]), [2.0, 3.0], backend) == [1, 0]
    assert np.isnan(Tensor([np.nan, 1.0], backend=backend).relu().numpy()).tolist() == [True, False]


def test_matmul_gradients_are_the_two_products(backend):
    rng = np.random.default_rng(0)
    a, b, g = rng.standard_normal((2, 3)), rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    x, y = Tensor(a, True, backend), Tensor(b, True, backend)
    (x @ y).backward(g)
    np.testing.assert_allclose(x.backend.to_numpy(x.grad), g @ b.T, rtol=1e-12)
    np.testing.assert_allclose(y.backend.to_numpy(y.grad), a.T @ g, rtol=1e-12)


def test_take_adds_up_what_was_taken_twice(backend):
    x = Tensor([1.0, 2.0, 3.0], True, backend)
    x[[2, 0, 2, 2]].backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    assert x.backend.to_numpy(x.grad).tolist() == [10, 0, 1101]


def test_cross_entropy_by_hand(backend):
    # softmax of (0, ln 3) is (1/4, 3/4); of (0, 0) it is (1/2, 1/2)
    logits = Tensor([[0.0, np.log(3.0)], [0.0, 0.0]], True, backend)
    loss = ag.cross_entropy(logits, [1, 0])
    assert loss.item() == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-14)
    loss.backward()
    expected = np.array([[1 / 4, 3 / 4 - 1], [1 / 2 - 1, 1 / 2]]) / 2
    np.testing.assert_allclose(logits.backend.to_numpy(logits.grad), expected, atol=1e-15)


def test_cross_entropy_equals_its_parts(backend):
    rng = np.random.default_rng(1)
    logits = Tensor(rng.standard_normal((5, 4)), True, backend)
    labels = rng.integers(0, 4, 5)
    parts = -ag.log_softmax(logits)[np.arange(5), labels].mean()
    assert ag.cross_entropy(logits, labels).item() == pytest.approx(parts.item(), rel=1e-13)
    check_gradients(lambda: ag.cross_entropy(logits, labels), {"logits": logits})


def test_softmax_does_not_overflow(backend):
    logits = Tensor([[1000.0, 0.0], [-1000.0, 1000.0]], True, backend)
    assert ag.softmax(logits).numpy().tolist() == [[1, 0], [0, 1]]
    assert ag.log_softmax(logits).numpy().tolist() == [[0, -1000], [-2000, 0]]
    loss = ag.cross_entropy(logits, [1, 1])
    loss.backward()
    assert loss.item() == 500
    assert logits.backend.to_numpy(logits.grad).tolist() == [[0.5, -0.5], [0, 0]]
    assert Tensor([-1e9, 1e9], backend=backend).sigmoid().numpy().tolist() == [0, 1]


@fuzz
@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3),
    operation=st.sampled_from([F.add, F.subtract, F.multiply, F.divide, F.maximum]),
    seed=st.integers(0, 1000),
)
def test_broadcasting(shapes, operation, seed, backend):
    rng = np.random.default_rng(seed)
    _, (a, b) = leaves(shapes.input_shapes, backend, rng, positive=True)
    out = operation(a, b)
    assert out.shape == shapes.result_shape
    weights = rng.standard_normal(out.shape)
    check_gradients(lambda: (operation(a, b) * weights).sum(), {"a": a, "b": b}, directions=2)
    assert a.grad is None
    assert (a.shape, b.shape) == shapes.input_shapes


@fuzz
@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3),
    seed=st.integers(0, 1000),
)
def test_gradient_of_broadcasting_is_the_sum_over_copies(shapes, seed, backend):
    rng = np.random.default_rng(seed)
    arrays, (a, b) = leaves(shapes.input_shapes, backend, rng)
    g = rng.standard_normal(shapes.result_shape)
    (a + b).backward(g)
    for array, tensor in zip(arrays, (a, b), strict=True):
        # number the elements, broadcast the numbers, and add up g by number
        number = np.broadcast_to(np.arange(array.size).reshape(array.shape), g.shape)
        expected = np.bincount(number.ravel(), g.ravel(), array.size).reshape(array.shape)
        np.testing.assert_allclose(tensor.backend.to_numpy(tensor.grad), expected, atol=1e-12)


def test_axes_and_shapes_that_do_not_exist(backend):
    x = Tensor(np.ones((2, 3)), True, backend)
    for wrong in (lambda: x.sum(axis=2), lambda: x.mean(axis=(0, -3)), lambda: x.var(axis=5)):
        with pytest.raises(ShapeError, match="2 dimensions"):
            wrong()
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(2, 3\).*\(3\).*\(2\)"):
        x @ x
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2,\)"):
        x @ Tensor([1.0, 2.0], backend=backend)
    with pytest.raises(ShapeError, match="vectors or matrices"):
        x @ 2.0
    with pytest.raises(ShapeError, match="mean over no elements"):
        Tensor(np.ones((0, 3)), backend=backend).mean(axis=0)
    with pytest.raises(ValueError, match="broadcast"):
        x + Tensor(np.ones(4), backend=backend)
    with pytest.raises(TypeError, match="plain number"):
        x**x
    with pytest.raises(TypeError, match="not with a Tensor"):
        x[Tensor([0.0], backend=backend)]
