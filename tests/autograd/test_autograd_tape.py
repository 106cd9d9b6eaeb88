"""The tape: order, accumulation, no_grad, memory, and what is refused."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

from minifbi import autograd as ag
from minifbi import fbi
from minifbi.autograd import Tensor, check_gradients, no_grad, record
from minifbi.backends import get_backend
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.errors import BackendMismatchError, ConfigError, ShapeError
from minifbi.models import lenet


def grad(tensor):
    return tensor.backend.to_numpy(tensor.grad).tolist()


# ---- order and accumulation ----------------------------------------------------------------
def test_a_tensor_used_twice(backend):
    x = Tensor([3.0], True, backend)
    y = x * x
    z = y + x  # the diamond: x is reached directly and through y
    z.backward()
    assert grad(x) == [7.0]


def test_a_deep_diamond_counts_every_path(backend):
    x = Tensor([1.0], True, backend)
    y = x
    for _ in range(30):
        y = y + y  # 2**30 paths: only an order that waits for all uses is fast enough
    y.backward()
    assert grad(x) == [2.0**30]


def test_branches_of_different_length(backend):
    x = Tensor([2.0], True, backend)
    long = ((x * 3) * x) * x  # 3 x^3
    (x * long + x + long).backward()
    assert grad(x) == [4 * 3 * 2**3 + 1 + 3 * 3 * 2**2]


def test_same_tensor_on_both_sides(backend):
    x = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), True, backend)
    check_gradients(lambda: ((x @ x) / x - x * x).sum(), {"x": x})


def test_gradients_of_two_losses_accumulate(backend):
    x = Tensor([1.0, 2.0], True, backend)
    (x * x).sum().backward()
    (x * 10).sum().backward()
    assert grad(x) == [12.0, 14.0]
    x.zero_grad()
    assert x.grad is None
    x.sum().backward()
    assert grad(x) == [1.0, 1.0]


def test_two_losses_share_a_part_of_the_graph(backend):
    x = Tensor([2.0], True, backend)
    shared = x * x
    (shared * 3).backward()
    (shared * shared).backward()  # the same tape once more
    assert grad(x) == [3 * 2 * 2 + 4 * 2**3]


def test_backward_with_a_gradient_from_outside(backend):
    x = Tensor([1.0, 2.0], True, backend)
    (x * x).backward(np.array([10.0, 100.0]))
    assert grad(x) == [20.0, 400.0]


def test_gradients_are_own_arrays(backend):
    """In-place changes, as in gradient clipping, must reach nothing else."""
    seed = get_backend(backend).asarray(np.array([1.0, 2.0]))
    a, b = Tensor([1.0, 2.0], True, backend), Tensor([3.0, 4.0], True, backend)
    (a + b).backward(seed)
    a.grad *= 5
    assert (grad(a), grad(b), seed.tolist()) == ([5, 10], [1, 2], [1, 2])
    c = Tensor([1.0, 2.0], True, backend)
    c.sum().backward()
    c.grad *= 3  # not a read-only view of the seed
    assert grad(c) == [3, 3]


def test_only_leaves_that_ask_get_gradients(backend):
    x, w = Tensor([2.0], False, backend), Tensor([3.0], True, backend)
    y = x * w
    y.backward()
    assert (x.grad, y.grad, grad(w)) == (None, None, [2.0])


def test_detach_cuts_the_tape(backend):
    x = Tensor([3.0], True, backend)
    (x * (x * x).detach()).backward()
    assert grad(x) == [9.0]
    assert not (x * x).detach().requires_grad


def test_a_chain_of_5000_operations(backend):
    x = Tensor([1.0], True, backend)
    y = x
    for _ in range(5000):
        y = y * 1.0 + 0.001
    y.backward()
    assert y.item() == pytest.approx(6.0)
    assert grad(x) == [1.0]
    del y  # freeing the chain must not recurse either


# ---- no_grad -------------------------------------------------------------------------------
def test_no_grad_records_nothing(backend):
    x = Tensor([1.0], True, backend)
    with no_grad():
        y = x * x
        with no_grad():
            pass
        z = x + 1  # still inside the outer one
    assert not y.requires_grad
    assert y.node is None
    assert not z.requires_grad
    assert (x * x).requires_grad
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()


def test_no_grad_ends_with_an_exception(backend):
    x = Tensor([1.0], True, backend)
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0  # noqa: B018
    assert (x * x).requires_grad


def test_no_grad_is_a_matter_of_its_thread(backend):
    x = Tensor([1.0], True, backend)
    inside, checked = threading.Event(), threading.Event()
    seen = {}

    def evaluate():
        with no_grad():
            inside.set()
            checked.wait(10)
            seen["evaluation"] = (x * x).requires_grad

    thread = threading.Thread(target=evaluate)
    thread.start()
    assert inside.wait(10)
    seen["training"] = (x * x).requires_grad  # while the other thread is inside no_grad
    checked.set()
    thread.join()
    assert seen == {"training": True, "evaluation": False}


# ---- memory --------------------------------------------------------------------------------
@pytest.fixture
def without_collector():
    """Cycles would stay: what is freed here is freed by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_the_graph_goes_with_its_loss(backend):
    x = Tensor(np.ones((4, 4)), True, backend)
    middle = [(x * x).tanh(), (x @ x).relu(), x.sum(axis=0, keepdims=True) * x]
    loss = ag.log_softmax(middle[0] * middle[1] + middle[2]).sum()
    alive = [weakref.ref(t.data) for t in middle]
    loss.backward()
    del middle
    assert all(ref() is not None for ref in alive)  # the tape holds them ...
    del loss
    assert all(ref() is None for ref in alive)  # ... and nothing else does
    assert x.grad is not None


@pytest.mark.usefixtures("without_collector")
def test_the_three_passes_leave_nothing_behind(backend):
    model = lenet(backend=backend, seed=1)
    images = np.random.default_rng(0).random((2, 1, 28, 28))

    def three_passes():
        steps = fbi.forward_pass(model, images)
        relevances = fbi.relevance_pass(steps, "target", [3, 4], "epsilon:0.01")
        loss = fbi.fbi_loss(fbi.fbi_terms(steps, relevances))
        total = fbi.objective(ag.cross_entropy(steps[-1].z, [3, 4]), loss, 0.5)
        alive = [weakref.ref(s.z.data) for s in steps]
        alive += [weakref.ref(r.data) for r in relevances.values()]
        total.backward()
        return alive

    three_passes()  # a kernel that is compiled now leaves frames behind, which hold its arguments
    alive = three_passes()
    assert all(ref() is None for ref in alive)


# ---- errors --------------------------------------------------------------------------------
def test_backward_of_several_numbers_needs_a_gradient(backend):
    x = Tensor(np.ones((2, 3)), True, backend)
    with pytest.raises(ShapeError, match=r"one element.*\(2, 3\)"):
        (x * x).backward()
    with pytest.raises(ShapeError, match=r"\(3, 2\).*\(2, 3\)"):
        (x * x).backward(np.ones((3, 2)))
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        Tensor([1.0], backend=backend).backward()
    assert x.grad is None


def test_a_wrong_backward_is_named(backend):
    x = Tensor(np.ones((2, 3)), True, backend)
    out = record(x.data.sum(axis=1), (x,), lambda g: (g,), "clumsy")
    with pytest.raises(ShapeError, match=r"'clumsy'.*\(2,\).*\(2, 3\)"):
        out.backward(np.ones(2))
    short = record(x.data, (x, x), lambda g: (g,), "short")  # one gradient for two inputs
    with pytest.raises(ValueError, match="zip"):
        short.backward(np.ones((2, 3)))


@pytest.mark.parametrize("values", [np.ones(2, np.float16), np.ones(2, complex), ["a"], [None]])
def test_only_float32_and_float64(values, backend):
    with pytest.raises(TypeError, match="float32 or float64"):
        Tensor(values, backend=backend)


def test_what_becomes_which_dtype(backend):
    for values in ([1, 2], [True, False], np.arange(3, dtype=np.uint8), 3):
        assert Tensor(values, backend=backend).dtype == np.float64
    assert Tensor(np.ones(2, np.float32), backend=backend).dtype == np.float32
    assert Tensor([1, 2], backend=backend, dtype=np.float32).dtype == np.float32


def test_labels(backend):
    logits = Tensor(np.zeros((3, 4)), True, backend)
    for labels, message in (
        ([0, 1, 4], r"label 4 at position 2.*0\.\.3"),
        ([0, -1, 2], r"label -1 at position 1"),
        ([0, 1], r"\(2,\).*\(3,\)"),
        ([[0], [1], [2]], r"\(3, 1\).*\(3,\)"),
        ([0.0, 1.0, 2.0], "labels are float64.*expected integers"),
        ([True, False, True], "labels are bool.*expected integers"),
    ):
        with pytest.raises(ShapeError, match=message):
            ag.cross_entropy(logits, labels)
    with pytest.raises(ShapeError, match=r"\(N, F\).*\(3,\)"):
        ag.cross_entropy(Tensor(np.zeros(3), backend=backend), [0])
    with pytest.raises(ShapeError, match=r"N > 0.*\(0, 4\)"):
        ag.cross_entropy(Tensor(np.zeros((0, 4)), backend=backend), [])
    for kind in (np.uint8, np.int32, np.int64):
        assert ag.cross_entropy(logits, np.array([0, 1, 3], kind)).item() == pytest.approx(
            np.log(4)
        )


def test_two_backends_do_not_mix(backend):
    class Elsewhere(NumpyBackend):
        name = "elsewhere"

    x, y = Tensor([1.0], True, backend), Tensor([1.0], True, Elsewhere())
    for mix in (
        lambda: x + y,
        lambda: y @ x,
        lambda: ag.concatenate([x, y]),
        lambda: ag.where(np.array([True]), x, y),
    ):
        with pytest.raises(BackendMismatchError, match="elsewhere"):
            mix()
    assert (y * 2).backend is y.backend  # numbers join the tensor where it lives


def test_unknown_backend():
    with pytest.raises(ConfigError, match=r"'nunpy'.*'numpy'"):
        Tensor([1.0], backend="nunpy")


def test_what_a_tensor_says_of_itself(backend):
    x = Tensor(np.zeros((2, 3), np.float32), True, backend)
    assert (x.shape, x.ndim, x.size, len(x)) == ((2, 3), 2, 6, 2)
    assert "requires_grad=True" in repr(x)
    assert "made by multiply" in repr(x * 2)
    assert Tensor([[5.0]], backend=backend).item() == 5.0
    with pytest.raises(ValueError, match="size 1"):
        x.item()
    assert isinstance(x.numpy(), np.ndarray)
    assert [row.shape for row in x] == [(3,), (3,)]
