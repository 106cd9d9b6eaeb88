"""The explainers: relevance propagation, gradients, occlusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minifbi.arguments import number, refused, whole
from minifbi.errors import ConfigError, ShapeError
from minifbi.explain.base import (
    Explainer,
    Floats,
    check_batch,
    gradient_at_pixels,
    relevance_at_pixels,
    value_of,
)
from minifbi.explain.targets import Target
from minifbi.layers import Layer
from minifbi.rules import Composite, Rule, get_rule


@dataclass(frozen=True)
class LRP(Explainer):
    """Layer-wise relevance propagation (Bach et al. 2015), with a rule for each layer.

    Parameters
    ----------
    rule : str, Rule or Composite
        See :func:`minifbi.rules.get_rule`.
    through : mapping of str to sequence of int, optional
        Channels by the name of their layer: only what goes through these reaches the pixels
        (concept relevance propagation, Achtibat et al. 2023).
    """

    rule: str | Rule | Composite = "zero"
    through: Mapping[str, Sequence[int]] | None = field(default=None, hash=False)
    composite: Composite = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "composite", get_rule(self.rule))

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        values, is_ratio = relevance_at_pixels(model, images, target, self.composite, self.through)
        return images * values if is_ratio else values


@dataclass(frozen=True)
class Gradient(Explainer):
    """d logit / d pixel, signed (Simonyan et al. 2014 show its magnitude).

    For the layers of :mod:`minifbi.layers` it equals the ratio that LRP-0 carries to the image.
    A layer of your own may have a relevance that is not its gradient.
    """

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        return gradient_at_pixels(model, images, target)


@dataclass(frozen=True)
class GradientTimesInput(Explainer):
    """Pixel times gradient (Shrikumar et al. 2016).

    In these networks it equals LRP-0; each has its own name here.
    """

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        return images * gradient_at_pixels(model, images, target)


class FromBaseline(Explainer):
    """What compares the image with a baseline: a number, "mean", one image, or one per image."""

    baseline: Any

    def for_images(self, count: int, rows: slice) -> Explainer:
        if np.ndim(self.baseline) != 4:
            return self
        if len(self.baseline) != count:
            raise ShapeError(f"{len(self.baseline)} baselines for {count} images; expected as many")
        return replace(self, baseline=self.baseline[rows])  # type: ignore[type-var]

    def start(self, images: Floats) -> Floats:
        """The baseline in the images' dtype, checked, ready to be broadcast."""
        if isinstance(self.baseline, str):
            if self.baseline != "mean":
                expected = "'mean' (each image's own, per channel), a number or an array"
                raise refused("baseline", self.baseline, expected)
            return np.asarray(images.mean(axis=(2, 3), keepdims=True))
        array = np.asarray(self.baseline, images.dtype)
        if array.ndim and array.shape not in (images.shape, images.shape[1:]):
            raise ShapeError(
                f"the baseline has shape {array.shape}; expected a number, one image, "
                f"{images.shape[1:]}, or one per image, {images.shape}"
            )
        return array


@dataclass(frozen=True)
class IntegratedGradients(FromBaseline):
    """Mean gradient on the line from a baseline x', times (x - x') (Sundararajan et al. 2017).

    ::

        (x - x') * integral_0^1  d y(x' + t (x - x')) / dx  dt

    Complete: over all pixels it sums to y(x) - y(x') for the target y, up to the error of the
    midpoint rule that approximates the integral.

    Parameters
    ----------
    steps : int
        Number of points on the line.
    baseline : float, "mean", or array, shape (C, H, W) or (N, C, H, W)
        x', in pixel units; by default a black image.  "mean" is each image's own mean, channel
        by channel; an array holds one image for all, or one per image.
    """

    steps: int = 50
    baseline: Any = 0.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        start = self.start(images)
        total = np.zeros_like(images)
        for k in range(self.steps):
            point = start + images.dtype.type((k + 0.5) / self.steps) * (images - start)
            total += gradient_at_pixels(model, point, target)
        return np.asarray((images - start) * total / images.dtype.type(self.steps))


@dataclass(frozen=True)
class SmoothGrad(Explainer):
    """Mean gradient, or another attribution, over noisy copies of the image (Smilkov et al. 2017).

    Parameters
    ----------
    samples : int
        Number of noisy copies.
    noise : float
        Standard deviation of the Gaussian noise, as a share of the image's range max - min.
    seed : int
        Of the noise.  Every image gets the same noise times its range, so the result does not
        depend on the other images of the batch.
    of : Explainer
        What is averaged; the gradient if left out.  Noise takes pixels out of [0, 1], which
        ``z-box`` refuses unless its bounds are wider.

    Raises
    ------
    ConfigError
        If `samples` or `noise` is outside its range.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    of: Explainer = Gradient()

    def __post_init__(self) -> None:
        whole("samples", self.samples, 1)
        whole("seed", self.seed, 0)
        number("noise", self.noise, 0)
        if not isinstance(self.of, Explainer):
            raise refused("of", self.of, "an explainer; get_explainer makes one from a name")

    def for_images(self, count: int, rows: slice) -> SmoothGrad:
        return replace(self, of=self.of.for_images(count, rows))

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        rng = np.random.default_rng(self.seed)
        pixels = images.reshape(len(images), -1)
        spread = self.noise * (pixels.max(axis=1) - pixels.min(axis=1))  # (N,)
        total = np.zeros_like(images)
        for _ in range(self.samples):
            noise = spread[:, None, None, None] * rng.standard_normal(images.shape[1:])
            total += self.of.explain(model, images + noise.astype(images.dtype), target)
        return total / images.dtype.type(self.samples)


@dataclass(frozen=True)
class ExpectedGradients(Explainer):
    """Integrated gradients, averaged over baselines from the data (Erion et al. 2021).

    ::

        E[ (x - x') * d y(x' + t (x - x')) / dx ]      x' from the background, t uniform in [0, 1]

    In expectation it sums over all pixels to y(x) minus the mean of y over the background.

    Parameters
    ----------
    samples : int
        Number of pairs (x', t).
    seed : int
        Of the pairs, which are the same for all images.
    background : float array, shape (B, C, H, W)
        Images to draw x' from, such as some of the training images.  Nothing can be explained
        without; :func:`with_background` adds it to an explainer made from a name.

    Raises
    ------
    ConfigError
        If `samples` or `seed` is outside its range.
    """

    samples: int = 50
    seed: int = 0
    background: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole("samples", self.samples, 1)
        whole("seed", self.seed, 0)

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        if self.background is None:
            raise ConfigError(
                "expected-gradients needs images to draw its baselines from; pass some of the "
                "training images as background=..."
            )
        background = check_batch(self.background, images.dtype)
        if not len(background) or background.shape[1:] != images.shape[1:]:
            raise ShapeError(
                f"the background has shape {background.shape}; expected at least one image of the "
                f"shape {images.shape[1:]}"
            )
        rng = np.random.default_rng(self.seed)
        total = np.zeros_like(images)
        for _ in range(self.samples):
            away = images - background[rng.integers(len(background))]
            point = images - images.dtype.type(rng.random()) * away
            total += away * gradient_at_pixels(model, point, target)
        return total / images.dtype.type(self.samples)


def with_background(explainer: Explainer, images: Any) -> Explainer:
    """The explainer with images to draw baselines from, if it needs some and has none.

    Parameters
    ----------
    explainer : Explainer
        For example of :func:`minifbi.explain.get_explainer`.
    images : float array, shape (B, C, H, W)
        Pixels in [0, 1], such as some of the training images.

    Returns
    -------
    Explainer
    """
    if isinstance(explainer, SmoothGrad):
        return replace(explainer, of=with_background(explainer.of, images))
    if isinstance(explainer, ExpectedGradients) and explainer.background is None:
        return replace(explainer, background=images)
    return explainer


@dataclass(frozen=True)
class Occlusion(FromBaseline):
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
    baseline : float, "mean", or array, shape (C, H, W) or (N, C, H, W)
        Pixel values inside the patch, as for :class:`IntegratedGradients`.

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

    def explain(self, model: Layer, images: Floats, target: Target) -> Floats:
        h, w = images.shape[2:]
        cover = self.start(images)
        before = value_of(model, images, target)
        total, times = np.zeros_like(images), np.zeros((h, w), images.dtype)
        for top in self._places(h):
            for left in self._places(w):
                hidden = np.s_[..., top : top + self.patch, left : left + self.patch]
                occluded = images.copy()
                occluded[hidden] = np.broadcast_to(cover, images.shape)[hidden]
                drop = before - value_of(model, occluded, target)  # (N,)
                total[hidden] += drop[:, None, None, None]
                times[hidden] += 1
        return total / times

    def _places(self, size: int) -> list[int]:
        last = max(size - self.patch, 0)
        return sorted({*range(0, last + 1, self.stride), last})
