"""Convolutions of a few samples: plans in which pixels take the samples' place.

The lanes of a vector are samples, and a batch of one would leave all lanes but one empty.
So each window of a small batch becomes a column (im2col), as in the reference: then the
convolution is one of 1 x 1 maps, whose "samples" are the pixels of all samples, and
:mod:`.direct` has plans for that::

    x (C, H, W, N)  ->  columns (C * kh * kw, 1, 1, OH * OW * N),   weight (O, C * kh * kw, 1, 1)

Where a max-pooling follows, the places of its windows stay apart, as the pixels of a map of the
size of one window: columns (C * kh * kw, ph, pw, OH * OW * N), OH x OW now the pooled size.
That map is pooled by one window.

Each plan is called as its namesake of :mod:`.direct` is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels import direct
from minifbi.backends.numba_kernels.jit import ELEMENT, Kernel
from minifbi.backends.numba_kernels.launch import DType, Shape, pair
from minifbi.backends.numba_kernels.memory import empty

ONE, NONE = (1, 1), (0, 0)
# Measured: with more samples the columns cost more than the lanes.  And with more pixels they
# take much memory, and sums over all pixels become long.
SAMPLES, PIXELS = 4, 4096


@Kernel
def im2col(x: Array, columns: Array, stride: Pair, pool_stride: Pair) -> None:
    """Columns (C, kh, kw, ph, pw, OH, OW, N) of x (C, H, W, N), its border of zeros included."""
    channels, kh, kw, ph, pw, rows, across, batch = columns.shape
    flat, to_flat, step = x.reshape(-1), columns.reshape(-1), stride[1] * pool_stride[1] * batch
    for item in numba.prange(channels * kh):
        c, k = item // kh, item % kh
        to = item * kw * ph * pw * rows * across * batch
        for m in range(kw):
            for i in range(ph):
                for j in range(pw):
                    for row in range(rows):
                        y = (row * pool_stride[0] + i) * stride[0] + k
                        at = ((c * x.shape[1] + y) * x.shape[2] + j * stride[1] + m) * batch
                        if step == batch:
                            for n in range(across * batch):
                                to_flat[to + n] = flat[at + n]
                        else:
                            for column in range(across):
                                for n in range(batch):
                                    to_flat[to + column * batch + n] = flat[at + column * step + n]
                        to += across * batch


@Kernel
def col2im(columns: Array, x: Array, stride: Pair) -> None:
    """The transpose of `im2col` without pooling: what meets at one place of x is added up."""
    channels, kh, kw, _, _, rows, across, batch = columns.shape
    flat, to_flat, step = columns.reshape(-1), x.reshape(-1), stride[1] * batch
    for c in numba.prange(channels):
        x[c] = 0
        at = c * kh * kw * rows * across * batch
        for k in range(kh):
            for m in range(kw):
                for row in range(rows):
                    to = ((c * x.shape[1] + row * stride[0] + k) * x.shape[2] + m) * batch
                    if step == batch:
                        for n in range(across * batch):
                            to_flat[to + n] += flat[at + n]
                    else:
                        for column in range(across):
                            for n in range(batch):
                                to_flat[to + column * step + n] += flat[at + column * batch + n]
                    at += across * batch


@Kernel
def im2row(x: Array, rows: Array, stride: Pair) -> None:
    """Each window of x (C, H, W, N), its border included, as one row: (OH, OW, N, C, kh, kw)."""
    down, across, batch, channels, kh, kw = rows.shape
    flat, to_flat = x.reshape(-1), rows.reshape(-1)
    for row in numba.prange(down):
        to = row * across * batch * channels * kh * kw
        for column in range(across):
            for n in range(batch):
                for c in range(channels):
                    for k in range(kh):
                        y = c * x.shape[1] + row * stride[0] + k
                        at = (y * x.shape[2] + column * stride[1]) * batch + n
                        for m in range(kw):
                            to_flat[to + m] = flat[at + m * batch]
                        to += kw


@dataclass(frozen=True)
class Border:
    """A border of zeros around maps (C, H, W, N).

    Attributes
    ----------
    shape : tuple of int
        With the border.
    inside : tuple of slice
        Where the maps are in it; None if there is no border.
    """

    shape: Shape
    inside: tuple[slice, ...] | None

    def put(self, x: Array) -> Array:
        """x with its border."""
        if self.inside is None:
            return x
        bordered = np.zeros(self.shape, x.dtype)
        bordered[self.inside] = x
        return bordered

    def cut(self, bordered: Array) -> Array:
        """The maps without it."""
        return bordered if self.inside is None else np.ascontiguousarray(bordered[self.inside])


def _border(x_shape: Shape, padding: Pair) -> Border:
    """The border of maps x (N, C, H, W)."""
    (n, c, h, w), (up, left) = x_shape, pair(padding)
    inside = (slice(None), slice(up, up + h), slice(left, left + w))
    return Border((c, h + 2 * up, w + 2 * left, n), inside if up or left else None)


@dataclass(frozen=True)
class Columns:
    """What the plans below have in common: how x and its columns belong together.

    Attributes
    ----------
    shape : tuple of int
        Of the columns, (C, kh, kw, ph, pw, OH, OW, N).
    maps : tuple of int
        The columns' shape as maps in the kernels' order, (C * kh * kw, ph, pw, OH * OW * N).
    kernel : compiled function
        `im2col`, or for the transpose `col2im`.
    steps : tuple of pairs
        What else it wants.
    border : Border
        Around x.
    """

    shape: Shape
    maps: Shape
    kernel: Any
    steps: tuple[Pair, ...]
    border: Border

    def of(self, x: Array) -> Array:
        """The columns of x, as maps."""
        columns = empty(self.shape, x.dtype)
        self.kernel(self.border.put(x), columns, *self.steps)
        return columns.reshape(self.maps)

    def add_up(self, columns: Array) -> Array:
        """The transpose of `of`."""
        out = empty(self.border.shape, columns.dtype)
        self.kernel(columns.reshape(self.shape), out, *self.steps)
        return self.border.cut(out)

    def logical(self, channels: int) -> Shape:
        """The shape (N, C, H, W) of maps with so many channels and as many pixels."""
        return (self.maps[3], channels, *self.maps[1:3])


def _columns(
    kernel: Kernel,
    x_shape: Shape,
    taps: Pair,
    stride: Pair,
    padding: Pair,
    window: tuple[Pair, Pair] | None = None,
) -> Columns:
    """Columns of x (N, C, H, W); with the window of a pooling (kernel, stride), as that needs."""
    n, c, *full = x_shape
    steps: tuple[Pair, ...] = (pair(stride),)
    size, places = output_size((full[0], full[1]), taps, stride, padding), ONE
    if kernel is im2col:
        places, apart = (pair(window[0]), pair(window[1])) if window else (ONE, ONE)
        size, steps = output_size(size, places, apart, NONE), (*steps, apart)
    shape = (c, *pair(taps), *places, *pair(size), n)
    maps = (c * taps[0] * taps[1], *places, size[0] * size[1] * n)
    function = kernel.version(ELEMENT * math.prod(shape))
    return Columns(shape, maps, function, steps, _border(x_shape, padding))


@dataclass(frozen=True)
class Convolution:
    """Plan of a convolution: columns, then `inner`, a plan for maps of 1 x 1 pixels."""

    columns: Columns
    inner: direct.Convolution
    shape: Shape

    def __call__(
        self, x: Array, winners: Array, weight: Array, bias: Array | None = None, relu: bool = False
    ) -> Array:
        flat = weight.reshape(weight.shape[0], -1, 1, 1)
        return self.inner(self.columns.of(x), winners, flat, bias, relu).reshape(self.shape)


def forward_plan(
    x_shape: Shape, weight_shape: Shape, dtype: DType, stride: Pair, padding: Pair
) -> Convolution:
    """See :func:`.direct.forward_plan`."""
    o, _, kh, kw = weight_shape
    columns = _columns(im2col, x_shape, (kh, kw), stride, padding)
    k = columns.maps[0]
    inner = direct.forward_plan(columns.logical(k), (o, k, 1, 1), dtype, ONE, NONE)
    return Convolution(columns, inner, (o, *columns.shape[5:]))


@dataclass(frozen=True)
class Transpose:
    """Plan of a convolution's transpose: `inner` gives the columns, which are added up."""

    columns: Columns
    inner: direct.Convolution | direct.FewChannels

    def __call__(self, g: Array, winners: Array, weight: Array) -> Array:
        flat = weight.reshape(weight.shape[0], -1, 1, 1)
        return self.columns.add_up(self.inner(g.reshape(len(g), 1, 1, -1), winners, flat))


def transpose_plan(
    g_shape: Shape, weight_shape: Shape, dtype: DType, stride: Pair, padding: Pair, size: Pair
) -> Transpose:
    """See :func:`.direct.transpose_plan`."""
    o, c, kh, kw = weight_shape
    columns = _columns(col2im, (g_shape[0], c, *pair(size)), (kh, kw), stride, padding)
    shape = (o, columns.maps[0], 1, 1)
    inner = direct.transpose_plan(columns.logical(o), shape, dtype, ONE, NONE, ONE)
    return Transpose(columns, inner)


@dataclass(frozen=True)
class Pooled:
    """Plan of convolution and max-pooling.  See :class:`.direct.Pooled`."""

    columns: Columns
    inner: direct.Pooled
    shape: Shape

    def __call__(
        self, x: Array, weight: Array, bias: Array | None, winners: Array | None
    ) -> tuple[Array, Array]:
        flat = weight.reshape(weight.shape[0], -1, 1, 1)
        if winners is not None:
            winners = winners.reshape(self.inner.shape)
        out, places = self.inner(self.columns.of(x), flat, bias, winners)
        return out.reshape(self.shape), places.reshape(self.shape)


def pooled_plan(
    x_shape: Shape,
    weight_shape: Shape,
    dtype: DType,
    stride: Pair,
    padding: Pair,
    kernel: Pair,
    pool_stride: Pair,
) -> Pooled:
    """See :func:`.direct.pooled_plan`."""
    o, _, kh, kw = weight_shape
    columns = _columns(im2col, x_shape, (kh, kw), stride, padding, (kernel, pool_stride))
    k = columns.maps[0]
    inner = direct.pooled_plan(columns.logical(k), (o, k, 1, 1), dtype, ONE, NONE, kernel, kernel)
    return Pooled(columns, inner, (o, *columns.shape[5:]))


@dataclass(frozen=True)
class WeightGradient:
    """Plan of the gradient at a convolution's weight: the sum over pixels of g times a window.

    The windows are rows of a matrix (pixels, C * kh * kw).  Pixels play the part of channels, g is
    their weight, and lanes are places of the result.
    """

    kernel: Any
    rows: Shape
    stride: Pair
    border: Border
    inner: direct.Convolution
    shape: Shape

    def __call__(self, x: Array, g: Array, winners: Array) -> Array:
        rows, pixels = empty(self.rows, x.dtype), math.prod(self.rows[:3])
        self.kernel(self.border.put(x), rows, self.stride)
        weight = g.reshape(-1, pixels, 1, 1)
        return self.inner(rows.reshape(pixels, 1, 1, -1), winners, weight).reshape(self.shape)


def weight_plan(
    x_shape: Shape, g_shape: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair
) -> WeightGradient:
    """See :func:`.direct.weight_plan`."""
    (n, c, *_), (_, o, oh, ow), (kh, kw) = x_shape, g_shape, pair(kernel)
    rows, pixels, places = (oh, ow, n, c, kh, kw), oh * ow * n, c * kh * kw
    inner = direct.forward_plan((places, pixels, 1, 1), (o, pixels, 1, 1), dtype, ONE, NONE)
    function, border = im2row.version(ELEMENT * math.prod(rows)), _border(x_shape, padding)
    return WeightGradient(function, rows, pair(stride), border, inner, (o, c, kh, kw))
