"""What an explainer is, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.autograd import no_grad
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.explain.targets import Target, as_target
from minifbi.fbi import forward_pass
from minifbi.fusion import fold_batchnorm, fuse
from minifbi.layers import Layer, Step
from minifbi.rules import Composite, Passage, get_rule, walk
from minifbi.switch import evaluating

Floats = NDArray[Any]

BATCH_SIZE = 256
"""How many images go through the network at once; what one image gets does not depend on it."""


class Explainer(ABC):
    """Attributes what is explained, such as the logit of a class, to the pixels of an image.

    Plain NumPy in and out.  The model is in evaluation mode during the call, and neither a tape
    nor a gradient is left behind.
    """

    def __call__(self, model: Layer, images: Any, target: Any) -> Floats:
        """Explain a target for each image.

        Parameters
        ----------
        model : Layer
            A network that takes images and returns logits (N, F).
        images : float array, shape (N, C, H, W)
            Pixels in [0, 1].
        target : int, array of int of shape (N,), Target, or callable
            What is explained: a class for all images, one per image, or a
            :class:`~minifbi.explain.Target` such as ``Difference(4, 9)``.  A callable is a
            function of the logits, see :class:`~minifbi.explain.Output`.

        Returns
        -------
        ndarray, shape (N, C, H, W)
            Signed, in units of the target, and in the model's dtype: above 0 what speaks for the
            class, below 0 what speaks against it.  (For ``gradient`` and ``smoothgrad`` in
            units of the logit per unit of the pixel.)

        Raises
        ------
        ConfigError, ShapeError, DataError
            If images or target do not fit; the message says how.
        """
        pixels = check_batch(images, model.dtype)
        whole = as_target(target, len(pixels))
        found = np.zeros_like(pixels)
        with evaluating(model), no_grad():
            for begin in range(0, len(pixels), BATCH_SIZE):
                part = slice(begin, begin + BATCH_SIZE)
                one = self.for_images(len(pixels), part)
                found[part] = one.explain(model, pixels[part], whole.for_images(len(pixels), part))
        return found

    def for_images(self, count: int, rows: slice) -> Explainer:
        """The explainer for some of the images: itself, unless it holds something per image.

        Parameters
        ----------
        count : int
            How many images there are.
        rows : slice
            Which of them.

        Returns
        -------
        Explainer

        Raises
        ------
        ShapeError
            If what it holds is for another number of images.
        """
        return self

    @abstractmethod
    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        """The same for one batch, checked, in evaluation mode and off the tape.

        Parameters
        ----------
        model : Layer
            A network that takes images and returns logits (N, F).
        images : float array, shape (N, C, H, W)
            Pixels in [0, 1], in the dtype of the model.
        target : Target
            What is explained, for these N images.

        Returns
        -------
        ndarray, shape (N, C, H, W)

        Raises
        ------
        ConfigError, ShapeError
            If the explainer, the target and the images do not fit together.
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


def passages(
    model: Layer,
    images: Floats,
    target: Target,
    rule: Composite,
    *,
    through: Mapping[str, Sequence[int]] | None = None,
    every_layer: bool = False,
    books: bool = False,
) -> Iterator[Passage]:
    """The relevance pass from the target down to the image.

    Parameters
    ----------
    model, images, target
        As for :meth:`Explainer.explain`.
    rule : Composite
        See :func:`minifbi.rules.get_rule`.
    through, books
        See :func:`minifbi.rules.passage.walk`.
    every_layer : bool
        Whether the caller looks at the layers one by one, so that none may be rewritten.
    """
    every_layer = every_layer or books or bool(through) or target.layer is not None
    steps = run_forward(model, images, None if every_layer else rule)
    place = target.place(steps)
    return walk(steps, target.ratio(place), rule, at=place, through=through, books=books)


def run_forward(model: Layer, images: Floats, rule: Composite | None) -> list[Step]:
    """The forward pass, rewritten for speed if `rule` allows it; at least one step."""
    steps = forward_pass(fuse(fold_batchnorm(model), rule), images)
    if not steps:
        raise ConfigError("the model has no layers, so there is nothing to explain")
    return steps


def relevance_at_pixels(
    model: Layer,
    images: Floats,
    target: Target,
    rule: Composite,
    through: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Floats, bool]:
    """The relevance pass down to the image: what arrives there, and whether it is a ratio.

    With LRP-0 the ratio that arrives is the gradient of the target with respect to the
    pixels (:doc:`/explaining` says why), so gradients need no tape.

    Returns
    -------
    values : ndarray, shape (N, C, H, W)
    is_ratio : bool
    """
    for passage in passages(model, images, target, rule, through=through):
        arrived = passage.at_input
    return np.array(arrived.values.numpy()), arrived.is_ratio


def gradient_at_pixels(model: Layer, images: Floats, target: Target) -> Floats:
    """d target / d pixel, shape (N, C, H, W): the ratio that LRP-0 carries down to the image."""
    return relevance_at_pixels(model, images, target, get_rule("zero"))[0]


def value_of(model: Layer, images: Floats, target: Target) -> Floats:
    """What is explained, as a number per image: shape (N,)."""
    steps = run_forward(model, images, get_rule("zero") if target.layer is None else None)
    return np.asarray(target.value(target.place(steps)).numpy())
