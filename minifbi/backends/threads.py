"""How many threads compute."""

from __future__ import annotations

import contextlib
import importlib

from minifbi.errors import ConfigError

LARGEST = 4096


def set_threads(count: int) -> None:
    """Let at most `count` threads compute, in Numba's kernels and in NumPy's matrix product.

    Parameters
    ----------
    count : int
        At least 1.  Numba never takes more than NUMBA_NUM_THREADS, which is the
        number of cores if that variable is not set.

    Raises
    ------
    ConfigError
        If `count` is less than 1 or more than Numba may take.
    """
    if count < 1:
        raise ConfigError(f"threads={count!r}: expected at least 1")
    if count > LARGEST:
        raise ConfigError(f"threads={count!r}: expected at most {LARGEST}")
    with contextlib.suppress(ImportError):  # without Numba there is only NumPy to tell
        numba = importlib.import_module("numba")
        most = numba.config.NUMBA_NUM_THREADS
        if count > most:
            raise ConfigError(
                f"threads={count}: Numba may take {most} here; set NUMBA_NUM_THREADS={count} "
                f"in the environment to allow more"
            )
        numba.set_num_threads(count)
    import threadpoolctl

    threadpoolctl.threadpool_limits(count)
