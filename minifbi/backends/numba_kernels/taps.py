"""Which weights meet which pixels: the tables that drive all the kernels.

Along one axis, output place ``q`` of a convolution reads input place
``q * stride + k - padding`` through weight ``k``.  Whatever falls outside the
input is simply not in the table, so no inner loop ever tests for the border.

A table has one row per place to be computed: (first place read, first weight
used, number of them); both then advance by one.  For the transposed convolution
the weights that meet one place are ``stride`` apart and run backwards, so they
are laid out in another *order* in memory, in which they too are neighbours.
That makes the convolution and its transpose the same kernel with different
tables.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = Any


def _table(rows: list[tuple[int, int, int]]) -> Array:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


@lru_cache(maxsize=256)
def forward_taps(
    size: int, out_size: int, kernel: int, stride: int, padding: int
) -> tuple[Array, Array]:
    """Table of an ordinary convolution along one axis, and the order of its weights.

    Parameters
    ----------
    size, out_size : int
        Places of the input (read) and of the output (computed).
    kernel, stride, padding : int
        The convolution.

    Returns
    -------
    table : int64 array (out_size, 3)
        First input place, position of the first weight, count.
    order : int array (kernel,)
        ``order[position]`` is the weight stored at that position.
    """
    rows = []
    for q in range(out_size):
        start = q * stride - padding
        first = min(max(0, -start), kernel)
        last = max(first, min(kernel, size - start))
        rows.append((start + first if last > first else 0, first, last - first))
    return _table(rows), np.arange(kernel)


@lru_cache(maxsize=256)
def transpose_taps(
    size: int, out_size: int, kernel: int, stride: int, padding: int
) -> tuple[Array, Array]:
    """Table of the transpose: one row per *input* place, listing output places.

    Same parameters and results as `forward_taps`; the table is (size, 3).
    """
    # ascending output place means descending weight, in steps of the stride
    order = tuple(k for phase in range(stride) for k in reversed(range(phase, kernel, stride)))
    position = {k: i for i, k in enumerate(order)}
    rows = []
    for place in range(size):
        met = [
            (q, k)
            for k in range(kernel - 1, -1, -1)
            for q, rest in [divmod(place + padding - k, stride)]
            if rest == 0 and 0 <= q < out_size
        ]
        rows.append((met[0][0], position[met[0][1]], len(met)) if met else (0, 0, 0))
    return _table(rows), np.array(order)


@lru_cache(maxsize=256)
def weight_taps(size: int, out_size: int, kernel: int, stride: int, padding: int) -> Array:
    """For each weight, the output places at which it falls inside the input.

    Same parameters as `forward_taps`.

    Returns
    -------
    int64 array (kernel, 3)
        First output place, the input place it meets there, count.
    """
    rows = []
    for k in range(kernel):
        met = [q for q in range(out_size) if 0 <= q * stride + k - padding < size]
        rows.append((met[0], met[0] * stride + k - padding, len(met)) if met else (0, 0, 0))
    return _table(rows)


@lru_cache(maxsize=256)
def grouped_weight_taps(out_size: int, groups: int, taps: int) -> Array:
    """The same for groups of neighbouring weights, over an input with its border of zeros."""
    return _table([(0, group * taps, out_size) for group in range(groups)])
