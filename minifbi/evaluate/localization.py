"""How much of an explanation lies where it should: mass and rank accuracy in a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import choice
from minifbi.evaluate._common import (
    check_attributions,
    check_masks,
    divide,
    per_pixel,
)

__all__ = ["relevance_mass", "relevance_rank"]

PARTS = ("positive", "absolute")


def relevance_mass(
    attributions: ArrayLike, masks: ArrayLike, part: str = "positive"
) -> NDArray[np.float64]:
    """Relevance mass accuracy: the share of the relevance that lies in the mask.

    sum of R_p over the mask / sum of R_p over the image, where R_p is max(attribution, 0) or
    |attribution| of pixel p.

    Parameters
    ----------
    attributions : array of float, shape (N, C, H, W)
        Signed; those of a pixel's channels are added.
    masks : array of bool, shape (N, H, W)
        True where relevance belongs, for example
        :func:`~minifbi.evaluate.masks.digit_mask`.
    part : {"positive", "absolute"}
        Which relevance counts; the published measure is for positive maps.

    Returns
    -------
    ndarray of float64, shape (N,)
        0 to 1; NaN for an image without such relevance.

    Raises
    ------
    ConfigError, ShapeError, DataError
        If `part` is unknown or the arrays do not fit together.

    References
    ----------
    Arras, Osman and Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of
    Neural Network Explanations", Information Fusion 2022.
    """
    choice("part", part, PARTS)
    signed = check_attributions(attributions)
    inside = check_masks(masks, signed).reshape(len(signed), -1)
    pixels = per_pixel(signed)  # (N, H * W)
    relevance = np.abs(pixels) if part == "absolute" else np.maximum(pixels, 0)
    return np.asarray(divide((relevance * inside).sum(axis=1), relevance.sum(axis=1)))


def relevance_rank(attributions: ArrayLike, masks: ArrayLike) -> NDArray[np.float64]:
    """Relevance rank accuracy: of the K most relevant pixels, the share that is in the mask.

    K is the number of pixels in the mask.  If several pixels are tied at rank K, the result is
    the expected value of a random choice among them, so no corner of the image is favoured.

    Parameters
    ----------
    attributions : array of float, shape (N, C, H, W)
        Signed; those of a pixel's channels are added.
    masks : array of bool, shape (N, H, W)
        True where relevance belongs.

    Returns
    -------
    ndarray of float64, shape (N,)
        0 to 1; NaN for an empty mask.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not fit together.

    References
    ----------
    Arras, Osman and Samek, Information Fusion 2022.
    """
    signed = check_attributions(attributions)
    inside = check_masks(masks, signed).reshape(len(signed), -1)
    pixels = per_pixel(signed)
    count = inside.sum(axis=1)  # (N,), K
    descending = -np.sort(-pixels, axis=1)
    last = np.take_along_axis(descending, np.maximum(count - 1, 0)[:, None], axis=1)  # (N, 1)
    above, equal = pixels > last, pixels == last
    left = count - above.sum(axis=1)  # places among the equal ones
    hits = (above & inside).sum(axis=1) + left * (equal & inside).sum(axis=1) / equal.sum(axis=1)
    return np.asarray(divide(hits, count))
