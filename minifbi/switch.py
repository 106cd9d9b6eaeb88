"""What is on or off inside a ``with`` block: settings, and the mode of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any


class Switch:
    """A setting; each thread and each asynchronous task has its own.

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


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode inside a ``with``; every layer gets back its own mode, frozen ones too."""
    modes = [(part, part.training) for part in (model, *(p for _, p in model.named_layers()))]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
