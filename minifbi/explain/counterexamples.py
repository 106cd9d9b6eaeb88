"""Two popular methods that randomisation tests were made for (Adebayo et al. 2018).

Guided backpropagation shows edges of the image whatever the upper layers have learnt: it passes
the test of the eye and fails :func:`minifbi.evaluate.randomization`.  Grad-CAM depends on them, but
sees the image at the resolution of the last convolution only.  Look at both beside LRP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import ConfigError
from minifbi.explain.base import Explainer, Floats, passages, relevance_at_pixels
from minifbi.explain.targets import Target
from minifbi.layers import AvgPool2d, Conv2d, Layer, MaxPool2d
from minifbi.rules import Composite, Guided, Passage, Zero, get_rule

GUIDED = Composite(Zero(), Zero(), relu=Guided())


@dataclass(frozen=True)
class GuidedBackpropagation(Explainer):
    """The gradient, cut to its positive part at every ReLU (Springenberg et al. 2015).

    ::

        r_i = r_j  if z_j > 0 and r_j > 0,  else 0        at each ReLU, on the way back

    In units of the target per unit of the pixel, but no gradient of anything.
    """

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        return relevance_at_pixels(model, images, target, GUIDED)[0]


@dataclass(frozen=True)
class GradCAM(Explainer):
    """Where the last maps that speak for the target are active (Selvaraju et al. 2017).

    With the maps A_k (h x w) of one layer and the target y ::

        L = max(sum_k alpha_k A_k, 0),     alpha_k = mean over h, w of  d y / d A_k

    L is enlarged bilinearly to the image and shared equally by the pixel's channels.  It has no
    negative values.

    Parameters
    ----------
    layer : str, optional
        Whose output the maps are.  If left out, the last convolution with the layers after it
        that keep the size of its maps, such as ReLU or the sum of a residual block.
    """

    layer: str = ""

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        passed = list(passages(model, images, target, get_rule("zero"), every_layer=True))
        maps = _maps(passed, self.layer)
        activations, gradient = maps.step.z.numpy(), maps.above.values.numpy()
        weights = gradient.mean(axis=(2, 3), keepdims=True)
        cam = np.maximum((weights * activations).sum(axis=1), 0)  # (N, h, w)
        rows, columns = (
            _bilinear(n, m).astype(images.dtype)
            for n, m in zip(images.shape[2:], cam.shape[1:], strict=True)
        )
        large = rows @ cam @ columns.T
        return np.broadcast_to(large[:, None] / images.shape[1], images.shape).astype(images.dtype)


def _maps(passed: Sequence[Passage], layer: str) -> Passage:
    """Of the passages, the last layer first, the one whose output are Grad-CAM's maps."""
    found: Passage | None = None
    grows = False  # whether we are behind a convolution, where maps still have its size
    for one in reversed(passed):
        if layer:
            found = one if one.step.name == layer else found
        elif isinstance(one.step.layer, Conv2d):
            found, grows = one, True
        elif found is not None and grows:
            grows = one.step.z.shape == found.step.z.shape
            grows = grows and not isinstance(one.step.layer, (MaxPool2d, AvgPool2d))
            found = one if grows else found
    if found is None or found.step.z.ndim != 4:
        names = ", ".join(one.step.name for one in passed if one.step.z.ndim == 4)
        raise ConfigError(
            f"grad-cam got layer={layer!r}; expected one with maps (channels, height, width) below "
            f"what is explained: {names or 'this network has none'}"
        )
    return found


def _bilinear(size: int, known: int) -> NDArray[Any]:
    """Weights (size, known) that enlarge linearly; pixels are squares, ends are held."""
    at = np.clip((np.arange(size) + 0.5) * known / size - 0.5, 0, known - 1)  # centres
    return np.maximum(1 - np.abs(at[:, None] - np.arange(known)), 0)
