"""Max-sensitivity: how much an explanation changes when the image hardly changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import number, whole
from minifbi.evaluate._common import Explainer, check_classes, check_images, divide, explain
from minifbi.layers import Sequential

__all__ = ["max_sensitivity"]


def max_sensitivity(
    model: Sequential,
    explainer: Explainer,
    images: ArrayLike,
    classes: ArrayLike,
    *,
    radius: float = 0.02,
    samples: int = 10,
    relative: bool = True,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Largest change of the explanation under small changes of the image, by sampling.

    max over d with |d|_inf <= r of |E(x + d) - E(x)|_2.  The estimate, a lower bound, is the
    largest value over random d, drawn uniformly from the cube and cut so that x + d stays in
    [0, 1].

    Parameters
    ----------
    model : Sequential
        The network that is explained.
    explainer : callable
        ``explainer(model, images, classes)`` returns attributions (N, C, H, W).
    images : array of float, shape (N, C, H, W)
        Pixels in [0, 1].
    classes : array of int, shape (N,)
        Whose logit is explained.
    radius : float
        r, in units of a pixel.
    samples : int
        Number of random d; each costs one explanation.
    relative : bool
        Divide by |E(x)|_2, so that explanations of different scale can be compared.  The
        published definition does not divide.
    seed : int
        Of the random changes.

    Returns
    -------
    ndarray of float64, shape (N,)
        Low for a stable explanation; NaN (relative only) where E(x) is 0 everywhere.

    Raises
    ------
    ConfigError
        If `radius` or `samples` is out of range.
    ShapeError, DataError
        If the arrays do not fit together, or the explainer returns something else.

    References
    ----------
    Yeh, Hsieh, Suggala, Inouye and Ravikumar, "On the (In)fidelity and Sensitivity of
    Explanations", NeurIPS 2019.
    """
    radius = number("radius", radius, high=1, above=0)
    samples = whole("samples", samples, 1)
    pixels = check_images(images)
    chosen = check_classes(classes, len(pixels))
    rng = np.random.default_rng(seed)
    original = explain(model, explainer, pixels, chosen)
    largest = np.zeros(len(pixels))
    for _ in range(samples):
        change = rng.uniform(-radius, radius, pixels.shape)
        # cutting brings x + d nearer to x, so d stays in its cube
        near = np.clip(pixels + change, 0, 1).astype(pixels.dtype)
        moved = explain(model, explainer, near, chosen) - original
        largest = np.maximum(largest, np.sqrt((moved**2).sum(axis=(1, 2, 3))))
    if not relative:
        return largest
    return np.asarray(divide(largest, np.sqrt((original**2).sum(axis=(1, 2, 3)))))
