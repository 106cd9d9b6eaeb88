"""Backends: numpy (readable reference), numba (fast on a CPU), cupy (NVIDIA GPUs).

``get_backend(name)`` hands out a backend; nothing is swapped behind anyone's
back.  A backend that was named and cannot run is an error, never a silent
fall-back; only ``"auto"`` chooses, and the object it returns says what it chose.
"""

from __future__ import annotations

import importlib
import os
from functools import cache

from minifbi.backends.base import Array, Backend, Pair, Window, output_size
from minifbi.backends.threads import set_threads
from minifbi.errors import BackendUnavailableError, ConfigError

__all__ = ["BACKEND_NAMES", "PREFERRED", "Array", "Backend", "Pair", "Window", "backend_status"]
__all__ += ["get_backend", "output_size", "set_threads"]

BACKEND_NAMES = ("numpy", "numba", "cupy")
PREFERRED = "MINIFBI_BACKEND"  # the environment variable that says what "auto" is to take


@cache
def _load(name: str) -> Backend:
    """Make the one object of a backend, importing what it needs only now."""
    if name == "numpy":
        from minifbi.backends.numpy_backend import NumpyBackend

        return NumpyBackend()
    if name == "numba":
        # Threads that wait for work may spin or sleep.  Waking a sleeping one costs as much as a
        # small kernel; but where anything else wants a core (a browser), the spinning threads
        # are suspended in the middle of a kernel, and a step takes several times as long.
        # So they spin for about a millisecond, as long as Python takes between two kernels.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ["OMP_WAIT_POLICY"] = "passive"
            os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # GNU's runtime, as in Numba's wheels
        try:
            importlib.import_module("numba")
        except Exception as error:  # a numba that does not fit its NumPy raises anything
            raise BackendUnavailableError(
                f"backend 'numba' cannot run here: importing numba failed with "
                f"{type(error).__name__}: {error}. Install it with `pip install numba`, "
                f"or choose backend='numpy'."
            ) from error
        from minifbi.backends.numba_backend import NumbaBackend

        return NumbaBackend()
    from minifbi.backends.cupy_backend import CupyBackend
    from minifbi.backends.cupy_device import load_cupy

    return CupyBackend(load_cupy())


def get_backend(name: str | Backend = "auto") -> Backend:
    """Return a backend by name.

    Parameters
    ----------
    name : {"auto", "numpy", "numba", "cupy"} or Backend
        "auto" takes what the environment variable ``MINIFBI_BACKEND`` names, so that
        notebooks can be run on another backend without a change; where it names nothing,
        numba where it imports, else numpy.  A backend object is returned as it is.

    Returns
    -------
    Backend
        The one object of that backend in this process.

    Raises
    ------
    ConfigError
        If there is no backend of that name, or of the name in ``MINIFBI_BACKEND``.
    BackendUnavailableError
        If the backend that was named cannot run here; the message says why.
    """
    if isinstance(name, Backend):
        return name
    known = "expected one of 'auto', " + ", ".join(map(repr, BACKEND_NAMES))
    if name == "auto":
        name = os.environ.get(PREFERRED) or "auto"
        if name not in ("auto", *BACKEND_NAMES):
            raise ConfigError(f"the environment variable {PREFERRED} is {name!r}: {known}")
    if name == "auto":
        try:
            return _load("numba")
        except BackendUnavailableError:
            return _load("numpy")
    if name not in BACKEND_NAMES:
        raise ConfigError(f"unknown backend {name!r}: {known}")
    return _load(name)


def backend_status() -> dict[str, str]:
    """Say for each backend whether it runs here: "ok", or the reason why not.

    Returns
    -------
    dict of str to str
        By name.
    """
    status = {}
    for name in BACKEND_NAMES:
        try:
            get_backend(name)
            status[name] = "ok"
        except BackendUnavailableError as error:
            status[name] = str(error)
    return status
