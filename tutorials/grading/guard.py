"""Keeps the checks, and what they compute with, out of reach of a student's cell.

``import checks.tutorial_01 as c; c.exercise = lambda *a: right`` in a notebook replaces a check in
the process that grades it, and ``np.allclose = lambda *a, **k: True`` does the same by a detour.
So we remember, before the first cell runs, what the modules, classes and functions that take part
in grading consist of, and put it back while an exercise is graded.  Afterwards the notebook
gets its own world again, since its later cells may rely on it.

Names that the notebook adds stay: they cannot change what a check does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

# the checks and their libraries, and what of Python's own library they and the worker use
ROOTS = set(
    "checks minifbi numpy scipy builtins math cmath statistics random json re copy dataclasses "
    "functools operator inspect ast traceback collections itertools contextlib".split()
)
CODE = ("__code__", "__defaults__", "__kwdefaults__")
MISSING = object()


class Guard:
    """What the modules under ROOTS are made of at the time when this is built."""

    def __init__(self) -> None:
        self.parts: list[tuple[Any, dict[str, Any]]] = []
        seen: set[int] = set()
        for name, module in list(sys.modules.items()):
            root = name.partition(".")[0]
            if root not in ROOTS or not isinstance(module, ModuleType):
                continue
            self._remember(module, dict(vars(module)), seen)
            if root in ("checks", "minifbi"):
                for value in list(vars(module).values()):
                    self._look_into(value, seen)

    def _remember(self, owner: Any, attributes: dict[str, Any], seen: set[int]) -> None:
        if id(owner) not in seen:
            seen.add(id(owner))
            self.parts.append((owner, attributes))

    def _look_into(self, value: Any, seen: set[int]) -> None:
        """Remember a function's code, and a class's attributes with their code."""
        if isinstance(value, FunctionType):
            self._remember(value, {name: getattr(value, name) for name in CODE}, seen)
        elif isinstance(value, type) and value.__module__.partition(".")[0] in ROOTS:
            if id(value) not in seen:
                self._remember(value, dict(vars(value)), seen)
                for attribute in list(vars(value).values()):
                    self._look_into(getattr(attribute, "__func__", attribute), seen)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Everything as it was, inside a ``with``; then as the notebook has left it."""
        changed = []
        for owner, before in self.parts:
            for name, value in before.items():
                now = (
                    owner.__dict__.get(name, MISSING) if name not in CODE else getattr(owner, name)
                )
                if now is not value and put(owner, name, value):
                    changed.append((owner, name, now))
        try:
            yield
        finally:
            for owner, name, now in reversed(changed):
                put(owner, name, now)


def put(owner: Any, name: str, value: Any) -> bool:
    """Set an attribute, or delete it; return whether that is possible."""
    try:
        if isinstance(owner, ModuleType):  # its dictionary: a package may have a __setattr__
            if value is MISSING:
                owner.__dict__.pop(name, None)
            else:
                owner.__dict__[name] = value
        elif value is MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, value)
    except (AttributeError, TypeError):  # what Python does not let us set, nobody has set
        return False
    return True
