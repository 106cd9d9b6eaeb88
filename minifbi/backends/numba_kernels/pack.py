"""Copies in the order in which the inner loops read.

A kernel's inner loop should walk straight through memory: then the hardware
fetches ahead, and what is read together shares cache lines.  The weights are laid
out once per call; of the input, each piece of work copies the samples and rows
that it needs into a small array that stays in its core's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.backends.numba_kernels.jit import jit
from minifbi.backends.numba_kernels.machine import ROWS
from minifbi.backends.numba_kernels.simd import tile_load, tile_pick, tile_store, tile_zeros

Array = Any
CACHE_LINE = 64
Window = tuple[int, int, int, int, int, int]


@jit(entry=True)
def pack_weight(weight: Array, row_order: Array, column_order: Array, packed: Array) -> None:
    """Lay out a weight (O, C, kh, kw) as the tile reads it: (O / ROWS, kh, kw, C, ROWS), flat.

    The last output channels are filled up with zeros.
    """
    o, c, kh, kw = weight.shape
    at = 0
    for first in range(0, o, ROWS):
        if first + ROWS > o:
            packed[at:] = 0
        for k in range(kh):
            for m in range(kw):
                taps = weight[first : first + ROWS, :, row_order[k], column_order[m]]
                for row in range(taps.shape[0]):
                    for channel in range(c):
                        packed[at + channel * ROWS + row] = taps[row, channel]
                at += c * ROWS


@jit
def scratch(size: int, like: Array) -> Array:
    """A flat array for a piece of work, uninitialised, that starts at a cache line.

    A vector that straddles two cache lines costs two loads.
    """
    spare = CACHE_LINE // like.itemsize
    memory = np.empty(size + spare, like.dtype)
    start = (CACHE_LINE - memory.ctypes.data % CACHE_LINE) // like.itemsize
    return memory[start : start + size]


@jit
def pack(
    x: Array,
    winners: Array,
    window: Window,
    flat: Array,
    first_sample: int,
    row_range: tuple[int, int],
    channel_range: tuple[int, int],
    height: int,
    group: int,
    border: int,
    lanes: int,
    vectors: tuple[int, ...],
) -> None:
    """Copy one block of samples: (C, H, W, N) to (C / group, row, column, group, sample).

    Parameters
    ----------
    x : array (C, H, W, N)
        With winners, what belongs to the windows of a max-pooling, (C, OH, OW, N): then
        the map that is copied has it at the winners' places and zeros elsewhere.
    winners : array of x's shape, or of size 0
        Each window's winner, ``row * kw + column``.
    window : six int
        The pooling's kernel and stride, no smaller than the kernel, and the map's H and W.
    flat : flat array
        Where to; missing samples and channels are zeros.
    first_sample : int
    row_range, channel_range : (int, int)
        What to copy.
    height : int
        Rows that `flat` has room for in each group of channels.
    group : int
        Channels that are to lie together.
    border : int
        Columns of zeros to the left and to the right.
    lanes : int
        Numbers in a vector.
    vectors : tuple of zeros
        As many as vectors in the block; its length is known when this is compiled.
    """
    width = len(vectors) * lanes
    _, out_rows, out_columns, batch = x.shape
    kh, kw, sh, sw, rows, columns = window
    groups = (channel_range[1] - channel_range[0] + group - 1) // group
    wide = columns + 2 * border
    tiled = kh == sh and kw == sw and rows == out_rows * sh and columns == out_columns * sw
    missing = channel_range[0] + groups * group > channel_range[1] or batch - first_sample < width
    clear = missing or (winners.size > 0 and not tiled)
    if clear:
        for i in range(groups * height * wide * group * width):
            flat[i] = 0
    for tile in range(groups):
        first = channel_range[0] + tile * group
        channels = (first, min(group, channel_range[1] - first))
        for row in range(row_range[0], row_range[1]):
            to = ((tile * height + row - row_range[0]) * wide + border) * group * width
            if border > 0 and not clear:
                flat[to - border * group * width : to] = 0
                right = to + columns * group * width
                flat[right : right + border * group * width] = 0
            if winners.size == 0:
                _pack_row(x, row, flat, to, first_sample, channels, group, lanes, vectors)
            elif row % sh < kh and row // sh < out_rows:
                _unpool_row(
                    x, winners, window, row, flat, to, first_sample, channels, group, lanes, vectors
                )


@jit
def _pack_row(
    x: Array,
    row: int,
    flat: Array,
    to: int,
    first_sample: int,
    channels: tuple[int, int],
    group: int,
    lanes: int,
    vectors: tuple[int, ...],
) -> None:
    """One row of one group of channels (the first, how many)."""
    width = len(vectors) * lanes
    _, rows, columns, batch = x.shape
    samples = min(width, batch - first_sample)
    source = x.reshape(-1)
    plane = rows * columns * batch
    for column in range(columns):
        at = channels[0] * plane + (row * columns + column) * batch + first_sample
        for channel in range(channels[1]):
            if samples == width:
                values = tile_load(source, at, 1, vectors)
                tile_store(values, flat, to + channel * width, 0, 1, vectors)
            else:
                for n in range(samples):
                    flat[to + channel * width + n] = source[at + n]
            at += plane
        to += group * width


@jit
def _unpool_row(
    x: Array,
    winners: Array,
    window: Window,
    row: int,
    flat: Array,
    to: int,
    first_sample: int,
    channels: tuple[int, int],
    group: int,
    lanes: int,
    vectors: tuple[int, ...],
) -> None:
    """One row of the map that has x at the winners' places."""
    width = len(vectors) * lanes
    _, out_rows, out_columns, batch = x.shape
    _, kw, sh, sw, _, _ = window
    samples = min(width, batch - first_sample)
    source, places = x.reshape(-1), winners.reshape(-1)
    plane = out_rows * out_columns * batch
    zero = tile_zeros(x, 1, vectors)
    for column in range(out_columns):
        at = channels[0] * plane + (row // sh * out_columns + column) * batch + first_sample
        for channel in range(channels[1]):
            for k in range(kw):
                place = row % sh * kw + k
                into = to + (column * sw + k) * group * width + channel * width
                if samples == width:
                    values = tile_pick(zero, source, at, places, at, place)
                    tile_store(values, flat, into, 0, 1, vectors)
                else:
                    for n in range(samples):
                        flat[into + n] = source[at + n] if places[at + n] == place else 0
            at += plane
