"""One place that decides how the kernels are compiled.

Compiled code is kept on disk (``cache=True``) so that only the first run of a
kernel waits for the compiler.  Where nothing can be written, Numba raises while
the function is being *decorated*; then the kernel is compiled anew in every
process instead, which is slower to start but not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any] | None = None, *, parallel: bool = False) -> Any:
    """Compile a function on its first call, without the interpreter lock, cached on disk.

    Parameters
    ----------
    function : callable, optional
        The function, when used as a bare decorator.
    parallel : bool, default False
        Spread ``numba.prange`` loops over the threads.
    """
    if function is None:
        return lambda f: jit(f, parallel=parallel)
    options: dict[str, Any] = {
        "nogil": True,
        "parallel": parallel,
        "error_model": "numpy",
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": not parallel,
    }
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # "no locator available": no folder to write to
        return numba.njit(function, **options)
