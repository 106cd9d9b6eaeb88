"""What an explainer is, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import labels_of
from minifbi.autograd import no_grad
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.fbi import forward_pass, start_ratio
from minifbi.fusion import fold_batchnorm, fuse
from minifbi.layers import Layer
from minifbi.layers.base import evaluating
from minifbi.rules import Composite, get_rule, walk

Floats = NDArray[Any]

BATCH_SIZE = 256
"""How many images go through the network at once; what one image gets does not depend on it."""


class Explainer(ABC):
    """Attributes the logit of a class to the pixels of an image.

    Plain NumPy in and out.  The model is in evaluation mode during the call, and neither a tape
    nor a gradient is left behind.
    """

    def __call__(self, model: Layer, images: Any, classes: Any) -> Floats:
        """Explain a class for each image.

        Parameters
        ----------
        model : Layer
            A network that takes images and returns logits (N, F).
        images : float array, shape (N, C, H, W)
            Pixels in [0, 1].
        classes : int, or array of int, shape (N,)
            Whose logit is explained, for each image or for all.

        Returns
        -------
        ndarray, shape (N, C, H, W)
            Signed, in units of the logit, and in the model's dtype: above 0 what speaks for the
            class, below 0 what speaks against it.  (For ``gradient`` and ``smoothgrad`` in
            units of the logit per unit of the pixel.)

        Raises
        ------
        ShapeError, DataError
            If images or classes do not fit; the message says how.
        """
        pixels = check_batch(images, model.dtype)
        chosen = check_classes(classes, len(pixels))
        found = np.zeros_like(pixels)
        with evaluating(model), no_grad():
            for begin in range(0, len(pixels), BATCH_SIZE):
                part = slice(begin, begin + BATCH_SIZE)
                found[part] = self.explain(model, pixels[part], chosen[part])
        return found

    @abstractmethod
    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        """The same for one batch, checked, in evaluation mode and off the tape.

        Parameters
        ----------
        model : Layer
            A network that takes images and returns logits (N, F).
        images : float array, shape (N, C, H, W)
            Pixels in [0, 1], in the dtype of the model.
        classes : array of int, shape (N,)
            Whose logit is explained.

        Returns
        -------
        ndarray, shape (N, C, H, W)
        """


def check_batch(images: Any, dtype: Any) -> Floats:
    """Images (N, C, H, W) as an array of the model's dtype."""
    pixels = np.asarray(images)
    if pixels.ndim != 4:
        raise ShapeError(
            f"the images have shape {pixels.shape}; expected (images, channels, height, width), "
            "also for a single image: images[None]"
        )
    if pixels.dtype.kind != "f":
        raise DataError(
            f"the images are {pixels.dtype}; expected floating pixels in [0, 1]. Divide uint8 "
            "pixels by 255, for example with Split.batch."
        )
    return pixels.astype(dtype, copy=False)


def check_classes(classes: Any, count: int) -> NDArray[Any]:
    """Classes for `count` images, shape (count,); a single one is for all of them."""
    chosen = np.asarray(classes)
    if chosen.ndim == 0:
        chosen = np.broadcast_to(chosen, count)
    if chosen.shape != (count,):
        raise ShapeError(f"classes have shape {chosen.shape}, expected ({count},): one per image")
    return chosen


def relevance_at_pixels(
    model: Layer, images: Floats, classes: NDArray[Any], rule: Composite
) -> tuple[Floats, bool]:
    """The relevance pass down to the image: what arrives there, and whether it is a ratio.

    With LRP-0 the ratio that arrives is the gradient of the logit with respect to the
    pixels (:doc:`/explaining` says why), so gradients need no tape.

    Returns
    -------
    values : ndarray, shape (N, C, H, W)
    is_ratio : bool
    """
    steps = forward_pass(fuse(fold_batchnorm(model), rule), images)
    if not steps:
        raise ConfigError("the model has no layers, so there is nothing to explain")
    for passage in walk(steps, start_ratio(steps[-1].z, "target", classes), rule):
        arrived = passage.at_input
    return np.array(arrived.values.numpy()), arrived.is_ratio


def gradient_at_pixels(model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
    """d logit / d pixel, shape (N, C, H, W): the ratio that LRP-0 carries down to the image."""
    return relevance_at_pixels(model, images, classes, get_rule("zero"))[0]


def logits_of(model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
    """The logit of each image's class: shape (N,)."""
    logits = forward_pass(fuse(model), images)[-1].z
    labels_of(classes, *logits.shape)
    return np.asarray(logits.numpy()[np.arange(len(classes)), classes])
