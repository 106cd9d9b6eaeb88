"""Large arrays that are used again, step after step.

A training step makes the same arrays as the one before.  A large one comes from the
operating system page by page, each zeroed and mapped at its first touch, and goes back
when it is freed: at batch 256 that took 12 ms of system time a step.  So memory of freed
arrays is kept for the next array of the same size, up to a limit.

The arrays are ordinary ones.  Their memory comes back when the last view of it has
gone, by Python's own reference counting.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from typing import Any

import numpy as np

Array = Any
CACHE_LINE = 64
WORTH_KEEPING = 1 << 20  # bytes; the allocator keeps smaller ones by itself
LIMIT = 256 << 20  # bytes of unused memory that are kept

_unused: OrderedDict[int, list[Array]] = OrderedDict()  # by size; the last used size last
_kept = 0


class _Block:
    """Owns memory that an array looks at, and keeps it when that array has gone."""

    __slots__ = ("__array_interface__", "memory")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        with contextlib.suppress(TypeError, AttributeError):  # the interpreter is going down
            _keep(self.memory)


def _keep(memory: Array) -> None:
    global _kept
    _unused.setdefault(memory.nbytes, []).append(memory)
    _unused.move_to_end(memory.nbytes)
    _kept += memory.nbytes
    while _kept > LIMIT:  # give back what has not been asked for the longest
        size, arrays = next(iter(_unused.items()))
        _kept -= arrays.pop().nbytes
        if not arrays:
            del _unused[size]


def _allocate(size: int) -> Array:
    """Some bytes, uninitialised; of large ones, used ones first."""
    global _kept
    if size < WORTH_KEEPING:
        return np.empty(size, dtype=np.uint8)
    arrays = _unused.get(size)
    if arrays:
        memory = arrays.pop()
        _kept -= size
        if not arrays:
            del _unused[size]
    else:
        memory = np.empty(size, dtype=np.uint8)
    return np.asarray(_Block(memory))


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised C-contiguous array that starts at a cache line.

    A vector that straddles two cache lines costs two loads.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    array
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = _allocate(size + CACHE_LINE)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)
