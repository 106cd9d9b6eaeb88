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

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels import direct
from minifbi.backends.numba_kernels.jit import ELEMENT, Kernel
from minifbi.backends.numba_kernels.launch import DType, Shape, pair
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.unpooled import NO_WINNERS

ONE, NONE = (1, 1), (0, 0)
SMALL = 4  # samples; measured: with more, the columns cost more than the lanes


@Kernel
def im2col(x: Array, columns: Array, steps: tuple[int, int, int, int, int, int]) -> None:
    """Columns (C, kh, kw, ph, pw, OH, OW, N) of x (C, H, W, N).

    `steps` are the convolution's stride and padding, and the pooling's stride.
    """
    sh, sw, up, left, pool_sh, pool_sw = steps
    _, kh, kw, ph, pw, rows, out_columns, batch = columns.shape
    zero = x.dtype.type(0)
    for item in numba.prange(columns.shape[0] * kh):
        c, k = item // kh, item % kh
        for m in range(kw):
            for i in range(ph):
                for j in range(pw):
                    for row in range(rows):
                        y = (row * pool_sh + i) * sh + k - up
                        inside = 0 <= y < x.shape[1]
                        for column in range(out_columns):
                            z = (column * pool_sw + j) * sw + m - left
                            if inside and 0 <= z < x.shape[2]:
                                for n in range(batch):
                                    columns[c, k, m, i, j, row, column, n] = x[c, y, z, n]
                            else:
                                for n in range(batch):
                                    columns[c, k, m, i, j, row, column, n] = zero


@Kernel
def col2im(columns: Array, x: Array, steps: tuple[int, int, int, int, int, int]) -> None:
    """The transpose of `im2col`: what the windows have at one place of x is added up."""
    sh, sw, up, left, pool_sh, pool_sw = steps
    _, kh, kw, ph, pw, rows, out_columns, batch = columns.shape
    for c in numba.prange(columns.shape[0]):
        x[c] = 0
        for k in range(kh):
            for m in range(kw):
                for i in range(ph):
                    for j in range(pw):
                        for row in range(rows):
                            y = (row * pool_sh + i) * sh + k - up
                            if y < 0 or y >= x.shape[1]:
                                continue
                            for column in range(out_columns):
                                z = (column * pool_sw + j) * sw + m - left
                                if 0 <= z < x.shape[2]:
                                    for n in range(batch):
                                        x[c, y, z, n] += columns[c, k, m, i, j, row, column, n]


@dataclass(frozen=True)
class Columns:
    """What the plans below have in common: how x and its columns belong together.

    Attributes
    ----------
    shape : tuple of int
        Of the columns, (C, kh, kw, ph, pw, OH, OW, N).
    steps : six int
        See `im2col`.
    maps : tuple of int
        The columns' shape as maps in the kernels' order, (C * kh * kw, ph, pw, OH * OW * N).
    kernel : compiled function
        `im2col`, or for the transpose `col2im`.
    """

    shape: Shape
    steps: tuple[int, ...]
    maps: Shape
    kernel: Any

    def of(self, x: Array) -> Array:
        """The columns of x, as maps."""
        columns = empty(self.shape, x.dtype)
        self.kernel(x, columns, self.steps)
        return columns.reshape(self.maps)

    def logical(self, channels: int) -> Shape:
        """The shape (N, C, H, W) of maps with so many channels and as many pixels."""
        return (self.maps[3], channels, *self.maps[1:3])


def _columns(
    kernel: Kernel,
    n: int,
    c: int,
    taps: Pair,
    steps: tuple[Pair, Pair],
    size: Pair,
    window: tuple[int, ...] | None,
) -> Columns:
    """Columns for outputs of that size, or for the windows (kernel, stride) of its pooling."""
    ph, pw, pool_sh, pool_sw = window[:4] if window else (1, 1, 1, 1)
    out = output_size(size, (ph, pw), (pool_sh, pool_sw), NONE)
    shape = (c, *pair(taps), ph, pw, *pair(out), n)
    maps = (c * taps[0] * taps[1], ph, pw, out[0] * out[1] * n)
    function = kernel.version(ELEMENT * math.prod(shape))
    return Columns(shape, (*pair(steps[0]), *pair(steps[1]), pool_sh, pool_sw), maps, function)


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
    (n, c, h, w), (o, *_, kh, kw) = x_shape, weight_shape
    size = output_size((h, w), (kh, kw), stride, padding)
    columns = _columns(im2col, n, c, (kh, kw), (stride, padding), size, None)
    k = columns.maps[0]
    inner = direct.forward_plan(columns.logical(k), (o, k, 1, 1), dtype, ONE, NONE)
    return Convolution(columns, inner, (o, *size, n))


@dataclass(frozen=True)
class Transpose:
    """Plan of a convolution's transpose: `inner` gives the columns, which are added up."""

    columns: Columns
    inner: direct.Convolution | direct.FewChannels
    shape: Shape

    def __call__(self, g: Array, winners: Array, weight: Array) -> Array:
        shape = (len(g), 1, 1, -1)
        if winners is not NO_WINNERS:
            winners = winners.reshape(shape)
        flat = weight.reshape(weight.shape[0], -1, 1, 1)
        columns = self.inner(g.reshape(shape), winners, flat)
        out = empty(self.shape, g.dtype)
        self.columns.kernel(columns.reshape(self.columns.shape), out, self.columns.steps)
        return out


def transpose_plan(
    g_shape: Shape,
    weight_shape: Shape,
    dtype: DType,
    stride: Pair,
    padding: Pair,
    size: Pair,
    window: tuple[int, ...] | None,
) -> Transpose:
    """See :func:`.direct.transpose_plan`."""
    (n, o, oh, ow), (_, c, kh, kw) = g_shape, weight_shape
    columns = _columns(col2im, n, c, (kh, kw), (stride, padding), (oh, ow), window)
    places = columns.maps[1:3]
    inner = direct.transpose_plan(
        columns.logical(o),
        (o, columns.maps[0], 1, 1),
        *(dtype, ONE, NONE, places, (*places, *places, *places) if window else None),
    )
    return Transpose(columns, inner, (c, *pair(size), n))


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
    (n, c, h, w), (o, *_, kh, kw) = x_shape, weight_shape
    size, window = (
        output_size((h, w), (kh, kw), stride, padding),
        (*pair(kernel), *pair(pool_stride)),
    )
    columns = _columns(im2col, n, c, (kh, kw), (stride, padding), size, window)
    k = columns.maps[0]
    inner = direct.pooled_plan(columns.logical(k), (o, k, 1, 1), dtype, ONE, NONE, kernel, kernel)
    return Pooled(columns, inner, (o, *columns.shape[5:]))


@dataclass(frozen=True)
class WeightGradient:
    """Plan of the gradient at a convolution's weight: `inner` reads the columns of x."""

    columns: Columns
    inner: direct.WeightGradient
    shape: Shape

    def __call__(self, x: Array, g: Array, winners: Array) -> Array:
        pixels = self.columns.maps[3]
        if winners is NO_WINNERS:
            g = g.reshape(len(g), *self.columns.maps[1:])
        else:
            g, winners = g.reshape(-1, 1, 1, pixels), winners.reshape(-1, 1, 1, pixels)
        return self.inner(self.columns.of(x), g, winners).reshape(self.shape)


def weight_plan(
    x_shape: Shape,
    g_shape: Shape,
    dtype: DType,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    window: tuple[int, ...] | None,
) -> WeightGradient:
    """See :func:`.direct.weight_plan`."""
    (n, c, *_), (_, o, oh, ow), (kh, kw) = x_shape, g_shape, pair(kernel)
    columns = _columns(im2col, n, c, (kh, kw), (stride, padding), (oh, ow), window)
    places = columns.maps[1:3]
    inner = direct.weight_plan(
        columns.logical(columns.maps[0]),
        columns.logical(o),
        *(dtype, ONE, ONE, NONE, (*places, *places, *places) if window else None),
    )
    return WeightGradient(columns, inner, (o, c, kh, kw))
