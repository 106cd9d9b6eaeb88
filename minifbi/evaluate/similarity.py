"""How similar two explanations are: rank correlation and structural similarity per image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from minifbi.errors import ShapeError
from minifbi.evaluate._common import Floats, check_attributions, divide, per_pixel

__all__ = ["spearman", "structural_similarity"]

SIGMA, REACH = 1.5, 5  # pixels: the Gaussian window of Wang et al.
WINDOW = 2 * REACH + 1
K1, K2 = 0.01, 0.03


def spearman(first: ArrayLike, second: ArrayLike, absolute: bool = False) -> NDArray[np.float64]:
    """Spearman's rank correlation of two explanations, over the pixels of each image.

    The correlation coefficient of the ranks; equal values get the mean of their ranks.

    Parameters
    ----------
    first, second : arrays of float, shape (N, C, H, W)
        Signed attributions; those of a pixel's channels are added.
    absolute : bool
        Rank the absolute values: Adebayo et al. (2018) report both.

    Returns
    -------
    ndarray of float64, shape (N,)
        -1 to 1; NaN where one of the two is constant.
    """
    pixels = [per_pixel(a) for a in _check_pair(first, second)]
    ranks = [rankdata(np.abs(p) if absolute else p, axis=1) for p in pixels]
    x, y = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    norms = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray(divide((x * y).sum(axis=1), norms))


def structural_similarity(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """SSIM of two explanations, each divided by its largest absolute value.

    Signed maps in [-1, 1], so L = 2; Gaussian window with sigma = 1.5 pixels, 11 x 11; K1 = 0.01,
    K2 = 0.03; the mean over all places whose window lies inside the image.

    Parameters
    ----------
    first, second : arrays of float, shape (N, C, H, W)
        Signed attributions; those of a pixel's channels are added.  At least 11 x 11.

    Returns
    -------
    ndarray of float64, shape (N,)
        1 for equal maps.  A map of zeros is not divided.

    Raises
    ------
    ShapeError
        If the maps are smaller than the window or of different shapes.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE Trans. Image Processing 2004.
    """
    maps = [a.sum(axis=1) for a in _check_pair(first, second)]  # (N, H, W)
    if min(maps[0].shape[1:]) < WINDOW:
        raise ShapeError(
            f"the attributions are {maps[0].shape[1]} x {maps[0].shape[2]}; structural similarity "
            f"needs at least {WINDOW} x {WINDOW} pixels, its window's size"
        )
    peaks = [np.abs(m).max(axis=(1, 2), keepdims=True) for m in maps]
    x, y = (m / np.where(p > 0, p, 1.0) for m, p in zip(maps, peaks, strict=True))
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (K1 * 2) ** 2, (K2 * 2) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    inner = slice(REACH, -REACH)
    return np.asarray(similarity[:, inner, inner].mean(axis=(1, 2)))


def _window(maps: Floats) -> Floats:
    """Gaussian-weighted mean around each pixel."""
    return np.asarray(gaussian_filter(maps, SIGMA, radius=REACH, axes=(1, 2)))


def _check_pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    a, b = check_attributions(first), check_attributions(second)
    if a.shape != b.shape:
        raise ShapeError(f"attributions of shapes {a.shape} and {b.shape}; expected the same")
    return a, b
