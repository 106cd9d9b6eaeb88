"""Checks of single arguments, used by every room.

Each check returns the value as plain Python, or raises :class:`~minifbi.errors.ConfigError`
with a message that names the argument, its value and what was expected.  NumPy's integers and
floats count as numbers; True and False do not.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import CheckpointError, ConfigError, ShapeError

T = TypeVar("T")


def build(what: str, text: str, builders: Mapping[str, Callable[..., T]], **options: Any) -> T:
    """Build what a text names, such as "epsilon:0.05": a name, and its options after a colon.

    Parameters
    ----------
    what : str
        What the message calls it, such as "rule".
    text : str
        The name alone, or "NAME:VALUE,NAME=VALUE,...".  A value is read as the type of the
        option's default.
    builders : mapping of str to callable
        By name, what builds it from its options, all of which have defaults.
    **options
        The options by name instead.

    Returns
    -------
    object
        What the callable returns.

    Raises
    ------
    ConfigError
        If there is no such name, or the options do not fit it.
    """
    name, colon, written = text.partition(":")
    if name not in builders:
        raise ConfigError(f"{what} {text!r}: expected one of {', '.join(builders)}")
    takes = inspect.signature(builders[name]).parameters
    try:
        values: dict[str, Any] = {}
        for place, word in enumerate(written.split(",") if colon else []):
            key, named, value = word.rpartition("=")
            key = key.strip() if named else list(takes)[place]
            if key in values or key in options:
                raise TypeError(f"{key} twice")
            values[key] = _read(takes[key], value.strip())
        return builders[name](**values, **options)
    except ConfigError:  # a ValueError too: the options fit, but one of them is out of range
        raise
    except (LookupError, TypeError, ValueError):
        given = f"{written!r} {options or ''}".strip()
        expected = ", ".join(f"{key} ({_shown(p.default)})" for key, p in takes.items())
        raise ConfigError(
            f"{what} {name!r} got {given}; expected {expected or 'no numbers'}"
        ) from None


def entries(what: str, text: str, expected: str) -> dict[str, str]:
    """Read "NAME=VALUE; NAME=VALUE", such as rules by the names of layers.

    Parameters
    ----------
    what : str
        What the message calls it, such as "rule".
    text : str
        As above; what is empty between two semicolons is left out.
    expected : str
        How the message describes an entry.

    Returns
    -------
    dict of str to str
        In the order of the text.

    Raises
    ------
    ConfigError
        If an entry lacks its name, its value or the equals sign, or a name comes twice.
    """
    found: dict[str, str] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        name, _, value = (part.strip() for part in entry.partition("="))
        if not name or not value or name in found:
            raise ConfigError(f"{what} {text!r}, at {entry!r}: expected {expected}")
        found[name] = value
    return found


def _read(option: inspect.Parameter, text: str) -> Any:
    """A written option in the type of its default; an option that is Any may be a word too."""
    if isinstance(option.default, (int, str)):
        return type(option.default)(text)
    try:
        return float(text)
    except ValueError:
        if option.annotation not in (Any, "Any"):
            raise
        return text


def _shown(default: Any) -> str:
    return f"{default:g}" if isinstance(default, (int, float)) else str(default)


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Return `value` as an int, from `least` to `most`.

    Parameters
    ----------
    name : str
        The argument's name, as the message shows it.
    value : object
        What the caller passed.
    least, most : int, optional
        The bounds; both are allowed values.

    Returns
    -------
    int
        The value.

    Raises
    ------
    ConfigError
        If it is no whole number, or outside the bounds.
    """
    if _is_whole(value, least, most):
        return int(value)
    raise refused(name, value, _bounded("a whole number", {"at least": least, "at most": most}))


def number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float within the bounds.

    Parameters
    ----------
    name : str
        The argument's name, as the message shows it.
    value : object
        What the caller passed.
    low, high : float, optional
        The bounds; both are allowed values.
    above, below : float, optional
        Bounds that are not allowed values themselves.

    Returns
    -------
    float
        The value.

    Raises
    ------
    ConfigError
        If it is no number, NaN, infinite, or outside the bounds.
    """
    try:
        plain = float(value) if _is_a(Real, value) else math.nan
    except OverflowError:  # an int beyond every float
        plain = math.inf
    if (
        math.isfinite(plain)
        and (low is None or plain >= low)
        and (high is None or plain <= high)
        and (above is None or plain > above)
        and (below is None or plain < below)
    ):
        return plain
    bounds = {"at least": low, "above": above, "at most": high, "below": below}
    raise refused(name, value, _bounded("a finite number", bounds))


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value` if it is one of the allowed names.

    Parameters
    ----------
    name : str
        The argument's name, as the message shows it.
    value : object
        What the caller passed.
    allowed : collection of str
        The names to choose from, in the order in which the message lists them.

    Returns
    -------
    str
        The value.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    if isinstance(value, str) and value in allowed:
        return value
    raise refused(name, value, f"one of {', '.join(allowed)}")


def pair(name: str, value: Any, least: int | None = None) -> tuple[int, int]:
    """Return an int, or a pair of ints, as a pair: (3, 3) for 3.

    Parameters
    ----------
    name : str
        The argument's name, as the message shows it.
    value : object
        What the caller passed.
    least : int, optional
        The least allowed value of each.

    Returns
    -------
    (int, int)
        For example height and width.

    Raises
    ------
    ConfigError
        If it is neither, or one of the two is below `least`.
    """
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) == 2 and all(_is_whole(v, least) for v in both):
        return int(both[0]), int(both[1])
    bounds = "" if least is None else f", each at least {least}"
    raise refused(name, value, f"an integer or a pair of integers{bounds}")


def labels_of(labels: Any, batch: int, classes: int, *, look: bool = True) -> NDArray[np.int64]:
    """Return labels as an int64 array, one per sample of a batch.

    Parameters
    ----------
    labels : array_like of int
        What the caller passed.
    batch : int
        How many there must be.
    classes : int
        They must lie in 0 to `classes` - 1.
    look : bool
        Whether to look at the labels; False for an array on a device, which is returned as it is
        once its shape and dtype are checked.

    Returns
    -------
    ndarray of int64, shape (batch,)

    Raises
    ------
    ShapeError
        If their number or type is wrong, or one is outside the range.
    """
    array = np.asarray(labels) if look else labels
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise ShapeError(
            f"labels are {array.dtype} of shape {array.shape}, expected integers ({batch},): one "
            f"per image"
        )
    if not look:
        return array
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise ShapeError(
            f"label {array[wrong[0]]} at position {wrong[0]} is outside 0..{classes - 1}, "
            f"the classes of a net with {classes} outputs"
        )
    return array.astype(np.int64, copy=False)


def expect_shape(
    what: str, shape: tuple[int, ...], expected: tuple[Any, ...], hint: str = ""
) -> None:
    """Raise unless a shape is the expected one.

    Parameters
    ----------
    what : str
        Who got what, such as "Dense got an input".
    shape : tuple of int
        Of what it got.
    expected : tuple of int or str
        A number where the length is fixed, a letter where it is free: ("N", 3, "H", "W").
    hint : str
        More for the message: why, or what to do.

    Raises
    ------
    ShapeError
        With both shapes, and the hint.
    """
    fits = len(shape) == len(expected)
    for length, wanted in zip(shape, expected, strict=False):
        fits = fits and (length == wanted or isinstance(wanted, str))
    if not fits:
        words = ", ".join(map(str, expected))
        raise ShapeError(f"{what} of shape {shape}, expected ({words}){hint}")


def arrays_like(
    what: str, given: Mapping[str, Any], expected: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return arrays from a checkpoint, with the names, shapes and dtypes of those expected.

    Parameters
    ----------
    what : str
        What the message calls one of them, such as "parameter".
    given : mapping of str to array_like
        What the checkpoint holds.
    expected : mapping of str to ndarray
        What it should hold, by name.

    Returns
    -------
    dict of str to ndarray
        New arrays.

    Raises
    ------
    CheckpointError
        If names or shapes differ, or a number is not finite.
    """
    missing = ", ".join(name for name in expected if name not in given)
    surplus = ", ".join(name for name in given if name not in expected)
    wrong = [f"missing {missing}"] if missing else []
    wrong += [f"not in this model {surplus}"] if surplus else []
    wrong = wrong or [
        f"{name} has shape {np.shape(given[name])}, this model has {array.shape}"
        for name, array in expected.items()
        if np.shape(given[name]) != array.shape
    ]
    if wrong:
        raise CheckpointError(f"the {what}s belong to another model: {'; '.join(wrong)}")
    return {k: finite_array(f"{what} {k}", given[k], a.dtype) for k, a in expected.items()}


def finite_array(name: str, values: Any, dtype: Any) -> NDArray[Any]:
    """Return numbers from a checkpoint in a dtype, all of them finite there.

    Parameters
    ----------
    name : str
        What the message calls them.
    values : array_like
        Of any shape.
    dtype : float32 or float64
        Of the result.

    Returns
    -------
    ndarray of `dtype`, same shape
        A new array.

    Raises
    ------
    CheckpointError
        If they are no numbers, or one is NaN or infinite in this dtype.
    """
    array = np.asarray(values)
    with np.errstate(over="ignore"):
        array = np.array(array, dtype, order="C") if array.dtype.kind in "fiu" else np.array(np.nan)
    if not np.isfinite(array).all():
        raise CheckpointError(f"{name} holds values that are not finite numbers in {dtype}")
    return array


def refused(name: str, value: Any, expected: str) -> ConfigError:
    """Return the error to raise for any other check: "name=value: expected ...".

    Parameters
    ----------
    name : str
        The argument's name.
    value : object
        What the caller passed; a long one is cut.
    expected : str
        What was expected, and what to do.

    Returns
    -------
    ConfigError
        The error.
    """
    try:
        shown = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        shown = "a number of thousands of digits"
    shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
    return ConfigError(f"{name}={shown}: expected {expected}")


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_whole(value: Any, least: int | None, most: int | None = None) -> bool:
    return (
        _is_a(Integral, value)
        and (least is None or value >= least)
        and (most is None or value <= most)
    )


def _bounded(what: str, bounds: Mapping[str, float | None]) -> str:
    limits = [f"{words} {bound:,}" for words, bound in bounds.items() if bound is not None]
    return f"{what}, {' and '.join(limits)}" if limits else what
