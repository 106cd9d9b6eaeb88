"""Similarity of explanations, and the randomisation of a model that must come back whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from explainers import lrp0
from helpers import small_mnist
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minifbi.errors import ConfigError, ShapeError
from minifbi.evaluate import randomization
from minifbi.evaluate.explanations import spearman, structural_similarity
from minifbi.evaluate.randomization import parameters_kept
from minifbi.layers import Flatten, Sequential
from minifbi.models import alexnet, mlp

RNG = np.random.default_rng(2)


# ---- rank correlation ------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_spearman_against_scipy(seed, absolute) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-3, 4, size=(2, 3, 2, 3, 4)).astype(float)  # many ties
    found = spearman(a, b, absolute)
    for n in range(3):
        x, y = a[n].sum(axis=0).ravel(), b[n].sum(axis=0).ravel()
        if absolute:
            x, y = np.abs(x), np.abs(y)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            assert np.isnan(found[n])
        else:
            assert found[n] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_spearman_known() -> None:
    r = RNG.standard_normal((2, 1, 4, 5))
    np.testing.assert_allclose(spearman(r, np.exp(r)), 1)
    np.testing.assert_allclose(spearman(r, -(r**3)), -1)
    np.testing.assert_allclose(spearman(r, -r, absolute=True), 1)
    assert np.isnan(spearman(r, np.ones_like(r))).all()


# ---- structural similarity -------------------------------------------------------------------
def plain_ssim(x, y):
    """Wang et al. (2004), Eq. 13, window by window."""
    weights = np.array(
        [[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)]
    )
    weights /= weights.sum()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    values = []
    for i in range(5, x.shape[0] - 5):
        for j in range(5, x.shape[1] - 5):
            u, v = (m[i - 5 : i + 6, j - 5 : j + 6] for m in (x, y))
            mu, mv = (weights * u).sum(), (weights * v).sum()
            su, sv = (weights * (u - mu) ** 2).sum(), (weights * (v - mv) ** 2).sum()
            suv = (weights * (u - mu) * (v - mv)).sum()
            values.append(
                (2 * mu * mv + c1) * (2 * suv + c2) / ((mu**2 + mv**2 + c1) * (su + sv + c2))
            )
    return np.mean(values)


@pytest.mark.parametrize("size", [(11, 11), (14, 12), (28, 28)])
def test_ssim_against_windows(size) -> None:
    a, noise = RNG.standard_normal((2, 3, 1, *size))
    b = 40 * (a + 0.5 * noise)
    expected = [plain_ssim(a[n, 0], b[n, 0]) for n in range(3)]
    np.testing.assert_allclose(structural_similarity(a, b), expected, rtol=1e-9)


def test_ssim_known() -> None:
    r = RNG.standard_normal((2, 1, 12, 12))
    np.testing.assert_allclose(structural_similarity(r, 3 * r), 1)
    assert (structural_similarity(r, -r) < 0.5).all()
    zero = np.zeros_like(r)
    np.testing.assert_allclose(structural_similarity(zero, zero), 1)
    assert (structural_similarity(r, zero) < 0.1).all()
    with pytest.raises(ShapeError, match="at least 11 x 11"):
        structural_similarity(r[..., :10], r[..., :10])
    with pytest.raises(ShapeError, match="expected the same"):
        structural_similarity(r, r[:1])
    with pytest.raises(ShapeError, match="expected the same"):
        spearman(r, r[..., :3])


# ---- randomisation ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def images():
    return small_mnist().test.batch(slice(8))


def by_hand(model, seed, count):
    """State after the top `count` layers are drawn anew, from the same random numbers."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    for name in reversed(names[len(names) - count :]):
        weight = state[f"{name}.weight"]
        deviation = np.sqrt(2 / weight[0].size)
        state[f"{name}.weight"] = deviation * rng.standard_normal(weight.shape)
        state[f"{name}.bias"] = np.zeros_like(state[f"{name}.bias"])
    return state


def test_cascade_from_the_top(backend, images) -> None:
    model = alexnet(backend=backend, seed=5)
    for key, p in model.parameters().items():
        if key.endswith("bias"):  # as if trained
            p.data = p.backend.asarray(RNG.normal(0, 0.05, p.shape), p.dtype)
    result = randomization(model, lrp0, *images, seed=3)
    names = ["dense8", "dense7", "dense6", "conv5", "conv4", "conv3", "conv2", "conv1"]
    assert list(result.layers) == names
    original = lrp0(model, *images)
    for count in (1, 4, 8):
        other = alexnet(backend=backend, seed=0)
        other.load_state_dict(by_hand(model, 3, count))
        now = lrp0(other, *images)
        np.testing.assert_allclose(
            result.spearman[count - 1], spearman(original, now), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(
            result.spearman_absolute[count - 1], spearman(original, now, True), rtol=1e-3
        )
        np.testing.assert_allclose(
            result.similarity[count - 1], structural_similarity(original, now), rtol=1e-3, atol=1e-4
        )
    assert result.similarity.shape == (8, 8)
    assert (result.similarity < 0.999).all()
    again = randomization(model, lrp0, *images, seed=3)
    np.testing.assert_array_equal(result.spearman, again.spearman)


def test_an_explainer_that_ignores_the_model_is_found_out(images) -> None:
    def edges(model, images, classes):
        return np.abs(np.diff(images, axis=3, append=0))

    result = randomization(mlp(backend="numpy"), edges, *images)
    np.testing.assert_allclose(result.spearman, 1)
    np.testing.assert_allclose(result.similarity, 1)
    assert result.layers == ("dense3", "dense2", "dense1")


class Boom(Exception):
    pass


@pytest.mark.parametrize("fails_at", [None, 1, 2, 4])
def test_the_model_is_itself_again(backend, images, fails_at) -> None:
    model = mlp(backend=backend, seed=4)
    before = {name: (p, p.data, np.array(p.numpy())) for name, p in model.parameters().items()}
    answers = model(images[0]).numpy().copy()
    calls = []

    def explainer(model, images, classes):
        calls.append(1)
        if len(calls) == fails_at:
            raise Boom
        return lrp0(model, images, classes)

    if fails_at:
        with pytest.raises(Boom):
            randomization(model, explainer, *images)
    else:
        randomization(model, explainer, *images)
        assert len(calls) == 4
    for name, p in model.parameters().items():
        tensor, data, values = before[name]
        assert p is tensor
        assert p.data is data
        np.testing.assert_array_equal(p.numpy(), values)
    np.testing.assert_array_equal(model(images[0]).numpy(), answers)


def test_parameters_kept_gives_back_odd_values() -> None:
    """Also what load_state_dict would refuse."""
    model = mlp(backend="numpy")
    weight = model.parameters()["dense1.weight"]
    weight.data = weight.data.copy()
    weight.data[0, 0] = np.nan
    with parameters_kept(model):
        weight.data = np.zeros_like(weight.data)
    assert np.isnan(weight.data[0, 0])


def test_small_images_have_no_ssim() -> None:
    model = mlp((1, 5, 5), backend="numpy")
    images = RNG.random((3, 1, 5, 5)).astype(np.float32)
    result = randomization(model, lrp0, images, np.array([1, 2, 3]))
    assert np.isnan(result.similarity).all()
    assert np.isfinite(result.spearman).all()


def test_nothing_to_randomise(images) -> None:
    with pytest.raises(ConfigError, match="no parameters"):
        randomization(Sequential(Flatten()), lrp0, *images)
