"""Measures of activations: known answers, and plain loops or scipy on random numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import small_mnist
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from minifbi.datasets import decoy_mnist
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.evaluate import (
    ACTIVATION_MEASURES,
    UnitGrid,
    activation_report,
    collect_activations,
    digit_mask,
    pool_mask,
    unit_grids,
)
from minifbi.evaluate import activations as measures
from minifbi.fbi import forward_pass
from minifbi.layers import Conv2d, Dense, Dropout, Flatten, MaxPool2d, ReLU, Sequential
from minifbi.models import alexnet, lenet, mlp

RNG = np.random.default_rng(1)
A = np.maximum(RNG.standard_normal((5, 4, 6, 7)), 0)  # about half of it zeros
A[:, 2] = 0
A[1, 0] = 0
SCALES = {
    "none": lambda v: 1.0,
    "rms": lambda v: math.sqrt(sum(x * x for x in v) / len(v)),
    "mean": lambda v: sum(v) / len(v),
    "max": max,
}
PER_IMAGE = (
    measures.maximum,
    measures.rms_maximum,
    measures.variance,
    measures.inverse_variance,
    measures.skewness,
    measures.gini,
    measures.hoyer,
)


def plain_gini(values):
    """The mean absolute difference of all pairs, over twice the mean: the textbook's index."""
    v = [abs(float(x)) for x in values]
    return sum(abs(x - y) for x in v for y in v) / (2 * len(v) * sum(v))


# ---- known answers -----------------------------------------------------------------------
def test_one_unit_carries_everything() -> None:
    a = np.zeros((1, 2, 2, 2))
    a[0, 1, 0, 1] = 4.0
    assert measures.mean(a) == 0.5
    assert measures.maximum(a) == 4
    assert measures.rms_maximum(a) == pytest.approx(math.sqrt(8))
    assert measures.variance(a) == pytest.approx(16 / 8 - 0.25)
    assert measures.variance(a, "rms") == pytest.approx(1 - 1 / 8)
    assert measures.inverse_variance(a, "rms") == pytest.approx(8 / 7)
    assert measures.variance(a, "mean") == pytest.approx(7)
    assert measures.variance(a, "max") == pytest.approx(7 / 64)
    assert measures.skewness(a) == pytest.approx(6 / math.sqrt(7))  # of a Bernoulli(1/8)
    assert measures.zero_fraction(a) == 7 / 8
    assert measures.gini(a) == pytest.approx(7 / 8)
    assert measures.hoyer(a) == pytest.approx(1)
    assert measures.zeroed_filters(a) == 1
    assert measures.dead_filters(a) == 1


def test_all_units_are_equal() -> None:
    a = np.full((2, 3, 2, 2), 0.1, dtype=np.float32)
    assert measures.rms_maximum(a) == pytest.approx(1)
    assert measures.gini(a) == pytest.approx(0, abs=1e-7)
    assert measures.hoyer(a) == pytest.approx(0, abs=1e-7)
    assert measures.zero_fraction(a) == 0
    assert math.isnan(measures.skewness(np.full((2, 3, 2, 2), 0.5)))  # variance 0, exactly
    assert math.isnan(measures.inverse_variance(np.full((2, 3, 2, 2), 0.5)))


def test_published_gini_values() -> None:
    # of the numbers 1, 2, ..., n: (n - 1) / (3 n)
    for n in (2, 5, 40):
        a = np.arange(1.0, n + 1).reshape(1, 1, 1, n)
        assert measures.gini(a) == pytest.approx((n - 1) / (3 * n))
        assert measures.gini(a[..., ::-1] * -7.5) == pytest.approx((n - 1) / (3 * n))


def test_filters_zero_for_an_image_and_for_all() -> None:
    # filter 2 is silent everywhere, filter 0 only in image 1
    assert measures.zeroed_filters(A) == pytest.approx((1 + 2 + 1 + 1 + 1) / 5)
    assert measures.dead_filters(A) == 1


def test_a_silent_layer_is_not_defined_and_no_error() -> None:
    a = np.zeros((2, 3, 4, 4), dtype=np.float32)
    for measure in (measures.rms_maximum, measures.skewness, measures.gini, measures.hoyer):
        assert math.isnan(measure(a))
    for normalization in ("rms", "mean", "max"):
        assert math.isnan(measures.variance(a, normalization))
    assert math.isnan(measures.inverse_variance(a))
    assert math.isnan(measures.background_share(a, np.zeros((2, 1, 8, 8))))
    assert (measures.variance(a), measures.maximum(a), measures.zero_fraction(a)) == (0, 0, 1)
    assert (measures.zeroed_filters(a), measures.dead_filters(a)) == (3, 3)


# ---- against loops and scipy ---------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(*[st.integers(1, 3)] * 4),
        elements=st.one_of(st.just(0.0), st.floats(0.001, 10)),
    )
)
def test_moments_and_sparsity_against_loops(a) -> None:
    values = [float(x) for x in a.ravel()]
    n, energy = len(values), sum(x * x for x in values)
    assert measures.mean(a) == pytest.approx(sum(values) / n)
    assert measures.zero_fraction(a) == pytest.approx(values.count(0.0) / n)
    for name, scale_of in SCALES.items():
        scale = scale_of(values)
        if scale == 0:
            assert math.isnan(measures.variance(a, name))
            continue
        scaled = [x / scale for x in values]
        centre = sum(scaled) / n
        expected = sum((x - centre) ** 2 for x in scaled) / n
        assert measures.variance(a, name) == pytest.approx(expected, abs=1e-12)
        if expected > 1e-9:
            assert measures.inverse_variance(a, name) == pytest.approx(1 / expected)
    if energy:
        assert measures.rms_maximum(a) == pytest.approx(max(values) / math.sqrt(energy / n))
        assert measures.gini(a) == pytest.approx(plain_gini(values), abs=1e-12)
        if n > 1:
            root = math.sqrt(n)
            hoyer = (root - sum(values) / math.sqrt(energy)) / (root - 1)
            assert measures.hoyer(a) == pytest.approx(hoyer, abs=1e-12)
    if np.ptp(a) > 0.01:
        assert measures.skewness(a) == pytest.approx(stats.skew(a.ravel()), rel=1e-6)


def test_large_float32_layers_keep_their_precision() -> None:
    """More values than one piece, far from zero: float32 sums would lose digits."""
    a = (1000 + RNG.standard_normal((5, 8, 100, 100))).astype(np.float32)
    wide = a.astype(np.float64).ravel()
    assert measures.variance(a) == pytest.approx(wide.var(), rel=1e-10)
    assert measures.skewness(a) == pytest.approx(stats.skew(wide), rel=1e-7)
    assert measures.mean(a) == pytest.approx(wide.mean(), rel=1e-12)
    ordered = np.sort(wide)
    lorenz = np.concatenate([[0], ordered.cumsum() / ordered.sum()])
    area = ((lorenz[1:] + lorenz[:-1]) / 2).mean()
    assert measures.gini(a) == pytest.approx(1 - 2 * area, rel=1e-9)


@pytest.mark.parametrize("measure", PER_IMAGE, ids=lambda m: m.__name__)
def test_per_image_is_the_mean_over_images(measure) -> None:
    expected = np.mean([measure(image[None]) for image in A])
    assert measure(A, per_image=True) == pytest.approx(expected)
    assert measure(A, per_image=True) != pytest.approx(measure(A), rel=1e-6)
    silent = np.concatenate([A, np.zeros_like(A[:1])])  # one image more, not defined
    if measure not in (measures.maximum, measures.variance):
        assert measure(silent, per_image=True) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [1e-3, 250.0])
def test_relative_measures_do_not_see_the_scale(factor: float) -> None:
    for measure in (measures.rms_maximum, measures.skewness, measures.gini, measures.hoyer):
        assert measure(A * factor) == pytest.approx(measure(A))
    for normalization in ("rms", "mean", "max"):
        assert measures.variance(A * factor, normalization) == pytest.approx(
            measures.variance(A, normalization)
        )
    assert measures.variance(A * factor) == pytest.approx(measures.variance(A) * factor**2)


def test_popoviciu_bounds_the_inverse_variance() -> None:
    """1 / var >= 4 / max^2 for values in [0, max]: why some printed numbers cannot be raw."""
    assert measures.inverse_variance(A) >= 4 / measures.maximum(A) ** 2
    assert measures.inverse_variance(A, "rms") >= 1
    assert measures.inverse_variance(A, "max") >= 4


def test_wrong_input() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 3\).*\(N, C, H, W\)"):
        measures.gini(np.ones((5, 3)))
    with pytest.raises(ShapeError, match="int64"):
        measures.maximum(np.ones((1, 1, 2, 2), dtype=np.int64))
    with pytest.raises(ShapeError, match=r"\(0, 1, 2, 2\)"):
        measures.dead_filters(np.ones((0, 1, 2, 2)))
    with pytest.raises(ConfigError, match="normalization='energy': expected one of none, rms"):
        measures.variance(A, "energy")
    with pytest.raises(ShapeError, match="5 images of activations and 2 images"):
        measures.background_share(A, np.zeros((2, 1, 6, 7)))


# ---- where the digit is --------------------------------------------------------------------
def test_digit_mask() -> None:
    images = np.zeros((1, 2, 2, 2))
    images[0, 1, 0, 1], images[0, 0, 1, 1] = 0.3, 0.1
    assert digit_mask(images)[0].tolist() == [[False, True], [False, True]]
    assert digit_mask(images, 0.1)[0].tolist() == [[False, True], [False, False]]
    exclude = np.array([[[False, True], [False, False]]])
    assert digit_mask(images, exclude=exclude)[0].tolist() == [[False, False], [False, True]]
    with pytest.raises(ConfigError, match=r"threshold=1: expected .* below 1"):
        digit_mask(images, 1)
    with pytest.raises(ShapeError, match=r"bool of shape \(1, 2, 2\)"):
        digit_mask(images, exclude=exclude[0])


@pytest.mark.parametrize("size", [(6, 8), (3, 4), (2, 2), (1, 1), (4, 3), (6, 16)])
def test_pooled_mask_against_loops(size) -> None:
    mask = RNG.random((4, 6, 8)) > 0.8
    expected = np.zeros((4, *size), dtype=bool)
    for n, row, column in np.argwhere(mask):
        # the cell in whose tile the pixel's centre lies
        i = math.floor((row + 0.5) * size[0] / 6)
        j = math.floor((column + 0.5) * size[1] / 8)
        expected[n, i, j] = True
    np.testing.assert_array_equal(pool_mask(mask, size), expected)


def test_pooled_mask_is_max_pooling_where_that_tiles() -> None:
    mask = RNG.random((3, 28, 28)) > 0.9
    for pool in (2, 4, 7):
        blocks = mask.reshape(3, 28 // pool, pool, 28 // pool, pool).any(axis=(2, 4))
        np.testing.assert_array_equal(pool_mask(mask, blocks.shape[1:]), blocks)


def shifted_response(model, name, pixel):
    """Where a layer's units respond most to one bright pixel, in the mean over filters."""
    image = np.zeros((1, 1, 28, 28))
    image[0, 0, pixel[0], pixel[1]] = 1.0
    a = {s.name: s.z.numpy() for s in forward_pass(model, image)}[name][0].sum(axis=0)
    total = a.sum()
    rows, columns = np.indices(a.shape)
    return (a * rows).sum() / total, (a * columns).sum() / total


def test_grids_are_where_the_units_respond() -> None:
    """With equal weights the response to one pixel is centred on the units above it."""
    layers = {
        "conv1": Conv2d(1, 1, 5, bias=False, dtype=np.float64),
        "pool1": MaxPool2d(2),
        "conv2": Conv2d(1, 1, 3, stride=(1, 2), padding=(0, 1), bias=False, dtype=np.float64),
    }
    model = Sequential(layers)
    for conv in ("conv1", "conv2"):
        model[conv].weight.data = np.ones_like(model[conv].weight.data)
    grids = unit_grids(forward_pass(model, np.zeros((1, 1, 28, 28))))
    assert grids["conv1"] == UnitGrid((2.0, 2.0), (1.0, 1.0))
    assert grids["pool1"] == UnitGrid((2.5, 2.5), (2.0, 2.0))
    assert grids["conv2"] == UnitGrid((4.5, 2.5), (2.0, 4.0))
    # conv1 without padding: pixel 12 is the centre of unit 10
    assert shifted_response(model, "conv1", (12, 14)) == pytest.approx((10, 12))
    # from pixel row 12.5 = 2.5 + 2 * 5: between rows 12 and 13
    responses = [shifted_response(model, "pool1", (row, row)) for row in (12, 13)]
    assert np.mean(responses) == pytest.approx(5.0)


def test_grids_of_the_models() -> None:
    image = np.zeros((1, 1, 28, 28), dtype=np.float32)
    grids = unit_grids(forward_pass(alexnet(backend="numpy"), image))
    for name, step in (("relu_conv1", 1), ("relu_conv2", 2), ("relu_conv5", 4), ("pool5", 8)):
        assert grids[name] == UnitGrid(((step - 1) / 2,) * 2, (step,) * 2)
    assert "flatten" not in grids
    # LeNet's second convolution has no padding: its first unit is in the middle of pixels 4 and 5
    grids = unit_grids(forward_pass(lenet(backend="numpy"), image))
    assert grids["relu_conv2"] == UnitGrid((4.5, 4.5), (2.0, 2.0))
    assert unit_grids(forward_pass(mlp(backend="numpy"), image)) == {}


def test_background_share_by_hand() -> None:
    images = np.zeros((2, 1, 4, 4))
    images[0, 0, 0, 0] = 1.0  # upper left cell
    images[1, 0, 3, 0], images[1, 0, 2, 3] = 0.5, 0.2  # both lower cells
    a = np.array([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 6.0], [7.0, 8.0]]]])
    assert measures.background_share(a, images) == pytest.approx((2 + 3 + 4 + 5 + 6) / 36)
    assert measures.background_share(a, images, threshold=0.2) == pytest.approx(28 / 36)
    exclude = images[:, 0] == 1.0
    assert measures.background_share(a, images, exclude=exclude) == pytest.approx(21 / 36)
    # a grid that starts below the first row: the ink of image 0 lies outside of it
    grid = UnitGrid((1.5, 0.5), (1.0, 2.0))  # rows 1 to 2, all columns
    assert measures.background_share(a, images, grid) == pytest.approx((36 - 8) / 36)


# ---- collecting and reporting ------------------------------------------------------------
@pytest.mark.parametrize("build", [alexnet, lenet])
def test_collected_are_the_rectified_maps_before_pooling(build, backend) -> None:
    model = build(backend=backend, seed=2)
    images, _ = small_mnist().test.batch(slice(7))
    collected = collect_activations(model, images, batch_size=3)
    steps = {step.name: step.z.numpy() for step in forward_pass(model, images)}
    assert list(collected) == [name for name in steps if name.startswith("conv")]
    for name, a in collected.items():
        np.testing.assert_allclose(a, steps[f"relu_{name}"], rtol=1e-5, atol=1e-6)
        assert a.min() == 0
        assert a.dtype == np.float32


def test_collecting_from_splits_and_other_nets() -> None:
    data, model = small_mnist(), mlp(backend="numpy")
    assert collect_activations(model, data.test, limit=3) == {}
    hidden = collect_activations(model, data.test, limit=3, dense=True)
    assert {name: a.shape for name, a in hidden.items()} == {
        "dense1": (3, 256, 1, 1),
        "dense2": (3, 128, 1, 1),
    }
    # a convolution without ReLU shows its own output; Dropout is off; modes come back
    net = Sequential(Conv2d(1, 2, 3), Dropout(0.9), Flatten(), Dense(2 * 26 * 26, 10), ReLU())
    images, _ = data.test.batch(slice(4))
    a = collect_activations(net, images)["0"]
    np.testing.assert_allclose(a, net["0"](images).numpy())
    assert a.min() < 0
    assert net.training
    assert net["1"].training
    whole = collect_activations(alexnet(backend="numpy"), data.test, limit=2)
    part = collect_activations(alexnet(backend="numpy"), data.test.batch(slice(2))[0])
    np.testing.assert_array_equal(whole["conv5"], part["conv5"])


def test_collecting_refuses() -> None:
    model, test = alexnet(backend="numpy"), small_mnist().test
    signed = np.linspace(-1, 1, 784, dtype=np.float32).reshape(1, 1, 28, 28)
    assert collect_activations(lenet(backend="numpy"), signed)["conv1"].shape[0] == 1
    with pytest.raises(DataError, match=r"from -1.0 to 1.0; expected floats in \[0, 1\]"):
        activation_report(lenet(backend="numpy"), signed)  # where is its ink?
    with pytest.raises(DataError, match="finite"):
        collect_activations(lenet(backend="numpy"), np.full_like(signed, np.inf))
    with pytest.raises(DataError, match=r"uint8 from 0 to 255.*Split.batch"):
        collect_activations(model, test.images)
    with pytest.raises(ShapeError, match=r"\(28, 28\)"):
        collect_activations(model, test.images[0, 0] / 255)
    with pytest.raises(ConfigError, match="limit=0"):
        collect_activations(model, test, limit=0)
    with pytest.raises(ConfigError, match="batch_size=0"):
        collect_activations(model, test, batch_size=0)


def test_report_has_every_measure_with_its_own_number() -> None:
    model, test = alexnet(backend="numpy", seed=4), small_mnist().test
    report = activation_report(model, test, limit=20)
    collected = collect_activations(model, test, limit=20)
    images, _ = test.batch(slice(20))
    assert list(report) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for layer, values in report.items():
        assert list(values) == list(ACTIVATION_MEASURES)
        for name, value in values.items():
            assert type(value) is float
            if name == "background_share":
                expected = measures.background_share(collected[layer], images)
            elif "variance" in name:
                kind, _, normalization = name.partition("variance")
                function = measures.inverse_variance if kind else measures.variance
                expected = function(collected[layer], normalization.strip("_") or "none")
            else:
                expected = getattr(measures, name)(collected[layer])
            assert value == pytest.approx(expected), name
            assert math.isfinite(value)


def test_report_knows_decoys_and_unpadded_maps() -> None:
    data = small_mnist()
    decoys = decoy_mnist(data).test
    model = lenet(backend="numpy", seed=1)
    with_patch = activation_report(model, decoys, limit=10)
    images, _ = decoys.batch(slice(10))
    a = collect_activations(model, images)["conv1"]
    ink = digit_mask(images) & ~decoys.masks[:10]
    expected = a.sum(axis=1)[~ink].sum() / a.sum()
    assert with_patch["conv1"]["background_share"] == pytest.approx(expected, rel=1e-5)
    # conv2's 10 x 10 units stand for pixels 4 to 23
    a = collect_activations(model, images)["conv2"]
    cells = ink[:, 4:24, 4:24].reshape(10, 10, 2, 10, 2).any(axis=(2, 4))
    expected = a.sum(axis=1)[~cells].sum() / a.sum()
    assert with_patch["conv2"]["background_share"] == pytest.approx(expected, rel=1e-5)
    dense = activation_report(model, decoys, limit=10, dense=True)
    assert math.isnan(dense["dense3"]["background_share"])
    assert dense["dense3"]["maximum"] > 0


def test_report_of_a_dead_net_is_all_there() -> None:
    model = alexnet(backend="numpy")
    for p in model.parameters().values():
        p.data = np.zeros_like(p.data)
    values = activation_report(model, small_mnist().test, limit=3)["conv3"]
    assert values["dead_filters"] == 32
    assert values["zero_fraction"] == 1
    assert math.isnan(values["gini"])
    assert math.isnan(values["inverse_variance"])
