"""Whether the tape is being written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

# A context variable and not a global flag: every thread keeps its own.
_recording: ContextVar[bool] = ContextVar("minifbi_recording", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Compute without writing a tape: for evaluation, where no gradient is wanted.

    Examples
    --------
    >>> from minifbi.autograd import Tensor
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     (w * w).requires_grad
    False
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


@contextlib.contextmanager
def enable_grad() -> Iterator[None]:
    """Write the tape again, inside a :func:`no_grad` block."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded here and now.

    Returns
    -------
    bool
    """
    return recording()


recording = _recording.get  # the same in one call less, for the tape itself
