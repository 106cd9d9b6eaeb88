"""Pooling with the batch last: every loop over ``n`` below is plain vector code.

The maximum keeps its running winner per sample, and the branches are written as
selections (``a if test else b``) between values already read, which become vector
instructions; a read inside a branch would stay a branch.  The two
transposes (`max_scatter`, `window_mean` with the transposed tables) do not scatter: each
input pixel *gathers* from the few windows that contain it.  So every output is written once,
by one thread, and in a fixed order.

The tables come from :mod:`.taps`; all arrays are (C, H, W, N).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minifbi.backends.numba_kernels.jit import Kernel, jit

Array = Any


@jit
def _max_row(
    x: Array, row_tap: Array, column_taps: Array, kw: int, out: Array, winners: Array
) -> None:
    """One channel, one row of windows: x (H, W, N), out and winners (OW, N)."""
    batch = x.shape[2]
    for column in range(out.shape[0]):
        best = out[column]
        winner = winners[column]
        first_column, first_k, columns = column_taps[column]
        if row_tap[2] == 0 or columns == 0:  # nothing but padding
            best[:] = -np.inf
            winner[:] = 0
            continue
        for r in range(row_tap[2]):
            for k in range(columns):
                pixel = x[row_tap[0] + r, first_column + k]
                place = winners.dtype.type((row_tap[1] + r) * kw + first_k + k)
                if r == 0 and k == 0:
                    for n in range(batch):
                        best[n] = pixel[n]
                        winner[n] = place
                else:
                    for n in range(batch):
                        value = pixel[n]
                        old = best[n]
                        # larger, or the first NaN (the only value that differs from itself)
                        wins = (value > old) | ((value != value) & (old == old))
                        best[n] = value if wins else old
                        winner[n] = place if wins else winner[n]


@Kernel
def max_pool(
    x: Array, out: Array, winners: Array, row_taps: Array, column_taps: Array, kw: int
) -> None:
    """Maximum of each window, and its place ``row * kw + column`` in the window."""
    channels, rows = out.shape[:2]
    for item in numba.prange(channels * rows):
        c, row = item // rows, item % rows
        _max_row(x[c], row_taps[row], column_taps, kw, out[c, row], winners[c, row])


@jit
def _scatter_row(
    g: Array,
    winners: Array,
    row: int,
    row_windows: Array,
    column_windows: Array,
    geometry: tuple[int, int, int, int, int],
    out: Array,
) -> None:
    """One channel, one row of pixels: g and winners (OH, OW, N), out (W, N)."""
    sh, sw, ph, pw, kw = geometry
    batch = g.shape[2]
    zero = out.dtype.type(0)
    for column in range(out.shape[0]):
        total = out[column]
        started = False
        for q in range(row_windows[0], row_windows[0] + row_windows[2]):
            windows = column_windows[column]
            for p in range(windows[0], windows[0] + windows[2]):
                place = winners.dtype.type((row + ph - q * sh) * kw + column + pw - p * sw)
                window = g[q, p]
                winner = winners[q, p]
                if started:
                    for n in range(batch):
                        value = window[n]
                        total[n] += value if winner[n] == place else zero
                else:
                    for n in range(batch):
                        value = window[n]
                        total[n] = value if winner[n] == place else zero
                    started = True
        if not started:
            total[:] = 0


@Kernel
def max_scatter(
    g: Array,
    winners: Array,
    out: Array,
    row_windows: Array,
    column_windows: Array,
    geometry: tuple[int, int, int, int, int],
) -> None:
    """Add each window's g at its winner's place; geometry is (sh, sw, ph, pw, kw)."""
    channels, rows = out.shape[:2]
    for item in numba.prange(channels * rows):
        c, row = item // rows, item % rows
        _scatter_row(g[c], winners[c], row, row_windows[row], column_windows, geometry, out[c, row])


@jit
def _gather_row(
    x: Array, winners: Array, row_tap: Array, column_taps: Array, kw: int, out: Array
) -> None:
    """One channel, one row of windows: x (H, W, N), winners and out (OW, N)."""
    batch = x.shape[2]
    for column in range(out.shape[0]):
        picked = out[column]
        winner = winners[column]
        first_column, first_k, columns = column_taps[column]
        picked[:] = 0
        for r in range(row_tap[2]):
            for k in range(columns):
                pixel = x[row_tap[0] + r, first_column + k]
                place = winners.dtype.type((row_tap[1] + r) * kw + first_k + k)
                for n in range(batch):
                    value = pixel[n]
                    old = picked[n]
                    picked[n] = value if winner[n] == place else old


@Kernel
def max_gather(
    x: Array, winners: Array, out: Array, row_taps: Array, column_taps: Array, kw: int
) -> None:
    """Read x at each window's winner."""
    channels, rows = out.shape[:2]
    for item in numba.prange(channels * rows):
        c, row = item // rows, item % rows
        _gather_row(x[c], winners[c, row], row_taps[row], column_taps, kw, out[c, row])


@jit
def _sum_row(x: Array, row_tap: Array, column_taps: Array, divisor: float, out: Array) -> None:
    """One channel, one row of windows: x (H, W, N), out (OW, N)."""
    batch = x.shape[2]
    for column in range(out.shape[0]):
        total = out[column]
        first_column, _, columns = column_taps[column]
        total[:] = 0
        for r in range(row_tap[2]):
            for k in range(columns):
                pixel = x[row_tap[0] + r, first_column + k]
                for n in range(batch):
                    total[n] += pixel[n]
        for n in range(batch):
            total[n] /= divisor


@Kernel
def window_mean(x: Array, out: Array, row_taps: Array, column_taps: Array, divisor: float) -> None:
    """Sum of x over each place's taps, divided by `divisor`.

    With the tables of a convolution this is average pooling; with those of its
    transpose, the transpose of average pooling.
    """
    channels, rows = out.shape[:2]
    for item in numba.prange(channels * rows):
        c, row = item // rows, item % rows
        _sum_row(x[c], row_taps[row], column_taps, divisor, out[c, row])
