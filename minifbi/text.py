"""Tables as text, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minifbi.errors import ConfigError
from minifbi.switch import evaluating


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


def layer_table(model: Any, input_shape: Sequence[int] | None) -> str:
    """Name, kind, output shape and number of parameters of each layer, and their total.

    Parameters
    ----------
    model : Layer
        The network.
    input_shape : sequence of int
        Of one sample.

    Returns
    -------
    str
        Lines without a line break at the end; one per step of a forward pass.

    Raises
    ------
    ConfigError
        If the shape is not known.
    """
    if input_shape is None:
        raise ConfigError(
            "summary() needs the shape of one sample, for example summary((1, 28, 28))"
        )
    with evaluating(model):
        steps = model.trace(model.as_input(np.zeros((1, *input_shape))))
    rows = [
        ("layer", "kind", "output shape", "parameters"),
        ("input", "", _shape(input_shape), ""),
    ]
    for step in steps:
        count = sum(p.size for p in step.layer.own_parameters.values())
        shape = _shape(step.z.shape[1:])
        rows.append((step.name, repr(step.layer), shape, f"{count:,}" if count else ""))
    total = sum(p.size for p in model.parameters().values())
    functional = sum(step.layer.functional for step in steps)
    return table(rows, right=(3,)) + (
        f"\n{total:,} parameters; K = {functional} functional layers; {model.dtype}, "
        f"backend {model.backend.name}"
    )


def _shape(sample: Sequence[int]) -> str:
    return str(("N", *sample)).replace("'", "")
