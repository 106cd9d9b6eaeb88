"""Model-parameter randomisation: an explanation of a trained network must depend on its training.

Layer by layer from the top, new random weights replace the trained ones.  After each layer the
explanation is compared with that of the trained network.  If it stays the same although the
network has lost its training, it explains something else, for example edges in the image.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.errors import ConfigError
from minifbi.evaluate._common import Explainer, check_classes, check_images, explain
from minifbi.evaluate.similarity import WINDOW, spearman, structural_similarity
from minifbi.layers import Layer, Sequential
from minifbi.layers.linear import he_normal

__all__ = ["Randomization", "parameters_kept", "randomization"]


@dataclass(frozen=True)
class Randomization:
    """How alike the explanation stays while more and more layers are randomised.

    Attributes
    ----------
    layers : tuple of str
        In the order of randomisation, the top layer first.  Entry k of the arrays belongs to
        the network with layers[0] to layers[k] randomised.
    spearman, spearman_absolute, similarity : ndarray of float64, shape (L, N)
        Rank correlation of the signed and of the absolute attributions, and structural
        similarity, between each image's explanation and the original.  NaN where a number is
        not defined; `similarity` is all NaN for images smaller than its window, 11 x 11.
    """

    layers: tuple[str, ...]
    spearman: NDArray[np.float64]
    spearman_absolute: NDArray[np.float64]
    similarity: NDArray[np.float64]


def randomization(
    model: Sequential,
    explainer: Explainer,
    images: ArrayLike,
    classes: ArrayLike,
    *,
    seed: int = 0,
) -> Randomization:
    """Cascading randomisation from the top layer down, and the explanation's similarity.

    Weights are drawn as at the start of training (He); parameters of one dimension become 0, like
    biases at the start.  Afterwards, also after an error, the model has its own parameters again:
    the same arrays.

    Parameters
    ----------
    model : Sequential
        The trained network.
    explainer : callable
        ``explainer(model, images, classes)`` returns attributions (N, C, H, W).
    images : array of float, shape (N, C, H, W)
        Pixels in [0, 1].
    classes : array of int, shape (N,)
        Whose logit is explained, before and after.
    seed : int
        Of the random weights.

    Returns
    -------
    Randomization

    Raises
    ------
    ConfigError
        If no layer has parameters.
    ShapeError, DataError
        If the arrays do not fit together, or the explainer returns something else.

    References
    ----------
    Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity Checks for Saliency Maps",
    NeurIPS 2018.
    """
    pixels = check_images(images)
    chosen = check_classes(classes, len(pixels))
    layers = [(name, layer) for name, layer in model.named_layers() if layer.own_parameters]
    if not layers:
        raise ConfigError("the model has no parameters, so there is nothing to randomise")
    rng = np.random.default_rng(seed)
    original = explain(model, explainer, pixels, chosen)
    found: dict[str, list[NDArray[np.float64]]] = {"signed": [], "absolute": [], "ssim": []}
    with parameters_kept(model):
        for _, layer in reversed(layers):
            _randomize(layer, rng)
            now = explain(model, explainer, pixels, chosen)
            found["signed"].append(spearman(original, now))
            found["absolute"].append(spearman(original, now, absolute=True))
            found["ssim"].append(
                structural_similarity(original, now)
                if min(pixels.shape[2:]) >= WINDOW
                else np.full(len(pixels), np.nan)
            )
    names = tuple(name for name, _ in reversed(layers))
    signed, absolute, ssim = (np.stack(found[key]) for key in ("signed", "absolute", "ssim"))
    return Randomization(names, signed, absolute, ssim)


@contextlib.contextmanager
def parameters_kept(model: Layer) -> Iterator[None]:
    """Give each parameter its own array back when the block ends.

    This undoes what replaces ``parameter.data``, not what writes *into* an array.
    """
    kept = [(p, p.data) for p in model.parameters().values()]
    try:
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def _randomize(layer: Layer, rng: np.random.Generator) -> None:
    """Fresh parameters, as an untrained layer has them."""
    for parameter in layer.own_parameters.values():
        shape = parameter.shape
        fresh = he_normal(shape, math.prod(shape[1:]), rng) if len(shape) > 1 else np.zeros(shape)
        parameter.data = parameter.backend.asarray(fresh, parameter.dtype)
