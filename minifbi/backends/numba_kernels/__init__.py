"""Compiled kernels of the numba backend; see :mod:`minifbi.backends.numba_backend`."""
