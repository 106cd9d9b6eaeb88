"""Sequential, memory layouts, parameters and random states: what all layers share."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from minifbi import fbi
from minifbi.autograd import Tensor, check_gradients
from minifbi.backends import get_backend
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.errors import (
    BackendMismatchError,
    CheckpointError,
    ConfigError,
    NonFiniteError,
    ShapeError,
)
from minifbi.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2d,
    ReLU,
    Sequential,
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def net(backend, dtype=np.float64, dropout=0.5):
    """Every kind of layer, some of them in a Sequential inside."""
    options = {"backend": backend, "dtype": dtype}
    return Sequential(
        {
            "conv": Conv2d(2, 3, 3, padding=1, rng=1, **options),
            "relu": ReLU(),
            "inner": Sequential(
                {
                    "max": MaxPool2d(2),
                    "conv": Conv2d(3, 2, 2, rng=2, **options),
                    "drop": Dropout(dropout, rng=5),
                    "avg": AvgPool2d(2, 1),
                }
            ),
            "flatten": Flatten(),
            "dense": Dense(2, 4, rng=3, **options),
        }
    )


# ---- Sequential ------------------------------------------------------------------------------
def test_a_net_is_the_chain_of_its_layers(backend):
    model, x = net(backend).eval(), random(3, 2, 6, 6)
    by_hand = Tensor(x, backend=backend)
    for _, layer in model.named_layers():
        by_hand = layer(by_hand)
    np.testing.assert_array_equal(model(x).numpy(), by_hand.numpy())
    steps = model.trace(x)
    assert [s.name for s in steps] == [name for name, _ in model.named_layers()]
    assert [s.name for s in steps][2:6] == ["inner.max", "inner.conv", "inner.drop", "inner.avg"]
    for before, after in itertools.pairwise(steps):
        assert after.x is before.z
    assert list(model.parameters()) == [
        f"{layer}.{kind}"
        for layer in ("conv", "inner.conv", "dense")
        for kind in ("weight", "bias")
    ]
    assert len(model) == 5
    assert model["dense"] is model[4]


def test_gradients_of_a_nested_net(backend):
    model, x = net(backend, dropout=0.2), Tensor(random(2, 2, 6, 6), True, backend)
    states, weights = model.random_states(), random(2, 4, seed=1)

    def loss():
        model.load_random_states(states)
        steps = model.trace(x)
        relevances = fbi.relevance_pass(steps, "logits")
        return (steps[-1].z * weights).sum() + fbi.fbi_loss(fbi.fbi_terms(steps, relevances))

    check_gradients(loss, {"x": x, **model.parameters()})


def test_layers_without_names_are_counted(backend):
    model = Sequential(Dense(3, 2, backend=backend), ReLU(), Dense(2, 1, backend=backend))
    assert list(model.parameters()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_train_and_eval_reach_every_layer(backend):
    model = net(backend)
    assert model.eval() is model
    assert not any(layer.training for _, layer in model.named_layers())
    assert not model.training
    assert model.train() is model
    assert all(layer.training for _, layer in model.named_layers())


def test_zero_grad_reaches_every_layer(backend):
    model = net(backend)
    model(random(2, 2, 6, 6)).sum().backward()
    assert all(p.grad is not None for p in model.parameters().values())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters().values())


def test_a_part_without_parameters_fits_anywhere(backend):
    part = Sequential(ReLU(), Sequential(Flatten()))
    for dtype in (np.float32, np.float64):
        model = Sequential(part, Dense(4, 2, backend=backend, dtype=dtype))
        assert model(np.ones((3, 4))).dtype == dtype
        assert part(Tensor(np.ones((3, 4), dtype), backend=backend)).dtype == dtype
    assert Sequential()(np.ones((2, 2))).shape == (2, 2)


def test_random_states_round_trip(backend):
    model, x = net(backend), random(3, 2, 6, 6)
    model(x)
    states = json.loads(json.dumps(model.random_states()))  # as in a checkpoint
    assert list(states) == ["inner.drop"]
    expected = [model(x).numpy() for _ in range(3)]
    other = net(backend)
    other.load_random_states(states)
    assert [other(x).numpy().tolist() for _ in range(3)] == [e.tolist() for e in expected]
    assert (expected[0] != expected[1]).any()


def test_sequential_refuses(backend):
    for wrong in ({"a.b": ReLU()}, {"": ReLU()}, {"a": "relu"}):
        with pytest.raises(ConfigError, match="expected layers"):
            Sequential(wrong)
    with pytest.raises(ConfigError, match="expected layers"):
        Sequential(ReLU)
    model = net(backend)
    with pytest.raises(ShapeError, match=r"^layer 'conv': .*\(1, 3, 6, 6\).*\(N, 2, H, W\)"):
        model(np.zeros((1, 3, 6, 6)))
    with pytest.raises(ShapeError, match=r"^layer 'inner\.conv': .*\(1, 3, 1, 1\)"):
        model(np.zeros((1, 2, 3, 3)))
    with pytest.raises(ShapeError, match=r"^layer 'dense': .*\(1, 8\).*\(N, 2\)"):
        model(np.zeros((1, 2, 8, 8)))


def test_what_may_go_into_a_net(backend):
    class Elsewhere(NumpyBackend):
        name = "elsewhere"

    model, x = net(backend).eval(), random(2, 2, 6, 6)
    expected = model(x).numpy()
    np.testing.assert_array_equal(model(x.tolist()).numpy(), expected)
    np.testing.assert_array_equal(model(Tensor(x, backend=backend)).numpy(), expected)
    assert model(np.ones((1, 2, 6, 6), np.uint8)).dtype == np.float64
    assert net(backend, np.float32)(x).dtype == np.float32
    with pytest.raises(TypeError, match=r"float32.*float64"):
        model(Tensor(x.astype(np.float32), backend=backend))
    with pytest.raises(BackendMismatchError, match="elsewhere"):
        model(Tensor(x, backend=Elsewhere()))
    for poison in (np.nan, np.inf, -np.inf):
        bad = x.copy()
        bad[1, 0, 2, 3] = poison
        with pytest.raises(NonFiniteError, match=r"1 values.*out of 144"):
            model(bad)


# ---- memory layout ---------------------------------------------------------------------------
LAYOUTS = {
    "batch last": lambda x: np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2),
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=3)[::2, :, :, ::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
    "Fortran": np.asfortranarray,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, 4])
def test_any_memory_layout_and_read_only(layout, batch, backend):
    def all_four(arrange):
        x = arrange(random(batch, 2, 6, 6))
        layers = [
            Conv2d(2, 3, 3, padding=1, backend=backend, dtype=np.float64),
            MaxPool2d(3, 2, 1),
            AvgPool2d(2),
            ReLU(),
            Flatten(),
        ]
        layers[0].weight.data = get_backend(backend).asarray(arrange(layers[0].weight.numpy()))
        for layer in layers:
            x.flags.writeable = False
            inside = Tensor(x, True, backend)
            step = layer.trace(inside)[0]
            shape = step.z.shape
            ratio = random(*shape, seed=1)
            ratio = arrange(ratio) if ratio.ndim == 4 else ratio
            ratio.flags.writeable = False
            carrier = Tensor(ratio, True, backend)
            carried = step.relevance(carrier)
            step.z.backward(ratio)
            carried.backward(arrange(random(*carried.shape, seed=2)))
            yield step.z.numpy()
            yield carried.numpy()
            for t in (inside, carrier, *layer.parameters().values()):
                yield t.backend.to_numpy(t.grad)

    expected = list(all_four(np.ascontiguousarray))
    ours = list(all_four(LAYOUTS[layout]))
    assert len(expected) == 5 * 4 + 2
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


# ---- parameters to and from files ------------------------------------------------------------
def test_state_dict_round_trip(backend):
    model, other = net(backend), net(backend)
    for p in model.parameters().values():
        p.data = p.data + 1
    state = model.state_dict()
    assert all(type(a) is np.ndarray for a in state.values())
    other.load_state_dict(state)
    x = random(2, 2, 6, 6)
    np.testing.assert_array_equal(model.eval()(x).numpy(), other.eval()(x).numpy())
    state["dense.bias"][:] = 99  # copies on both ways
    assert 99 not in model.parameters()["dense.bias"].numpy()
    assert 99 not in other.parameters()["dense.bias"].numpy()


def test_loading_keeps_the_dtype(backend):
    single = net(backend, np.float32)
    single.load_state_dict(net(backend).state_dict())
    assert {p.dtype for p in single.parameters().values()} == {np.dtype(np.float32)}


def test_parameters_of_another_model(backend):
    model = net(backend)
    before = model.state_dict()
    good = {name: array + 1 for name, array in before.items()}
    shape = {**good, "dense.bias": np.zeros(5)}
    nan = {**good, "dense.bias": np.full(4, np.nan)}
    words = {**good, "dense.bias": np.array(list("abcd"))}
    missing = {k: v for k, v in good.items() if k != "conv.bias"}
    for state, message in (
        (missing, r"missing conv\.bias"),
        ({**good, "extra": np.zeros(1)}, r"not in this model extra"),
        ({**missing, "extra": np.zeros(1)}, r"missing conv\.bias; not in this model extra"),
        (shape, r"dense\.bias has shape \(5,\).*\(4,\)"),
        (nan, r"dense\.bias.*finite"),
        (words, r"dense\.bias.*finite"),
    ):
        with pytest.raises(CheckpointError, match=message):
            model.load_state_dict(state)
        for name, array in model.state_dict().items():  # nothing is changed then
            np.testing.assert_array_equal(array, before[name])


def test_a_layer_that_forgot_a_method(backend):
    class Unfinished(Layer):
        pass

    with pytest.raises(NotImplementedError, match="Unfinished must define forward"):
        Unfinished()(Tensor([1.0], backend=backend))
