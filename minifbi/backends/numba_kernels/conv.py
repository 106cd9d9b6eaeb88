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

from minifbi.backends.numba_kernels.jit import jit
from minifbi.backends.numba_kernels.simd import (
    ROWS,
    VECTORS,
    tile_load,
    tile_step,
    tile_store,
    tile_zeros,
)

Array = Any


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
def pack_samples(
    x: Array,
    flat: Array,
    first_sample: int,
    width: int,
    row_start: int,
    row_stop: int,
    channel_start: int,
    channel_stop: int,
    channels: int,
    border: int,
) -> None:
    """Copy one block of samples, some rows and channels: (C, H, W, N) -> (row, column, channel, sample).

    Parameters
    ----------
    x : array (C, H, W, N)
    flat : flat array
        Where to; missing samples (the last block of a batch) and the channels
        from ``channel_stop - channel_start`` to `channels` are zeros.
    first_sample, width : int
        The samples of the block.
    row_start, row_stop, channel_start, channel_stop : int
        What to copy.
    channels : int
        Channels in the copy.
    border : int
        Columns of zeros to the left and to the right.
    """
    _, rows, columns, batch = x.shape
    samples = min(width, batch - first_sample)
    copied = channel_stop - channel_start
    wide = columns + 2 * border
    if border > 0 or channels > copied or samples < width:
        for i in range((row_stop - row_start) * wide * channels * width):
            flat[i] = 0
    source = x.reshape(-1)
    plane = rows * columns * batch
    start = channel_start * plane + first_sample
    for row in range(row_start, row_stop):
        for column in range(columns):
            to = ((row - row_start) * wide + border + column) * channels * width
            at = start + (row * columns + column) * batch
            if samples == width:
                for _ in range(copied):
                    copied_vectors = tile_load(source, at, 1, VECTORS)
                    tile_store(copied_vectors, flat, to, 0, 1, VECTORS)
                    at += plane
                    to += width
            else:
                for _ in range(copied):
                    for n in range(samples):
                        flat[to + n] = source[at + n]
                    at += plane
                    to += width


@jit
def _conv_band(
    x: Array,
    w: Array,
    row_taps: Array,
    column_taps: Array,
    out: Array,
    width: int,
    first_sample: int,
    row_start: int,
    row_stop: int,
    kernel: tuple[int, int],
) -> None:
    """Rows row_start..row_stop of the output, all channels, for one block of samples."""
    channels, _, x_columns, _ = x.shape
    out_channels, _, out_columns, batch = out.shape
    kh, kw = kernel
    # the input rows that this band reads
    low, high = x.shape[1], 0
    for row in range(row_start, row_stop):
        if row_taps[row, 2] > 0:
            low = min(low, row_taps[row, 0])
            high = max(high, row_taps[row, 0] + row_taps[row, 2])
    high = max(low, high)
    packed = np.empty(max(1, (high - low) * x_columns * channels * width), x.dtype)
    pack_samples(x, packed, first_sample, width, low, high, 0, channels, channels, 0)

    samples = min(width, batch - first_sample)
    spare = np.empty(ROWS * width, x.dtype)
    flat_out = out.reshape(-1)
    plane = out.shape[1] * out_columns * batch
    pixel = channels * width  # from one column to the next in `packed`
    for tile_index in range((out_channels + ROWS - 1) // ROWS):
        tile_channels = min(ROWS, out_channels - tile_index * ROWS)
        whole = samples == width and tile_channels == ROWS
        w_tile = tile_index * kh * kw * channels * ROWS
        for row in range(row_start, row_stop):
            first_row, first_row_weight, row_count = row_taps[row]
            for column in range(out_columns):
                first_column, first_column_weight, column_count = column_taps[column]
                tile = tile_zeros(x, ROWS, VECTORS)
                for r in range(row_count):
                    xi = ((first_row + r - low) * x_columns + first_column) * pixel
                    wi = w_tile + ((first_row_weight + r) * kw + first_column_weight) * (
                        channels * ROWS
                    )
                    for _ in range(column_count * channels):
                        tile = tile_step(tile, packed, xi, w, wi, ROWS, VECTORS)
                        xi += width
                        wi += ROWS
                to = (
                    tile_index * ROWS * plane + (row * out_columns + column) * batch + first_sample
                )
                if whole:
                    tile_store(tile, flat_out, to, plane, ROWS, VECTORS)
                else:
                    tile_store(tile, spare, 0, width, ROWS, VECTORS)
                    for o in range(tile_channels):
                        for n in range(samples):
                            flat_out[to + o * plane + n] = spare[o * width + n]


@jit(parallel=True)
def conv(
    x: Array,
    w: Array,
    row_taps: Array,
    column_taps: Array,
    out: Array,
    width: int,
    band: int,
    kernel: tuple[int, int],
) -> None:
    """Convolve x (C, H, W, N) into out (O, OH, OW, N).

    Parameters
    ----------
    x, out : arrays, batch last
    w : flat array
        From `pack_weight`.
    row_taps, column_taps : int arrays
        From :mod:`.taps`.
    width : int
        Samples in a block: VECTORS vectors.
    band : int
        Output rows in a piece of work.
    kernel : (int, int)
    """
    blocks = (out.shape[3] + width - 1) // width
    bands = (out.shape[1] + band - 1) // band
    for item in numba.prange(blocks * bands):
        row_start = item % bands * band
        _conv_band(
            x,
            w,
            row_taps,
            column_taps,
            out,
            width,
            item // bands * width,
            row_start,
            min(row_start + band, out.shape[1]),
            kernel,
        )
