"""The weight gradient of a convolution.

``gw[o, c, k, l] = sum over samples and pixels of g[o, pixel] * x[c, pixel + (k, l)]``:
here the *results* are few and the sums are long.  A tile holds vectors of partial
sums, one lane per sample, for a few output channels (rows) times a few columns,
and stays in registers while the kernel walks over the pixels of a block of
samples.  A step of a 4 x 4 tile loads 4 + 4 vectors for 16 multiply-adds.  The
lanes are added up at the very end.

What are the columns?  With several input channels they are neighbouring
channels: one tap (k, l) at a time, over exactly the pixels where it falls inside
the input.  The few channels of an image do not fill a tile; then the columns are
the taps (k, l), (k, l+1), ... of one kernel row, and the copy of x gets a border
of zeros, so that they all walk over the same pixels.

The copies are ordered by tiles: what a pair of tiles needs of x and of g lies
together, and stays in the innermost cache while all taps pass over it.

The output channels and the samples are split into groups: that is the work of
the threads.  Neither depends on the number of threads, so the result does not
either.
"""

from __future__ import annotations

from typing import Any

import numba

from minifbi.backends.numba_kernels.jit import Kernel, jit
from minifbi.backends.numba_kernels.machine import WEIGHT_ROWS, WEIGHT_VECTORS
from minifbi.backends.numba_kernels.pack import Window, pack, scratch
from minifbi.backends.numba_kernels.simd import (
    tile_load,
    tile_outer,
    tile_store,
    vector_sums,
)

Array = Any
INNERMOST_CACHE = 32 * 1024  # bytes
_BLOCK = (0,) * WEIGHT_VECTORS  # a tuple's length is known at compile time


@jit
def _add_products(
    sums: Array,
    at: int,
    g: Array,
    gi: int,
    g_strides: tuple[int, int, int],
    x: Array,
    xi: int,
    x_strides: tuple[int, int, int],
    rows: int,
    columns: int,
    lanes: int,
    tile_columns: tuple[int, ...],
) -> None:
    """Add to the tile at sums[at] the products of ``rows * columns`` pixels.

    The strides are those from one pixel row, pixel, and row or column of the
    tile to the next.
    """
    tile = tile_load(sums, at, WEIGHT_ROWS, tile_columns)
    for _ in range(rows):
        gj = gi
        xj = xi
        for _ in range(columns):
            for v in range(WEIGHT_VECTORS):
                tile = tile_outer(
                    tile,
                    g,
                    gj + v * lanes,
                    g_strides[2],
                    x,
                    xj + v * lanes,
                    x_strides[2],
                    WEIGHT_ROWS,
                    tile_columns,
                )
            gj += g_strides[1]
            xj += x_strides[1]
        gi += g_strides[0]
        xi += x_strides[0]
    tile_store(tile, sums, at, len(tile_columns) * lanes, WEIGHT_ROWS, tile_columns)


@jit
def _conv_weight_part(
    x: Array,
    g: Array,
    winners: Array,
    window: Window,
    out: Array,
    row_taps: Array,
    column_taps: Array,
    stride: tuple[int, int],
    samples: tuple[int, int],
    channel_range: tuple[int, int],
    band: int,
    group: int,
    border: int,
    lanes: int,
    tile_columns: tuple[int, ...],
) -> None:
    """out = the gradient over some of the samples and for some of the output channels."""
    width = WEIGHT_VECTORS * lanes
    channels, x_rows, x_columns, _ = x.shape
    g_rows, g_columns = window[4], window[5]
    kh = row_taps.shape[0]
    o_tiles = (channel_range[1] - channel_range[0] + WEIGHT_ROWS - 1) // WEIGHT_ROWS
    x_tiles = (channels + group - 1) // group
    height = min(x_rows, (band - 1) * stride[0] + kh)

    x_pixel = group * width
    x_row = (x_columns + 2 * border) * x_pixel
    # the columns of a tile: neighbouring channels, or neighbouring pixels
    x_strides = (stride[0] * x_row, stride[1] * x_pixel, width)
    g_pixel = WEIGHT_ROWS * width
    g_row = g_columns * g_pixel
    g_strides = (g_row, g_pixel, width)
    tile_size = WEIGHT_ROWS * len(tile_columns) * lanes
    # the last taps of a kernel row may lie beyond it: read, but not used
    packed_x = scratch(x_tiles * height * x_row + len(tile_columns) * x_pixel, x)
    packed_g = scratch(o_tiles * band * g_row, x)
    sums = scratch(out.size * lanes, x)
    sums[:] = 0
    # rows of g that stay in the innermost cache, with the rows of x that they meet
    fitting = INNERMOST_CACHE // x.itemsize - (kh - 1) * x_row
    strip = max(1, fitting // (g_row + stride[0] * x_row))

    for first_sample in range(samples[0], samples[1], width):
        for row_start in range(0, g_rows, band):
            row_stop = min(row_start + band, g_rows)
            # the rows of x that these rows of g meet
            low, high = x_rows, 0
            for k in range(kh):
                q, place, count = row_taps[k]
                first = max(q, row_start)
                last = min(q + count, row_stop) - 1
                if first <= last:
                    low = min(low, place + (first - q) * stride[0])
                    high = max(high, place + (last - q) * stride[0] + 1)
            x_range = (low, max(low, high))
            pack(
                x,
                winners[:0],  # x is never pooled
                (1, 1, 1, 1, x_rows, x_columns),
                packed_x,
                first_sample,
                x_range,
                (0, channels),
                height,
                group,
                border,
                lanes,
                _BLOCK,
            )
            g_range = (row_start, row_stop)
            pack(
                g,
                winners,
                window,
                packed_g,
                first_sample,
                g_range,
                channel_range,
                band,
                WEIGHT_ROWS,
                0,
                lanes,
                _BLOCK,
            )
            for pair in range(x_tiles * o_tiles):
                # a last, smaller group of output channels fills only the beginning of `out`
                o_tile, x_tile = pair // x_tiles, pair % x_tiles
                # a strip of rows stays in the innermost cache while all taps pass over it
                for strip_start in range(row_start, row_stop, strip):
                    strip_stop = min(strip_start + strip, row_stop)
                    at = pair * kh * column_taps.shape[0] * tile_size
                    for k in range(kh):
                        q, place, count = row_taps[k]
                        first = max(q, strip_start)
                        rows = min(q + count, strip_stop) - first
                        gi = (o_tile * band + first - row_start) * g_row
                        xi = (x_tile * height + place + (first - q) * stride[0] - low) * x_row
                        for tap in range(column_taps.shape[0]):
                            g_column, x_column, columns = column_taps[tap]
                            _add_products(
                                sums,
                                at,
                                packed_g,
                                gi + g_column * g_pixel,
                                g_strides,
                                packed_x,
                                xi + x_column * x_pixel,
                                x_strides,
                                rows,
                                columns,
                                lanes,
                                tile_columns,
                            )
                            at += tile_size
    for i in range(0, out.size, lanes):
        tile_store(vector_sums(sums, i * lanes), out, i, 0, 1, _BLOCK)


@Kernel
def conv_weight(
    x: Array,
    g: Array,
    winners: Array,
    window: Window,
    parts: Array,
    row_taps: Array,
    column_taps: Array,
    stride: tuple[int, int],
    sample_group: int,
    channel_group: int,
    band: int,
    group: int,
    border: int,
    lanes: int,
    tile_columns: tuple[int, ...],
) -> None:
    """parts[i, j] = the gradient over the i-th group of samples, j-th of output channels.

    Parameters
    ----------
    x : array (C, H, W, N)
    g : array (O, OH, OW, N)
    winners, window
        Of g, as in :func:`.pack.pack`.
    parts : array (groups of samples, groups of output channels, numbers)
        The numbers are tile after tile: (tile of g, tile of x, kernel row, tap or
        group of taps, row of the tile, column of the tile).
    row_taps, column_taps : int arrays
        From `weight_taps`; the columns may be groups of taps.
    stride : (int, int)
    sample_group, channel_group : int
        Samples and output channels in a piece of work.
    band : int
        Rows of g that are packed at a time.
    group : int
        Input channels in a tile.
    border : int
        Zero columns that the copy of x gets on both sides.
    lanes : int
        Numbers in a vector.
    tile_columns : tuple of zeros
        As many as columns in a tile; its length is known at compile time.
    """
    batch = x.shape[3]
    channels = g.shape[0]
    channel_groups = parts.shape[1]
    for item in numba.prange(parts.shape[0] * channel_groups):
        part = item // channel_groups
        o_start = item % channel_groups * channel_group
        _conv_weight_part(
            x,
            g,
            winners,
            window,
            parts[part, item % channel_groups],
            row_taps,
            column_taps,
            stride,
            (part * sample_group, min((part + 1) * sample_group, batch)),
            (o_start, min(o_start + channel_group, channels)),
            band,
            group,
            border,
            lanes,
            tile_columns,
        )
