"""A setting that is on or off inside a ``with`` block, for each thread by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar


class Switch:
    """On or off; each thread and each asynchronous task has its own.

    Parameters
    ----------
    name : str
        For debugging.
    on : bool
        How it stands outside all blocks.

    Attributes
    ----------
    is_on : callable
        Returns how the switch stands here and now, a bool.
    """

    def __init__(self, name: str, on: bool) -> None:
        self._variable: ContextVar[bool] = ContextVar(f"minifbi_{name}", default=on)
        self.is_on = self._variable.get  # not a method: it is asked in every operation

    @contextlib.contextmanager
    def set(self, on: bool) -> Iterator[None]:
        """Inside the block the switch is `on`; afterwards it stands as before."""
        token = self._variable.set(on)
        try:
            yield
        finally:
            self._variable.reset(token)
