"""What Fig. 2 of the paper shows, as numbers: activations of the first convolutions.

Beside each activation map stands its relevance map, which the paper's figure does not
have.  :func:`minifbi.plots.plot_activations` draws both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import choice, whole
from minifbi.autograd import Tensor, no_grad, softmax
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.fbi import forward_pass, start_ratio
from minifbi.layers import BatchNorm2d, Conv2d, Layer, ReLU, Step
from minifbi.rules import walk
from minifbi.switch import evaluating


@dataclass(frozen=True)
class LayerMaps:
    """One convolution: what its filters see in an image, and how much of it counts.

    Attributes
    ----------
    name : str
        The convolution's name, for example "conv1".
    after_relu : bool
        Whether a ReLU follows, directly or after batch normalisation; the maps are those of its
        output, else of the convolution's own.
    activation : ndarray, shape (filters, H, W)
    relevance : ndarray, shape (filters, H, W)
        Activation times the ratio there, before any pooling; signed.
    """

    name: str
    after_relu: bool
    activation: NDArray[Any]
    relevance: NDArray[Any]


@dataclass(frozen=True)
class ActivationMaps:
    """One image on its way through a network.

    Attributes
    ----------
    image : ndarray, shape (C, H, W)
    image_relevance : ndarray, shape (H, W)
        a_1^-, summed over the channels.
    predicted : int
        The class with the largest logit.
    probability : float
        Its softmax probability.
    explained : int
        The class with whose logit the relevance pass started.
    logit : float
        That logit.  Without biases, each layer's relevance sums to it.
    layers : tuple of LayerMaps
        The first convolutions, first to last.
    """

    image: NDArray[Any]
    image_relevance: NDArray[Any]
    predicted: int
    probability: float
    explained: int
    logit: float
    layers: tuple[LayerMaps, ...]


def activation_maps(
    model: Layer,
    image: Any,
    label: int | None = None,
    *,
    layers: int = 3,
    start: str = "target",
) -> ActivationMaps:
    """Activation and relevance maps of the first convolutions for one image.

    The model is in evaluation mode during the call, and no tape is kept.

    Parameters
    ----------
    model : Layer
        A network that takes images and returns logits (N, F).
    image : array, shape (C, H, W)
        Pixels in [0, 1].
    label : int, optional
        The true class; needed for ``start="target"``.
    layers : int
        How many convolutions; fewer where the model has fewer.
    start : {"target", "predicted"}
        Which logit is explained: that of the true class, or the largest.

    Returns
    -------
    ActivationMaps

    Raises
    ------
    ConfigError
        If `start` or `layers` is outside its values, or "target" has no label.
    ShapeError, DataError
        If the image is not (C, H, W) or leaves [0, 1], or no class is called `label`.
    """
    choice("start", start, ("target", "predicted"))
    layers = whole("layers", layers, 0)
    pixels = _check_image(image)
    with evaluating(model), no_grad():
        steps = forward_pass(model, pixels[None])  # (1, C, H, W)
        if not steps:
            raise ConfigError("the model has no layers, so there is nothing to explain")
        logits = steps[-1].z
        ratio = start_ratio(logits, start, None if label is None else [label])
        explained = int(ratio.numpy()[0].argmax())
        maps, at_image = _maps(steps, ratio, layers)
        probabilities = softmax(logits).numpy()[0]  # (classes,)
    predicted = int(logits.numpy()[0].argmax())
    return ActivationMaps(
        image=pixels,
        image_relevance=at_image,
        predicted=predicted,
        probability=float(probabilities[predicted]),
        explained=explained,
        logit=float(logits.numpy()[0, explained]),
        layers=maps,
    )


def _check_image(image: Any) -> NDArray[Any]:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ShapeError(
            f"the image has shape {pixels.shape}; expected one image, (channels, height, width)"
        )
    if pixels.dtype.kind not in "fiub" or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(
            f"the image is {pixels.dtype} from {pixels.min()} to {pixels.max()}; expected pixels "
            "in [0, 1]. Divide uint8 pixels by 255, for example with Split.batch."
        )
    return pixels


def _maps(
    steps: list[Step], ratio: Tensor, layers: int
) -> tuple[tuple[LayerMaps, ...], NDArray[Any]]:
    """The maps of the first convolutions, and a_1^- over all channels of the image, (H, W)."""
    wanted: dict[int, str] = {}  # the output that is shown -> the convolution
    for i, step in enumerate(steps):
        if isinstance(step.layer, Conv2d) and len(wanted) < layers:
            wanted[id(_shown(steps[i:]).z)] = step.name
    found: dict[str, LayerMaps] = {}
    for passage in walk(steps, ratio):
        step = passage.step
        if id(step.z) in wanted:
            name = wanted[id(step.z)]
            relevance = passage.above.relevance(step.z)  # (1, filters, H, W)
            found[name] = LayerMaps(
                name=name,
                after_relu=isinstance(step.layer, ReLU),
                activation=np.array(step.z.numpy()[0]),
                relevance=np.array(relevance.numpy()[0]),
            )
    at_image = passage.at_input.relevance(steps[0].x).numpy()[0].sum(axis=0)
    return tuple(found[name] for name in wanted.values()), at_image


def _shown(steps: list[Step]) -> Step:
    """The ReLU behind a convolution, the first of these steps; itself if there is none."""
    for step, below in zip(steps[1:], steps, strict=False):
        if step.inputs[0] is not below.z or not isinstance(step.layer, (BatchNorm2d, ReLU)):
            break
        if isinstance(step.layer, ReLU):
            return step
    return steps[0]
