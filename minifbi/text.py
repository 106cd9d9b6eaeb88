"""Tables as text, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], right: Sequence[int], foot: int = 0) -> str:
    """Columns as wide as their longest cell, a rule below the head and one above the foot.

    Parameters
    ----------
    rows : sequence of rows of str
        The head first.
    right : sequence of int
        The columns that are set flush right, such as numbers.
    foot : int
        How many rows at the end belong to the foot.

    Returns
    -------
    str
        Lines without a line break at the end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        aligned = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(cells))
        lines.append("  ".join(aligned).rstrip())
    rule = "-" * max(map(len, lines))
    end = len(lines) - foot
    return "\n".join([lines[0], rule, *lines[1:end], rule, *lines[end:]])
