"""Large arrays that are used again, step after step.

A training step makes the same arrays as the one before.  A large one comes from the
operating system page by page, each zeroed and mapped at its first touch, and goes back
when it is freed: at batch 256 that took 12 ms of system time a step.  So memory of freed
arrays is kept for the next array of the same size, up to a limit.

The arrays are ordinary ones.  Their memory comes back when the last view of it has
gone, by Python's own reference counting.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from types import SimpleNamespace
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


class _Block(SimpleNamespace):
    """Owns `memory` that an array looks at, and keeps it when that array has gone."""

    memory: Memory

    def __del__(self) -> None:
        global _kept
        try:
            if not _busy.acquire(blocking=False):
                return
        except (TypeError, AttributeError):  # the interpreter is going down
            return
        try:
            size = self.memory[0].nbytes
            _unused.setdefault(size, []).append(self.memory)
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
    global _kept
    dtype = np.dtype(dtype)
    size, memory = math.prod(shape) * dtype.itemsize + CACHE_LINE, None
    if size < WORTH_KEEPING:
        return np.empty(shape, dtype)
    if _busy.acquire(blocking=False):
        try:
            found = _unused.get(size)
            if found:
                _kept -= size
                if len(found) == 1:
                    del _unused[size]
                memory = found.pop()
        finally:
            _busy.release()
    if memory is None:
        block = np.empty(size, dtype=np.uint8)
        memory = block, block.ctypes.data + -block.ctypes.data % CACHE_LINE
    interface = {
        "version": 3,
        "data": (memory[1], False),
        "shape": shape,
        "typestr": dtype.str,
    }
    return np.asarray(_Block(memory=memory, __array_interface__=interface))
