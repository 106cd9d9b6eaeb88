"""Convolution and its transpose: one kernel, see :mod:`.taps`.

The batch is the *last* axis in memory: (C, H, W, N).  The lanes of a vector are
then samples, and every pixel is treated alike: no kernel size, stride or border
ever splits a vector.

The work is cut into blocks of samples (one tile wide) times bands of output
rows.  Each piece of work first copies the rows that it reads into a small array
(row, column, channel, sample): about one load and one store per input number,
against hundreds of multiply-adds.  In that order all channels of all taps in one
kernel row are one contiguous run, and the innermost loop just walks along it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.numba_kernels.jit import Kernel, jit
from minifbi.backends.numba_kernels.machine import ROWS, VECTORS
from minifbi.backends.numba_kernels.pack import Window, pack, scratch
from minifbi.backends.numba_kernels.simd import tile_relu, tile_spread, tile_step, tile_store

Array = Any
_BLOCK = (0,) * VECTORS  # a tuple's length is known at compile time


@jit(inline=True)
def tile_of(
    packed: Array,
    w: Array,
    bias: Array,
    row_tap: Array,
    column_tap: Array,
    low: int,
    wide: int,
    channels: int,
    tile_index: int,
    kernel: tuple[int, int],
    lanes: int,
) -> Any:
    """The tile of sums at one output pixel: ROWS output channels, one block of samples.

    `packed` holds the input from row `low` on, `wide` columns a row; `bias` is where
    the sums start.
    """
    width = VECTORS * lanes
    first_row, first_row_weight, row_count = row_tap
    first_column, first_column_weight, column_count = column_tap
    tile = tile_spread(bias, tile_index * ROWS, ROWS, VECTORS)
    for r in range(row_count):
        xi = ((first_row + r - low) * wide + first_column) * channels * width
        wi = (tile_index * kernel[0] + first_row_weight + r) * kernel[1] + first_column_weight
        wi *= channels * ROWS
        for _ in range(column_count * channels):
            tile = tile_step(tile, packed, xi, w, wi, ROWS, VECTORS)
            xi += width
            wi += ROWS
    return tile


@jit
def rows_read(row_taps: Array, row_start: int, row_stop: int, rows: int) -> tuple[int, int]:
    """The input rows, from and to, that a band of output rows reads."""
    low, high = rows, 0
    for row in range(row_start, row_stop):
        if row_taps[row, 2] > 0:
            low = min(low, row_taps[row, 0])
            high = max(high, row_taps[row, 0] + row_taps[row, 2])
    return low, max(low, high)


@jit
def _conv_band(
    x: Array,
    winners: Array,
    window: Window,
    w: Array,
    bias: Array,
    relu: bool,
    row_taps: Array,
    column_taps: Array,
    out: Array,
    lanes: int,
    first_sample: int,
    row_start: int,
    row_stop: int,
    kernel: tuple[int, int],
) -> None:
    """Rows row_start..row_stop of the output, all channels, for one block of samples."""
    width = VECTORS * lanes
    channels = x.shape[0]
    x_rows, x_columns = window[4], window[5]
    out_channels, _, out_columns, batch = out.shape
    low, high = rows_read(row_taps, row_start, row_stop, x_rows)
    packed = scratch(max(1, (high - low) * x_columns * channels * width), x)
    pack(
        x,
        winners,
        window,
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
    spare = np.empty(ROWS * width, x.dtype)
    flat_out = out.reshape(-1)
    plane = out.shape[1] * out_columns * batch
    for tile_index in range((out_channels + ROWS - 1) // ROWS):
        tile_channels = min(ROWS, out_channels - tile_index * ROWS)
        whole = samples == width and tile_channels == ROWS
        for row in range(row_start, row_stop):
            for column in range(out_columns):
                tile = tile_of(
                    packed,
                    w,
                    bias,
                    row_taps[row],
                    column_taps[column],
                    low,
                    x_columns,
                    channels,
                    tile_index,
                    kernel,
                    lanes,
                )
                if relu:
                    tile = tile_relu(tile)
                to = tile_index * ROWS * plane + (row * out_columns + column) * batch + first_sample
                if whole:
                    tile_store(tile, flat_out, to, plane, ROWS, VECTORS)
                else:
                    tile_store(tile, spare, 0, width, ROWS, VECTORS)
                    for o in range(tile_channels):
                        for n in range(samples):
                            flat_out[to + o * plane + n] = spare[o * width + n]


@Kernel
def conv(
    x: Array,
    winners: Array,
    window: Window,
    w: Array,
    bias: Array,
    relu: bool,
    out: Array,
    row_taps: Array,
    column_taps: Array,
    lanes: int,
    band: int,
    kernel: tuple[int, int],
) -> None:
    """Convolve x (C, H, W, N) into out (O, OH, OW, N), add the bias, rectify if asked.

    Parameters
    ----------
    x, out : arrays, batch last
    winners, window
        Of x, as in :func:`.pack.pack`.
    w : flat array
        From `pack_weight`.
    bias : array
        One number an output channel, and zeros up to a whole tile.
    relu : bool
    row_taps, column_taps : int arrays
        From :mod:`.taps`.
    lanes : int
        Numbers in a vector.
    band : int
        Output rows in a piece of work.
    kernel : (int, int)
    """
    width = VECTORS * lanes
    blocks = (out.shape[3] + width - 1) // width
    bands = (out.shape[1] + band - 1) // band
    for item in numba.prange(blocks * bands):
        row_start = item % bands * band
        _conv_band(
            x,
            winners,
            window,
            w,
            bias,
            relu,
            row_taps,
            column_taps,
            out,
            lanes,
            item // bands * width,
            row_start,
            min(row_start + band, out.shape[1]),
            kernel,
        )
