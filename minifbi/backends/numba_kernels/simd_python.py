"""The operations of :mod:`.simd` in plain NumPy, for ``NUMBA_DISABLE_JIT=1``.

A tile is an array (rows, columns, lanes) here.  Slow, but it can be debugged.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minifbi.backends.numba_kernels.machine import NO_WINNER, lanes_of

Array = Any
Count = Any  # a number, or a tuple of that length


def _count(number: Count) -> int:
    return len(number) if isinstance(number, tuple) else int(number)


def tile_zeros(array: Array, rows: Count, columns: Count) -> Array:
    return np.zeros((_count(rows), _count(columns), lanes_of(array.dtype)), array.dtype)


def tile_spread(w: Array, wi: int, rows: Count, columns: Count) -> Array:
    return tile_zeros(w, rows, columns) + w[wi : wi + _count(rows), None, None]


def tile_relu(tile: Array) -> Array:
    return np.where(tile < 0, tile.dtype.type(0), tile)


def tile_load(array: Array, index: int, rows: Count, columns: Count) -> Array:
    shape = tile_zeros(array, rows, columns).shape
    return array[index : index + int(np.prod(shape))].reshape(shape).copy()


def tile_store(
    tile: Array, array: Array, index: int, step: int, rows: Count, columns: Count
) -> None:
    for row in range(len(tile)):
        start = index + row * step
        array[start : start + tile[row].size] = tile[row].reshape(-1)


def tile_step(
    tile: Array, x: Array, xi: int, w: Array, wi: int, rows: Count, columns: Count
) -> Array:
    vectors = x[xi : xi + tile[0].size].reshape(tile.shape[1:])
    return tile + w[wi : wi + len(tile), None, None] * vectors


def tile_scale(
    tile: Array, w: Array, wi: int, x: Array, xi: int, x_step: int, rows: Count, columns: Count
) -> Array:
    size = tile[0].size
    strips = [x[xi + r * x_step :][:size].reshape(tile.shape[1:]) for r in range(len(tile))]
    return tile + w[wi] * np.stack(strips)


def tile_outer(
    tile: Array,
    g: Array,
    gi: int,
    g_step: int,
    x: Array,
    xi: int,
    x_step: int,
    rows: Count,
    columns: Count,
) -> Array:
    lanes = tile.shape[2]
    down = np.stack([g[gi + r * g_step :][:lanes] for r in range(tile.shape[0])])
    along = np.stack([x[xi + c * x_step :][:lanes] for c in range(tile.shape[1])])
    return tile + down[:, None] * along[None]


def vector_sums(array: Array, index: int) -> Array:
    lanes = lanes_of(array.dtype)
    vectors = array[index : index + lanes * lanes].reshape(lanes, lanes)
    return vectors.sum(axis=1)[None, None]


def tile_pick(tile: Array, x: Array, xi: int, winners: Array, wi: int, place: int) -> Array:
    chosen = winners[wi : wi + tile.size] == place
    return np.where(chosen, x[xi : xi + tile.size], tile.reshape(-1)).reshape(tile.shape)


def best_of(best: Array, x: Array, xi: int, place: int) -> Array:
    value, old = x[xi : xi + best.shape[2]], best[0, 0]
    wins = (value > old) | (np.isnan(value) & ~np.isnan(old))
    return np.stack([np.where(wins, value, old), np.where(wins, place, best[0, 1])])[None]


def best_store(best: Array, out: Array, oi: int, winners: Array, wi: int) -> None:
    values, places = best[0]
    out[oi : oi + values.size] = values
    winners[wi : wi + values.size] = np.where(values > 0, places, NO_WINNER)
