"""Whether the tape is being written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

# A context variable and not a global flag: every thread keeps its own.
_recording: ContextVar[bool] = ContextVar("minifbi_recording", default=True)


@contextlib.contextmanager
def _set(on: bool) -> Iterator[None]:
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Compute without writing a tape: for evaluation, where no gradient is wanted.

    Examples
    --------
    >>> from minifbi.autograd import Tensor
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     (w * w).requires_grad
    False
    """
    return _set(False)


def enable_grad() -> contextlib.AbstractContextManager[None]:
    """Write the tape again, inside a :func:`no_grad` block."""
    return _set(True)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded here and now.

    Returns
    -------
    bool
    """
    return recording()


recording = _recording.get  # the same in one call less, for the tape itself
