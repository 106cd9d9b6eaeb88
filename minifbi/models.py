"""The networks: the paper's AlexNet-like CNN, LeNet-5 with ReLU, and an MLP.

Every builder takes the shape of one image, the number of classes, a seed for
the initial weights, a backend and a dtype; the same seed gives the same numbers on
every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minifbi.arguments import choice, refused, whole
from minifbi.backends import Backend, get_backend, output_size
from minifbi.errors import ShapeError
from minifbi.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Sequential


class _Builder:
    """Adds layers with their names and follows the shape of one sample through them."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        seed: int | np.random.Generator,
        backend: str | Backend,
        dtype: Any,
        bias: bool,
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise refused("input_shape", shape, "(channels, height, width), each at least 1")
        self.first, self.shape = shape, shape
        self.options: dict[str, Any] = {
            "rng": np.random.default_rng(seed),
            "backend": get_backend(backend),
            "dtype": dtype,
        }
        self.bias = bias
        self.layers: dict[str, Layer] = {}

    def _window(self, name: str, kernel: int, stride: int, padding: int) -> tuple[int, int]:
        size = output_size(self.shape[1:], (kernel,) * 2, (stride,) * 2, (padding,) * 2)
        if min(size) < 1:
            raise ShapeError(
                f"images of {self.first[1]} x {self.first[2]} are too small for this model: "
                f"at {name} a map of {self.shape[1]} x {self.shape[2]} is left for a window of "
                f"{kernel} x {kernel}"
            )
        return size

    def conv(self, name: str, channels: int, kernel: int, padding: int) -> None:
        size = self._window(name, kernel, 1, padding)
        self.layers[name] = Conv2d(
            self.shape[0], channels, kernel, padding=padding, bias=self.bias, **self.options
        )
        self.layers[f"relu_{name}"] = ReLU()
        self.shape = (channels, *size)

    def pool(self, name: str, kernel: int, stride: int, kind: type[MaxPool2d | AvgPool2d]) -> None:
        size = self._window(name, kernel, stride, 0)
        self.layers[name] = kind(kernel, stride)
        self.shape = (self.shape[0], *size)

    def dense(self, widths: tuple[int, ...], classes: int, first: int) -> Sequential:
        """Flatten, hidden dense layers with ReLU, and the logits."""
        classes = whole("num_classes", classes, 1)
        self.layers["flatten"] = Flatten()
        features = math.prod(self.shape)
        for i, width in enumerate((*widths, classes)):
            name = f"dense{first + i}"
            self.layers[name] = Dense(features, width, bias=self.bias, **self.options)
            if i < len(widths):
                self.layers[f"relu_{name}"] = ReLU()
            features = width
        net = Sequential(self.layers)
        net.input_shape = self.first
        return net


def alexnet(
    input_shape: tuple[int, int, int] = (1, 28, 28),
    num_classes: int = 10,
    *,
    overlapping_pooling: bool = False,
    width: int = 1,
    bias: bool = True,
    seed: int | np.random.Generator = 0,
    backend: str | Backend = "auto",
    dtype: Any = np.float32,
) -> Sequential:
    """The paper's network: "an AlexNet model with minor modification in kernel and channel sizes".

    conv 5x5x16, pool / conv 5x5x16, pool / conv 3x3x32 / conv 3x3x32 / conv
    3x3x32, pool / dense 128, 128, 10; ReLU after all but the last.  The paper
    gives the five convolutions and the 16, 16 and 32 filters of the first three;
    the rest is our choice.

    Parameters
    ----------
    input_shape : (int, int, int)
        Shape (C, H, W) of one image.
    num_classes : int
        Number of logits.
    overlapping_pooling : bool
        AlexNet's 3x3 windows with stride 2 instead of 2x2 with stride 2.
    width : int
        Factor for the numbers of filters and of hidden units; 1 is the paper's network.
    bias : bool
        Whether layers have biases; without them relevance is conserved.
    seed : int or numpy.random.Generator
        For He initialisation.
    backend : str or Backend
        Where the arrays live: see :func:`minifbi.backends.get_backend`.
    dtype : float32 or float64
        Of the parameters.

    Returns
    -------
    Sequential

    Raises
    ------
    ConfigError
        If `width`, `num_classes` or `input_shape` is not at least 1.
    ShapeError
        If the images are too small for the windows.
    """
    width = whole("width", width, 1)
    net = _Builder(input_shape, seed, backend, dtype, bias)
    window = 3 if overlapping_pooling else 2
    net.conv("conv1", 16 * width, kernel=5, padding=2)
    net.pool("pool1", window, 2, MaxPool2d)
    net.conv("conv2", 16 * width, kernel=5, padding=2)
    net.pool("pool2", window, 2, MaxPool2d)
    net.conv("conv3", 32 * width, kernel=3, padding=1)
    net.conv("conv4", 32 * width, kernel=3, padding=1)
    net.conv("conv5", 32 * width, kernel=3, padding=1)
    net.pool("pool5", window, 2, MaxPool2d)
    return net.dense((128 * width, 128 * width), num_classes, first=6)


def alexnet_overlapping(*args: Any, **options: Any) -> Sequential:
    """:func:`alexnet` with AlexNet's overlapping 3x3 pooling of stride 2.

    Parameters
    ----------
    *args, **options
        As in :func:`alexnet`.

    Returns
    -------
    Sequential
    """
    return alexnet(*args, overlapping_pooling=True, **options)


def lenet(
    input_shape: tuple[int, int, int] = (1, 28, 28),
    num_classes: int = 10,
    *,
    bias: bool = True,
    seed: int | np.random.Generator = 0,
    backend: str | Backend = "auto",
    dtype: Any = np.float32,
) -> Sequential:
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) with ReLU and plain average pooling.

    conv 5x5x6 pad 2, average pool 2 / conv 5x5x16, average pool 2 / dense 120, 84, 10.

    Parameters
    ----------
    input_shape, num_classes, bias, seed, backend, dtype
        See :func:`alexnet`.

    Returns
    -------
    Sequential

    Raises
    ------
    ConfigError, ShapeError
        As :func:`alexnet`.
    """
    net = _Builder(input_shape, seed, backend, dtype, bias)
    net.conv("conv1", 6, kernel=5, padding=2)
    net.pool("pool1", 2, 2, AvgPool2d)
    net.conv("conv2", 16, kernel=5, padding=0)
    net.pool("pool2", 2, 2, AvgPool2d)
    return net.dense((120, 84), num_classes, first=3)


def mlp(
    input_shape: tuple[int, int, int] = (1, 28, 28),
    num_classes: int = 10,
    *,
    widths: tuple[int, ...] = (256, 128),
    bias: bool = True,
    seed: int | np.random.Generator = 0,
    backend: str | Backend = "auto",
    dtype: Any = np.float32,
) -> Sequential:
    """Dense layers of the given widths with ReLU between.

    Parameters
    ----------
    widths : tuple of int
        Units of each hidden layer.
    input_shape, num_classes, bias, seed, backend, dtype
        See :func:`alexnet`.

    Returns
    -------
    Sequential

    Raises
    ------
    ConfigError
        As :func:`alexnet`.
    """
    return _Builder(input_shape, seed, backend, dtype, bias).dense(widths, num_classes, first=1)


MODELS: dict[str, Callable[..., Sequential]] = {
    "alexnet": alexnet,
    "alexnet-overlapping": alexnet_overlapping,
    "lenet": lenet,
    "mlp": mlp,
}


def build_model(name: str, **options: Any) -> Sequential:
    """Build a model by name; `options` as in :func:`alexnet`.

    Parameters
    ----------
    name : str
        A key of :data:`MODELS`.
    **options
        Arguments of the builder, for example ``num_classes=10``.

    Returns
    -------
    Sequential

    Raises
    ------
    ConfigError
        If there is no model of that name.
    """
    return MODELS[choice("model", name, MODELS)](**options)
