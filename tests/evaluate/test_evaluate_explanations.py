"""Concentration, localisation, sensitivity, and the report of all measures of explanations."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from explainers import contributions, linear, lrp0
from helpers import small_mnist
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.evaluate import (
    EXPLANATION_MEASURES,
    complexity,
    digit_mask,
    explanation_report,
    max_sensitivity,
    pixel_flipping,
    randomization,
    relevance_mass,
    relevance_rank,
    road,
)
from minifbi.evaluate.explanations import GROUPS, gini
from minifbi.models import lenet

RNG = np.random.default_rng(3)
R = RNG.standard_normal((6, 2, 5, 4))
# few values, so that ties are common
SOME = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(2, 3)),
    elements=st.sampled_from([-2.0, -0.5, 0.0, 0.0, 1.0, 3.0]),
)


# ---- concentration -------------------------------------------------------------------------
def test_known_concentrations() -> None:
    one, equal = np.zeros((1, 1, 4, 5)), np.full((1, 1, 4, 5), -2.0)
    one[0, 0, 1, 3] = -7
    assert gini(one)[0] == pytest.approx(1 - 1 / 20)
    assert gini(equal)[0] == pytest.approx(0)
    assert complexity(one)[0] == pytest.approx(0)
    assert complexity(equal)[0] == pytest.approx(math.log(20))
    nothing = np.zeros((2, 1, 4, 5))
    assert np.isnan(gini(nothing)).all()
    assert np.isnan(complexity(nothing)).all()


@settings(max_examples=50, deadline=None)
@given(SOME)
def test_concentration_against_loops_and_scipy(attributions) -> None:
    for image, g, c in zip(attributions, gini(attributions), complexity(attributions), strict=True):
        v = np.abs(image.sum(axis=0)).ravel()  # channels are added, then absolute values
        if not v.any():
            assert np.isnan(g)
            assert np.isnan(c)
            continue
        differences = sum(abs(x - y) for x in v for y in v)
        assert g == pytest.approx(differences / (2 * len(v) * v.sum()), abs=1e-12)
        assert c == pytest.approx(stats.entropy(v), abs=1e-12)


# ---- localisation --------------------------------------------------------------------------
def test_published_localisation_by_hand() -> None:
    r = np.array([[[[4.0, 1.0], [-3.0, 2.0]]]])
    mask = np.array([[[True, False], [True, False]]])
    assert relevance_mass(r, mask)[0] == pytest.approx(4 / 7)
    assert relevance_mass(r, mask, "absolute")[0] == pytest.approx(7 / 10)
    assert relevance_rank(r, mask)[0] == 0.5  # of the two highest, 4 and 2, one is inside
    assert relevance_rank(-r, mask)[0] == 0.5
    ties = np.array([[[[5.0, 0.0], [0.0, 0.0]]]])  # the second of two: one of three zeros
    assert relevance_rank(ties, mask)[0] == pytest.approx((1 + 1 / 3) / 2)
    empty = np.zeros_like(mask)
    assert np.isnan(relevance_rank(r, empty)[0])
    assert relevance_mass(r, empty)[0] == 0
    assert np.isnan(relevance_mass(-np.abs(r), mask)[0])


@settings(max_examples=50, deadline=None)
@given(SOME, st.integers(0, 1000))
def test_localisation_against_loops(attributions, seed) -> None:
    shape = (len(attributions), *attributions.shape[2:])
    masks = np.random.default_rng(seed).random(shape) > 0.5
    mass, rank = relevance_mass(attributions, masks), relevance_rank(attributions, masks)
    for n, mask in enumerate(masks):
        pixels = [float(v) for v in attributions[n].sum(axis=0).ravel()]
        inside = [bool(v) for v in mask.ravel()]
        positive = sum(v for v in pixels if v > 0)
        if positive:
            share = sum(v for v, i in zip(pixels, inside, strict=True) if v > 0 and i) / positive
            assert mass[n] == pytest.approx(share)
        else:
            assert np.isnan(mass[n])
        k = sum(inside)
        if not k:
            assert np.isnan(rank[n])
            continue
        # the mean over all orders of the pixels that respect their values
        best = sorted(pixels, reverse=True)[:k]
        hits = [
            sum(inside[p] for p in chosen)
            for chosen in itertools.combinations(range(len(pixels)), k)
            if sorted((pixels[p] for p in chosen), reverse=True) == best
        ]
        assert rank[n] == pytest.approx(np.mean(hits) / k)


def test_localisation_refuses() -> None:
    masks = np.zeros((6, 5, 4), bool)
    with pytest.raises(ConfigError, match="part='negative': expected one of positive, absolute"):
        relevance_mass(R, masks, "negative")
    for wrong in (masks[:2], masks[:, None], masks.astype(float)):
        with pytest.raises(ShapeError, match=r"bool of shape \(6, 5, 4\)"):
            relevance_rank(R, wrong)
    with pytest.raises(ShapeError, match=r"shape \(6, 5, 4\); expected \(N, C, H, W\)"):
        gini(R[:, 0])
    broken = R.copy()
    broken[2, 1, 3, 3] = np.inf
    with pytest.raises(DataError, match="1 values that are NaN or infinite"):
        complexity(broken)


# ---- sensitivity ---------------------------------------------------------------------------
IMAGES = RNG.random((4, 1, 4, 3))
CLASSES = np.array([0, 2, 1, 2])
MODEL = linear(RNG.standard_normal((3, 12)), RNG.standard_normal(3))


def test_sensitivity_of_a_linear_model_against_loops() -> None:
    """E(x) = w * x, so that each change is |w * d|: the same draws, image by image."""
    found = max_sensitivity(
        MODEL, contributions, IMAGES, CLASSES, radius=0.3, samples=6, relative=False, seed=5
    )
    rng = np.random.default_rng(5)
    draws = [rng.uniform(-0.3, 0.3, IMAGES.shape) for _ in range(6)]
    for n in range(4):
        w = MODEL["dense"].weight.data[CLASSES[n]].reshape(1, 4, 3)
        norms = []
        for draw in draws:
            d = np.clip(IMAGES[n] + draw[n], 0, 1) - IMAGES[n]
            assert np.abs(d).max() <= 0.3
            norms.append(math.sqrt(sum(v * v for v in (w * d).ravel())))
        assert found[n] == pytest.approx(max(norms))
    relative = max_sensitivity(MODEL, contributions, IMAGES, CLASSES, radius=0.3, samples=6, seed=5)
    norms = [np.linalg.norm(e) for e in contributions(MODEL, IMAGES, CLASSES)]
    np.testing.assert_allclose(relative, found / norms)


def test_sensitivity_of_constant_and_growing() -> None:
    constant = max_sensitivity(MODEL, lambda m, x, c: np.ones_like(x), IMAGES, CLASSES)
    np.testing.assert_array_equal(constant, 0)
    nothing = max_sensitivity(MODEL, lambda m, x, c: np.zeros_like(x), IMAGES, CLASSES)
    assert np.isnan(nothing).all()
    few, many = (max_sensitivity(MODEL, contributions, IMAGES, CLASSES, samples=s) for s in (1, 20))
    assert (many >= few).all()
    assert (many > few).any()
    wide = max_sensitivity(MODEL, contributions, IMAGES, CLASSES, radius=0.2, samples=20)
    assert (wide > many).all()


@pytest.mark.parametrize(
    "options", [{"radius": 0}, {"radius": 2}, {"samples": 0}, {"samples": 2.5}, {"samples": True}]
)
def test_sensitivity_refuses(options) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        max_sensitivity(MODEL, contributions, IMAGES, CLASSES, **options)


def test_explainers_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"returned shape \(4, 1, 4, 2\) for images of shape"):
        max_sensitivity(MODEL, lambda m, x, c: x[..., :2], IMAGES, CLASSES)
    with pytest.raises(DataError, match="NaN"):
        max_sensitivity(MODEL, lambda m, x, c: x * np.nan, IMAGES, CLASSES)
    with pytest.raises(ShapeError, match="expected 4 integers"):
        max_sensitivity(MODEL, contributions, IMAGES, CLASSES[:2])


# ---- the report ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def trained():
    """A network, images, classes."""
    images, labels = small_mnist().test.batch(slice(6), np.float64)
    return lenet(backend="numpy", seed=6, dtype=np.float64), images, labels


def test_report_has_every_measure_with_its_own_number(trained) -> None:
    model, images, labels = trained
    report = explanation_report(model, lrp0, images, labels, sensitivity={"samples": 2}, seed=9)
    assert list(report) == list(EXPLANATION_MEASURES)
    assert all(type(value) is float for value in report.values())
    assert json.loads(json.dumps(report)) == report
    r = lrp0(model, images, labels)
    flips = {
        order: pixel_flipping(model, images, labels, r, order, seed=9).area.mean()
        for order in ("most", "least", "random", "ink")
    }
    curves = road(model, images, labels, r, seed=9)
    cascade = randomization(model, lrp0, images, labels, seed=9)
    expected = {
        "gini": gini(r).mean(),
        "complexity": complexity(r).mean(),
        "zero_attributions": 0.0,
        **{f"flipping_{order}": area for order, area in flips.items()},
        "flipping_gain": flips["ink"] - flips["most"],
        "road_most": curves.most.mean(),
        "road_least": curves.least.mean(),
        "road_difference": curves.least.mean() - curves.most.mean(),
        "road_accuracy_difference": curves.accuracy_difference,
        "relevance_mass": relevance_mass(r, digit_mask(images)).mean(),
        "relevance_rank": relevance_rank(r, digit_mask(images)).mean(),
        "max_sensitivity": max_sensitivity(model, lrp0, images, labels, samples=2, seed=9).mean(),
        "randomization_spearman": np.nanmean(cascade.spearman),
        "randomization_absolute": np.nanmean(cascade.spearman_absolute),
        "randomization_ssim": np.nanmean(cascade.similarity),
    }
    assert report == pytest.approx(expected)
    # a product with the pixel lies on the ink, and nowhere else
    assert report["relevance_mass"] == pytest.approx(1)


def test_report_leaves_groups_out(trained) -> None:
    model, images, labels = trained
    calls = []

    def counted(model, images, classes):
        calls.append(len(images))
        return lrp0(model, images, classes)

    report = explanation_report(
        model, counted, images, labels, skip=("sensitivity", "randomization", "road")
    )
    assert calls == [6]
    assert set(report) == {
        name
        for name in EXPLANATION_MEASURES
        if not name.startswith(("max_sens", "randomiz", "road"))
    }
    assert explanation_report(model, counted, images, labels, skip=GROUPS) == {}
    with pytest.raises(ConfigError, match="skip='raod': expected some of concentration"):
        explanation_report(model, counted, images, labels, skip=("raod",))


def test_report_of_images_without_attribution(trained) -> None:
    """What is not defined for an image stays out of the mean, and is counted."""
    model, images, labels = trained

    def sometimes(model, images, classes):
        r = lrp0(model, images, classes)
        r[::3] = 0
        return r

    skip = ("road", "sensitivity", "randomization")
    report = explanation_report(model, sometimes, images, labels, skip=skip)
    assert report["zero_attributions"] == pytest.approx(1 / 3)
    kept = np.arange(6) % 3 != 0
    assert report["gini"] == pytest.approx(gini(lrp0(model, images, labels))[kept].mean())
    never = explanation_report(model, lambda m, x, c: 0 * x, images, labels, skip=skip)
    assert math.isnan(never["complexity"])
    assert never["flipping_most"] == pytest.approx(never["flipping_least"], abs=0.2)
