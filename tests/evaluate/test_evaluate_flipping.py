"""Pixel flipping and ROAD: on linear models by hand, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from explainers import contributions, linear, lrp0
from helpers import small_mnist
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from scipy.special import softmax

from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.evaluate import pixel_flipping, road
from minifbi.evaluate.explanations import linear_imputation, pixel_order
from minifbi.layers import Sequential
from minifbi.models import alexnet

RNG = np.random.default_rng(8)
IMAGES = RNG.random((5, 1, 4, 3)) * (RNG.random((5, 1, 4, 3)) > 0.4)
CLASSES = np.array([0, 2, 1, 1, 2])
MODEL = linear(RNG.standard_normal((3, 12)), RNG.standard_normal(3))
R = contributions(MODEL, IMAGES, CLASSES)
EVERY = np.arange(13) / 12  # one pixel more at each point


# ---- pixel flipping ------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["most", "least"])
def test_linear_model_loses_what_its_pixels_add(order) -> None:
    curve = pixel_flipping(
        MODEL, IMAGES, CLASSES, R, order, fractions=EVERY, output="logit", batch_size=2
    )
    for n, c in enumerate(CLASSES):
        parts = sorted(R[n].ravel(), reverse=order == "most")
        bias = MODEL["dense"].bias.data[c]
        expected = [bias + sum(parts[k:]) for k in range(13)]
        np.testing.assert_allclose(curve.scores[n], expected)
    # nothing falls below it: greedy is optimal for a linear model
    if order == "most":
        other = pixel_flipping(MODEL, IMAGES, CLASSES, R, "random", fractions=EVERY, output="logit")
        assert (curve.scores <= other.scores + 1e-12).all()
        assert (curve.area < other.area).all()


def test_probabilities_areas_and_baselines_against_loops() -> None:
    fractions = [0, 0.25, 0.5, 1]
    weight, bias = (MODEL["dense"].weight.data, MODEL["dense"].bias.data)
    for baseline in (0.3, "invert", RNG.random((1, 4, 3))):
        curve = pixel_flipping(
            MODEL, IMAGES, CLASSES, R, "most", fractions=fractions, baseline=baseline
        )
        for n, c in enumerate(CLASSES):
            x, scores = IMAGES[n].ravel().copy(), []
            value = 1 - x if isinstance(baseline, str) else np.broadcast_to(baseline, (1, 4, 3))
            value = np.ravel(value)
            # ties are zeros of the image, which count with any baseline but 0
            order = pixel_order(IMAGES, R, "most")[n]
            assert (np.diff(R[n].ravel()[order]) <= 0).all()
            for count in (0, 3, 6, 12):
                flipped = x.copy()
                for p in order[:count]:
                    flipped[p] = value[p]
                scores.append(softmax(weight @ flipped + bias)[c])
            np.testing.assert_allclose(curve.scores[n], scores)
            a, b, d, e = scores
            area = 0.25 * (a + b) / 2 + 0.25 * (b + d) / 2 + 0.5 * (d + e) / 2
            assert curve.area[n] == pytest.approx(area)
            assert curve.area_over[n] == pytest.approx(np.mean([a - s for s in scores]))
        np.testing.assert_allclose(curve.mean, curve.scores.mean(axis=0))
        np.testing.assert_array_equal(curve.fractions, fractions)


def test_orders_are_permutations_and_ink_comes_first() -> None:
    for order in ("most", "least", "random", "ink"):
        found = pixel_order(IMAGES, R, order, seed=4)
        np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(12), (5, 1)))
        np.testing.assert_array_equal(found, pixel_order(IMAGES, R, order, seed=4))
    ink = (IMAGES > 0).reshape(5, 12)
    for n, order in enumerate(pixel_order(IMAGES, R, "ink")):
        assert ink[n][order].tolist() == sorted(ink[n], reverse=True)
    bright = (IMAGES > 0.5).reshape(5, 12)
    for n, order in enumerate(pixel_order(IMAGES, R, "ink", threshold=0.5)):
        assert bright[n][order].tolist() == sorted(bright[n], reverse=True)


def test_equals_go_in_random_order() -> None:
    """No corner first: over many seeds each pixel's mean place is the middle."""
    flat = np.zeros((1, 1, 4, 3))
    for order in ("most", "least", "random", "ink"):
        places = [np.argsort(pixel_order(flat, flat, order, seed=s)[0]) for s in range(400)]
        np.testing.assert_allclose(np.mean(places, axis=0), 5.5, atol=0.9)  # 5 standard errors


def test_channels_of_a_pixel_go_together() -> None:
    weight = np.arange(24.0).reshape(2, 12)
    model = linear(weight, shape=(2, 3, 2))
    images = np.ones((1, 2, 3, 2))
    r = np.zeros_like(images)
    r[0, :, 1, 1] = 5, -2  # 3 in all: the highest
    r[0, 0, 2, 0] = 2.9
    curve = pixel_flipping(model, images, [1], r, fractions=[0, 1 / 6, 2 / 6], output="logit")
    w = weight[1].reshape(2, 3, 2)
    total = w.sum()
    expected = [total, total - w[:, 1, 1].sum(), total - w[:, 1, 1].sum() - w[:, 2, 0].sum()]
    np.testing.assert_allclose(curve.scores[0], expected)


def test_ends_of_the_default_curve(backend) -> None:
    model = alexnet(backend=backend, seed=1)
    images, labels = small_mnist().test.batch(slice(6))
    curve = pixel_flipping(model, images, labels, lrp0(model, images, labels))
    assert curve.scores.shape == (6, 57)
    rows = np.arange(6)
    for point, shown in ((0, images), (-1, np.zeros_like(images))):
        probabilities = softmax(model(shown).numpy().astype(float), axis=1)[rows, labels]
        np.testing.assert_allclose(curve.scores[:, point], probabilities, rtol=1e-4)
    assert model.training  # as before


def test_flipping_refuses() -> None:
    given = (MODEL, IMAGES, CLASSES, R)
    for options, part in (
        ({"order": "best"}, "order='best': expected one of most, least, random, ink"),
        ({"output": "loss"}, "output='loss'"),
        ({"baseline": "blur"}, "baseline='blur'"),
        ({"fractions": [0]}, "at least two shares"),
        ({"fractions": [0, 0.5, 0.5]}, "ascending"),
        ({"fractions": [0, 1.5]}, "at most"),
        ({"fractions": [0, np.nan]}, "ascending"),
    ):
        with pytest.raises(ConfigError, match=part):
            pixel_flipping(*given, **options)
    with pytest.raises(ShapeError, match=r"baseline has shape \(5,\)"):
        pixel_flipping(*given, baseline=np.zeros(5))
    with pytest.raises(ShapeError, match="attributions of shape"):
        pixel_flipping(MODEL, IMAGES, CLASSES, R[:4])
    with pytest.raises(ShapeError, match="expected 5 integers"):
        pixel_flipping(MODEL, IMAGES, CLASSES[:3], R)
    with pytest.raises(DataError, match="class 3: the model has 3 classes"):
        pixel_flipping(MODEL, IMAGES, CLASSES + 1, R)
    with pytest.raises(DataError, match=r"from 0.* to 25"):
        pixel_flipping(MODEL, np.ceil(IMAGES) * 255, CLASSES, R)


# ---- ROAD ----------------------------------------------------------------------------------
def plain_imputation(image, gone):
    """The equations of Rong et al. (2022), one at a time, by a general sparse solver."""
    height, width = gone.shape
    unknown = {(int(i), int(j)): k for k, (i, j) in enumerate(np.argwhere(gone))}
    matrix, right = lil_matrix((len(unknown),) * 2), np.zeros(len(unknown))
    for (i, j), k in unknown.items():
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                a, b = i + di, j + dj
                if (di, dj) == (0, 0) or not (0 <= a < height and 0 <= b < width):
                    continue
                weight = 1 / 6 if di * dj == 0 else 1 / 12
                matrix[k, k] += weight
                if (a, b) in unknown:
                    matrix[k, unknown[a, b]] -= weight
                else:
                    right[k] += weight * image[a, b]
    filled = image.copy()
    filled[gone] = spsolve(matrix.tocsc(), right)
    return filled


@pytest.mark.parametrize("size", [(6, 5), (1, 7), (7, 1), (2, 2), (9, 2), (1, 2)])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_imputation_against_a_general_solver(size, share) -> None:
    images = RNG.random((4, 2, *size))
    gone = RNG.random((4, *size)) < share
    gone[:, 0, 0] = False
    filled = linear_imputation(images, gone)
    for n, c in np.ndindex(4, 2):
        expected = plain_imputation(images[n, c], gone[n]) if gone[n].any() else images[n, c]
        np.testing.assert_allclose(filled[n, c], expected, rtol=1e-9)


def test_imputation_of_planes_and_one_hole() -> None:
    image = np.arange(25.0).reshape(1, 1, 5, 5) / 25  # a plane is its own neighbours' mean
    gone = np.zeros((1, 5, 5), bool)
    gone[0, 1:4, 1:4] = True
    np.testing.assert_allclose(linear_imputation(image, gone), image)
    hole = np.zeros((1, 1, 3, 3))
    hole[0, 0, 0, 1], hole[0, 0, 2, 2] = 1.0, 0.6
    only = np.zeros((1, 3, 3), bool)
    only[0, 1, 1] = True
    assert linear_imputation(hole, only)[0, 0, 1, 1] == pytest.approx(1 / 6 + 0.6 / 12)
    corner = np.zeros((1, 3, 3), bool)
    corner[0, 0, 0] = True  # three neighbours are left, 1/6, 1/6, 1/12 of 5/12
    assert linear_imputation(hole, corner)[0, 0, 0, 0] == pytest.approx((1 / 6) / (5 / 12))
    with pytest.raises(ConfigError, match="image 0 has no pixel left"):
        linear_imputation(hole, np.ones((1, 3, 3), bool))


def test_imputation_keeps_dtype_and_takes_more_images_than_a_piece() -> None:
    images = RNG.random((260, 1, 4, 3)).astype(np.float32)
    gone = RNG.random((260, 4, 3)) < 0.5
    gone[:, 0, 0] = False
    filled = linear_imputation(images, gone)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~gone[:, None]], images[~gone[:, None]])
    for n in (0, 249, 250, 259):
        np.testing.assert_allclose(
            filled[n, 0], plain_imputation(images[n, 0].astype(float), gone[n]), rtol=1e-6
        )


def test_road_against_loops() -> None:
    curves = road(MODEL, IMAGES, CLASSES, R, fractions=(0.25, 0.5, 0.75), noise=0, output="logit")
    weight, bias = (MODEL["dense"].weight.data, MODEL["dense"].bias.data)
    for order, scores, correct in (
        ("most", curves.most, curves.most_correct),
        ("least", curves.least, curves.least_correct),
    ):
        orders = pixel_order(IMAGES, R, order)
        for n, c in enumerate(CLASSES):
            for point, count in enumerate((3, 6, 9)):
                gone = np.zeros(12, bool)
                gone[orders[n][:count]] = True
                logits = weight @ plain_imputation(IMAGES[n, 0], gone.reshape(4, 3)).ravel() + bias
                assert scores[n, point] == pytest.approx(logits[c])
                assert correct[n, point] == (logits.argmax() == c)
    np.testing.assert_allclose(curves.difference, (curves.least - curves.most).mean(axis=1))
    expected = np.mean(curves.least_correct) - np.mean(curves.most_correct)
    assert curves.accuracy_difference == pytest.approx(expected)


class Spy(Sequential):
    """Remembers what it was shown."""

    def __init__(self, model) -> None:
        super().__init__(model.layers)
        self.seen = []

    def trace(self, x, *args, **options):
        self.seen.append(np.array(x))
        return super().trace(x, *args, **options)


def test_noise_is_on_imputed_pixels_only_and_seeded() -> None:
    shown = {}
    for noise, seed in ((0, 0), (0.05, 0), (0.05, 1)):
        spy = Spy(MODEL)
        images = np.tile(IMAGES, (100, 1, 1, 1))
        attributions = np.tile(R, (100, 1, 1, 1)) + 1e-6 * np.arange(12).reshape(4, 3)
        road(
            spy,
            images,
            np.tile(CLASSES, 100),
            attributions,
            fractions=[0.5],
            noise=noise,
            seed=seed,
        )
        shown[noise, seed] = np.concatenate(spy.seen)  # (1000, 1, 4, 3): most, then least
    dirt = shown[0.05, 0] - shown[0, 0]
    kept = dirt == 0
    assert (kept.reshape(len(kept), -1).sum(axis=1) == 6).all()
    assert dirt[~kept].std() == pytest.approx(0.05, rel=0.05)
    assert dirt[~kept].mean() == pytest.approx(0, abs=0.005)
    assert (shown[0.05, 0] != shown[0.05, 1]).any()


def test_road_refuses() -> None:
    for options, part in (
        ({"fractions": [0, 0.5]}, "each above 0 and below 1"),
        ({"fractions": [1.0]}, "pixels are left to impute"),
        ({"fractions": []}, "each above"),
        ({"noise": -1}, "noise=-1"),
        ({"output": "loss"}, "output"),
    ):
        with pytest.raises(ConfigError, match=part):
            road(MODEL, IMAGES, CLASSES, R, **options)


def test_good_explanations_win() -> None:
    """A linear model: its own contributions beat noise, and noise beats their opposite."""
    rng = np.random.default_rng(0)
    model = linear(rng.standard_normal((4, 64)), shape=(1, 8, 8))
    images, classes = rng.random((400, 1, 8, 8)), rng.integers(0, 4, 400)
    good = contributions(model, images, classes)
    means = [
        road(model, images, classes, r, output="logit").difference.mean()
        for r in (good, rng.standard_normal(good.shape), -good)
    ]
    assert means[0] > 1
    assert abs(means[1]) < 0.4  # nothing, within 4 standard errors
    assert means[2] < -1
