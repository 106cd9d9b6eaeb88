"""How good is an explanation?  Measures of concentration, and a report of all measures.

The measures take attributions (N, C, H, W) and return one number per image, so that
images can be compared in pairs; :func:`explanation_report` gives the means.  Each measures only
one property, and they may contradict each other: a concentrated explanation may be unfaithful.
Look at several.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.errors import ConfigError
from minifbi.evaluate._common import (
    Explainer,
    Floats,
    check_attributions,
    check_classes,
    check_images,
    divide,
    explain,
    mean_defined,
    per_pixel,
)
from minifbi.evaluate.flipping import ORDERS, FlippingCurve, pixel_flipping, pixel_order
from minifbi.evaluate.localization import relevance_mass, relevance_rank
from minifbi.evaluate.masks import digit_mask
from minifbi.evaluate.randomization import Randomization, randomization
from minifbi.evaluate.road import RoadCurves, linear_imputation, road
from minifbi.evaluate.sensitivity import max_sensitivity
from minifbi.evaluate.similarity import spearman, structural_similarity
from minifbi.evaluate.sparsity import gini_rows
from minifbi.layers import Sequential

__all__ = [
    "FlippingCurve",
    "Randomization",
    "RoadCurves",
    "complexity",
    "explanation_report",
    "gini",
    "linear_imputation",
    "max_sensitivity",
    "pixel_flipping",
    "pixel_order",
    "randomization",
    "relevance_mass",
    "relevance_rank",
    "road",
    "spearman",
    "structural_similarity",
]


def gini(attributions: ArrayLike) -> NDArray[np.float64]:
    """Gini index of the absolute attributions of each image's pixels: 0 spread out, 1 sparse.

    With their absolute values in ascending order, c_1 <= ... <= c_n::

        G = sum_k (2k - n - 1) c_k / (n sum_k c_k)

    Parameters
    ----------
    attributions : array of float, shape (N, C, H, W)
        Signed; those of a pixel's channels are added.

    Returns
    -------
    ndarray of float64, shape (N,)
        NaN for an attribution that is 0 everywhere.

    Raises
    ------
    ShapeError, DataError
        If the attributions are not finite numbers (N, C, H, W).

    References
    ----------
    Chalasani et al., "Concise Explanations of Neural Networks using Adversarial Training",
    ICML 2020; Hurley and Rickard, "Comparing Measures of Sparsity", 2009.
    """
    return gini_rows(per_pixel(check_attributions(attributions)))


def complexity(attributions: ArrayLike) -> NDArray[np.float64]:
    """Entropy of the absolute attributions of each image's pixels, in nats.

    -sum_p f_p ln f_p, where f_p is pixel p's share of the sum of |attribution|.  0 if one
    pixel has everything, ln(H * W) if all pixels have the same.

    Parameters
    ----------
    attributions : array of float, shape (N, C, H, W)
        Signed; those of a pixel's channels are added.

    Returns
    -------
    ndarray of float64, shape (N,)
        NaN for an attribution that is 0 everywhere.

    Raises
    ------
    ShapeError, DataError
        If the attributions are not finite numbers (N, C, H, W).

    References
    ----------
    Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations",
    IJCAI 2020.
    """
    magnitude = np.abs(per_pixel(check_attributions(attributions)))
    shares = divide(magnitude, magnitude.sum(axis=1, keepdims=True))
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)  # 0 ln 0 = 0
    return np.asarray(-(shares * logarithms).sum(axis=1))


Asked = tuple[Sequential, Explainer, Floats, NDArray[np.int64]]  # ..., images, classes
Given = tuple[Sequential, Floats, NDArray[np.int64], Floats]  # ..., images, classes, attributions


# ---- all of them -------------------------------------------------------------------------
GROUPS = ("concentration", "flipping", "road", "localization", "sensitivity", "randomization")


def explanation_report(
    model: Sequential,
    explainer: Explainer,
    images: ArrayLike,
    classes: ArrayLike,
    *,
    skip: Collection[str] = (),
    threshold: float = 0.0,
    exclude: NDArray[np.bool_] | None = None,
    sensitivity: dict[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Every measure of an explanation, each as the mean over the images.

    Parameters
    ----------
    model : Sequential
        The network that is explained.
    explainer : callable
        ``explainer(model, images, classes)`` returns attributions (N, C, H, W).
    images : array of float, shape (N, C, H, W)
        Pixels in [0, 1].
    classes : array of int, shape (N,)
        Whose logit is explained and whose probability is recorded.
    skip : collection of str
        Groups to leave out: "concentration", "flipping", "road", "localization", "sensitivity",
        "randomization".  The last two take longest: they call the explainer once per sample and
        once per layer.
    threshold, exclude
        Which pixels are ink, see :func:`~minifbi.evaluate.masks.digit_mask`.
    sensitivity : dict, optional
        Further arguments of :func:`max_sensitivity`, such as ``{"radius": 0.1}``.
    seed : int
        Of everything random.

    Returns
    -------
    dict of str to float
        By the names of ``EXPLANATION_MEASURES``.  The mean leaves out images for which the
        measure is not defined; it is NaN if no image is left.

    Raises
    ------
    ConfigError, ShapeError, DataError
        If an option is outside its values, or the arrays do not fit together.
    """
    unknown = sorted(set(skip) - set(GROUPS))
    if unknown:
        raise ConfigError(f"skip={unknown[0]!r}: expected some of {', '.join(GROUPS)}")
    pixels = check_images(images)
    chosen = check_classes(classes, len(pixels))
    attributions = explain(model, explainer, pixels, chosen)
    asked = (model, explainer, pixels, chosen)
    given = (model, pixels, chosen, attributions)
    ink = digit_mask(pixels, threshold, exclude)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "concentration": lambda: _concentration(attributions),
        "flipping": lambda: _flipping(given, threshold, seed),
        "road": lambda: _road(given, seed),
        "localization": lambda: {
            "relevance_mass": relevance_mass(attributions, ink),
            "relevance_rank": relevance_rank(attributions, ink),
        },
        "sensitivity": lambda: {
            "max_sensitivity": max_sensitivity(*asked, **{"seed": seed, **(sensitivity or {})})
        },
        "randomization": lambda: _randomization(asked, seed),
    }
    values: dict[str, Any] = {}
    for group in GROUPS:
        if group not in skip:
            values |= parts[group]()
    return {name: mean_defined(value) for name, value in values.items()}


def _concentration(attributions: Floats) -> dict[str, Any]:
    return {
        "gini": gini(attributions),
        "complexity": complexity(attributions),
        "zero_attributions": ~attributions.any(axis=(1, 2, 3)),
    }


def _flipping(given: Given, threshold: float, seed: int) -> dict[str, Any]:
    areas = {
        order: pixel_flipping(*given, order=order, threshold=threshold, seed=seed).area
        for order in ORDERS
    }
    named: dict[str, Any] = {f"flipping_{order}": area for order, area in areas.items()}
    return {**named, "flipping_gain": areas["ink"] - areas["most"]}


def _road(given: Given, seed: int) -> dict[str, Any]:
    curves = road(*given, seed=seed)
    return {
        "road_most": curves.most,
        "road_least": curves.least,
        "road_difference": curves.difference,
        "road_accuracy_difference": curves.accuracy_difference,
    }


def _randomization(asked: Asked, seed: int) -> dict[str, Any]:
    result = randomization(*asked, seed=seed)
    return {
        "randomization_spearman": result.spearman,
        "randomization_absolute": result.spearman_absolute,
        "randomization_ssim": result.similarity,
    }
