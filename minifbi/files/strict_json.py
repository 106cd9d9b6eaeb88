"""Read JSON from files that others may have made.

Python's own reader accepts more than JSON, and some of it causes errors later: ``NaN`` and
``Infinity``, numbers so large that they become infinite, the same key twice, and text that no
terminal or file can show.  This reader refuses all of that.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 64 * 2**20
"""Largest JSON text that is read; the log of a run of 100,000 epochs is smaller."""
MAX_DIGITS = 100
"""Of a whole number; the state of a random generator has 39."""


def parse_json(text: str | bytes) -> Any:
    """A JSON value from its text.

    Parameters
    ----------
    text : str or bytes
        Bytes are UTF-8.

    Returns
    -------
    dict, list, str, int, float, bool or None
        Every float in it is finite.

    Raises
    ------
    ValueError
        If the text is too long, is not JSON, is nested too deeply, or holds a number that is not
        finite, a whole number of more than 100 digits, the same key twice in one object, or half
        of a surrogate pair.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text):,} bytes of JSON; expected at most {MAX_BYTES:,}")
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # only an escape can bring half a pair into what was UTF-8
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """A JSON value from a file.

    Raises
    ------
    OSError
        If there is no such file, it cannot be read, or it is no regular file: reading a pipe
        could wait forever.
    ValueError
        See :func:`parse_json`.
    """
    path = Path(path)
    check_regular(path)
    with path.open("rb") as file:
        return parse_json(file.read(MAX_BYTES + 1))


def check_regular(path: Path) -> None:
    """Raise OSError unless there is such a file, and it is not a pipe, a device or a folder.

    Call it before opening the file: opening a pipe waits until another process writes to it.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; expected a finite number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits; expected at most {MAX_DIGITS}")
    return int(digits)
