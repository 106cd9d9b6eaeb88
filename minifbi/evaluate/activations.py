"""How the activations of one layer are distributed: what Table 1 of the paper measures, and more.

Each function takes the post-ReLU activations of one layer, an array (N, C, H, W) for N images
and C filters, and returns one number.  By default it looks at all N * C * H * W values at once.
With ``per_image=True`` it looks at each image separately and returns the mean over the images
for which the number is defined.  Sums are computed in float64, whatever the array's dtype.

A number that is not defined is NaN, for example the Gini index of a layer whose activations are
all 0.

The paper (Yoo, Kim and Kang 2019) prints "max" and "skewness (the inverse of the variance) in
the energy-normalised curves" without saying how the energy is normalised.  So maximum and
variance come in several normalisations, side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import choice
from minifbi.errors import ShapeError
from minifbi.evaluate._common import divide, mean_defined
from minifbi.evaluate.masks import UnitGrid, digit_mask, pool_mask
from minifbi.evaluate.sparsity import gini_rows, hoyer_rows

NORMALIZATIONS = ("none", "rms", "mean", "max")


def mean(a: NDArray[Any]) -> float:
    """Mean of all activations: their "energy" in the sense of an L1 penalty.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.

    Returns
    -------
    float
    """
    return float(_rows(a, False).mean(dtype=np.float64))


def maximum(a: NDArray[Any], per_image: bool = False) -> float:
    """Largest activation, max a, in units of the activation.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    per_image : bool
        Mean over the images of each image's own maximum.

    Returns
    -------
    float
    """
    return mean_defined(_rows(a, per_image).max(axis=1))


def rms_maximum(a: NDArray[Any], per_image: bool = False) -> float:
    """Largest activation over the root mean square: max a / sqrt(mean a^2).

    At least 1 for activations that are not negative; larger if few units carry most of the
    activation.  One reading of "energy-normalised" in Table 1 of Yoo, Kim and Kang (2019).
    NaN where all are 0.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    per_image : bool
        Mean over the images of each image's own number.

    Returns
    -------
    float
    """
    rows = _rows(a, per_image)
    return mean_defined(divide(rows.max(axis=1), _scale(rows, "rms")))


def variance(a: NDArray[Any], normalization: str = "none", per_image: bool = False) -> float:
    """Variance of the activations divided by a scale s: mean (a/s - mean(a/s))^2.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    normalization : {"none", "rms", "mean", "max"}
        s is 1, the root mean square, the mean, or the maximum of the activations.  With "rms"
        the variance is 1 - mean(a)^2 / mean(a^2), between 0 and 1.
    per_image : bool
        Mean over the images of each image's own variance.

    Returns
    -------
    float
        NaN where s is 0.

    Raises
    ------
    ConfigError
        If the normalisation is unknown.
    """
    return mean_defined(_variances(a, normalization, per_image))


def inverse_variance(
    a: NDArray[Any], normalization: str = "none", per_image: bool = False
) -> float:
    """1 / :func:`variance`: what Yoo, Kim and Kang (2019) call "skewness" in Table 1.

    With "rms" it is at least 1.  NaN where the variance is 0 or not defined.  With `per_image`
    it is the mean of the inverses, not the inverse of the mean.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    normalization : {"none", "rms", "mean", "max"}
        As in :func:`variance`.
    per_image : bool
        Mean over the images of each image's own number.

    Returns
    -------
    float
    """
    return mean_defined(divide(1.0, _variances(a, normalization, per_image)))


def skewness(a: NDArray[Any], per_image: bool = False) -> float:
    """Third standardised moment, mean (a - mean a)^3 / variance^(3/2).

    Skewness as statistics defines it (Fisher-Pearson coefficient, not corrected for bias).  It
    does not depend on the scale of the activations.  NaN where all are equal.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    per_image : bool
        Mean over the images of each image's own number.

    Returns
    -------
    float
    """
    rows = _rows(a, per_image)
    centres = rows.mean(axis=1, dtype=np.float64)
    second, third = _moment(rows, centres, 2), _moment(rows, centres, 3)
    return mean_defined(divide(third, second**1.5))


def zero_fraction(a: NDArray[Any]) -> float:
    """Share of activations that are exactly 0, as a ReLU leaves them: 0 to 1.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.

    Returns
    -------
    float
    """
    rows = _rows(a, False)
    return float(1.0 - np.count_nonzero(rows) / rows.size)


def gini(a: NDArray[Any], per_image: bool = False) -> float:
    """Gini index (Hurley and Rickard 2009) of the absolute activations; see `gini_rows`.

    0 where all are equal, near 1 where all but one are 0; NaN where all are 0.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    per_image : bool
        Mean over the images of each image's own number.

    Returns
    -------
    float
    """
    return mean_defined(gini_rows(_rows(a, per_image)))


def hoyer(a: NDArray[Any], per_image: bool = False) -> float:
    """Hoyer's sparsity (Hoyer 2004), (sqrt(n) - |a|_1 / |a|_2) / (sqrt(n) - 1); 0 to 1.

    NaN where all are 0.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.
    per_image : bool
        Mean over the images of each image's own number.

    Returns
    -------
    float
    """
    return mean_defined(hoyer_rows(_rows(a, per_image)))


def zeroed_filters(a: NDArray[Any]) -> float:
    """Number of filters whose whole map is 0, averaged over the images: 0 to C.

    Yoo, Kim and Kang (2019) read from Fig. 2 that the FBI loss zeroes more filters.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.

    Returns
    -------
    float
    """
    return float((~_active(a)).sum(axis=1).mean())


def dead_filters(a: NDArray[Any]) -> float:
    """Number of filters that are 0 everywhere in every image: 0 to C, as a float.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, H, W)
        One layer's activations, after its ReLU.

    Returns
    -------
    float
    """
    return float((~_active(a).any(axis=0)).sum())


def background_share(
    a: NDArray[Any],
    images: NDArray[Any],
    grid: UnitGrid | None = None,
    *,
    threshold: float = 0.0,
    exclude: NDArray[np.bool_] | None = None,
) -> float:
    """Share of the activation on the background: sum over the background / sum over all units.

    A unit lies on the background if no pixel of its cell has ink: the digit mask is max-pooled
    to the layer's grid.  Both sums are over |a| of all images, filters and places.

    Parameters
    ----------
    a : ndarray of float, shape (N, C, h, w)
        One layer's activations, after its ReLU.
    images : ndarray of float, shape (N, channels, H, W)
        Pixels in [0, 1].
    grid : UnitGrid, optional
        Where the layer's units are, from :func:`~minifbi.evaluate.masks.unit_grids`; needed
        where convolutions without padding cut the border off.  Without it the layer's h x w
        cells tile the image.
    threshold : float
        A pixel above it has ink.
    exclude : ndarray of bool, shape (N, H, W), optional
        Pixels that are no part of the digit though they are bright, as a decoy's.

    Returns
    -------
    float
        0 to 1; NaN where all activations are 0.

    Raises
    ------
    ShapeError
        If images and activations are not equally many.
    """
    _rows(a, False)  # checks the shape
    if len(images) != len(a):
        raise ShapeError(
            f"{len(a)} images of activations and {len(images)} images; expected as many of each"
        )
    ink = pool_mask(digit_mask(images, threshold, exclude), a.shape[2:], grid)  # (N, h, w)
    places = np.abs(a).sum(axis=1, dtype=np.float64)  # (N, h, w)
    return float(divide(places[~ink].sum(), places.sum()))


# ---- what they share ---------------------------------------------------------------------
def _rows(a: NDArray[Any], per_image: bool) -> NDArray[Any]:
    """(N, C, H, W) as one row, or as one row per image."""
    a = np.asarray(a)
    if a.ndim != 4 or 0 in a.shape or a.dtype.kind != "f":
        raise ShapeError(
            f"the activations are {a.dtype} of shape {a.shape}; expected floats (N, C, H, W), at "
            "least one of each; a dense layer's (N, F) become (N, F, 1, 1)"
        )
    return a.reshape(len(a) if per_image else 1, -1)


def _moment(rows: NDArray[Any], centres: NDArray[Any], power: int) -> NDArray[np.float64]:
    """Mean of (value - centre)^power of each row, in float64, computed piece by piece."""
    piece = 1 << 18  # values that stay in the processor's cache
    out = np.zeros(len(rows))
    for row, (values, centre) in enumerate(zip(rows, centres, strict=True)):
        for begin in range(0, len(values), piece):
            difference = np.subtract(values[begin : begin + piece], centre, dtype=np.float64)
            product = difference * difference
            if power == 3:
                product *= difference
            out[row] += product.sum()
    return out / rows.shape[1]


def _scale(rows: NDArray[Any], normalization: str) -> NDArray[np.float64]:
    """The divisor of each row, shape (R,)."""
    choice("normalization", normalization, NORMALIZATIONS)
    if normalization == "none":
        return np.ones(len(rows))
    if normalization == "rms":
        return np.sqrt(_moment(rows, np.zeros(len(rows)), 2))
    if normalization == "mean":
        return np.asarray(rows.mean(axis=1, dtype=np.float64))
    return rows.max(axis=1).astype(np.float64)


def _variances(a: NDArray[Any], normalization: str, per_image: bool) -> NDArray[np.float64]:
    rows = _rows(a, per_image)
    scale = _scale(rows, normalization)
    raw = _moment(rows, rows.mean(axis=1, dtype=np.float64), 2)
    return np.asarray(divide(raw, scale * scale))  # var(a / s) = var(a) / s^2


def _active(a: NDArray[Any]) -> NDArray[np.bool_]:
    """(N, C): whether a filter's map has anything but zeros."""
    _rows(a, False)
    return np.asarray(a.any(axis=(2, 3)))
