"""Whether tensors live where they must: on one backend, and on that of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minifbi.backends.base import Backend
from minifbi.errors import BackendMismatchError


def check_same_backend(tensors: Sequence[Any], name: str) -> None:
    """Raise BackendMismatchError if the inputs of an operation live on different backends.

    Parameters
    ----------
    tensors : sequence of Tensor
        What goes into the operation.
    name : str
        The operation's, for the message.
    """
    backends = dict.fromkeys(tensor.backend for tensor in tensors)
    names = [repr(backend.name) for backend in backends]
    if len(names) > 1:
        found = f"{name} got tensors of two backends, {' and '.join(names[:2])}"
        raise BackendMismatchError(f"{found}; make both with the same backend=")


def check_input_place(x: Any, backend: Backend, dtype: Any) -> None:
    """Raise unless the input of a model has the model's backend and dtype.

    Parameters
    ----------
    x : Tensor
        The input.
    backend : Backend
        The model's.
    dtype : float32 or float64
        The model's.

    Raises
    ------
    BackendMismatchError, TypeError
        If the backend or the dtype is another one; the message says how to make the input.
    """
    if x.backend is not backend:
        raise BackendMismatchError(
            f"the input lives on backend {x.backend.name!r}, the model on "
            f"{backend.name!r}; make it with Tensor(x, backend={backend.name!r})"
        )
    if x.dtype != dtype:
        raise TypeError(
            f"the input is {x.dtype}, the model {dtype}; use Tensor(x, dtype={str(dtype)!r})"
        )
