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
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

Array = Any
Memory = tuple[Array, int]  # bytes, and the address of the first cache line in them
CACHE_LINE = 64
WORTH_KEEPING = 1 << 18  # bytes; the allocator keeps smaller ones by itself
LIMIT = 256 << 20  # bytes of unused memory that are kept

_unused: OrderedDict[int, list[Memory]] = OrderedDict()  # by size; the last used size last
_kept = 0
# Held while either of the two is changed, and never waited for.  An array may be freed at any
# moment, by another thread or by the garbage collector in the middle of the lines below; its
# memory is then not kept.
_busy = threading.Lock()


class _Block:
    """Owns memory that an array looks at, and keeps it when that array has gone."""

    __slots__ = ("__array_interface__", "memory")

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory = memory
        self.__array_interface__ = {
            "version": 3,
            "data": (memory[1], False),
            "shape": shape,
            "typestr": dtype.str,
        }

    def __del__(self) -> None:
        with contextlib.suppress(TypeError, AttributeError):  # the interpreter is going down
            _keep(self.memory)


def _keep(memory: Memory) -> None:
    global _kept
    if not _busy.acquire(blocking=False):
        return
    try:
        size = memory[0].nbytes
        _unused.setdefault(size, []).append(memory)
        _unused.move_to_end(size)
        _kept += size
        while _kept > LIMIT:  # give back what has not been asked for the longest
            oldest, found = next(iter(_unused.items()))
            found.pop()
            _kept -= oldest
            if not found:
                del _unused[oldest]
    finally:
        _busy.release()


def _used(size: int) -> Memory | None:
    """Kept memory of this size."""
    global _kept
    if not _busy.acquire(blocking=False):
        return None
    try:
        found = _unused.get(size)
        if not found:
            return None
        _kept -= size
        if len(found) == 1:
            del _unused[size]
        return found.pop()
    finally:
        _busy.release()


def _allocate(size: int) -> Memory:
    """Some bytes, uninitialised; used ones first."""
    known = _used(size)
    if known is not None:
        return known
    memory = np.empty(size, dtype=np.uint8)
    address = memory.ctypes.data
    return memory, address + -address % CACHE_LINE


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised C-contiguous array; if it is large, it starts at a cache line.

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
    if size < WORTH_KEEPING:
        return np.empty(shape, dtype)
    return np.asarray(_Block(_allocate(size + CACHE_LINE), shape, dtype))
