"""The networks: the paper's AlexNet-like CNN, LeNet-5 with ReLU, an MLP, a VGG and a ResNet.

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
from minifbi.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)


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

    def normed(self, number: str, channels: int, kernel: int = 3, stride: int = 1) -> None:
        """conv and bn of that number, and no ReLU yet; BatchNorm's shift is the bias."""
        padding = kernel // 2
        size = self._window(f"conv{number}", kernel, stride, padding)
        self.layers[f"conv{number}"] = Conv2d(
            self.shape[0], channels, kernel, stride, padding, bias=False, **self.options
        )
        where = {name: self.options[name] for name in ("backend", "dtype")}
        self.layers[f"bn{number}"] = BatchNorm2d(channels, **where)
        self.shape = (channels, *size)

    def relu(self, number: str) -> None:
        self.layers[f"relu{number}"] = ReLU()

    def block(self, name: str, channels: int, stride: int) -> None:
        """Two convolutions with a shortcut around them: the basic block of a ResNet."""
        layers, shape = self.layers, self.shape
        self.layers = {}
        self.normed("1", channels, stride=stride)
        self.relu("1")
        self.normed("2", channels)
        chain, self.layers = self.layers, {}
        if (channels, stride) != (shape[0], 1):
            after, self.shape = self.shape, shape
            self.normed("", channels, kernel=1, stride=stride)
            self.shape = after
        shortcut = Sequential(self.layers) if self.layers else None
        self.layers = {**layers, name: Residual(chain, shortcut=shortcut), f"relu_{name}": ReLU()}

    def global_pool(self) -> None:
        self.layers["pool"] = GlobalAvgPool2d()
        self.shape = (self.shape[0], 1, 1)

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


def vgg(
    input_shape: tuple[int, int, int] = (1, 28, 28),
    num_classes: int = 10,
    *,
    width: int = 1,
    bias: bool = True,
    seed: int | np.random.Generator = 0,
    backend: str | Backend = "auto",
    dtype: Any = np.float32,
) -> Sequential:
    """A small VGG with batch normalisation (Simonyan and Zisserman 2015), for 28 x 28 to 32 x 32.

    Three pairs of 3x3 convolutions with 16, 32 and 64 filters, each with BatchNorm2d and ReLU,
    each pair with 2x2 max-pooling behind it; then dense 128, 10.  The layers have the
    paper's numbers: conv1_1, bn1_1, relu1_1, conv1_2, ... pool1, conv2_1, ...

    Parameters
    ----------
    bias : bool
        Of the dense layers; the convolutions have none, since BatchNorm2d shifts behind them.
    input_shape, num_classes, width, seed, backend, dtype
        See :func:`alexnet`.

    Returns
    -------
    Sequential

    Raises
    ------
    ConfigError, ShapeError
        As :func:`alexnet`.
    """
    width = whole("width", width, 1)
    net = _Builder(input_shape, seed, backend, dtype, bias)
    for stage, channels in enumerate((16, 32, 64), start=1):
        for place in (1, 2):
            net.normed(f"{stage}_{place}", channels * width)
            net.relu(f"{stage}_{place}")
        net.pool(f"pool{stage}", 2, 2, MaxPool2d)
    return net.dense((128 * width,), num_classes, first=4)


def resnet(
    input_shape: tuple[int, int, int] = (1, 28, 28),
    num_classes: int = 10,
    *,
    width: int = 1,
    bias: bool = True,
    seed: int | np.random.Generator = 0,
    backend: str | Backend = "auto",
    dtype: Any = np.float32,
) -> Sequential:
    """A small residual network (He, Zhang, Ren and Sun 2016), for 28 x 28 to 32 x 32.

    A 3x3 convolution with 16 filters and 2x2 max-pooling; three basic blocks with 16, 32 and 64,
    of which the second and third halve the map and have a 1x1 convolution in their shortcut; the
    mean of each map; one dense layer.  BatchNorm2d stands behind each convolution.  So K = 10:
    conv1, block1.conv1, block1.conv2, ..., block2.shortcut.conv, ..., dense2.

    Parameters
    ----------
    bias : bool
        Of the dense layer; the convolutions have none, since BatchNorm2d shifts behind them.
    input_shape, num_classes, width, seed, backend, dtype
        See :func:`alexnet`.

    Returns
    -------
    Sequential

    Raises
    ------
    ConfigError, ShapeError
        As :func:`alexnet`.
    """
    width = whole("width", width, 1)
    net = _Builder(input_shape, seed, backend, dtype, bias)
    net.normed("1", 16 * width)
    net.relu("1")
    net.pool("pool1", 2, 2, MaxPool2d)
    for stage, channels in enumerate((16, 32, 64), start=1):
        net.block(f"block{stage}", channels * width, stride=1 if stage == 1 else 2)
    net.global_pool()
    return net.dense((), num_classes, first=2)


MODELS: dict[str, Callable[..., Sequential]] = {
    "alexnet": alexnet,
    "alexnet-overlapping": alexnet_overlapping,
    "lenet": lenet,
    "mlp": mlp,
    "vgg": vgg,
    "resnet": resnet,
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
