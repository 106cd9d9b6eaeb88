"""What the measures share: checks of their inputs, and a model's outputs as plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.arguments import whole
from minifbi.autograd import no_grad
from minifbi.errors import DataError, ShapeError
from minifbi.fusion import fuse
from minifbi.layers import Sequential
from minifbi.switch import evaluating

Floats = NDArray[Any]
Explainer = Callable[[Sequential, Floats, NDArray[Any]], Floats]
"""``explainer(model, images, classes)``: images (N, C, H, W) in [0, 1] and one class for each;
returns the signed attribution (N, C, H, W) of that class's logit to each pixel."""

OUTPUTS = ("probability", "logit")


def check_images(images: ArrayLike, bounded: bool = True) -> Floats:
    """Images as finite floats of shape (N, C, H, W); in [0, 1] if `bounded`."""
    array = np.asarray(images)
    if array.ndim != 4 or 0 in array.shape:
        raise ShapeError(
            f"the images have shape {array.shape}; expected (N, C, H, W), at least one image"
        )
    low, high = (0, 1) if bounded else (-np.finfo(np.float64).max, np.finfo(np.float64).max)
    if array.dtype.kind != "f" or not (array.min() >= low and array.max() <= high):
        raise DataError(
            f"the images are {array.dtype} from {array.min()} to {array.max()}; expected "
            f"{'floats in [0, 1]' if bounded else 'finite floats'}. Take them from Split.batch, "
            "which divides uint8 pixels by 255."
        )
    return array


def check_classes(classes: ArrayLike, count: int) -> NDArray[np.int64]:
    """One class for each of `count` images."""
    array = np.asarray(classes)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise ShapeError(
            f"the classes are {array.dtype} of shape {array.shape}; expected {count} integers, "
            "one for each image"
        )
    return array.astype(np.int64)


def check_attributions(attributions: ArrayLike) -> Floats:
    """Attributions as float64 of shape (N, C, H, W), finite."""
    array = np.asarray(attributions, dtype=np.float64)
    if array.ndim != 4 or 0 in array.shape:
        raise ShapeError(
            f"the attributions have shape {array.shape}; expected (N, C, H, W), one value for "
            "each pixel of each image"
        )
    if not np.isfinite(array).all():
        raise DataError(
            f"the attributions hold {int((~np.isfinite(array)).sum())} values that are NaN or "
            "infinite; nothing can be ranked by them. Look at the explainer, or at the model."
        )
    return array


def check_masks(masks: ArrayLike, images: Floats) -> NDArray[np.bool_]:
    """Masks as bool of shape (N, H, W), for images or attributions (N, C, H, W)."""
    array = np.asarray(masks)
    expected = (images.shape[0], *images.shape[2:])
    if array.shape != expected or array.dtype != np.bool_:
        raise ShapeError(
            f"the masks are {array.dtype} of shape {array.shape}; expected bool of shape "
            f"{expected}, one mask (H, W) for each image"
        )
    return array


def check_limit(limit: int | None) -> int | None:
    """How many images to look at, at least 1; None for all."""
    return None if limit is None else whole("limit", limit, 1)


def explain(
    model: Sequential, explainer: Explainer, images: Floats, classes: NDArray[np.int64]
) -> Floats:
    """The explainer's attributions, checked: (N, C, H, W) like the images."""
    attributions = check_attributions(explainer(model, images, classes))
    if attributions.shape != images.shape:
        raise ShapeError(
            f"the explainer returned shape {attributions.shape} for images of shape "
            f"{images.shape}; expected one value for each pixel and channel"
        )
    return attributions


def per_pixel(attributions: Floats) -> Floats:
    """(N, C, H, W) to (N, H * W): a pixel's attribution is the sum over its channels."""
    return np.asarray(attributions.sum(axis=1).reshape(len(attributions), -1))


def divide(numerator: Any, denominator: Any) -> Any:
    """The quotient; NaN, without a warning, where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out[()]


def mean_defined(values: ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else math.nan


def predict(model: Sequential, images: Floats, batch_size: int = 250) -> Floats:
    """Logits (N, classes) as float64, in evaluation mode, with no tape."""
    parts = []
    with evaluating(model), no_grad():
        for begin in range(0, len(images), batch_size):
            logits = fuse(model)(images[begin : begin + batch_size])
            parts.append(np.array(logits.numpy(), dtype=np.float64))
    return np.concatenate(parts)


def score(logits: Floats, classes: NDArray[np.int64], output: str) -> Floats:
    """The logit or the probability of one class per image, shape (N,), from logits (N, F)."""
    if classes.min() < 0 or classes.max() >= logits.shape[1]:
        wrong = classes.min() if classes.min() < 0 else classes.max()
        raise DataError(
            f"class {wrong}: the model has {logits.shape[1]} classes; expected 0 to "
            f"{logits.shape[1] - 1}"
        )
    rows = np.arange(len(classes))
    if output == "logit":
        return np.asarray(logits[rows, classes])
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials[rows, classes] / exponentials.sum(axis=1))
