"""A fused block gives what its layers give, pass by pass, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi import fbi, fusion
from minifbi.autograd import Tensor, check_gradients, cross_entropy
from minifbi.backends import get_backend
from minifbi.errors import ShapeError
from minifbi.fusion import ConvBlock, fuse
from minifbi.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.rules import Zero

RNG = np.random.default_rng(5)


def nets(backend, dtype=np.float64):
    """Blocks with and without pooling, bias, stride; and what must not be fused."""
    options = {"backend": backend, "dtype": dtype, "rng": np.random.default_rng(8)}

    def net(layers, features):
        return Sequential({**layers, "flatten": Flatten(), "out": Dense(features, 4, **options)})

    yield (
        "pool 2x2",
        net(
            {"conv": Conv2d(2, 5, 3, padding=1, **options), "relu": ReLU(), "pool": MaxPool2d(2)},
            5 * 4 * 3,
        ),
    )
    yield (
        "overlapping, no bias",
        net(
            {
                "conv": Conv2d(2, 3, (3, 2), bias=False, **options),
                "relu": ReLU(),
                "pool": MaxPool2d(3, 2),
                "conv2": Conv2d(3, 7, 2, **options),
                "relu2": ReLU(),
            },
            7,
        ),
    )
    yield (
        "padded pooling, stride",
        net(
            {
                "conv": Conv2d(2, 9, 5, stride=2, padding=2, **options),
                "relu": ReLU(),
                "pool": MaxPool2d(2, 1, padding=1),
            },
            9 * 5 * 5,
        ),
    )
    yield (
        "residual",
        net(
            {
                "block": Residual(
                    {
                        "conv1": Conv2d(2, 4, 3, stride=2, padding=1, **options),
                        "relu": ReLU(),
                        "conv2": Conv2d(4, 3, 3, padding=1, **options),
                    },
                    shortcut=Sequential(Conv2d(2, 3, 1, stride=2, **options), ReLU()),
                ),
                "relu": ReLU(),
            },
            3 * 4 * 4,
        ),
    )
    yield (
        "nothing to pool",
        net(
            {
                "conv": Conv2d(2, 3, 3, **options),
                "conv2": Conv2d(3, 3, 1, **options),
                "relu": ReLU(),
                "avg": AvgPool2d(2),
            },
            3 * 3 * 2,
        ),
    )


def rewritten(model):
    """As for a compiled backend, on every backend: the blocks' arithmetic is the contract's."""
    return fusion._rewritten(model)


def everything(model, x, labels, fused, start="target"):
    """All that the three passes give, as arrays."""
    image = Tensor(x, requires_grad=True, backend=model.backend, dtype=model.dtype)
    steps = fbi.forward_pass(rewritten(model) if fused else model, image)
    relevances = fbi.relevance_pass(steps, start, labels)
    terms = fbi.fbi_terms(steps, relevances)
    model.zero_grad()
    fbi.objective(cross_entropy(steps[-1].z, labels), fbi.fbi_loss(terms), 0.3).backward()
    found = {"logits": steps[-1].z.numpy(), "image": image.backend.to_numpy(image.grad)}
    for name, a_minus in relevances.items():
        found[f"a- {name}"] = a_minus.numpy()
        found[f"term {name}"] = terms[name].numpy()
    for name, p in model.parameters().items():
        found[f"grad {name}"] = p.backend.to_numpy(p.grad)
    return found


@pytest.mark.parametrize("start", fbi.STARTS)
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_fused_equals_layers(backend, start, batch):
    for what, model in nets(backend):
        x = RNG.standard_normal((batch, 2, 8, 7))
        labels = RNG.integers(0, 4, batch)
        readable = everything(model, x, labels, False, start)
        fused = everything(model, x, labels, True, start)
        assert readable.keys() == fused.keys()
        for name, array in readable.items():
            np.testing.assert_allclose(
                fused[name], array, rtol=1e-10, atol=1e-12, err_msg=f"{what}: {name}"
            )


def test_gradients_through_fused_passes(backend):
    for _, model in nets(backend):
        x, labels = RNG.standard_normal((3, 2, 8, 7)), np.array([0, 3, 1])

        def loss(model=model, x=x, labels=labels):
            steps = fbi.forward_pass(rewritten(model), x)
            terms = fbi.fbi_terms(steps, fbi.relevance_pass(steps, "target", labels))
            return fbi.objective(cross_entropy(steps[-1].z, labels), fbi.fbi_loss(terms), 0.5)

        assert check_gradients(loss, model.parameters(), step=2e-6).ok


def test_two_relevance_passes_over_one_forward_pass(backend):
    """What a relevance pass leaves for its adjoint must not leak into another's."""
    _, model = next(nets(backend))
    x, labels = RNG.standard_normal((3, 2, 8, 7)), np.array([0, 3, 1])
    gradients = []
    for fused in (False, True):
        model.zero_grad()
        steps = fbi.forward_pass(rewritten(model) if fused else model, x)
        losses = [
            fbi.fbi_loss(fbi.fbi_terms(steps, fbi.relevance_pass(steps, start, labels)))
            for start in ("target", "logits")
        ]
        (losses[0] + losses[1] * 2).backward()
        to_numpy = model.backend.to_numpy
        gradients.append(
            {n: to_numpy(p.grad) for n, p in model.parameters().items() if p.grad is not None}
        )
    for name, array in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], array, rtol=1e-9, atol=1e-12)


def test_what_is_fused():
    layers = {
        "a": Conv2d(1, 2, 3),
        "b": ReLU(),
        "c": MaxPool2d(2),
        "d": Conv2d(2, 2, 3),
        "e": ReLU(),
        "f": AvgPool2d(2),
        "g": Conv2d(2, 2, 1),
        "h": MaxPool2d(2),
        "i": ReLU(),
    }
    found = rewritten(Sequential(layers)).layers
    assert list(found) == ["a", "d", "f", "g", "h", "i"]
    assert [type(layer) for layer in found.values()][:3] == [ConvBlock, ConvBlock, AvgPool2d]
    assert found["a"].pool == ("c", layers["c"])
    assert found["d"].pool is None
    assert found["a"].parameters() == layers["a"].parameters()


class Mine(Zero):
    """A rule of one's own."""


class Chain(Sequential):
    """A container of one's own."""


def test_when_a_model_is_rewritten(backend):
    _, model = next(nets(backend))
    compiled = get_backend(backend).fuses
    assert compiled == (backend != "numpy")
    assert (fuse(model) is not model) == compiled
    for rule in ("epsilon:0.01", "gamma", Mine(), None):
        assert fuse(model, rule) is model
    mine = Chain(model.layers)
    assert fuse(mine) is mine


def test_what_is_rewritten_is_the_model_itself(backend):
    """Parameters, names and random states are shared, assignments and modes included."""
    options = {"backend": backend, "rng": np.random.default_rng(8)}
    model = Sequential(
        {
            "conv": Conv2d(1, 2, 3, **options),
            "relu": ReLU(),
            "drop": Dropout(0.5, rng=3),
            "inner": Sequential({"conv": Conv2d(2, 2, 1, **options), "relu": ReLU()}),
        }
    )
    fast = rewritten(model)
    assert fast.parameters() == model.parameters()
    assert list(fast.random_states()) == list(model.random_states()) == ["drop"]
    model["conv"].weight = Tensor(np.zeros((2, 1, 3, 3), np.float32), True, backend)
    assert fast.parameters()["conv.weight"] is model["conv"].weight
    x = RNG.random((2, 1, 5, 5)).astype(np.float32)
    model.eval()
    np.testing.assert_allclose(fast(x).numpy(), model(x).numpy())
    model.train()
    assert fast.layers["drop"].training


def test_shape_errors_are_those_of_the_layers():
    model = Sequential({"conv": Conv2d(1, 2, 3), "relu": ReLU(), "pool": MaxPool2d(4)})
    with pytest.raises(ShapeError, match=r"layer 'pool'.*4 x 4"):
        rewritten(model)(np.zeros((1, 1, 5, 5)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_l1_difference(backend, dtype):
    """Against its definition, the signs at equality included."""
    k = get_backend(backend)
    x = RNG.standard_normal((3, 4, 5, 2)).astype(dtype)
    ratio = RNG.standard_normal((3, 4, 5, 2)).astype(dtype)
    ratio[0, 0], x[1, 1] = 1, 0
    a, b = k.asarray(x), k.asarray(ratio)
    expected = np.abs(x - x * ratio).sum(dtype=np.float64)
    assert float(k.l1_difference(a, b)) == pytest.approx(expected, rel=1e-5)
    scale, sign = k.asarray(np.array(0.5, dtype)), np.sign(x - x * ratio)
    wanted = (0.5 * sign * (1 - ratio), -0.5 * sign * x)
    for found, gradient in zip(k.l1_difference_backward(a, b, scale), wanted, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(k.to_numpy(found), gradient, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (40, 6, 9, 8), (64, 80)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sum_and_product_of_two_arrays(backend, shape, dtype):
    k = get_backend(backend)
    a, b = (RNG.standard_normal(shape).astype(dtype) for _ in range(2))
    for kernel, wanted in ((k.add, a + b), (k.multiply, a * b)):
        found = kernel(k.asarray(a), k.images(b, None))  # one of them in another order
        assert found.dtype == dtype
        np.testing.assert_array_equal(k.to_numpy(found), wanted)


@pytest.mark.parametrize("window", [((2, 2), (2, 2)), ((3, 2), (4, 2)), ((1, 1), (1, 1))])
@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooling_inside_the_kernels(backend, dtype, batch, window):
    """Convolution, ReLU, pooling and the ways back, against the reference, piece by piece.

    Channels that fill no tile, a map that the windows do not tile, and units that are off.
    """
    k, reference = get_backend(backend), get_backend("numpy")
    window = (*window, (0, 0))
    x = RNG.standard_normal((batch, 3, 9, 11)).astype(dtype)
    weight = RNG.standard_normal((10, 3, 3, 2)).astype(dtype)
    bias = RNG.standard_normal(10).astype(dtype) - 1
    geometry, size, tolerance = ((1, 1), (1, 0)), (9, 10), 1e-4 if dtype == np.float32 else 1e-10

    def passes(b):
        image, w = b.images(x, dtype), b.asarray(weight)
        a, winners = b.conv2d_relu_pool(image, w, b.asarray(bias), *geometry, window)
        g = b.images(np.cos(np.arange(a.size)).reshape(a.shape), dtype)
        spread = b.relu_unpool(g, a, winners, window, size)
        yield a
        yield b.conv2d_gather(image, w, *geometry, a, winners, window)
        yield b.conv2d_transpose(spread, w, *geometry, (9, 11))
        yield b.conv2d_weight(image, spread, (3, 2), *geometry)
        one = w[:, :1].copy()  # into one channel: another kernel
        yield b.conv2d_transpose(spread, one, *geometry, (9, 11))

    for found, expected in zip(passes(k), passes(reference), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(
            k.to_numpy(found), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
        )
