"""Pixel flipping: erase pixels in the order of an explanation and watch the class's score fall.

If an explanation is faithful, the score falls fast when the most relevant pixels go first, and
slowly when the least relevant do.  Two controls belong to it: a random order, and one that
knows nothing but where the ink is.  On digits the second is a strong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import choice
from minifbi.errors import ConfigError, ShapeError
from minifbi.evaluate._common import (
    OUTPUTS,
    check_attributions,
    check_classes,
    check_images,
    per_pixel,
    predict,
    score,
)
from minifbi.evaluate.masks import digit_mask
from minifbi.layers import Sequential

__all__ = ["ORDERS", "FlippingCurve", "pixel_flipping", "pixel_order"]

ORDERS = ("most", "least", "random", "ink")
FRACTIONS = tuple(np.linspace(0.0, 1.0, 57))  # for MNIST: 14 pixels more at each step


@dataclass(frozen=True)
class FlippingCurve:
    """The score of a class while pixels are erased.

    Attributes
    ----------
    fractions : ndarray of float, shape (S,)
        Share of the pixels erased, ascending.
    scores : ndarray of float, shape (N, S)
        Of each image.
    """

    fractions: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The curve of the mean score over the images, shape (S,)."""
        return np.asarray(self.scores.mean(axis=0))

    @property
    def area(self) -> NDArray[np.float64]:
        """Area under each image's curve over the span of the fractions, shape (N,).

        By the trapezoidal rule, divided by the span, so it is a mean score and has the score's
        unit.  A faithful explanation has a low area for the order "most" and a high one for
        "least".
        """
        f, s = self.fractions, self.scores
        trapezoids = np.diff(f) * (s[:, 1:] + s[:, :-1]) / 2
        return np.asarray(trapezoids.sum(axis=1) / (f[-1] - f[0]))

    @property
    def area_over(self) -> NDArray[np.float64]:
        """Area over each image's curve, shape (N,): AOPC of Samek et al. (2017).

        (1 / S) sum_k (score_0 - score_k) over the S points of the curve, including the first.
        """
        return np.asarray((self.scores[:, :1] - self.scores).mean(axis=1))


def pixel_flipping(
    model: Sequential,
    images: ArrayLike,
    classes: ArrayLike,
    attributions: ArrayLike,
    order: str = "most",
    *,
    fractions: Sequence[float] | None = None,
    baseline: float | str | NDArray[Any] = 0.0,
    output: str = "probability",
    threshold: float = 0.0,
    seed: int = 0,
    batch_size: int = 250,
) -> FlippingCurve:
    """Erase pixels in a given order and record the score of each image's class.

    Parameters
    ----------
    model : Sequential
        The network whose scores are recorded.
    images : array of float, shape (N, C, H, W)
        Pixels in [0, 1].
    classes : array of int, shape (N,)
        Whose score is recorded.
    attributions : array of float, shape (N, C, H, W)
        Signed; those of a pixel's channels are added.
    order : {"most", "least", "random", "ink"}
        See :func:`pixel_order`.
    fractions : sequence of float, optional
        Shares of the H * W pixels erased at each point of the curve, ascending, in [0, 1];
        rounded to whole pixels.  57 from 0 to 1 if left out.
    baseline : float, "invert", or array
        The new value of an erased pixel: a number; "invert" for 1 - pixel, the flip that gave
        the measure its name in Bach et al. (2015); or an array that broadcasts to the images.
    output : {"probability", "logit"}
        The score: softmax probability of the class, or its logit.
    threshold : float
        A pixel above it is ink, for the order "ink".
    seed : int
        Of the random orders.
    batch_size : int
        Images at a time.

    Returns
    -------
    FlippingCurve

    Raises
    ------
    ConfigError, ShapeError, DataError
        If an option is outside its values, or the arrays do not fit together.

    References
    ----------
    Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
    Relevance Propagation", PLOS ONE 2015; Samek et al., "Evaluating the Visualization of What
    a Deep Neural Network Has Learned", IEEE Trans. Neural Networks and Learning Systems 2017.
    """
    pixels = check_images(images)
    chosen = check_classes(classes, len(pixels))
    choice("output", output, OUTPUTS)
    shares = _check_fractions(FRACTIONS if fractions is None else fractions)
    erased = _replacement(pixels, baseline)
    ranks = ranks_of(pixel_order(pixels, attributions, order, threshold=threshold, seed=seed))
    ranks = ranks.reshape(len(pixels), 1, *pixels.shape[2:])  # one for all channels
    size = pixels.shape[2] * pixels.shape[3]
    scores = np.empty((len(pixels), len(shares)))
    for point, share in enumerate(shares):
        gone = ranks < round(share * size)
        logits = predict(model, np.where(gone, erased, pixels), batch_size)
        scores[:, point] = score(logits, chosen, output)
    return FlippingCurve(shares, scores)


def pixel_order(
    images: ArrayLike,
    attributions: ArrayLike,
    order: str = "most",
    *,
    threshold: float = 0.0,
    seed: int = 0,
) -> NDArray[np.intp]:
    """The order in which pixels are erased.

    Parameters
    ----------
    images, attributions : arrays of float, shape (N, C, H, W)
        Pixels in [0, 1], and the signed attribution of each; channels are added.
    order : {"most", "least", "random", "ink"}
        Highest signed attribution first; lowest first; random order; or pixels with ink first,
        then the background, each in random order.  Equal attributions are ordered at random,
        since reading order would favour a corner of the image.
    threshold : float
        A pixel above it is ink.
    seed : int
        Of the random order.

    Returns
    -------
    ndarray of int, shape (N, H * W)
        Indices of pixels in reading order, the first to go first.
    """
    choice("order", order, ORDERS)
    pixels, signed = check_images(images), check_attributions(attributions)
    if signed.shape[0] != pixels.shape[0] or signed.shape[2:] != pixels.shape[2:]:
        raise ShapeError(
            f"attributions of shape {signed.shape} for images of shape {pixels.shape}; expected "
            "the same images, rows and columns"
        )
    relevance = per_pixel(signed)
    chance = np.random.default_rng(seed).random(relevance.shape)
    if order == "most":
        key = -relevance
    elif order == "least":
        key = relevance
    elif order == "random":
        key = np.zeros_like(relevance)
    else:
        ink = digit_mask(pixels, threshold).reshape(relevance.shape)
        key = np.where(ink, 0.0, 1.0)
    return np.lexsort((chance, key), axis=1)


def ranks_of(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """The inverse of :func:`pixel_order`: the rank of each pixel in its image, (N, H * W)."""
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks


def _replacement(pixels: NDArray[Any], baseline: float | str | NDArray[Any]) -> NDArray[Any]:
    """The values of erased pixels, in the images' dtype; broadcasts to the images."""
    if isinstance(baseline, str):
        if baseline != "invert":
            raise ConfigError(f"baseline={baseline!r}: expected a number, 'invert', or an array")
        return 1 - pixels
    erased = np.asarray(baseline, dtype=pixels.dtype)
    try:
        np.broadcast_to(erased, pixels.shape)
    except ValueError:
        raise ShapeError(
            f"the baseline has shape {erased.shape}; expected one number, or an array that "
            f"broadcasts to the images' {pixels.shape}"
        ) from None
    return erased


def _check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    shares = np.asarray(fractions, dtype=np.float64)
    good = shares.ndim == 1 and len(shares) > 1 and bool((np.diff(shares) > 0).all())
    if not (good and shares[0] >= 0 and shares[-1] <= 1):
        raise ConfigError(
            f"fractions={fractions!r}: expected at least two shares of the pixels, ascending "
            "from 0 to 1 at most"
        )
    return shares
