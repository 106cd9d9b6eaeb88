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
from minifbi.backends.numba_kernels.jit import ELEMENT, Kernel, jit
from minifbi.backends.numba_kernels.launch import DType, Shape, pair
from minifbi.backends.numba_kernels.memory import empty

ONE, NONE = (1, 1), (0, 0)
# Measured: with more samples the columns cost more than the lanes.  And with more pixels they
# take much memory, and sums over all pixels become long.
SAMPLES, PIXELS = 4, 4096
Steps = tuple[int, int, int, int, int, int]


@jit
def _inside(start: int, step: int, size: int, count: int) -> tuple[int, int]:
    """From which to which of `count` places, `step` apart from `start` on, all are in a map."""
    first = min(max(0, (step - 1 - start) // step), count)
    return first, max(first, min(count, (size - 1 - start) // step + 1))


@Kernel
def im2col(x: Array, columns: Array, steps: Steps) -> None:
    """Columns (C, kh, kw, ph, pw, OH, OW, N) of x (C, H, W, N).

    `steps` are the convolution's stride and padding, and the pooling's stride.
    """
    sh, sw, up, left, pool_sh, pool_sw = steps
    _, kh, kw, ph, pw, rows, across, batch = columns.shape
    columns_of, zero, step = columns.reshape(-1), x.dtype.type(0), sw * pool_sw
    for item in numba.prange(columns.shape[0] * kh):
        c, k = item // kh, item % kh
        flat = x[c].reshape(-1)
        to = item * kw * ph * pw * rows * across * batch
        for m in range(kw):
            for i in range(ph):
                for j in range(pw):
                    start = j * sw + m - left
                    first, last = _inside(start, step, x.shape[2], across)
                    for row in range(rows):
                        y = (row * pool_sh + i) * sh + k - up
                        if y < 0 or y >= x.shape[1]:
                            for q in range(to, to + across * batch):
                                columns_of[q] = zero
                        else:
                            for q in range(to, to + first * batch):
                                columns_of[q] = zero
                            at = (y * x.shape[2] + start) * batch
                            if step == 1:
                                for q in range(first * batch, last * batch):
                                    columns_of[to + q] = flat[at + q]
                            else:
                                for column in range(first, last):
                                    for n in range(batch):
                                        columns_of[to + column * batch + n] = flat[
                                            at + column * step * batch + n
                                        ]
                            for q in range(to + last * batch, to + across * batch):
                                columns_of[q] = zero
                        to += across * batch


@Kernel
def col2im(columns: Array, x: Array, steps: Steps) -> None:
    """The transpose of `im2col` without pooling: what meets at one place of x is added up."""
    sh, sw, up, left, _, _ = steps
    _, kh, kw, _, _, rows, across, batch = columns.shape
    columns_of = columns.reshape(-1)
    for c in numba.prange(columns.shape[0]):
        flat = x[c].reshape(-1)
        flat[:] = 0
        at = c * kh * kw * rows * across * batch
        for k in range(kh):
            for m in range(kw):
                first, last = _inside(m - left, sw, x.shape[2], across)
                for row in range(rows):
                    y = row * sh + k - up
                    if 0 <= y < x.shape[1]:
                        to = (y * x.shape[2] + m - left) * batch
                        if sw == 1:
                            for q in range(first * batch, last * batch):
                                flat[to + q] += columns_of[at + q]
                        else:
                            for column in range(first, last):
                                for n in range(batch):
                                    flat[to + column * sw * batch + n] += columns_of[
                                        at + column * batch + n
                                    ]
                    at += across * batch


@Kernel
def im2row(x: Array, rows: Array, steps: Steps) -> None:
    """Each window of x (C, H, W, N) as one row: (OH, OW, N, C, kh, kw)."""
    sh, sw, up, left, _, _ = steps
    down, across, batch, channels, kh, kw = rows.shape
    for row in numba.prange(down):
        for column in range(across):
            start = column * sw - left
            first, last = _inside(start, 1, x.shape[2], kw)
            for n in range(batch):
                to = rows[row, column, n].reshape(-1)
                to[:] = 0
                for c in range(channels):
                    for k in range(kh):
                        y = row * sh + k - up
                        if 0 <= y < x.shape[1]:
                            for m in range(first, last):
                                to[(c * kh + k) * kw + m] = x[c, y, start + m, n]


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
    steps: Steps
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
        flat = weight.reshape(weight.shape[0], -1, 1, 1)
        columns = self.inner(g.reshape(len(g), 1, 1, -1), winners, flat)
        out = empty(self.shape, g.dtype)
        self.columns.kernel(columns.reshape(self.columns.shape), out, self.columns.steps)
        return out


def transpose_plan(
    g_shape: Shape, weight_shape: Shape, dtype: DType, stride: Pair, padding: Pair, size: Pair
) -> Transpose:
    """See :func:`.direct.transpose_plan`."""
    (n, o, *out_size), (_, c, kh, kw) = g_shape, weight_shape
    columns = _columns(col2im, n, c, (kh, kw), (stride, padding), out_size, None)
    shape = (o, columns.maps[0], 1, 1)
    inner = direct.transpose_plan(columns.logical(o), shape, dtype, ONE, NONE, ONE)
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
    """Plan of the gradient at a convolution's weight: the sum over pixels of g times a window.

    The windows are rows of a matrix (pixels, C * kh * kw).  Pixels play the part of channels, g is
    their weight, and lanes are places of the result.
    """

    kernel: Any
    rows: Shape
    steps: Steps
    inner: direct.Convolution
    shape: Shape

    def __call__(self, x: Array, g: Array, winners: Array) -> Array:
        rows = empty(self.rows, x.dtype)
        self.kernel(x, rows, self.steps)
        pixels = math.prod(self.rows[:3])
        weight = g.reshape(-1, pixels, 1, 1)
        return self.inner(rows.reshape(pixels, 1, 1, -1), winners, weight).reshape(self.shape)


def weight_plan(
    x_shape: Shape, g_shape: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair
) -> WeightGradient:
    """See :func:`.direct.weight_plan`."""
    (n, c, *_), (_, o, oh, ow), (kh, kw) = x_shape, g_shape, pair(kernel)
    rows, pixels, places = (oh, ow, n, c, kh, kw), oh * ow * n, c * kh * kw
    inner = direct.forward_plan((places, pixels, 1, 1), (o, pixels, 1, 1), dtype, ONE, NONE)
    function = im2row.version(ELEMENT * math.prod(rows))
    return WeightGradient(
        function, rows, (*pair(stride), *pair(padding), 1, 1), inner, (o, c, kh, kw)
    )
