"""Convolution into few output channels: the tile's rows are pixels.

The tile of :mod:`.conv` holds several output channels.  A convolution into one
channel (the relevance of a grey image is one) would leave most of such a tile
empty.  Here the rows of the tile are neighbouring output pixels instead; each
weight is one scalar for all of them::

                    x at pixel 0, 1, ... 15       a vector each
            w   |   +=   +=  ...  +=              16 fused multiply-adds

Every multiply-add reads its own vector, which the level-1 cache can just
provide.  Pixels near the left and right border read zeros from a padded copy.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.numba_kernels.conv import rows_read
from minifbi.backends.numba_kernels.jit import Kernel, jit
from minifbi.backends.numba_kernels.machine import FEW_PIXELS
from minifbi.backends.numba_kernels.pack import Window, pack, scratch
from minifbi.backends.numba_kernels.simd import tile_scale, tile_store, tile_zeros

Array = Any
PIXELS = FEW_PIXELS
_BLOCK = (0,)


def border_of(size: int, out_size: int, kernel: int, stride: int, first: int) -> int:
    """Columns of zeros that the padded copy needs on each side.

    Parameters
    ----------
    size, out_size : int
        Columns of the input and the output.
    kernel, stride : int
    first : int
        The input column under the first tap of output column 0; may be negative.
    """
    tiles = -(-out_size // PIXELS)
    last = (tiles * PIXELS - 1) * stride + first + kernel - 1
    return max(0, -first, last - size + 1)


@jit
def _few_band(
    x: Array,
    winners: Array,
    window: Window,
    w: Array,
    row_taps: Array,
    columns: tuple[int, int, int],
    out: Array,
    lanes: int,
    first_sample: int,
    row_start: int,
    row_stop: int,
    kernel: tuple[int, int],
) -> None:
    """Rows row_start..row_stop of the output, for one block of samples."""
    width = lanes
    channels = x.shape[0]
    x_rows, x_columns = window[4], window[5]
    out_channels, out_rows, out_columns, batch = out.shape
    kh, kw = kernel
    stride, first, border = columns
    low, high = rows_read(row_taps, row_start, row_stop, x_rows)
    wide = x_columns + 2 * border
    packed = scratch(max(1, (high - low) * wide * channels * width), x)
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
        border,
        lanes,
        _BLOCK,
    )

    samples = min(width, batch - first_sample)
    spare = np.empty(PIXELS * width, x.dtype)
    flat_out = out.reshape(-1)
    pixel = channels * width
    for o in range(out_channels):
        for row in range(row_start, row_stop):
            first_row, first_weight, row_count = row_taps[row]
            for column in range(0, out_columns, PIXELS):
                tile = tile_zeros(x, PIXELS, 1)
                for r in range(row_count):
                    xi = (first_row + r - low) * wide + column * stride + first + border
                    xi *= pixel
                    wi = (o * kh + first_weight + r) * kw * channels
                    for _ in range(kw * channels):
                        tile = tile_scale(tile, w, wi, packed, xi, stride * pixel, PIXELS, 1)
                        xi += width
                        wi += 1
                to = ((o * out_rows + row) * out_columns + column) * batch + first_sample
                if samples == width and column + PIXELS <= out_columns:
                    tile_store(tile, flat_out, to, batch, PIXELS, 1)
                else:
                    tile_store(tile, spare, 0, width, PIXELS, 1)
                    for p in range(min(PIXELS, out_columns - column)):
                        for n in range(samples):
                            flat_out[to + p * batch + n] = spare[p * width + n]


@Kernel
def conv_few(
    x: Array,
    winners: Array,
    window: Window,
    w: Array,
    out: Array,
    row_taps: Array,
    columns: tuple[int, int, int],
    lanes: int,
    band: int,
    kernel: tuple[int, int],
) -> None:
    """Convolve x (C, H, W, N) into out (O, OH, OW, N), O small.

    Parameters
    ----------
    x, out : arrays, batch last
    winners, window
        Of x, as in :func:`.pack.pack`.
    w : flat array
        (O, kh, kw, C), the taps in the order of the tables.
    row_taps : int array
        From :mod:`.taps`.
    columns : (int, int, int)
        Stride, input column under the first tap of output column 0, and border.
    lanes, band : int
        As in :func:`.conv.conv`.
    kernel : (int, int)
    """
    width = lanes
    blocks = (out.shape[3] + width - 1) // width
    bands = (out.shape[1] + band - 1) // band
    for item in numba.prange(blocks * bands):
        row_start = item % bands * band
        _few_band(
            x,
            winners,
            window,
            w,
            row_taps,
            columns,
            out,
            lanes,
            item // bands * width,
            row_start,
            min(row_start + band, out.shape[1]),
            kernel,
        )
