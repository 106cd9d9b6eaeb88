"""ROAD, remove and debias: pixel removal that leaves no visible hole.

The shape of a region set to 0 may itself reveal the class, and the network has never seen such
images.  Rong et al. (2022) fill removed pixels by noisy linear imputation instead: each becomes
the weighted mean of its eight neighbours, so the shape of the removed region reveals little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solveh_banded

from minifbi.arguments import choice, number
from minifbi.errors import ConfigError
from minifbi.evaluate._common import (
    OUTPUTS,
    check_attributions,
    check_classes,
    check_images,
    check_masks,
    predict,
    score,
)
from minifbi.evaluate.flipping import pixel_order, ranks_of
from minifbi.layers import Sequential

__all__ = ["RoadCurves", "linear_imputation", "road"]

DIRECT, DIAGONAL = 1 / 6, 1 / 12  # weights of the neighbours, 1 in all
# half of the eight neighbours, (row, column) away; the others see the same pairs from behind
NEIGHBOURS = (
    ((0, 1), DIRECT),
    ((1, -1), DIAGONAL),
    ((1, 0), DIRECT),
    ((1, 1), DIAGONAL),
)
PIECE = 250  # images solved for at a time: their band takes 50 MB
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class RoadCurves:
    """Scores while pixels are removed and imputed, most or least relevant first.

    Attributes
    ----------
    fractions : ndarray of float, shape (S,)
        Share of the pixels removed.
    most, least : ndarray of float, shape (N, S)
        Score of each image's class when the most, or the least, relevant pixels are gone.
    most_correct, least_correct : ndarray of bool, shape (N, S)
        Whether the class still has the largest logit.
    """

    fractions: NDArray[np.float64]
    most: NDArray[np.float64]
    least: NDArray[np.float64]
    most_correct: NDArray[np.bool_]
    least_correct: NDArray[np.bool_]

    @property
    def difference(self) -> NDArray[np.float64]:
        """Mean of least - most over the fractions, shape (N,): high if faithful, 0 if random."""
        return np.asarray((self.least - self.most).mean(axis=1))

    @property
    def accuracy_difference(self) -> float:
        """The same difference of the accuracies: -1 to 1."""
        return float(self.least_correct.mean() - self.most_correct.mean())


def road(
    model: Sequential,
    images: ArrayLike,
    classes: ArrayLike,
    attributions: ArrayLike,
    *,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "probability",
    seed: int = 0,
    batch_size: int = 250,
) -> RoadCurves:
    """Remove the most and the least relevant pixels, impute them, record the class's score.

    Parameters
    ----------
    model : Sequential
        The network whose scores are recorded.
    images, attributions : arrays of float, shape (N, C, H, W)
        As in :func:`~minifbi.evaluate.flipping.pixel_flipping`; equal attributions are
        ordered at random.
    classes : array of int, shape (N,)
        The class of each image whose score is recorded.
    fractions : sequence of float
        Shares of the pixels removed, each in (0, 1).
    noise : float
        Standard deviation of the noise on imputed pixels, in units of a pixel.
    output : {"probability", "logit"}
        The score: softmax probability of the class, or its logit.
    seed : int
        Of the noise and of the order among equals.
    batch_size : int
        Images per forward pass.

    Returns
    -------
    RoadCurves

    Raises
    ------
    ConfigError, ShapeError, DataError
        If an option is outside its values, or the arrays do not fit together.

    References
    ----------
    Rong, Leemann, Borisov, Kasneci and Kasneci, "A Consistent and Efficient Evaluation
    Strategy for Attribution Methods", ICML 2022.  The noise of 0.01 is that of the authors'
    program.
    """
    pixels, signed = check_images(images), check_attributions(attributions)
    chosen = check_classes(classes, len(pixels))
    choice("output", output, OUTPUTS)
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or not shares.size or not ((shares > 0) & (shares < 1)).all():
        raise ConfigError(
            f"fractions={fractions!r}: expected shares of the pixels, each above 0 and below 1, "
            "so that some pixels are left to impute from"
        )
    noise = number("noise", noise, 0)
    rng = np.random.default_rng([seed, 1])
    shape = (len(pixels), *pixels.shape[2:])
    scores: dict[str, NDArray[Any]] = {}
    correct: dict[str, NDArray[Any]] = {}
    for order in ("most", "least"):
        ranks = ranks_of(pixel_order(pixels, signed, order, seed=seed)).reshape(shape)
        scores[order] = np.empty((len(pixels), len(shares)))
        correct[order] = np.empty((len(pixels), len(shares)), dtype=bool)
        for point, share in enumerate(shares):
            removed = ranks < min(round(share * shape[1] * shape[2]), shape[1] * shape[2] - 1)
            filled = linear_imputation(pixels, removed)
            dirt = noise * rng.standard_normal(pixels.shape)
            filled += np.where(removed[:, None], dirt, 0).astype(filled.dtype)
            logits = predict(model, filled, batch_size)
            scores[order][:, point] = score(logits, chosen, output)
            correct[order][:, point] = logits.argmax(axis=1) == chosen
    return RoadCurves(shares, scores["most"], scores["least"], correct["most"], correct["least"])


def linear_imputation(images: ArrayLike, removed: ArrayLike) -> NDArray[Any]:
    """Fill removed pixels: each becomes the weighted mean of its neighbours, removed ones included.

    Direct neighbours have weight 1/6, diagonal ones 1/12; at the border the weights of the
    neighbours that exist are scaled to sum to 1.  This is a linear system for the removed pixels
    x_p::

        (sum_q w_pq) x_p - sum_(q removed) w_pq x_q = sum_(q kept) w_pq image_q

    The system is symmetric and positive definite if at least one pixel is kept.  In reading order
    its entries lie within W + 1 of the diagonal, so one banded Cholesky factorisation solves it
    for many images.

    Parameters
    ----------
    images : array of float, shape (N, C, H, W)
        Pixels in [0, 1].
    removed : array of bool, shape (N, H, W)
        True where a pixel is to be imputed, in all channels.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        In the images' dtype; without noise.

    Raises
    ------
    ConfigError
        If an image has no pixel left.
    """
    pixels = check_images(images)
    gone = check_masks(removed, pixels)
    if gone.all(axis=(1, 2)).any():
        raise ConfigError(
            f"image {int(gone.all(axis=(1, 2)).argmax())} has no pixel left to impute from; "
            "expected at least one"
        )
    pieces = [slice(begin, begin + PIECE) for begin in range(0, len(pixels), PIECE)]
    filled = np.concatenate([_solve(pixels[piece], gone[piece]) for piece in pieces])
    return np.where(gone[:, None], filled, pixels).astype(pixels.dtype)


def _solve(pixels: NDArray[Any], gone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Set up and solve the equations of :func:`linear_imputation`; (N, C, H, W)."""
    channels, width = pixels.shape[1], pixels.shape[3]
    known = np.moveaxis(pixels, 1, -1).astype(np.float64)  # (N, H, W, C)
    # a kept pixel has the equation x_p = image_p, which keeps all images the same size
    diagonal = np.where(gone, 0.0, 1.0)
    right = np.where(gone[..., None], 0.0, known)
    band = np.zeros((width + 2, *gone.shape))  # band[k, p]: the entry of p and p + k pixels
    for (down, across), weight in NEIGHBOURS:
        first, second = _pairs(down, across)
        for here, there in ((first, second), (second, first)):
            diagonal[here] += weight * gone[here]
            flow = weight * (gone[here] & ~gone[there])
            right[here] += flow[..., None] * known[there]
        band[down * width + across][first] -= weight * (gone[first] & gone[second])
    band[0] += diagonal
    solution = solveh_banded(
        band.reshape(width + 2, -1), right.reshape(-1, channels), lower=True, check_finite=False
    )
    return np.moveaxis(solution.reshape(known.shape), -1, 1)


def _pairs(down: int, across: int) -> Iterator[tuple[slice, slice, slice]]:
    """Two index expressions for (N, H, W): all pixels with such a neighbour, and the neighbours."""
    rows = slice(0, -down or None), slice(down, None)
    left, right = slice(0, -abs(across) or None), slice(abs(across), None)
    columns = (left, right) if across >= 0 else (right, left)
    for row, column in zip(rows, columns, strict=True):
        yield slice(None), row, column
