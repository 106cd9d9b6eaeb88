"""Convolution and max-pooling in one: the large map between them is never written.

A pooled map has a quarter of the pixels of the map before it.  The tiles of one
window of pixels go into a small array that stays in the innermost cache; from there the
maximum goes to memory, or, with the winners known from before, the winner's number.

Windows must not overlap: then no pixel is computed twice.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.numba_kernels.conv import rows_read, tile_of
from minifbi.backends.numba_kernels.jit import Kernel, jit
from minifbi.backends.numba_kernels.machine import ROWS, VECTORS
from minifbi.backends.numba_kernels.pack import pack, scratch
from minifbi.backends.numba_kernels.simd import (
    best_of,
    best_store,
    tile_pick,
    tile_relu,
    tile_store,
    tile_zeros,
)

Array = Any
_BLOCK = (0,) * VECTORS  # a tuple's length is known at compile time


@jit
def _reduce_window(
    tiles: Array,
    places: int,
    lanes: int,
    out: Array,
    winners: Array,
    at: int,
    step: int,
    gather: bool,
) -> None:
    """One window's tiles, one after the other in `tiles`: to the maximum, or to the winner."""
    size = ROWS * VECTORS * lanes
    for o in range(ROWS):
        for v in range(VECTORS):
            begin = (o * VECTORS + v) * lanes
            to = at + o * step + v * lanes
            if gather:
                picked = tile_zeros(tiles, 1, 1)
                for place in range(places):
                    picked = tile_pick(picked, tiles, begin + place * size, winners, to, place)
                tile_store(picked, out, to, 0, 1, 1)
            else:
                best = tile_zeros(tiles, 1, 2)
                for place in range(places):
                    best = best_of(best, tiles, begin + place * size, place)
                best_store(best, out, to, winners, to)


@jit
def _pooled_band(
    x: Array,
    w: Array,
    bias: Array,
    row_taps: Array,
    column_taps: Array,
    window: tuple[int, int, int, int],
    out: Array,
    winners: Array,
    gather: bool,
    lanes: int,
    first_sample: int,
    row_start: int,
    row_stop: int,
    kernel: tuple[int, int],
) -> None:
    """Rows row_start..row_stop of the pooled output, all channels, one block of samples."""
    width = VECTORS * lanes
    channels, x_rows, x_columns, _ = x.shape
    out_channels, out_rows, out_columns, batch = out.shape
    kh, kw, sh, sw = window
    low, high = rows_read(row_taps, row_start * sh, (row_stop - 1) * sh + kh, x_rows)
    packed = scratch(max(1, (high - low) * x_columns * channels * width), x)
    pack(
        x,
        winners[:0],
        (1, 1, 1, 1, x_rows, x_columns),
        packed,
        first_sample,
        (low, high),
        (0, channels),
        high - low,
        channels,
        0,
        lanes,
        _BLOCK,
    )
    samples = min(width, batch - first_sample)
    size = ROWS * width
    tiles = scratch(kh * kw * size, x)
    spare, spare_winners = scratch(size, x), np.empty(size, winners.dtype)
    flat_out, flat_winners = out.reshape(-1), winners.reshape(-1)
    plane = out_rows * out_columns * batch
    for tile_index in range((out_channels + ROWS - 1) // ROWS):
        tile_channels = min(ROWS, out_channels - tile_index * ROWS)
        for row in range(row_start, row_stop):
            for column in range(out_columns):
                for place in range(kh * kw):
                    tile = tile_of(
                        packed,
                        w,
                        bias,
                        row_taps[row * sh + place // kw],
                        column_taps[column * sw + place % kw],
                        low,
                        x_columns,
                        channels,
                        tile_index,
                        kernel,
                        lanes,
                    )
                    if not gather:
                        tile = tile_relu(tile)
                    tile_store(tile, tiles, place * size, width, ROWS, VECTORS)
                at = tile_index * ROWS * plane + (row * out_columns + column) * batch + first_sample
                if samples == width and tile_channels == ROWS:
                    _reduce_window(tiles, kh * kw, lanes, flat_out, flat_winners, at, plane, gather)
                    continue
                for o in range(tile_channels if gather else 0):
                    for n in range(samples):
                        spare_winners[o * width + n] = flat_winners[at + o * plane + n]
                _reduce_window(tiles, kh * kw, lanes, spare, spare_winners, 0, width, gather)
                for o in range(tile_channels):
                    for n in range(samples):
                        flat_out[at + o * plane + n] = spare[o * width + n]
                        flat_winners[at + o * plane + n] = spare_winners[o * width + n]


@Kernel
def conv_pool(
    x: Array,
    w: Array,
    bias: Array,
    out: Array,
    winners: Array,
    gather: bool,
    row_taps: Array,
    column_taps: Array,
    window: tuple[int, int, int, int],
    lanes: int,
    band: int,
    kernel: tuple[int, int],
) -> None:
    """Convolve x (C, H, W, N), then pool into out (O, OH, OW, N).

    Parameters
    ----------
    x, out : arrays, batch last
    w, bias, row_taps, column_taps, lanes, kernel
        As in :func:`.conv.conv`; the tables are those of the map before the pooling.
    window : four int
        The pooling's kernel, and its stride, which is not smaller.
    winners : uint8 array of out's shape
        Each window's winner, ``row * kw + column``, or NO_WINNER.
    gather : bool
        False: rectify, write the maximum and the winner, NO_WINNER where the maximum is
        not above 0.  True: the winners are given; read the convolution there, and give 0
        where nobody won.
    band : int
        Pooled rows in a piece of work.
    """
    width = VECTORS * lanes
    blocks = (out.shape[3] + width - 1) // width
    bands = (out.shape[1] + band - 1) // band
    for item in numba.prange(blocks * bands):
        row_start = item % bands * band
        _pooled_band(
            x,
            w,
            bias,
            row_taps,
            column_taps,
            window,
            out,
            winners,
            gather,
            lanes,
            item // bands * width,
            row_start,
            min(row_start + band, out.shape[1]),
            kernel,
        )
