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
from minifbi.backends.numba_kernels.simd import tile_load, tile_store

Array = Any
CACHE_LINE = 64


def pack_weight(weight: Array, row_order: tuple[int, ...], column_order: tuple[int, ...]) -> Array:
    """Lay out a weight (O, C, kh, kw) as the tile reads it: (O / ROWS, kh, kw, C, ROWS), flat.

    The last output channels are filled up with zeros.
    """
    o, c, kh, kw = weight.shape
    tiles = -(-o // ROWS)
    packed = np.zeros((tiles, kh, kw, c, ROWS), dtype=weight.dtype)
    source = weight
    if row_order != tuple(range(kh)):
        source = source[:, :, list(row_order)]
    if column_order != tuple(range(kw)):
        source = source[:, :, :, list(column_order)]
    full = o // ROWS
    head = source[: full * ROWS].reshape(full, ROWS, c, kh, kw)
    packed[:full] = head.transpose(0, 3, 4, 2, 1)
    if full < tiles:
        packed[full, ..., : o - full * ROWS] = source[full * ROWS :].transpose(2, 3, 1, 0)
    return packed.reshape(-1)


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
def pack_samples(
    x: Array,
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
    _, rows, columns, batch = x.shape
    samples = min(width, batch - first_sample)
    groups = (channel_range[1] - channel_range[0] + group - 1) // group
    wide = columns + 2 * border
    if border > 0 or channel_range[0] + groups * group > channel_range[1] or samples < width:
        for i in range(groups * height * wide * group * width):
            flat[i] = 0
    source = x.reshape(-1)
    plane = rows * columns * batch
    for tile in range(groups):
        first = channel_range[0] + tile * group
        channels = min(group, channel_range[1] - first)
        for row in range(row_range[0], row_range[1]):
            to = ((tile * height + row - row_range[0]) * wide + border) * group * width
            for column in range(columns):
                at = first * plane + (row * columns + column) * batch + first_sample
                for channel in range(channels):
                    if samples == width:
                        values = tile_load(source, at, 1, vectors)
                        tile_store(values, flat, to + channel * width, 0, 1, vectors)
                    else:
                        for n in range(samples):
                            flat[to + channel * width + n] = source[at + n]
                    at += plane
                to += group * width
