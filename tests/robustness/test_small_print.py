"""The small print of autograd, layers and fbi: defaults, edges, and who checks what first.

Each was found by a mutation run (tests/tools/mutation.py): a fault that nothing else noticed.
"""

from __future__ import annotations

import operator

import numpy as np
import pytest

from minifbi import fbi
from minifbi.autograd import (
    Tensor,
    check_gradients,
    concatenate,
    enable_grad,
    functions,
    is_grad_enabled,
    log_softmax,
    no_grad,
    record,
    softmax,
)
from minifbi.backends import get_backend
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.errors import (
    BackendMismatchError,
    CheckpointError,
    ConfigError,
    NonFiniteError,
    ShapeError,
)
from minifbi.fusion import _rewritten
from minifbi.layers import (
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minifbi.layers.linear import he_normal
from minifbi.switch import evaluating


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


class Device(NumpyBackend):
    """A backend whose numbers one waits for, and whose arrays are not the host's."""

    name = "device"
    asynchronous = True

    def holds(self, array):
        return isinstance(array, np.ndarray) and not array.flags.owndata  # views play the device


class Elsewhere(NumpyBackend):
    name = "elsewhere"


# ---- defaults --------------------------------------------------------------------------------
def test_softmax_is_along_the_last_axis():
    y = Tensor(random(2, 3, 4))
    np.testing.assert_allclose(softmax(y).numpy().sum(axis=2), np.ones((2, 3)))
    np.testing.assert_allclose(np.exp(log_softmax(y).numpy()).sum(axis=2), np.ones((2, 3)))
    np.testing.assert_allclose(softmax(y, 1).numpy().sum(axis=1), np.ones((2, 4)))


def test_joining_and_reducing_by_default():
    a, b = Tensor(random(2, 3)), Tensor(random(1, 3, seed=1))
    assert concatenate([a, b]).shape == (3, 3)
    assert concatenate([a]).shape == (2, 3)
    for name in ("sum", "mean", "var", "max", "min"):
        assert getattr(a, name)(0).shape == (3,), name
        assert getattr(a, name)(0, keepdims=True).shape == (1, 3), name
        assert getattr(a, name)().shape == (), name
    assert functions.sum(a, 0).shape == (3,)
    assert a.sum(axis=-2).shape == (3,)  # the first axis, counted from the end
    np.testing.assert_array_equal(a.sum(axis=(-2, 1)).numpy(), a.numpy().sum())
    assert Tensor(random(2, 3, 4)).flatten().shape == (24,)


def test_transposing_by_a_list_and_by_numbers():
    a = Tensor(random(2, 3, 4))
    for axes in ((1, 2, 0), [1, 2, 0]):
        np.testing.assert_array_equal(a.transpose(axes).numpy(), a.numpy().transpose(1, 2, 0))
    np.testing.assert_array_equal(a.transpose(1, 2, 0).numpy(), a.numpy().transpose(1, 2, 0))
    assert a.reshape(24).shape == a.reshape((24,)).shape == a.reshape([-1]).shape == (24,)
    assert a.reshape(4, 6).shape == a.reshape((4, -1)).shape == (4, 6)
    assert Tensor(random(5)).transpose(0).shape == (5,)
    assert Tensor(random(5)).transpose((0,)).shape == (5,)


@pytest.mark.parametrize("compare", [operator.gt, operator.ge, operator.lt, operator.le])
def test_comparisons(compare):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    for other in (b, 2.0, Tensor(b)):
        found = compare(Tensor(a), other)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, compare(a, b))


def test_seeds_and_shares_by_default():
    """The same weights as with seed 0, whoever does not ask for another."""
    for build in (lambda **o: Conv2d(2, 3, 3, **o), lambda **o: Dense(3, 4, **o)):
        np.testing.assert_array_equal(build().weight.numpy(), build(rng=0).weight.numpy())
        assert (build().weight.numpy() != build(rng=1).weight.numpy()).any()
        assert build().bias is not None
    x = Tensor(np.ones((4, 50)))
    np.testing.assert_array_equal(Dropout()(x).numpy(), Dropout(0.5, rng=0)(x).numpy())


def test_initial_weights_are_those_of_he():
    """Standard deviation sqrt(2 / fan_in), He et al. 2015, for kernels that are not square too."""
    np.testing.assert_allclose(
        he_normal((4, 6), 6, 3), np.random.default_rng(3).standard_normal((4, 6)) / np.sqrt(3)
    )
    for layer, fan_in in ((Conv2d(3, 500, (2, 5)), 30), (Dense(30, 500), 30)):
        weight = layer.weight.numpy()
        count = weight.size  # five standard errors of a standard deviation
        assert abs(weight.std() / np.sqrt(2 / fan_in) - 1) < 5 / np.sqrt(2 * count)
        assert not layer.bias.numpy().any()


@pytest.mark.parametrize("build", [lambda *n: Dense(*n), lambda *n: Conv2d(*n, 3)])
def test_nothing_to_compute_with(build):
    for sizes in ((0, 3), (3, 0), (-1, 3)):
        with pytest.raises(ConfigError, match="at least 1"):
            build(*sizes)


# ---- edges of the operations -----------------------------------------------------------------
def test_powers_at_zero_and_their_derivatives():
    """d/dx x^0 is 0, at 0 too, where 0 * 0^-1 would be NaN."""
    zero = Tensor([0.0, 2.0], True)
    (zero**0).sum().backward()
    assert zero.grad.tolist() == [0, 0]
    for exponent in (-1.0, 1.0, 2.0):
        x = Tensor([2.0, 4.0], True)
        (x**exponent).sum().backward()
        np.testing.assert_allclose(x.grad, exponent * np.array([2.0, 4.0]) ** (exponent - 1))


def test_broadcasting_against_nothing():
    one, none = Tensor(np.ones((1, 2)), True), Tensor(np.ones((0, 2)))
    (one * none).sum().backward()
    assert one.grad.tolist() == [[0, 0]]  # a sum over no copies


def test_numbers_of_tensors():
    assert Tensor([[7.0]]).item() == 7.0
    for wrong in (Tensor([1.0, 2.0]), Tensor(np.ones(0))):
        with pytest.raises(ValueError, match="size 1"):
            wrong.item()
    x = Tensor([1.0, 2.0])
    for own in (np.array(x), np.array(x, copy=True)):
        own[0] = 9
        assert x.numpy()[0] == 1
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    if int(np.__version__.split(".")[0]) >= 2:  # older ones do not hand the wish on
        with pytest.raises(ValueError, match="copy"):
            np.array(x, dtype=np.float32, copy=False)
    assert isinstance(record(np.float64(3.0), (x,), lambda g: (g,), "scalar").data, np.ndarray)


def test_the_tape_is_written_again_inside():
    x = Tensor([1.0], True)
    with no_grad():
        assert not is_grad_enabled()
        with enable_grad():
            assert is_grad_enabled()
            assert (x * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()


# ---- who says no -----------------------------------------------------------------------------
def test_operations_without_a_tensor():
    with pytest.raises(TypeError, match="at least one Tensor among 2 values"):
        functions.add(1.0, 2.0)


def test_two_backends_never_meet():
    """Neither in an operation nor in a record, and before their arrays touch."""

    class Untouchable:
        ndim, shape, dtype = 1, (1,), np.dtype(float)

        def __add__(self, other):
            raise AssertionError("the arrays have met")

        __mul__ = __add__

    a, b = Tensor([1.0]), Tensor([1.0], backend=Elsewhere())
    a.data = Untouchable()
    for combine in (operator.add, operator.mul):
        with pytest.raises(BackendMismatchError, match=r"numpy.*elsewhere"):
            combine(a, b)
    with pytest.raises(BackendMismatchError, match="mixed got tensors of two backends"):
        record(np.ones(1), (Tensor([1.0]), b), lambda g: (g, g), "mixed")
    with pytest.raises(BackendMismatchError, match=r"the model on 'numpy'; make it with Tensor\("):
        Dense(1, 1, dtype=np.float64)(b)


def test_what_a_class_of_ones_own_must_define():
    class Unfinished(Layer):
        pass

    layer, backend, x = Unfinished(), get_backend("numpy"), np.ones((1, 1))
    for name, arguments in (
        ("forward", (x,)),
        ("backward", (x, None, True)),
        ("relevance", (x, None)),
        ("jvp or relevance_backward", (x, None)),
    ):
        with pytest.raises(NotImplementedError, match=f"Unfinished must define {name}"):
            getattr(layer, name.split()[0])(backend, *arguments)


def test_parameters_that_the_relevance_pass_would_forget():
    class Scale(ReLU):
        def __init__(self):
            super().__init__()
            self.scale = self.add_parameter("scale", np.ones(()), "numpy", np.float64)

        def forward(self, backend, x, scale):
            return x * scale, scale

    step = Scale().trace(np.ones((1, 2)))[0]
    carried = step.relevance(Tensor(np.ones((1, 2)), requires_grad=True))
    with pytest.raises(NotImplementedError, match=r"Scale has parameters.*relevance_backward"):
        carried.sum().backward()


def test_a_pool_inside_a_block_says_what_it_got():
    net = Sequential({"conv": Conv2d(1, 2, 3), "relu": ReLU(), "pool": MaxPool2d(4)})
    said = r"layer 'pool': MaxPool2d got an input of shape \(7, 2, 3, 4\)"
    with pytest.raises(ShapeError, match=said):
        _rewritten(net)(np.zeros((7, 1, 5, 6)))


def test_labels_that_are_on_a_device_already():
    device = Device()
    there = np.arange(6)[1:4]
    assert device.labels(there, 3, 4) is there
    for wrong in (there[:2], np.arange(9.0)[1:4], np.arange(9).reshape(3, 3)[:, :1]):
        with pytest.raises(ShapeError, match="one per image"):
            device.labels(wrong, 3, 4)
    with pytest.raises(ShapeError, match="outside"):  # from the host: all of it is checked
        device.labels([0, 1, 9], 3, 4)


def test_images_that_are_on_a_device_already():
    """They were checked when they went there: to look again would make the host wait."""
    device = Device()
    net = Sequential(Flatten(), Dense(4, 2, backend=device, dtype=np.float64))
    bad = np.full((2, 4), np.nan)
    with np.errstate(all="ignore"):
        assert np.isnan(net(bad[:]).numpy()).all()
        assert np.isnan(net(Tensor(bad.copy(), backend=device)).numpy()).all()
    for host in (bad, bad.tolist(), np.full((2, 4), 1e300).astype(np.longdouble) * 1e300):
        said = "layer '0' holds 8 values"
        with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match=said):
            net(host)


# ---- layers ----------------------------------------------------------------------------------
def test_a_layer_that_is_used_twice_has_its_weights_once():
    shared = Dense(2, 2)
    net = Sequential(shared, ReLU(), shared)
    assert list(net.parameters()) == ["0.weight", "0.bias"]


def test_chains_without_layers():
    x = np.ones((2, 3))
    net = Sequential(Sequential(), Dense(3, 2, dtype=np.float64))
    np.testing.assert_array_equal(net(x).numpy(), net[1](x).numpy())
    assert Sequential(Sequential()).trace(Tensor(x)) == []


def test_the_table_of_a_net_has_a_rule_as_wide_as_itself():
    lines = Sequential({"out": Dense(3, 2)}).describe((3,)).splitlines()
    assert lines[1] == lines[-2] == "-" * max(map(len, lines[:-2]))
    assert lines[2].split() == ["input", "(N,", "3)"]


def test_evaluating_gives_back_each_mode():
    frozen, free = Dropout(), Dropout()
    net = Sequential(frozen, free)
    frozen.eval()
    with evaluating(net):
        assert [part.training for part in (frozen, free, net)] == [False] * 3
    assert free.training
    assert net.training
    assert not frozen.training
    with pytest.raises(KeyError), evaluating(net):
        raise KeyError
    assert free.training


def test_dropout_of_nothing_draws_nothing():
    layer = Dropout(0.0)
    before = layer.rng.bit_generator.state
    layer(Tensor(np.ones((2, 3))))
    assert layer.rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("layer", "shape"), [(Dense(3, 2), (4, 3)), (Conv2d(1, 2, 3), (4, 1, 5, 5))], ids=repr
)
def test_the_first_layer_need_not_carry_the_gradient_to_the_images(layer, shape):
    backend, x = get_backend("numpy"), random(*shape).astype(np.float32)
    z, saved = layer.forward(backend, x, *(p.data for p in layer.parameters().values()))
    needed = layer.backward(backend, z, saved, needs_x=True)
    spared = layer.backward(backend, z, saved, needs_x=False)
    assert needed[0].shape == shape
    assert spared[0] is None  # a third of the backward pass of that layer
    for one, other in zip(needed[1:], spared[1:], strict=True):
        np.testing.assert_array_equal(one, other)


# ---- the gradient checker --------------------------------------------------------------------
def asked(w, function, **options):
    """How far from its place the checker moves `w`, in the order of its questions."""
    center, far = w.data, []

    def loss():
        far.append(float(np.linalg.norm(w.data - center)))
        return function()

    report = check_gradients(loss=loss, parameters={"w": w}, raises=False, **options)
    return report, far


def test_directions_have_unit_length_and_there_are_four():
    w = Tensor(random(50), True)
    report, far = asked(w, lambda: (w * w).sum(), step=1e-4)
    assert report.ok
    assert len(far) == 1 + 4 * 5  # the gradient, then five points along each of four directions
    for direction in np.reshape(far[1:], (4, 5)):
        np.testing.assert_allclose(sorted(direction), [0, 1e-4, 1e-4, 2e-4, 2e-4], rtol=1e-6)
    with pytest.raises(TypeError):
        check_gradients(lambda: (w * w).sum(), {"w": w}, 2)
    default = check_gradients(lambda: w.exp().sum(), {"w": w}).errors
    assert default == check_gradients(lambda: w.exp().sum(), {"w": w}, seed=0).errors


def test_steps_are_halved_at_a_kink_eight_times():
    w = Tensor([0.0], True)
    report, far = asked(w, lambda: w.abs().sum(), directions=2, step=1e-3)
    assert report.kinks == {"w": 16}
    largest = np.reshape(far[1:], (2, 8, 5)).max(axis=2)
    np.testing.assert_allclose(largest, [2e-3 * 0.5 ** np.arange(8)] * 2, rtol=1e-6)


def test_a_kink_in_a_tiny_loss_is_a_kink():
    w = Tensor([1.0, -2.0, 1e-6], True)
    report = check_gradients(lambda: w.abs().sum() * 1e-9, {"w": w})
    assert report.kinks["w"] > 0


def test_a_curve_is_no_kink():
    w = Tensor([0.0], True)
    assert check_gradients(lambda: (w * 80).exp().sum(), {"w": w}).kinks == {"w": 0}


def test_a_loss_that_is_zero_everywhere():
    w = Tensor(random(3), True)
    assert check_gradients(lambda: (w * 0.0).sum(), {"w": w}).errors == {"w": 0}


def test_a_parameter_without_elements():
    w, none = Tensor(random(3), True), Tensor(np.ones(0), True)
    assert check_gradients(lambda: (w * w).sum() + none.sum(), {"w": w, "none": none}).ok


# ---- fbi -------------------------------------------------------------------------------------
def test_terms_of_a_relevance_of_ones_own():
    """Not only those that relevance_pass returns: Eq. (3) for any a^-, in both reductions."""
    net = Sequential(Dense(3, 2, dtype=np.float64))
    steps = fbi.forward_pass(net, random(4, 3))
    own = Tensor(random(4, 3, seed=1), True)
    for reduction, count in (("sum", 4), ("mean", 12)):
        term = fbi.fbi_terms(steps, {"0": own}, reduction)["0"]
        difference = steps[0].x.numpy() - own.numpy()
        assert term.item() == pytest.approx(np.abs(difference).sum() / count)
        own.grad = None
        term.backward()
        np.testing.assert_allclose(own.grad, -np.sign(difference) / count)


def test_a_relevance_knows_whether_a_gradient_flows():
    """It does through the ratio, whose weights are trained, also where the images want none."""
    net = Sequential(Dense(3, 2, dtype=np.float64))
    steps = fbi.forward_pass(net, random(4, 3))
    a_minus = fbi.relevance_pass(steps, "logits")["0"]
    assert a_minus.requires_grad is True
    (a_minus * 2.0).sum().backward()
    expected = 2 * steps[0].x.numpy().sum(axis=0)  # a^- = x * (1 W)
    np.testing.assert_allclose(net[0].weight.grad, [expected, expected])
    for p in net.parameters().values():
        p.requires_grad = False
    frozen = fbi.relevance_pass(fbi.forward_pass(net, random(4, 3)), "logits")["0"]
    assert frozen.requires_grad is False


def test_loading_says_what_is_not_a_number():
    net = Sequential(Dense(2, 1))
    with pytest.raises(CheckpointError, match=r"parameter 0\.weight .*float32"):
        net.load_state_dict({"0.weight": np.full((1, 2), 1e300), "0.bias": np.zeros(1)})
