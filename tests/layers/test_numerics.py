"""What must hold for every layer, whatever the shape, memory order, scale and number type.

The numbers are small integers times powers of two (:func:`every_layer.numbers`), so that nothing is
ever rounded: where two ways must give the same, they must give it to the last bit.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import WORKING_BACKENDS as ASKED
from every_layer import FILLS, GEOMETRIES, KINDS, LAYOUTS, cases, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from minifbi.autograd import Tensor
from minifbi.backends import backend_status
from minifbi.layers import Conv2d, Dense, Flatten, ReLU, Sequential
from minifbi.rules import walk

BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(status != "ok" or name not in ASKED, reason="not here")
    )
    for name, status in backend_status().items()
    if name != "cupy"  # its own tests hold it to the reference
]
backends = pytest.mark.parametrize("backend", BACKENDS)
every_kind = pytest.mark.parametrize("kind", KINDS)
without_shift = pytest.mark.parametrize("kind", sorted({*KINDS} - {"BatchNorm2d"}))
DTYPES = st.sampled_from([np.float32, np.float64])
BATCHES = st.sampled_from([0, 1, 2, 3, 17])
TIMES = int(os.environ.get("MINIFBI_TEST_EXAMPLES", "1"))  # how many times as many random cases
quick = settings(max_examples=25 * TIMES, deadline=None)
few = settings(max_examples=12 * TIMES, deadline=None)
# a mean divides, and a third is rounded; so is a quarter of the smallest number
ROUNDS = ("AvgPool2d", "GlobalAvgPool2d", "LeakyReLU", "Sequential")


def test_every_layer_is_here():
    assert set(GEOMETRIES) == set(KINDS), "give the new layer an entry in every_layer.py"


class Passes:
    """The four methods of a layer at work on plain arrays, as NumPy arrays.

    Built through the tape, so that a chain of layers is a layer as any other.
    """

    def __init__(self, layer, x, g=None, u=None):
        backend = layer.backend if layer.parameters() else x.backend
        to_numpy = backend.to_numpy
        self.steps = layer.trace(x)
        self.z, ratio = self.steps[-1].z, None
        self.out = {"z": self.z.numpy()}
        if g is None:
            return
        ratio = Tensor(g, True, backend)
        *_, first = walk(self.steps, ratio)
        carried = first.at_input.values
        self.out["relevance"] = carried.numpy()
        for name, result, seed, sources in (
            ("backward", self.z, g, {"x": x}),
            ("relevance_backward", carried, u, {"ratio": ratio}),
        ):
            if seed is None:
                continue
            sources = {**sources, **layer.parameters()}
            for source in sources.values():
                source.grad = None
            result.backward(seed)
            for key, source in sources.items():
                if source.grad is not None:
                    self.out[f"{name} {key}"] = to_numpy(source.grad)


def passes(
    case, backend, dtype, arrays, arrange=lambda a: a, training=False, seed=0, fill="integers"
):
    """All passes of a case on a backend; `arrays` are x, g and u as they come."""
    layer = case.layer(backend, dtype, np.random.default_rng(seed), fill).train(training)
    x, g, u = (arrange(a) if a is not None else None for a in arrays)
    before = [a.tobytes() for a in (x, g, u) if a is not None]
    weights = {name: p.numpy().tobytes() for name, p in layer.parameters().items()}
    found = Passes(layer, Tensor(x, True, backend), g, u).out
    assert before == [a.tobytes() for a in (x, g, u) if a is not None], "an input was changed"
    assert weights == {n: p.numpy().tobytes() for n, p in layer.parameters().items()}
    return found


def arrays_for(case, batch, dtype, fill, seed):
    """x, a gradient (or ratio) at the output, a gradient at the input."""
    rng = np.random.default_rng(seed)
    x = numbers(rng, fill, (batch, *case.shape), dtype)
    shape = case.layer("numpy", dtype).trace(Tensor(x))[-1].z.shape
    return x, numbers(rng, "integers", shape, dtype), numbers(rng, "integers", x.shape, dtype)


def equal(found, expected, kind, exact=True):
    """The same arrays, to the last bit but where a mean was rounded."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype == array.dtype, name
        assert np.isfinite(found[name]).all(), name
        if exact and kind not in ROUNDS:
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        else:
            scale = np.abs(array).max(initial=0)
            eps = np.finfo(array.dtype).eps
            limit = 64 * eps * scale + 4096 * np.finfo(array.dtype).smallest_subnormal
            np.testing.assert_allclose(found[name], array, rtol=0, atol=limit, err_msg=name)


# ---- backends, memory orders, inputs ---------------------------------------------------------
@backends
@every_kind
@quick
@given(
    data=st.data(),
    dtype=DTYPES,
    batch=BATCHES,
    fill=st.sampled_from(FILLS),
    seed=st.integers(0, 99),
)
def test_backends_and_memory_orders_agree(kind, data, dtype, batch, fill, seed, backend):
    """numpy on tidy arrays is the reference; any backend on any memory order must give the same."""
    case = data.draw(cases(kind))
    layout = data.draw(st.sampled_from(sorted(LAYOUTS)))
    arrays = arrays_for(case, batch, dtype, fill, seed)
    expected = passes(case, "numpy", dtype, arrays, seed=seed, fill=fill)
    found = passes(case, backend, dtype, arrays, LAYOUTS[layout], seed=seed, fill=fill)
    equal(found, expected, kind)


def smooth(kind):
    """Whether no winner and no gate may change hands by a rounding."""
    return kind not in ("ConvBlock", "MaxPool2d", "ReLU", "Residual", "Sequential")


@backends
@pytest.mark.parametrize("kind", [kind for kind in KINDS if smooth(kind)])
@few
@given(
    data=st.data(), dtype=DTYPES, scale=st.sampled_from([1e-30, 1.0, 1e15]), seed=st.integers(0, 99)
)
def test_backends_agree_where_sums_are_rounded(kind, data, dtype, scale, seed, backend):
    case, rng = data.draw(cases(kind)), np.random.default_rng(seed)
    x, g, u = (
        (a + rng.standard_normal(a.shape)).astype(dtype)
        for a in arrays_for(case, 3, dtype, "integers", seed)
    )
    arrays = (x * dtype(scale), g, u)
    expected = passes(case, "numpy", np.float64, [a.astype(np.float64) for a in arrays])
    for name, array in passes(case, backend, dtype, arrays).items():
        assert array.dtype == dtype
        limit = 4096 * np.finfo(dtype).eps * np.abs(expected[name]).max(initial=0)
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=limit, err_msg=name)


@backends
@every_kind
@few
@given(data=st.data(), dtype=DTYPES, seed=st.integers(0, 99))
def test_number_types(kind, data, dtype, seed, backend):
    """Other byte orders and integers are converted; what has no such number is refused."""
    case = data.draw(cases(kind))
    arrays = arrays_for(case, 2, dtype, "integers", seed)
    expected = passes(case, backend, dtype, arrays, seed=seed)
    swapped = passes(
        case, backend, dtype, arrays, lambda a: a.astype(a.dtype.newbyteorder()), seed=seed
    )
    equal(swapped, expected, kind)
    layer = case.layer(backend, dtype, np.random.default_rng(seed)).eval()
    for given_as in (np.int8, np.int64):
        z = layer(arrays[0].astype(given_as))
        assert z.dtype == layer.dtype
        np.testing.assert_allclose(z.numpy(), expected["z"], rtol=1e-6)
    for refused in (np.float16, np.longdouble, np.complex128):
        with pytest.raises(TypeError, match="float32 or float64"):
            layer(Tensor(arrays[0].astype(refused)))
    if layer.parameters():
        other = np.float64 if dtype == np.float32 else np.float32
        with pytest.raises(TypeError, match=r"float32.*float64|float64.*float32"):
            layer(Tensor(arrays[0].astype(other), backend=backend))


# ---- batches ---------------------------------------------------------------------------------
@backends
@every_kind
@quick
@given(data=st.data(), dtype=DTYPES, fill=st.sampled_from(FILLS), seed=st.integers(0, 99))
def test_samples_do_not_see_each_other(kind, data, dtype, fill, seed, backend):
    """Another order of the samples, and the batch in two parts, give the same; weights add up."""
    case, n = data.draw(cases(kind)), data.draw(st.sampled_from([2, 5, 18]))
    arrays = arrays_for(case, n, dtype, fill, seed)
    whole = passes(case, backend, dtype, arrays, seed=seed, fill=fill)
    order = np.random.default_rng(seed).permutation(n)
    cut = data.draw(st.integers(0, n))
    shuffled = passes(case, backend, dtype, [a[order] for a in arrays], seed=seed, fill=fill)
    parts = [
        passes(case, backend, dtype, [a[some] for a in arrays], seed=seed, fill=fill)
        for some in (slice(cut), slice(cut, n))
    ]
    for name, array in whole.items():
        joined = [part[name] for part in parts]
        if name.endswith(("weight", "bias")):  # summed over the samples
            again, together = shuffled[name], joined[0] + joined[1]
        else:
            again, together = shuffled[name][np.argsort(order)], np.concatenate(joined)
        equal({name: again}, {name: array}, kind)
        equal({name: together}, {name: array}, kind)


@backends
@every_kind
@few
@given(data=st.data(), dtype=DTYPES)
def test_an_empty_batch(kind, data, dtype, backend):
    case = data.draw(cases(kind))
    found = passes(case, backend, dtype, arrays_for(case, 0, dtype, "integers", 0))
    for name, array in found.items():
        if name.endswith(("weight", "bias")):
            assert array.shape
            assert not array.any()  # the sum over no samples
        else:
            assert array.shape[0] == 0
            assert array.shape[1:] == (
                found["z"].shape[1:] if "ratio" in name or name == "z" else case.shape
            )


# ---- what the passes are to each other -------------------------------------------------------
def inner(a, b, axis=None):
    """<a, b> in float64, over all or for each sample."""
    product = a.astype(np.float64) * b.astype(np.float64)
    return product.sum() if axis is None else product.reshape(len(a), -1).sum(axis=1)


@backends
@without_shift
@quick
@given(data=st.data(), training=st.booleans(), fill=st.sampled_from(FILLS), seed=st.integers(0, 99))
def test_relevance_is_conserved_without_biases(kind, data, training, fill, seed, backend):
    """Sum of x * ratio below = sum of z * ratio above, for each sample; Bach et al. (2015)."""
    case = data.draw(cases(kind, bias=False))
    x, g, u = arrays_for(case, 3, np.float64, fill, seed)
    found = passes(case, backend, np.float64, (x, g, u), training=training, seed=seed, fill=fill)
    below, above = inner(x, found["relevance"], 0), inner(found["z"], g, 0)
    if kind in ROUNDS:
        limit = 1e-10 * np.abs(x).max() + 4096 * np.finfo(np.float64).smallest_subnormal
        np.testing.assert_allclose(below, above, rtol=1e-12, atol=limit)
    else:
        np.testing.assert_array_equal(below, above)


@backends
@every_kind
@quick
@given(data=st.data(), training=st.booleans(), fill=st.sampled_from(FILLS), seed=st.integers(0, 99))
def test_adjoints(kind, data, training, fill, seed, backend):
    """Each way back is the transpose of its way there; the ratio goes the way of the gradient."""
    case = data.draw(cases(kind))
    x, g, u = arrays_for(case, 3, np.float64, fill, seed)
    found = passes(case, backend, np.float64, (x, g, u), training=training, seed=seed, fill=fill)
    tolerance = {"rtol": 1e-12, "atol": 1e-9} if kind in ROUNDS else {"rtol": 0, "atol": 0}
    np.testing.assert_allclose(found["relevance"], found["backward x"], **tolerance)
    # the relevance pass is linear in the ratio, and one layer's is in its weight too
    expected = inner(u, found["relevance"])
    np.testing.assert_allclose(inner(found["relevance_backward ratio"], g), expected, **tolerance)
    layer = case.layer(backend, np.float64, np.random.default_rng(seed), fill)
    if kind in ("Conv2d", "ConvBlock", "Dense"):
        weight = layer.parameters()["weight"].numpy()
        assert inner(found["relevance_backward weight"], weight) == expected
        through_bias = 0.0
        if "bias" in layer.parameters():
            assert "relevance_backward bias" not in found  # a bias gets no relevance
            through_bias = inner(found["backward bias"], layer.parameters()["bias"].numpy())
        # <z, g> is what came through the weights and what came through the bias
        assert inner(found["backward weight"], weight) + through_bias == inner(found["z"], g)


@backends
@without_shift
@quick
@given(
    data=st.data(),
    dtype=DTYPES,
    power=st.integers(-6, 6),
    fill=st.sampled_from(FILLS),
    seed=st.integers(0, 99),
)
def test_what_is_linear(kind, data, dtype, power, fill, seed, backend):
    """Gradients and ratios are linear in what arrives; without biases z grows with x."""
    case, factor = data.draw(cases(kind, bias=False)), 2.0**power
    x, g, u = arrays_for(case, 3, dtype, fill, seed)
    if fill == "denormal" and power < 0:
        x = (x * 2.0**-power).astype(dtype)  # no smaller number is left
    _, other, upper = arrays_for(case, 3, dtype, fill, seed + 1)
    plain = passes(case, backend, dtype, (x, g, u), seed=seed, fill=fill)
    again = passes(case, backend, dtype, (x, other, u), seed=seed, fill=fill)
    both = passes(case, backend, dtype, (x, g + other, u), seed=seed, fill=fill)
    above = passes(case, backend, dtype, (x, g, u + upper), seed=seed, fill=fill)
    alone = passes(case, backend, dtype, (x, g, upper), seed=seed, fill=fill)
    larger = passes(case, backend, dtype, ((x * factor).astype(dtype), g, u), seed=seed)
    for name in plain:
        if name in ("relevance", "relevance_backward weight") or name.startswith("backward"):
            equal({name: plain[name] + again[name]}, {name: both[name]}, kind)
        if name.startswith("relevance_backward"):
            equal({name: plain[name] + alone[name]}, {name: above[name]}, kind)
        degree = 1 if name == "z" or (name.startswith("backward") and name != "backward x") else 0
        equal({name: (plain[name] * factor**degree).astype(dtype)}, {name: larger[name]}, kind)


# ---- the edges of what a number can be -------------------------------------------------------
@backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_whole_net_on_blank_and_extreme_images(backend, dtype):
    """All-zero, constant and extreme images: finite wherever the true value is a number."""
    options = {"rng": 1, "backend": backend, "dtype": dtype}
    net = Sequential(
        Conv2d(1, 4, 3, padding=1, **options), ReLU(), Flatten(), Dense(4 * 36, 3, **options)
    )
    top = float(np.finfo(dtype).max)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    for value in (0.0, 1.0, -1.0, 1e-3 * top**0.5, top / 1e4, tiny, -tiny):
        x = np.full((2, 1, 6, 6), value, dtype)
        found = Passes(net, Tensor(x, True, backend), np.ones((2, 3), dtype), np.ones_like(x)).out
        for name, array in found.items():
            assert np.isfinite(array).all(), (value, name)
        if value == 0.0:
            assert not found["z"].any()
