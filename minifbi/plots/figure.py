"""An empty figure, and a figure as a file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minifbi.errors import ConfigError

DPI = 150
"""Dots per inch of every figure: one of 12 inches is 1800 pixels wide."""


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file, all of it or nothing.

    The file is written beside its final place and then moved there, so a reader
    never sees half of it.  No date and no software version is stored in it: the
    same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
    path : path
        Ends in ``.png``; its folder exists.

    Raises
    ------
    ConfigError
        If the name ends in anything else.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: figures are written as PNG; expected a name that ends in .png")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("xb") as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty white figure, `width` by `height` inches, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure
