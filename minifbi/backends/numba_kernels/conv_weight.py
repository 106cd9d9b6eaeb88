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

from minifbi.backends.numba_kernels.conv import pack_samples
from minifbi.backends.numba_kernels.jit import jit
from minifbi.backends.numba_kernels.simd import (
    VECTORS,
    WEIGHT_ROWS,
    tile_load,
    tile_outer,
    tile_store,
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
    shape: tuple[int, ...],
) -> None:
    """Add to the tile at sums[at] the products of ``rows * columns`` pixels.

    The strides are those from one pixel row, pixel, and row or column of the
    tile to the next.
    """
    tile = tile_load(sums, at, WEIGHT_ROWS, shape)
    for _ in range(rows):
        gj = gi
        xj = xi
        for _ in range(columns):
            for v in range(VECTORS):
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
def _add_band(
    sums: Array,
    x: Array,
    g: Array,
    packed_x: Array,
    packed_g: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    first_sample: int,
    channel_range: tuple[int, int],
    row_range: tuple[int, int],
    lanes: int,
    by_channel: bool,
    shape: tuple[int, ...],
) -> None:
    """Add the products of one block of samples and some rows of g to all tiles of `sums`."""
    width = VECTORS * lanes
    channels, x_rows, x_columns, _ = x.shape
    _, g_rows, g_columns, _ = g.shape
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    o_start, o_stop = channel_range
    row_start, row_stop = row_range
    tile_columns = len(shape)
    o_tiles = (o_stop - o_start + WEIGHT_ROWS - 1) // WEIGHT_ROWS
    tile_size = WEIGHT_ROWS * tile_columns * lanes

    if by_channel:
        wide_channels = (channels + tile_columns - 1) // tile_columns * tile_columns
        border = 0
        taps, groups = kw, wide_channels // tile_columns
        x_step = width
    else:
        wide_channels = channels
        border = pw
        taps, groups = (kw + tile_columns - 1) // tile_columns, channels
        x_step = channels * width
    x_pixel = wide_channels * width
    x_row = (x_columns + 2 * border) * x_pixel
    g_pixel = o_tiles * WEIGHT_ROWS * width
    g_row = g_columns * g_pixel
    x_strides = (sh * x_row, sw * x_pixel, x_step)
    g_strides = (g_row, g_pixel, width)

    low = max(0, row_start * sh - ph)
    high = max(low, min(x_rows, (row_stop - 1) * sh - ph + kh))
    pack_samples(x, packed_x, first_sample, width, low, high, 0, channels, wide_channels, border)
    pack_samples(
        g,
        packed_g,
        first_sample,
        width,
        row_start,
        row_stop,
        o_start,
        o_stop,
        o_tiles * WEIGHT_ROWS,
        0,
    )

    at = 0
    for k in range(kh):
        first_row, stop_row = _inside(k, x_rows, g_rows, sh, ph)
        first_row = max(first_row, row_start)
        rows = min(stop_row, row_stop) - first_row
        for tap in range(taps):
            if by_channel:
                first_column, stop_column = _inside(tap, x_columns, g_columns, sw, pw)
                x_column = first_column * sw - pw + tap
            else:
                first_column, stop_column = 0, g_columns
                x_column = tap * tile_columns
            columns = stop_column - first_column
            gi = (first_row - row_start) * g_row + first_column * g_pixel
            xi = (first_row * sh - ph + k - low) * x_row + x_column * x_pixel
            for group in range(groups):
                for o_tile in range(o_tiles):
                    if rows > 0 and columns > 0:
                        _add_products(
                            sums,
                            at,
                            packed_g,
                            gi + o_tile * WEIGHT_ROWS * width,
                            g_strides,
                            packed_x,
                            xi + group * (tile_columns * width if by_channel else width),
                            x_strides,
                            rows,
                            columns,
                            lanes,
                            shape,
                        )
                    at += tile_size


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
    width = VECTORS * lanes
    channels, x_rows, x_columns, _ = x.shape
    _, g_rows, g_columns, _ = g.shape
    kh, kw = out.shape[2:]
    o_start, o_stop = channel_range
    tile_columns = len(shape)
    o_tiles = (o_stop - o_start + WEIGHT_ROWS - 1) // WEIGHT_ROWS
    if by_channel:
        taps, groups = kw, (channels + tile_columns - 1) // tile_columns
        wide_x = x_columns * groups * tile_columns
    else:
        taps, groups = (kw + tile_columns - 1) // tile_columns, channels
        # the last taps of a kernel row may lie beyond it: read, but not used
        wide_x = (x_columns + 2 * padding[1] + tile_columns) * channels
    band_rows = min(x_rows, (band - 1) * stride[0] + kh)
    packed_x = np.empty((band_rows * wide_x + tile_columns * channels) * width, x.dtype)
    packed_g = np.empty(band * g_columns * o_tiles * WEIGHT_ROWS * width, x.dtype)
    sums = np.zeros(kh * taps * groups * o_tiles * WEIGHT_ROWS * tile_columns * lanes, x.dtype)

    for first_sample in range(samples[0], samples[1], width):
        for row_start in range(0, g_rows, band):
            _add_band(
                sums,
                x,
                g,
                packed_x,
                packed_g,
                (kh, kw),
                stride,
                padding,
                first_sample,
                channel_range,
                (row_start, min(row_start + band, g_rows)),
                lanes,
                by_channel,
                shape,
            )

    at = 0
    for k in range(kh):
        for tap in range(taps):
            for group in range(groups):
                for o in range(o_start, o_start + o_tiles * WEIGHT_ROWS):
                    for column in range(tile_columns):
                        c = group * tile_columns + column if by_channel else group
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
