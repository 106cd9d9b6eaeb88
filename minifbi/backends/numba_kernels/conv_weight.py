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

The output channels and the samples are split into groups: that is the work of
the threads.  Neither depends on the number of threads, so the result does not
either.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.numba_kernels.jit import jit
from minifbi.backends.numba_kernels.simd import (
    WEIGHT_ROWS,
    WEIGHT_VECTORS,
    tile_load,
    tile_outer,
    tile_store,
    tile_zeros,
    vector_sum,
)

Array = Any


@jit
def _inside(tap: int, size: int, out_size: int, stride: int, padding: int) -> tuple[int, int]:
    """The range of output places whose tap falls inside the input."""
    first = max(0, -((tap - padding) // stride))
    stop = min(out_size, (size - 1 + padding - tap) // stride + 1)
    return first, stop


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
    fresh: bool,
    shape: tuple[int, ...],
) -> None:
    """Add to the tile at sums[at] the products of ``rows * columns`` pixels.

    The strides are those from one pixel row, pixel, and row or column of the
    tile to the next.  A `fresh` tile starts at zero.
    """
    tile = tile_zeros(sums, WEIGHT_ROWS, shape)
    if not fresh:
        tile = tile_load(sums, at, WEIGHT_ROWS, shape)
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
                    shape,
                )
            gj += g_strides[1]
            xj += x_strides[1]
        gi += g_strides[0]
        xi += x_strides[0]
    tile_store(tile, sums, at, len(shape) * lanes, WEIGHT_ROWS, shape)


@jit
def _pack_tiles(
    x: Array,
    flat: Array,
    first_sample: int,
    row_range: tuple[int, int],
    channel_range: tuple[int, int],
    height: int,
    group: int,
    border: int,
    lanes: int,
) -> None:
    """Copy one block of samples as the tiles read it: (channel / group, row, column, group, sample).

    Everything that a tile needs then lies together, and stays in the innermost
    cache while all taps pass over it.

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
        Channels in a tile.
    border : int
        Columns of zeros to the left and to the right.
    lanes : int
        Numbers in a vector.
    """
    width = WEIGHT_VECTORS * lanes
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
                        vectors = tile_load(source, at, 1, WEIGHT_VECTORS)
                        tile_store(vectors, flat, to + channel * width, 0, 1, WEIGHT_VECTORS)
                    else:
                        for n in range(samples):
                            flat[to + channel * width + n] = source[at + n]
                    at += plane
                to += group * width


@jit
def _conv_weight_part(
    x: Array,
    g: Array,
    out: Array,
    stride: tuple[int, int],
    padding: tuple[int, int],
    samples: tuple[int, int],
    channel_range: tuple[int, int],
    band: int,
    lanes: int,
    by_channel: bool,
    shape: tuple[int, ...],
) -> None:
    """out[o_start:o_stop] = the gradient over some of the samples."""
    width = WEIGHT_VECTORS * lanes
    channels, x_rows, x_columns, _ = x.shape
    _, g_rows, g_columns, _ = g.shape
    kh, kw = out.shape[2:]
    (sh, sw), (ph, pw) = stride, padding
    tile_columns = len(shape)
    o_start, o_stop = channel_range
    o_tiles = (o_stop - o_start + WEIGHT_ROWS - 1) // WEIGHT_ROWS
    # by channel: a tile's columns are neighbouring channels of x; else neighbouring pixels
    group = tile_columns if by_channel else 1
    border = 0 if by_channel else pw
    taps = kw if by_channel else (kw + tile_columns - 1) // tile_columns
    groups = (channels + group - 1) // group
    height = min(x_rows, (band - 1) * sh + kh)

    x_pixel = group * width
    x_row = (x_columns + 2 * border) * x_pixel
    x_strides = (sh * x_row, sw * x_pixel, width if by_channel else x_pixel)
    g_pixel = WEIGHT_ROWS * width
    g_row = g_columns * g_pixel
    g_strides = (g_row, g_pixel, width)
    tile_size = WEIGHT_ROWS * tile_columns * lanes
    # the last taps of a kernel row may lie beyond it: read, but not used
    packed_x = np.empty(groups * height * x_row + tile_columns * x_pixel, x.dtype)
    packed_g = np.empty(o_tiles * band * g_row, x.dtype)
    sums = np.empty(groups * o_tiles * kh * taps * tile_size, x.dtype)

    for first_sample in range(samples[0], samples[1], width):
        for row_start in range(0, g_rows, band):
            row_stop = min(row_start + band, g_rows)
            fresh = first_sample == samples[0] and row_start == 0
            low = max(0, row_start * sh - ph)
            high = max(low, min(x_rows, (row_stop - 1) * sh - ph + kh))
            _pack_tiles(
                x, packed_x, first_sample, (low, high), (0, channels), height, group, border, lanes
            )
            _pack_tiles(
                g,
                packed_g,
                first_sample,
                (row_start, row_stop),
                channel_range,
                band,
                WEIGHT_ROWS,
                0,
                lanes,
            )
            at = 0
            for x_tile in range(groups):
                for o_tile in range(o_tiles):
                    for k in range(kh):
                        first_row, stop_row = _inside(k, x_rows, g_rows, sh, ph)
                        first_row = max(first_row, row_start)
                        stop_row = min(stop_row, row_stop)
                        for tap in range(taps):
                            if by_channel:
                                first_column, stop_column = _inside(
                                    tap, x_columns, g_columns, sw, pw
                                )
                                x_column = first_column * sw - pw + tap
                            else:
                                first_column, stop_column = 0, g_columns
                                x_column = tap * tile_columns
                            gi = (o_tile * band + first_row - row_start) * g_row
                            xi = (x_tile * height + first_row * sh - ph + k - low) * x_row
                            _add_products(
                                sums,
                                at,
                                packed_g,
                                gi + first_column * g_pixel,
                                g_strides,
                                packed_x,
                                xi + x_column * x_pixel,
                                x_strides,
                                max(0, stop_row - first_row),
                                max(0, stop_column - first_column),
                                lanes,
                                fresh,
                                shape,
                            )
                            at += tile_size

    at = 0
    for x_tile in range(groups):
        for o_tile in range(o_tiles):
            for k in range(kh):
                for tap in range(taps):
                    for row in range(WEIGHT_ROWS):
                        for column in range(tile_columns):
                            o = o_start + o_tile * WEIGHT_ROWS + row
                            c = x_tile * group + column if by_channel else x_tile
                            t = tap if by_channel else tap * tile_columns + column
                            if o < o_stop and c < channels and t < kw:
                                out[o, c, k, t] = vector_sum(sums, at)
                            at += lanes


@jit(parallel=True)
def conv_weight(
    x: Array,
    g: Array,
    parts: Array,
    stride: tuple[int, int],
    padding: tuple[int, int],
    sample_group: int,
    channel_group: int,
    band: int,
    lanes: int,
    by_channel: bool,
    shape: tuple[int, ...],
) -> None:
    """parts[i] = the gradient (O, C, kh, kw) over the i-th group of samples.

    Parameters
    ----------
    x : array (C, H, W, N)
    g : array (O, OH, OW, N)
    parts : array (groups of samples, O, C, kh, kw)
    stride, padding : (int, int)
    sample_group, channel_group : int
        Samples and output channels in a piece of work.
    band : int
        Rows of g that are packed at a time.
    lanes : int
        Numbers in a vector.
    by_channel : bool
        The tile's columns are input channels rather than taps.
    shape : tuple of zeros
        Its length is the number of columns; being part of the type, it is known
        when the kernel is compiled.
    """
    batch = x.shape[3]
    channels = g.shape[0]
    channel_groups = (channels + channel_group - 1) // channel_group
    for item in numba.prange(parts.shape[0] * channel_groups):
        part = item // channel_groups
        o_start = item % channel_groups * channel_group
        _conv_weight_part(
            x,
            g,
            parts[part],
            stride,
            padding,
            (part * sample_group, min((part + 1) * sample_group, batch)),
            (o_start, min(o_start + channel_group, channels)),
            band,
            lanes,
            by_channel,
            shape,
        )
