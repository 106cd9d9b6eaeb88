"""From NumPy arrays to kernels: memory order, tables, sizes of pieces, threads.

Nothing here computes.  Each function brings its arrays into the order that a kernel of
this folder wants, decides how the work is cut, and runs it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair
from minifbi.backends.numba_kernels.memory import empty
from minifbi.errors import ShapeError

# Work below this, in multiply-adds, takes less time than sharing it.
WORTH_SHARING = 2e5
# What an elementwise pass costs per number, in multiply-adds: it waits for memory.
ELEMENT = 16.0

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def batch_last(array: Array) -> Array:
    """(N, C, H, W) as a contiguous (C, H, W, N) array; a copy only if it must be."""
    last = array.transpose(1, 2, 3, 0)
    if last.flags.carray:  # C order, aligned, writeable: as our own kernels left it
        return last
    return np.require(last, requirements=("C", "A", "W"))


def batch_first(array: Array) -> Array:
    """The logical (N, C, H, W) view of a (C, H, W, N) array."""
    return array.transpose(3, 0, 1, 2)


def run(kernel: Any, work: float, *arguments: Any) -> None:
    """Run a kernel: on one thread if there is little to do, else on all.

    Waking another thread costs some ten microseconds.

    Parameters
    ----------
    kernel : compiled function
    work : float
        About how many multiply-adds, or numbers read and written.
    *arguments
        Of the kernel.
    """
    if work >= WORTH_SHARING:
        kernel(*arguments)
        return
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        kernel(*arguments)
    finally:
        numba.set_num_threads(threads)


def compiled(*arrays: Array) -> bool:
    """Whether the kernels take these arrays: one dtype, float32 or float64."""
    dtype = arrays[0].dtype
    return dtype in FLOATS and all(array.dtype == dtype for array in arrays)


def maps(matrix: Array) -> Array:
    """A matrix (rows, columns) as (rows, columns, 1, 1)."""
    return matrix[:, :, None, None]


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


def elementwise_of(kernel: Any, a: Array, b: Array) -> Array:
    """A kernel of :mod:`.elementwise` on two maps (N, C, H, W) of one shape."""
    if a.shape != b.shape:
        raise ShapeError(f"{kernel.__name__}: arrays of shape {a.shape} and {b.shape}")
    a, b = batch_last(a), batch_last(b)
    out = empty(a.shape, a.dtype)
    run(kernel, ELEMENT * out.size, a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return batch_first(out)
