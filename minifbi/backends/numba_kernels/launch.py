"""From NumPy arrays to kernels: memory order, tables, sizes of pieces, threads.

Nothing here computes.  Each function brings its arrays into the order that a kernel of
this folder wants, decides how the work is cut, and runs it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.base import Array, Pair, output_size
from minifbi.backends.numba_kernels import conv, conv_few, elementwise, machine
from minifbi.backends.numba_kernels.memory import empty
from minifbi.backends.numba_kernels.pack import pack_weight
from minifbi.backends.numba_kernels.taps import forward_taps
from minifbi.errors import ShapeError

# Work below this, in multiply-adds, takes less time than sharing it.
WORTH_SHARING = 5e6
# What an elementwise pass costs per number, in multiply-adds: it waits for memory.
ELEMENT = 16.0

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# The copies of a piece of work should stay in its core's own cache.  A core shares
# 1 MB or so; this many numbers are half of it in float32.
CACHED_NUMBERS = 128 * 1024
# The weight gradient is computed in about so many pieces, the threads' work, each
# of at most so many output channels.
WEIGHT_PARTS = 8
WEIGHT_CHANNEL_GROUP = 16


# Up to so many output channels, the tile's rows are better used for pixels.
FEW_CHANNELS = machine.ROWS // 2


def batch_last(array: Array) -> Array:
    """(N, C, H, W) as a contiguous (C, H, W, N) array; a copy only if it must be."""
    last = array.transpose(1, 2, 3, 0)
    flags = last.flags
    if flags.c_contiguous and flags.aligned and flags.writeable:
        return last  # as our own kernels left it
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


def forward(
    x: Array, weight: Array, bias: Array | None, relu: bool, stride: Pair, padding: Pair
) -> Array:
    """The convolution, with bias and ReLU if asked."""
    (h, w), (o, c, kh, kw) = x.shape[2:], weight.shape
    oh, ow = output_size((h, w), (kh, kw), stride, padding)
    if x.shape[1] != c or min(oh, ow) < 1:  # a kernel checks no bounds
        raise ShapeError(f"conv2d: an input of shape {x.shape} and a weight of {weight.shape}")
    rows, row_order = forward_taps(h, oh, kh, stride[0], padding[0])
    columns, column_order = forward_taps(w, ow, kw, stride[1], padding[1])
    filled = np.zeros(o + machine.ROWS, dtype=x.dtype)
    if bias is not None:
        filled[:o] = bias
    packed = pack_weight(weight, row_order, column_order)
    return convolve(x, packed, filled, relu, rows, columns, (o, oh, ow, x.shape[0]), (kh, kw))


def rows_together(x: Array, shape: tuple[int, ...], kernel_rows: int, width: int) -> int:
    """Output rows in a piece of work.

    The packed rows should stay in the cache, and every thread should get some work.
    (The band only says who computes a row, so it may depend on the threads.)
    """
    out_rows, blocks = shape[1], -(-shape[3] // width)
    fitting = CACHED_NUMBERS // (width * x.shape[1] * x.shape[3]) - kernel_rows
    sharing = out_rows * blocks // (2 * numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return min(max(fitting, kernel_rows, 1), max(sharing, 1), out_rows)


def convolve(
    x: Array,
    packed: Array,
    bias: Array,
    relu: bool,
    rows: Array,
    columns: Array,
    shape: tuple[int, ...],
    kernel: Pair,
) -> Array:
    """Run the convolution kernel; `shape` is that of the result, (O, OH, OW, N)."""
    lanes = machine.lanes_of(x.dtype)
    band = rows_together(x, shape, kernel[0], machine.VECTORS * lanes)
    out = empty(shape, x.dtype)
    work = float(out.size) * x.shape[1] * kernel[0] * kernel[1]
    arguments = (batch_last(x), packed, bias, relu, rows, columns, out, lanes, band, pair(kernel))
    run(conv.conv, work, *arguments)
    return batch_first(out)


def convolve_few(
    x: Array,
    weight: Array,
    rows: Array,
    row_order: tuple[int, ...],
    column_order: tuple[int, ...],
    columns: tuple[int, int],
    shape: tuple[int, ...],
) -> Array:
    """Run the kernel for few output channels; `columns` is (stride, first input column)."""
    kernel = weight.shape[2:]
    flat = np.ascontiguousarray(
        weight[:, :, list(row_order)][:, :, :, list(column_order)].transpose(0, 2, 3, 1)
    ).reshape(-1)
    stride, first = int(columns[0]), int(columns[1])
    border = conv_few.border_of(x.shape[3], shape[2], kernel[1], stride, first)
    lanes = machine.lanes_of(x.dtype)
    band = rows_together(x, shape, kernel[0], machine.VECTORS * lanes)
    out = empty(shape, x.dtype)
    run(
        conv_few.conv_few,
        float(out.size) * x.shape[1] * kernel[0] * kernel[1],
        batch_last(x),
        flat,
        rows,
        (stride, first, border),
        out,
        lanes,
        band,
        pair(kernel),
    )
    return batch_first(out)


def gate(g: Array, a: Array) -> Array:
    """g where a > 0, else 0; (N, C, H, W)."""
    if g.shape != a.shape:
        raise ShapeError(f"gate: arrays of shape {g.shape} and {a.shape}")
    g = batch_last(g)
    out = empty(g.shape, g.dtype)
    arguments = (g.reshape(-1), batch_last(a).reshape(-1), out.reshape(-1))
    run(elementwise.gate, ELEMENT * out.size, *arguments)
    return batch_first(out)
