"""Saliency-guided training: what the answer does not look at must not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.autograd import Tensor, log_softmax, no_grad
from minifbi.errors import ConfigError, ShapeError
from minifbi.fbi import forward_pass, start_ratio
from minifbi.regularizers.base import ZERO, Batch, Regularizer
from minifbi.regularizers.gradients import input_gradient


class SaliencyGuided(Regularizer):
    """P = mean over the batch of KL(p(x) || p(x~)), x~ with its least salient pixels masked.

    Saliency is the gradient of the true class's logit at the image.  The pixels with the
    smallest saliency are replaced by random values from the range of their image and channel,
    and the two answers compared.  Which pixels those are is not differentiated; both answers
    are.  Costs a second forward pass and a relevance pass off the tape.

    Source: A. A. Ismail, H. Corrada Bravo and S. Feizi, "Improving Deep Learning
    Interpretability by Saliency Guided Training", NeurIPS 2021, Algorithm 1.  On MNIST they
    mask half of the pixels with random values, and their weight is 1.

    Parameters
    ----------
    share : float
        Share of the pixels that is masked, 0 < share < 1.
    absolute : bool
        Whether a small gradient is one of small magnitude (summed over the channels), as the
        paper words it, or, with False, the most negative, as its code sorts by default.

    Raises
    ------
    ConfigError
        If `share` is not between 0 and 1.
    """

    label = "saliency-guided loss"
    default_weight = 0.1
    rule = ZERO

    def __init__(self, share: float = 0.5, absolute: bool = True) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"share={share!r}: a share of the pixels, expected 0 < share < 1")
        self.share, self.absolute = share, absolute

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        y, images = batch.logits, batch.steps[0].x
        with no_grad():
            gradient = input_gradient(batch.steps, start_ratio(y, "target", batch.labels))
        masked = self.mask(images.numpy(), gradient.numpy(), batch.rng)
        x = Tensor(masked, backend=images.backend, dtype=images.dtype)
        other = forward_pass(batch.model, x)[-1].z
        log_p, log_q = log_softmax(y), log_softmax(other)
        divergence = (log_p.exp() * (log_p - log_q)).sum() * (1.0 / len(batch))
        return {"divergence": divergence}

    def mask(
        self, images: NDArray[Any], gradient: NDArray[Any], rng: np.random.Generator
    ) -> NDArray[Any]:
        """Replace the least salient pixels by random values.

        Parameters
        ----------
        images, gradient : ndarray, shape (N, C, H, W)
            Pixels, and the gradient of the true class's logit there.
        rng : numpy.random.Generator
            Draws the values that replace the pixels.

        Returns
        -------
        ndarray, shape (N, C, H, W)
            Round(share * H * W) pixels of each image, at least one, are uniform between the
            least and the largest value of their image and channel; a new array.

        Raises
        ------
        ShapeError
            If images and gradients differ in shape.
        """
        if images.ndim != 4:
            raise ShapeError(
                f"saliency-guided training masks pixels: expected images (N, C, H, W), got "
                f"shape {images.shape}"
            )
        n, channels = images.shape[:2]
        saliency = (np.abs(gradient) if self.absolute else gradient).sum(axis=1).reshape(n, -1)
        count = max(1, round(self.share * saliency.shape[1]))
        least = np.argpartition(saliency, count - 1, axis=1)[:, None, :count]  # (N, 1, count)
        flat = images.reshape(n, channels, -1)  # (N, C, H * W)
        low, high = flat.min(axis=2, keepdims=True), flat.max(axis=2, keepdims=True)
        noise = rng.random((n, channels, count)).astype(images.dtype)
        masked = flat.copy()
        np.put_along_axis(masked, np.repeat(least, channels, axis=1), low + noise * (high - low), 2)
        return masked.reshape(images.shape)
