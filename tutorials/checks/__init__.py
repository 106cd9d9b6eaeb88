"""What the checks of exercises are made of.

The exercises of notebook NN have their checks in ``tutorial_NN.py``.  A check takes what the
student wrote and returns a :class:`Verdict`.  As the last line of a cell it shows itself; in a
test, ``verdict.ok`` is the grade.  A check never raises because of an answer: an error in the
student's function becomes part of the message.

Messages say what differs, where, and where to look; they never say the answer.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes
    ----------
    ok : bool
        Whether the answer is right.
    message : str
        What to say about it.
    """

    ok: bool
    message: str

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"{'✓ passed' if self.ok else '✗ not yet'}: {self.message}"


# A mistake that many make: the wrong value, or the wrong function, and what to say to it.
Typical = Sequence[tuple[Any, str]]


def number(value: Any, digits: int = 6) -> str:
    """A number as messages show it."""
    return f"{float(value):.{digits}g}"


def array_text(array: Any, limit: int = 12) -> str:
    """A small array in one line; a large one by its shape."""
    array = np.asarray(array)
    if array.size > limit:
        return f"an array of shape {array.shape}"
    text = np.array2string(array, precision=6, separator=", ", floatmode="maxprec")
    return " ".join(text.split()).replace("[ ", "[")


def equal(got: Any, expected: Any, rtol: float, atol: float) -> bool:
    """Whether two arrays have one shape and nearly one value."""
    try:
        got, expected = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
    except (TypeError, ValueError):
        return False
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=rtol, atol=atol))


def values(
    got: Any,
    expected: Any,
    what: str = "your answer",
    *,
    hint: str = "",
    praise: str = "right.",
    typical: Typical = (),
    rtol: float = 1e-6,
    atol: float = 1e-9,
) -> Verdict:
    """Compare numbers or arrays.

    Parameters
    ----------
    got : array_like
        What the student has: numbers, an array, a Tensor.
    expected : array_like
    what : str
        How messages name it.
    hint : str
        Where to look, added to what differs.
    praise : str
        What to say if it is right; the place for one more thought.
    typical : sequence of (array_like, str)
        Wrong values that are known, and what to say in place of the general hint.
    rtol, atol : float
        Relative and absolute tolerance.

    Returns
    -------
    Verdict
    """
    hint = f" {hint}" if hint else ""
    if got is Ellipsis:
        return Verdict(False, f"{what} is still `...`: replace it by your own.{hint}")
    if got is None:
        return Verdict(False, f"{what} is None: is a `return` missing?")
    if isinstance(got, str) or callable(got):
        return Verdict(False, f"{what} is {type(got).__name__} {got!r:.40}, expected numbers.")
    try:
        array = np.asarray(got, dtype=float)
    except (TypeError, ValueError):
        return Verdict(False, f"{what} is no array of numbers, but of type {type(got).__name__}.")
    expected = np.asarray(expected, dtype=float)
    if equal(array, expected, rtol, atol):
        return Verdict(True, praise)
    for wrong, message in typical:
        if equal(array, wrong, rtol, atol):
            return Verdict(False, message)
    if array.shape != expected.shape:
        return Verdict(
            False, f"{what} has shape {array.shape}, expected shape {expected.shape}.{hint}"
        )
    if not np.isfinite(array).all():
        return Verdict(False, f"{what} contains {array[~np.isfinite(array)][0]}.{hint}")
    if array.ndim == 0:
        return Verdict(False, f"{what} is {number(array)}; that is not it.{hint}")
    wrong_at = ~np.isclose(array, expected, rtol=rtol, atol=atol)
    place = tuple(int(i) for i in np.argwhere(wrong_at)[0])
    return Verdict(
        False,
        f"{what} differs in {int(wrong_at.sum())} of {array.size} numbers, first at index "
        f"{place if len(place) > 1 else place[0]}: {number(array[place])} instead of "
        f"{number(expected[place])}.{hint}",
    )


def call(answer: Any, arguments: Sequence[Any], name: str) -> tuple[Any, Verdict | None]:
    """Call a student's function.

    Returns
    -------
    result : object
        What it returned, or None.
    verdict : Verdict or None
        What went wrong, if something did: no function, an exception, arguments changed.
    """
    if answer is Ellipsis or not callable(answer):
        return None, Verdict(False, f"expected the function {name}, got {answer!r:.40}.")
    given = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        result = answer(*given)
    except Exception as error:  # whatever a student's function raises belongs in the message
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename != __file__ and frame.line]
        line = f", in the line `{own[0].line.strip()}`" if own and own[0].line else ""
        return None, Verdict(
            False, f"{name}{shown(arguments)} raised {type(error).__name__}: {error}{line}."
        )
    for old, new in zip(arguments, given, strict=True):
        if isinstance(old, np.ndarray) and not np.array_equal(old, new, equal_nan=True):
            return None, Verdict(
                False, f"{name} changes the array that it is given; work on a copy of it."
            )
    if result is None or result is Ellipsis:
        got = "None" if result is None else "`...`"
        return None, Verdict(False, f"{name}{shown(arguments)} returned {got}: write its body.")
    return result, None


def shown(arguments: Sequence[Any]) -> str:
    """Arguments as messages show them."""
    texts = []
    for a in arguments:
        is_array = isinstance(a, np.ndarray)
        texts.append(array_text(a) if is_array else a.__name__ if callable(a) else f"{a!r:.60}")
    return f"({', '.join(texts)})"


def function(
    answer: Any,
    reference: Callable[..., Any],
    cases: Sequence[Sequence[Any]],
    name: str | None = None,
    *,
    hint: str = "",
    praise: str = "right.",
    typical: Typical = (),
    rtol: float = 1e-6,
    atol: float = 1e-9,
) -> Verdict:
    """Compare a student's function with a reference, case by case.

    Parameters
    ----------
    answer : callable
        The student's.
    reference : callable
        The right one: same arguments, returns numbers, an array, or a tuple of these.
    cases : sequence of argument lists
        From simple to hard: the first that differs is reported.
    name : str, optional
        How messages name it (default: the reference's name).
    hint, praise, rtol, atol
        As in :func:`values`.
    typical : sequence of (callable, str)
        Wrong functions that are known, and what to say to each.

    Returns
    -------
    Verdict
    """
    name = name or reference.__name__
    for arguments in cases:
        got, verdict = call(answer, arguments, name)
        if verdict is not None:
            return verdict
        expected = reference(*arguments)
        pairs = [(got, expected, f"{name}{shown(arguments)}")]
        if isinstance(expected, tuple):
            if not isinstance(got, (tuple, list)) or len(got) != len(expected):
                return Verdict(False, f"{name} must return {len(expected)} values.")
            pairs = [
                (g, e, f"result {i} of {name}{shown(arguments)}")
                for i, (g, e) in enumerate(zip(got, expected, strict=True))
            ]
        for i, (one, right, what) in enumerate(pairs):
            if equal(one, right, rtol, atol):
                continue
            for wrong, message in typical:
                known, failed = call(wrong, arguments, name)
                if failed is None and isinstance(expected, tuple):
                    known = known[i]
                if failed is None and equal(one, known, rtol, atol):
                    return Verdict(False, message)
            return values(one, right, what, hint=hint, rtol=rtol, atol=atol)
    return Verdict(True, praise)


def choice(answer: Any, right: Any, why: Mapping[Any, str]) -> Verdict:
    """Grade one of several answers; `why` says something to each of them."""
    if answer is Ellipsis:
        options = ", ".join(repr(option) for option in why)
        return Verdict(False, f"replace `...` by one of {options}.")
    try:
        message = why.get(answer)
    except TypeError:  # a list, for example, cannot be looked up
        message = None
    if message is None:
        options = ", ".join(repr(option) for option in why)
        return Verdict(False, f"{answer!r:.40} is none of the answers: {options}.")
    return Verdict(answer == right, message)


def every(*verdicts: Verdict, praise: str = "") -> Verdict:
    """All must be right; the first that is not speaks, otherwise `praise` or the last."""
    for verdict in verdicts:
        if not verdict.ok:
            return verdict
    return Verdict(True, praise or verdicts[-1].message)
