"""Vectors and register tiles for Numba.

A CPU multiplies and adds whole *vectors*: 16 float32 at a time with AVX-512, 8
with AVX2, 4 on ARM.  It can do so once or twice a cycle, but only if the numbers
are in registers already: a load costs as much as the arithmetic.  So a fast
kernel keeps a small *tile* of sums in registers and, for each step, loads one
strip of its rows and one of its columns::

                  x0    x1            2 vector loads (32 samples)
            w0 |  +=    +=
            w1 |  +=    +=            8 scalars, each spread over a vector
            .. |  ..    ..
            w7 |  +=    +=            16 fused multiply-adds

That is 16 multiply-adds for 10 loads: the arithmetic is what takes the time.

A compiler does not find this by itself, so the functions below spell it out.  A
tile is a tuple of vectors; ``tile = tile_step(tile, ...)`` takes one and returns
a new one, and after inlining the compiler sees nothing but registers.  All of
them address flat (one-dimensional) arrays by position and check no bounds.

With ``NUMBA_DISABLE_JIT=1`` the same names are the plain NumPy functions of
:mod:`.simd_python`, so that the kernels can be stepped through in a debugger.
"""

from __future__ import annotations

from typing import Any

import numba

from minifbi.backends.numba_kernels import simd_llvm, simd_llvm_pool, simd_python

_debugging = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
_code: Any = simd_python if _debugging else simd_llvm
_pool_code: Any = simd_python if _debugging else simd_llvm_pool

# `rows` and `columns` must be known at compile time: global constants, or tuples of that
# length.  `lanes` below is the number of numbers in a vector.

# tile_zeros(array, rows, columns): zeros of the same dtype as the array
tile_zeros = _code.tile_zeros
# tile_spread(w, wi, rows, columns): tile[r, c] = w[wi + r] in all lanes
tile_spread = _code.tile_spread
# tile_relu(tile): max(tile, 0)
tile_relu = _code.tile_relu
# tile_load(array, index, rows, columns): row after row, without gaps
tile_load = _code.tile_load
# tile_store(tile, array, index, step, rows, columns): row r starts at array[index + r * step]
tile_store = _code.tile_store
# tile_step(tile, x, xi, w, wi, rows, columns):
#     tile[r, c] += w[wi + r] * x[xi + c * lanes : ... + lanes], scalars times vectors
tile_step = _code.tile_step
# tile_scale(tile, w, wi, x, xi, x_step, rows, columns):
#     tile[r, c] += w[wi] * x[xi + r * x_step + c * lanes : ... + lanes], one scalar times vectors
tile_scale = _code.tile_scale
# tile_outer(tile, g, gi, g_step, x, xi, x_step, rows, columns):
#     tile[r, c] += g[gi + r * g_step : ... + lanes] * x[xi + c * x_step : ... + lanes]
tile_outer = _code.tile_outer
# vector_sums(array, index): a vector; its lane k is the sum of array[i : i + lanes],
#     i = index + k * lanes
vector_sums = _code.vector_sums

# for max-pooling; winners are arrays of bytes
# tile_pick(tile, x, xi, winners, wi, place):
#     tile[0, c] = x[xi + c * lanes : ... + lanes] where winners[wi + c * lanes ...] is `place`
tile_pick = _pool_code.tile_pick
# best_of(best, x, xi, place): best = (values, places), two vectors; x[xi : xi + lanes] challenges
best_of = _pool_code.best_of
# best_store(best, out, oi, winners, wi): write both; NO_WINNER where the value is not above 0
best_store = _pool_code.best_store
