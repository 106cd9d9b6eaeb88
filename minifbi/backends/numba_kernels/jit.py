"""One place that decides how the kernels are compiled.

Compiled code is kept on disk (``cache=True``) so that only the first run of a
kernel waits for the compiler.  Where nothing can be written, Numba raises while
the function is being *decorated*; then the kernel is compiled anew in every
process instead, which is slower to start but not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numba

# Numba forgets a function's compiled code when its own file changes, but not when
# a file changes whose functions were compiled into it.  So all files of this
# folder count as one.
_SOURCES = tuple(
    (path.name, path.stat().st_mtime_ns, path.stat().st_size)
    for path in sorted(Path(__file__).parent.glob("*.py"))
)


def jit(
    function: Callable[..., Any] | None = None,
    *,
    parallel: bool = False,
    reorder: bool = False,
    inline: bool = False,
    entry: bool = False,
) -> Any:
    """Compile a function on its first call, without the interpreter lock, cached on disk.

    Parameters
    ----------
    function : callable, optional
        The function, when used as a bare decorator.
    parallel : bool, default False
        Spread ``numba.prange`` loops over the threads.
    reorder : bool, default False
        Let the compiler add in another order, so that a sum becomes vector code.
        The order is still the same in every run.
    inline : bool, default False
        Put the function's code into its callers: a tile that it takes or returns then
        stays in registers.
    entry : bool, default False
        Called from Python, like the parallel ones; the others are parts of them.
    """
    if function is None:
        return lambda f: jit(f, parallel=parallel, reorder=reorder, inline=inline, entry=entry)
    options: dict[str, Any] = {
        "nogil": True,
        "parallel": parallel,
        "fastmath": {"reassoc"} if reorder else False,
        "forceinline": inline,
        "error_model": "numpy",  # dividing by zero gives inf, and needs no test
        # entrances that nobody uses: less to compile
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": not (parallel or entry),
    }
    try:
        compiled = numba.njit(function, cache=True, **options)
    except RuntimeError:  # "no locator available": no folder to write to
        return numba.njit(function, **options)
    cache: Any = getattr(compiled, "_cache", None)
    index: Any = getattr(cache, "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = _SOURCES
        _forgive_damage(cache)
    return compiled


# Work below this, in multiply-adds, takes less time than sharing it.
WORTH_SHARING = 2e5
# What an elementwise pass costs per number, in multiply-adds: it waits for memory.
ELEMENT = 16.0


class Kernel:
    """A function with a ``numba.prange`` loop, compiled twice: for all threads, and for one.

    Waking other threads costs some ten microseconds, and handing the loop to one thread
    through Numba's scheduler still costs four, as much as a small kernel takes.

    Parameters
    ----------
    function : callable

    Attributes
    ----------
    shared, alone : compiled functions
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        alone = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_alone")
        alone.__qualname__ = f"{function.__qualname__}_alone"  # its name in the cache on disk
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.shared, self.alone = jit(function, parallel=True), jit(alone, entry=True)

    @lru_cache(maxsize=1024)  # noqa: B019  # kernels are as old as their module
    def version(self, work: float) -> Any:
        """The compiled function for so much work, in multiply-adds."""
        return self.shared if work >= WORTH_SHARING else self.alone


def _forgive_damage(cache: Any) -> None:
    """Compile anew where the compiled code on disk is damaged, instead of raising.

    A power cut or a full disk may leave half a file; Numba would then fail in every run until
    somebody finds and deletes it.
    """
    load = cache.load_overload

    def load_or_forget(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # what a damaged file makes Numba raise may be anything
            cache.flush()  # writes an empty index
            return None

    cache.load_overload = load_or_forget


def is_cached(function: Any) -> bool:
    """Whether compiled code of a kernel is in memory, or lies on disk and is up to date."""
    if getattr(function, "signatures", True):
        return True
    index: Any = getattr(getattr(function, "_cache", None), "_cache_file", None)
    try:
        return bool(index._load_index())
    except Exception:  # no cache here, another version of Numba, or a damaged file
        return False
