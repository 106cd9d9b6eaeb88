"""Notebooks 4 and 5: their checks reject typical wrong answers and say where to look.

That they accept the solutions is tested in test_tutorials.py, on the notebooks themselves; here
once more on answers that are right in another way.
"""

from __future__ import annotations

import numpy as np
import pytest

checks_04 = pytest.importorskip("checks.tutorial_04", reason="installed without tutorials")
checks_05 = pytest.importorskip("checks.tutorial_05", reason="installed without tutorials")


def safe(R, z):
    return np.where(z == 0, 0.0, R / np.where(z == 0, 1.0, z))


# ---- 4, exercise 1 -----------------------------------------------------------------------
def relevance_in_loops(x, W, b, R):
    found = np.zeros_like(x)
    for n in range(len(x)):
        for j in range(len(W)):
            z = W[j] @ x[n] + b[j]
            if z != 0:
                found[n] += W[j] * x[n] / z * R[n, j]
    return found


def changes_its_argument(x, W, b, R):
    x *= safe(R, x @ W.T + b) @ W
    return x


def test_dense_relevance_accepts_loops():
    assert checks_04.dense_relevance(relevance_in_loops).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected the function"),
        (lambda x, W, b, R: ..., "`...`"),
        (lambda x, W, b, R: None, "returned None"),
        (lambda x, W, b, R: x * (safe(R, x @ W.T) @ W), "the bias took part"),
        (lambda x, W, b, R: safe(R, x @ W.T + b) @ W, "ratio at the inputs"),
        (lambda x, W, b, R: x * (R @ W), "divided by the outputs"),
        (lambda x, W, b, R: safe(R, x @ W.T + b) @ W.T, "raised ValueError"),
        (lambda x, W, b, R: x * ((R / (x @ W.T + b)) @ W), "0/0"),
        (lambda x, W, b, R: x * ((R / (x @ W.T + b + 1e-3)) @ W), "section 2"),
        (
            lambda x, W, b, R: x * (safe(R - b * safe(R, x @ W.T + b), x @ W.T + b) @ W),
            "do not subtract",
        ),
        (changes_its_argument, "work on a copy"),
    ],
)
def test_dense_relevance_rejects(answer, says):
    verdict = checks_04.dense_relevance(answer)
    assert not verdict
    assert says in verdict.message


# ---- 4, exercise 2 -----------------------------------------------------------------------
def absorbed_as(share):
    """An answer that walks down right and takes `share(step, ratio at output, at input)`."""

    def absorbed(steps, ratio):
        found = {}
        for step in reversed(steps):
            below = step.relevance(ratio)
            if getattr(step.layer, "bias", None) is not None:
                found[step.name] = share(step, ratio.numpy(), below.numpy())
            ratio = below
        return found

    return absorbed


def by_bias(step, ratio):
    """b_j r_j at every unit of the output."""
    bias = step.layer.bias.numpy()
    return ratio * (bias[:, None, None] if ratio.ndim == 4 else bias)


def per_image(a):
    return a.reshape(len(a), -1).sum(axis=1)


def test_absorbed_accepts_another_way():
    assert checks_04.absorbed(absorbed_as(lambda s, r, _: per_image(by_bias(s, r)))).ok


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (lambda s, r, _: ..., "still `...`"),
        (lambda s, r, _: -per_image(by_bias(s, r)), "the sign is wrong"),
        (lambda s, r, _: per_image(s.z.numpy() * r), "that is all relevance"),
        (lambda s, r, _: per_image(by_bias(s, r * s.z.numpy())), "ratio must be that"),
        (lambda s, r, _: per_image(by_bias(s, r)).sum(), "shape ()"),
        (lambda s, r, _: per_image(by_bias(s, r)) / r[0, 0].size, "over its places"),
        (lambda s, r, below: per_image(r) * s.layer.bias.numpy().sum(), "Sum b_j r_j"),
    ],
)
def test_absorbed_rejects(share, says):
    verdict = checks_04.absorbed(absorbed_as(share))
    assert not verdict
    assert says in verdict.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda steps, ratio: {}, "dense3, conv2, conv1"),
        (lambda steps, ratio: steps[0].nothing, "raised AttributeError"),
        (lambda steps, ratio: None, "returned None"),
    ],
)
def test_absorbed_rejects_what_is_no_dict(answer, says):
    verdict = checks_04.absorbed(answer)
    assert not verdict
    assert says in verdict.message


# ---- 4, exercises 3 and 4 ----------------------------------------------------------------
def test_epsilon_accepts_minifbis_form():
    def answer(z, W, ratio, epsilon):
        return (ratio * np.abs(z) / (np.abs(z) + epsilon)) @ W

    assert checks_04.epsilon_ratio(answer).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda z, W, r, e: ..., "`...`"),
        (lambda z, W, r, e: (z * r / (z + e)) @ W, "mind the sign"),
        (lambda z, W, r, e: (z * r / (z + e * np.sign(z))) @ W, "np.sign(0) is 0"),
        (lambda z, W, r, e: (r / (z + e * np.where(z >= 0, 1, -1))) @ W, "you divided the ratio"),
        (lambda z, W, r, e: r @ W, "divided by z + epsilon"),
    ],
)
def test_epsilon_rejects(answer, says):
    with np.errstate(all="ignore"):
        verdict = checks_04.epsilon_ratio(answer)
    assert not verdict
    assert says in verdict.message


def test_black_pixels():
    assert checks_04.black_pixels("b").ok
    for answer in ("a", "c", "d", ..., None, ["b"]):
        assert not checks_04.black_pixels(answer)


# ---- 5, exercise 1 -----------------------------------------------------------------------
def pays(activations, gradients):
    return [a * np.abs(1 - g) for a, g in zip(activations, gradients, strict=True)]


def test_price_accepts_another_way():
    def answer(activations, gradients):
        return np.mean([per_image(p).mean() for p in pays(activations, gradients)])

    assert checks_05.fbi_by_price(answer).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, g: ..., "`...`"),
        (lambda a, g: np.mean([p.mean() for p in pays(a, g)]), "only images and layers"),
        (lambda a, g: sum(p.sum() for p in pays(a, g)) / len(a), "over the images"),
        (lambda a, g: sum(p.sum() for p in pays(a, g)) / len(a[0]), "over the K layers"),
        (lambda a, g: sum(p.sum() for p in pays(a, g)), "averages are missing"),
        (
            lambda a, g: np.mean(
                [per_image(x * (1 - y)).mean() for x, y in zip(a, g, strict=True)]
            ),
            "absolute value",
        ),
        (lambda a, g: np.mean([per_image(x).mean() for x in a]), "Each unit pays"),
    ],
)
def test_price_rejects(answer, says):
    verdict = checks_05.fbi_by_price(answer)
    assert not verdict
    assert says in verdict.message


# ---- 5, exercise 2 -----------------------------------------------------------------------
def test_pays_nothing_accepts_any_such_net():
    first = np.array([[0.2, 0.5, 0.0], [0.3, 0.1, 0.0], [0.5, 0.0, 1.0], [0.0, 0.4, 0.0]])
    second = np.array([[2.0, 0.5, -1.0, 0.0], [-1.0, 0.5, 2.0, 1.0]])
    assert checks_05.pays_nothing(first, second).ok
    assert checks_05.pays_nothing(first.tolist(), second.tolist()).ok


GOOD = np.full((4, 3), 0.25), np.full((2, 4), 0.5)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (..., ..., "still `...`"),
        (GOOD[0], ..., "still `...`"),
        (GOOD[0].T, GOOD[1], "shape (3, 4), expected shape (4, 3)"),
        (np.zeros((4, 3)), GOOD[1], "what do the inputs pay"),
        (-GOOD[0], GOOD[1], "what do the inputs pay"),
        (np.full((4, 3), np.nan), GOOD[1], "contains nan"),
        (GOOD[0], np.ones((2, 4)), "hidden units pay"),
        (np.ones((4, 3)), GOOD[1], "column in pay_1"),
        ("0.25", GOOD[1], "expected numbers"),
    ],
)
def test_pays_nothing_rejects(first, second, says):
    verdict = checks_05.pays_nothing(first, second)
    assert not verdict
    assert says in verdict.message


# ---- 5, exercises 3 and 4 ----------------------------------------------------------------
def test_pool_adjoint_accepts_slices():
    def answer(u):
        corners = [u[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return sum(corners) / 4

    assert checks_05.pool_relevance_adjoint(answer).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda u: ..., "`...`"),
        (lambda u: u[:, :, ::2, ::2], "collect from each"),
        (lambda u: u[:, :, ::2, ::2] / 4, "collect from each"),
        (lambda u: u.reshape(*u.shape[:2], -1, 2, u.shape[3] // 2, 2).sum((3, 5)), "a quarter"),
        (lambda u: u.reshape(*u.shape[:2], -1, 2, u.shape[3] // 2, 2).max((3, 5)), "maximum"),
        (lambda u: u.repeat(2, axis=2).repeat(2, axis=3) / 4, "shape"),
    ],
)
def test_pool_adjoint_rejects(answer, says):
    verdict = checks_05.pool_relevance_adjoint(answer)
    assert not verdict
    assert says in verdict.message


def size(z, e):
    return np.abs(z) + e


def damped(v, z, e):
    return v * np.abs(z) / size(z, e)


def test_damping_accepts_the_other_form():
    def answer(v, r, z, e):
        sign = np.where(z > 0, 1.0, -1.0)
        bottom = z + e * sign
        return v * z / bottom, v * r * (1 / bottom - z / bottom**2)

    assert checks_05.damping_adjoint(answer).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda v, r, z, e: (..., ...), "still `...`"),
        (lambda v, r, z, e: damped(v, z, e), "must return 2 values"),
        (lambda v, r, z, e: (v, v * r * e * np.sign(z) / size(z, e) ** 2), "not 1"),
        (lambda v, r, z, e: (damped(v, z, e), 0 * z), "a gradient at z"),
        (lambda v, r, z, e: (damped(v, z, e), v * r * e / size(z, e) ** 2), "sign(z)"),
        (lambda v, r, z, e: (damped(v, z, e), v * e * np.sign(z) / size(z, e) ** 2), "factor r"),
        (lambda v, r, z, e: (damped(v, z, e), v * r * np.sign(z) / size(z, e)), "quotient rule"),
        (lambda v, r, z, e: (damped(v, z, e) * r, 0 * z), "Differentiate"),
    ],
)
def test_damping_rejects(answer, says):
    verdict = checks_05.damping_adjoint(answer)
    assert not verdict
    assert says in verdict.message
