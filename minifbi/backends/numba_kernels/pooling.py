"""Pooling: plans of the kernels in :mod:`.pool`.

As in :mod:`.convolutions`, a plan is None where the reference must do it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minifbi.backends.base import Pair, output_size
from minifbi.backends.numba_kernels import pool
from minifbi.backends.numba_kernels.jit import ELEMENT
from minifbi.backends.numba_kernels.launch import FLOATS, DType, Shape, pair, planned, window_taps
from minifbi.backends.numba_kernels.taps import forward_taps, transpose_taps


class Pooling(NamedTuple):
    """A compiled function, the shape of its result (C, OH, OW, N), and what else it wants."""

    kernel: Any
    shape: Shape
    rest: tuple[Any, ...]


def _shape(maps: Shape, size: Pair, dtype: DType) -> Shape | None:
    """Shape in memory of a result of that size, from maps (N, C, H, W); None if none is made."""
    shape = (maps[1], *pair(size), maps[0])
    return shape if dtype in FLOATS and min(*shape, *maps) > 0 else None


@planned
def max_pool(x: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair) -> Pooling | None:
    """Plan of ``max_pool2d`` for maps of shape `x`."""
    size = output_size((x[2], x[3]), kernel, stride, padding)
    shape = _shape(x, size, dtype)
    if shape is None:
        return None
    tables = window_taps(forward_taps, x[2:], size, kernel, stride, padding)
    function = pool.max_pool.version(ELEMENT * math.prod(x))
    return Pooling(function, shape, (*tables, int(kernel[1])))


@planned
def max_scatter(
    g: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair, size: Pair
) -> Pooling | None:
    """Plan of ``max_pool2d_scatter`` for values of shape `g`."""
    shape = _shape(g, size, dtype)
    if shape is None:
        return None
    tables = window_taps(transpose_taps, size, g[2:], kernel, stride, padding)
    geometry = (*pair(stride), *pair(padding), int(kernel[1]))
    function = pool.max_scatter.version(ELEMENT * math.prod(shape))
    return Pooling(function, shape, (*tables, geometry))


@planned
def max_gather(
    x: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair, size: Pair
) -> Pooling | None:
    """Plan of ``max_pool2d_gather`` for maps of shape `x` and winners of that size."""
    shape = _shape(x, size, dtype)
    if shape is None:
        return None
    tables = window_taps(forward_taps, x[2:], size, kernel, stride, padding)
    function = pool.max_gather.version(ELEMENT * math.prod(x))
    return Pooling(function, shape, (*tables, int(kernel[1])))


@planned
def average(x: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair) -> Pooling | None:
    """Plan of ``avg_pool2d`` for maps of shape `x`."""
    size = output_size((x[2], x[3]), kernel, stride, padding)
    return _average(forward_taps, x, dtype, size, (kernel, stride, padding))


@planned
def average_transpose(
    g: Shape, dtype: DType, kernel: Pair, stride: Pair, padding: Pair, size: Pair
) -> Pooling | None:
    """Plan of ``avg_pool2d_transpose`` for means of shape `g`."""
    return _average(transpose_taps, g, dtype, size, (kernel, stride, padding))


def _average(
    taps: Any, maps: Shape, dtype: DType, size: Pair, window: tuple[Pair, Pair, Pair]
) -> Pooling | None:
    shape = _shape(maps, size, dtype)
    if shape is None:
        return None
    kernel, stride, padding = window
    full, small = ((maps[2], maps[3]), size) if taps is forward_taps else (size, maps[2:])
    tables = window_taps(taps, full, small, kernel, stride, padding)
    function = pool.window_mean.version(ELEMENT * math.prod(shape))
    return Pooling(function, shape, (*tables, np.dtype(dtype).type(kernel[0] * kernel[1])))
