"""Batch normalisation: an affine map of each channel, whose numbers come from the batch itself.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", 2015::

    z = gamma (x - mean) / sqrt(var + eps) + beta
      = s x + t                with  s = gamma / sqrt(var + eps),   t = beta - s mean

So each channel is multiplied by one weight s and shifted by one bias t: a convolution of 1 x 1
that mixes no channels.  Its relevance is that of any map with a weight and a bias: the ratio is
multiplied by s, and t absorbs what belongs to it, Eq. (2).

In training mode mean and var are the batch's.  Then s and t are *functions of the activations*, and
written as such on the tape.  The layer at work takes them as its weights, in the forward pass and
in the relevance pass, so the gradients of both flow on through mean and var.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.arguments import expect_shape, number, whole
from minifbi.autograd import Tensor, record
from minifbi.backends import Array, Backend
from minifbi.errors import ShapeError
from minifbi.layers.base import Gradients
from minifbi.layers.linear import Linear
from minifbi.layers.tape import Step, apply


class BatchNorm2d(Linear):
    """Normalise each channel over the batch, then scale and shift it; as PyTorch's.

    Parameters
    ----------
    num_features : int
        Channels C.
    eps : float
        Added to the variance, in its units.
    momentum : float
        How much of the running statistics each batch replaces, from 0 to 1.
    backend : str or Backend
        Where the parameters live.
    dtype : float32 or float64
        Of the parameters and the running statistics.

    Attributes
    ----------
    weight, bias : Tensor, shape (C,)
        gamma, 1 at first, and beta, 0 at first.
    running_mean, running_var : array, shape (C,)
        Buffers: what evaluation mode takes for mean and var.  The batch's variance goes in
        with N H W - 1 in its denominator; the batch itself is normalised with N H W.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    functional = False
    shown = ("num_features", "eps", "momentum")
    running_mean: Array
    running_var: Array

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        *,
        backend: Any = "numpy",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = whole("num_features", num_features, 1)
        self.eps, self.momentum = number("eps", eps, 0), number("momentum", momentum, 0, 1)
        ones, zeros = np.ones(self.num_features), np.zeros(self.num_features)
        self.weight = self.add_parameter("weight", ones, backend, dtype)
        self.bias = self.add_parameter("bias", zeros, backend, dtype)
        self.add_buffer("running_mean", zeros, backend, dtype)
        self.add_buffer("running_var", ones, backend, dtype)

    def check_input(self, shape: tuple[int, ...]) -> None:
        hint = "; num_features must be the number of channels"
        expect_shape("BatchNorm2d got an input", shape, ("N", self.num_features, "H", "W"), hint)
        if self.training and shape[0] * shape[2] * shape[3] < 2:
            raise ShapeError(
                f"a batch of shape {shape} has one number per channel, which has no variance; "
                f"give more images, or call eval() first"
            )

    # ---- the affine map, with s and t as its weight and bias ------------------------------
    def forward(
        self, backend: Backend, x: Array, scale: Array, shift: Array | None = None
    ) -> tuple[Array, Any]:
        return backend.scale_shift(x, scale, shift), (x, scale, shift is not None)

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        x, scale, has_shift = saved
        grad_shift, grad_scale = backend.channel_sums(grad, x)
        grad_x = backend.scale_shift(grad, scale, None) if needs_x else None
        return (grad_x, grad_scale, grad_shift) if has_shift else (grad_x, grad_scale)

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return backend.scale_shift(ratio, saved[1], None)

    # ---- on the tape -----------------------------------------------------------------
    def trace(self, x: Any, name: str = "") -> list[Step]:
        x = x if isinstance(x, Tensor) else self.as_input(x)
        self.check_input(x.data.shape)
        affine = self.affine(x)
        z, saved = apply(self, x, affine, name or "batchnorm2d")
        return [Step(name or "batchnorm2d", self, (x,), z, saved, affine)]

    def affine(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """s and t, each of shape (C,); of evaluation mode if no batch is given.

        In training mode the running statistics move on.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W), optional
            The batch.

        Returns
        -------
        scale, shift : Tensor, shape (C,)
        """
        mean, var = self.running_mean, self.running_var
        if self.training and x is not None:
            moments = mean_and_variance(x)
            count = x.size // self.num_features
            unbiased = moments.data[1] * (count / (count - 1))
            self.running_mean = mean + self.momentum * (moments.data[0] - mean)
            self.running_var = var + self.momentum * (unbiased - var)
            mean, var = moments[0], moments[1]
        scale = self.weight * (var + self.eps) ** -0.5
        return scale, self.bias - scale * mean


def mean_and_variance(x: Tensor) -> Tensor:
    """Mean and (biased) variance of each channel, on the tape.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        Maps.

    Returns
    -------
    Tensor, shape (2, C)
    """
    backend, maps = x.backend, x.data
    count = x.size // x.shape[1]
    mean = backend.channel_sums(maps, None)[0] / count
    centred = backend.scale_shift(maps, backend.xp.ones_like(mean), -mean)
    variance = backend.channel_sums(centred, centred)[1] / count

    def backward(g: Array) -> Any:
        # d mean / dx = 1 / count, and d var / dx = 2 (x - mean) / count
        return (backend.scale_shift(centred, g[1] * (2 / count), g[0] / count),)

    return record(backend.xp.stack([mean, variance]), (x,), backward, "mean_and_variance")
