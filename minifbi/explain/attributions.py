"""The explainers: relevance propagation, gradients, occlusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import number, whole
from minifbi.errors import ConfigError, ShapeError
from minifbi.explain.base import (
    Explainer,
    Floats,
    gradient_at_pixels,
    logits_of,
    relevance_at_pixels,
)
from minifbi.layers import Layer
from minifbi.rules import Composite, Rule, get_rule


@dataclass(frozen=True)
class LRP(Explainer):
    """Layer-wise relevance propagation (Bach et al. 2015), with a rule for each layer.

    Parameters
    ----------
    rule : str, Rule or Composite
        See :func:`minifbi.rules.get_rule`.
    """

    rule: str | Rule | Composite = "zero"
    composite: Composite = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "composite", get_rule(self.rule))

    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        values, is_ratio = relevance_at_pixels(model, images, classes, self.composite)
        return images * values if is_ratio else values


@dataclass(frozen=True)
class Gradient(Explainer):
    """d logit / d pixel, signed (Simonyan et al. 2014 show its magnitude).

    For the layers of :mod:`minifbi.layers` it equals the ratio that LRP-0 carries to the image.
    A layer of your own may have a relevance that is not its gradient.
    """

    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        return gradient_at_pixels(model, images, classes)


@dataclass(frozen=True)
class GradientTimesInput(Explainer):
    """Pixel times gradient (Shrikumar et al. 2016).

    In these networks it equals LRP-0; each has its own name here.
    """

    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        return images * gradient_at_pixels(model, images, classes)


@dataclass(frozen=True)
class IntegratedGradients(Explainer):
    """Mean gradient on the line from a baseline x', times (x - x') (Sundararajan et al. 2017).

    ::

        (x - x') * integral_0^1  d logit(x' + t (x - x')) / dx  dt

    Complete: over all pixels it sums to logit(x) - logit(x'), up to the error of the midpoint
    rule that approximates the integral.

    Parameters
    ----------
    steps : int
        Number of points on the line.
    baseline : float or array, shape (C, H, W)
        x', in pixel units; by default a black image.
    """

    steps: int = 50
    baseline: Any = 0.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)

    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        start = baseline_for(self.baseline, images)
        total = np.zeros_like(images)
        for k in range(self.steps):
            point = start + images.dtype.type((k + 0.5) / self.steps) * (images - start)
            total += gradient_at_pixels(model, point, classes)
        return np.asarray((images - start) * total / images.dtype.type(self.steps))


@dataclass(frozen=True)
class SmoothGrad(Explainer):
    """Mean gradient over noisy copies of the image (Smilkov et al. 2017).

    Parameters
    ----------
    samples : int
        Number of noisy copies.
    noise : float
        Standard deviation of the Gaussian noise, as a share of the image's range max - min.
    seed : int
        Of the noise.  Every image gets the same noise times its range, so the result does not
        depend on the other images of the batch.

    Raises
    ------
    ConfigError
        If `samples` or `noise` is outside its range.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        whole("samples", self.samples, 1)
        whole("seed", self.seed, 0)
        number("noise", self.noise, 0)

    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        rng = np.random.default_rng(self.seed)
        pixels = images.reshape(len(images), -1)
        spread = self.noise * (pixels.max(axis=1) - pixels.min(axis=1))  # (N,)
        total = np.zeros_like(images)
        for _ in range(self.samples):
            noise = spread[:, None, None, None] * rng.standard_normal(images.shape[1:])
            total += gradient_at_pixels(model, images + noise.astype(images.dtype), classes)
        return total / images.dtype.type(self.samples)


@dataclass(frozen=True)
class Occlusion(Explainer):
    """How far the logit falls when a patch hides the pixels (Zeiler and Fergus 2014).

    Each pixel gets the mean of logit(image) - logit(image with the patch) over all patches
    that hide it.  The last patch in a row or column ends at the border, so every pixel is hidden
    at least once.

    Parameters
    ----------
    patch : int
        Height and width in pixels; all channels are hidden together.
    stride : int
        Pixels from one patch to the next, at most `patch`.
    baseline : float or array, shape (C, H, W)
        Pixel values inside the patch.

    Raises
    ------
    ConfigError
        If `patch` or `stride` is not a whole number of at least 1, or the stride exceeds the patch.
    """

    patch: int = 4
    stride: int = 2
    baseline: Any = 0.0

    def __post_init__(self) -> None:
        whole("patch", self.patch, 1)
        whole("stride", self.stride, 1)
        if self.stride > self.patch:
            raise ConfigError(
                f"stride={self.stride}: expected at most patch={self.patch}, so that every pixel "
                "is hidden"
            )

    def explain(self, model: Layer, images: Floats, classes: NDArray[Any]) -> Floats:
        h, w = images.shape[2:]
        cover = baseline_for(self.baseline, images)
        before = logits_of(model, images, classes)
        total, times = np.zeros_like(images), np.zeros((h, w), images.dtype)
        for top in self._places(h):
            for left in self._places(w):
                hidden = np.s_[..., top : top + self.patch, left : left + self.patch]
                occluded = images.copy()
                occluded[hidden] = np.broadcast_to(cover, images.shape)[hidden]
                drop = before - logits_of(model, occluded, classes)  # (N,)
                total[hidden] += drop[:, None, None, None]
                times[hidden] += 1
        return total / times

    def _places(self, size: int) -> list[int]:
        last = max(size - self.patch, 0)
        return sorted({*range(0, last + 1, self.stride), last})


def baseline_for(baseline: Any, images: Floats) -> Floats:
    """The baseline in the images' dtype, checked: a number or one image."""
    array = np.asarray(baseline, images.dtype)
    if array.ndim and array.shape != images.shape[1:]:
        raise ShapeError(
            f"the baseline has shape {array.shape}; expected a number or one image, "
            f"{images.shape[1:]}"
        )
    return array
