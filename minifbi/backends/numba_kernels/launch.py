"""From NumPy arrays to kernels: memory order, and plans.

A *plan* is everything about a kernel call that the shapes alone decide: the compiled function
(for all threads or for one), the shape of the result, the tables of :mod:`.taps`, and how the
work is cut.  It is made at the first call with these shapes and found again at every later one,
so that a call only brings its arrays into the kernel's order, makes an array for the result, and
runs the kernel.  A plan is None where the kernels do not take such arrays, and the reference
must do it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from minifbi.backends.base import Array, Pair
from minifbi.backends.numba_kernels.jit import ELEMENT, Kernel
from minifbi.backends.numba_kernels.memory import empty
from minifbi.errors import ShapeError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
Shape = Any  # a tuple of int, of which slices serve as pairs
DType = Any
_Plan = TypeVar("_Plan", bound=Callable[..., Any])


def planned(plan: _Plan) -> _Plan:
    """Remember the plans that a function makes: a network needs some ten of each kind."""
    return lru_cache(maxsize=1024)(plan)  # type: ignore[return-value]


def batch_last(array: Array) -> Array:
    """(N, C, H, W) as a contiguous (C, H, W, N) array; a copy only if it must be."""
    last = array.transpose(1, 2, 3, 0)
    if last.flags.carray:  # C order, aligned, writeable: as our own kernels left it
        return last
    return np.require(last, requirements=("C", "A", "W"))


def batch_first(array: Array) -> Array:
    """The logical (N, C, H, W) view of a (C, H, W, N) array."""
    return array.transpose(3, 0, 1, 2)


def pair(pair: Pair) -> Pair:
    """Plain ints: NumPy's would be another type to the compiler."""
    return int(pair[0]), int(pair[1])


def window_taps(
    taps: Any, size: Pair, out_size: Pair, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[Array, Array]:
    """The two tables of a pooling, vertical and horizontal."""
    rows, _ = taps(size[0], out_size[0], kernel[0], stride[0], padding[0])
    columns, _ = taps(size[1], out_size[1], kernel[1], stride[1], padding[1])
    return rows, columns


def elementwise_of(kernel: Kernel, a: Array, b: Array) -> Array:
    """A kernel of :mod:`.elementwise` on two maps (N, C, H, W) of one shape."""
    if a.shape != b.shape:
        raise ShapeError(f"{kernel.__name__}: arrays of shape {a.shape} and {b.shape}")
    a, b = batch_last(a), batch_last(b)
    out = empty(a.shape, a.dtype)
    kernel.version(ELEMENT * out.size)(a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out.transpose(3, 0, 1, 2)
