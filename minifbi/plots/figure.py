"""An empty figure, things placed on it in inches, and a figure as a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from minifbi.errors import ConfigError
from minifbi.files.atomic import write_atomically

DPI = 150
"""Dots per inch of every figure: one of 12 inches is 1800 pixels wide."""
BAR_GAP, BAR = 0.12, 0.13  # inches: a colour bar and the gap before it


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file, completely or not at all.

    The file is written to a temporary name and then moved, so nobody reads half of it.
    It stores no date and no software version: the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        What to write, at 150 dots per inch.
    path : path
        Ends in ``.png``; its folder exists.

    Raises
    ------
    ConfigError
        If the name ends in anything else.
    OSError
        If the folder does not exist, or the file cannot be written.
    """
    path = Path(path)
    check_place(path)
    write_atomically(
        path,
        lambda file: figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}),
    )


def check_place(path: str | os.PathLike[str], suffix: str = ".png", what: str = "figures") -> None:
    """Raise ConfigError or FileNotFoundError unless it is a .png in a folder that exists."""
    path = Path(path)
    if path.suffix.lower() != suffix:
        kind = suffix[1:].upper()
        raise ConfigError(
            f"{path}: {what} are written as {kind}; expected a name that ends in {suffix}"
        )
    if not path.parent.is_dir():
        problem = "No such file or directory; make the folder first:"
        raise FileNotFoundError(errno.ENOENT, problem, str(path.parent))


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty white figure, `width` by `height` inches, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def largest(values: NDArray[Any]) -> float:
    """Upper end of a colour range: the largest magnitude, or 1 for a map of zeros."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    return largest if largest > 0 else 1.0


def number(value: float) -> str:
    """Three digits in at most seven characters: 0.015, or 1.5e-4 for very small numbers."""
    text = f"{value:.3g}"
    if len(text) > 6 or "e" in text:
        digits, _, power = f"{value:.1e}".partition("e")
        text = f"{digits.removesuffix('.0')}e{int(power)}"
    return text.replace("-", "\N{MINUS SIGN}")


class Page:
    """A figure on which things are placed in inches, from the left and from the top."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = new_figure(width, height)

    def axes(self, label: str, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without ticks, at a place from the left and the top."""
        axes = self.figure.add_axes(
            (
                left / self.width,
                1 - (top + height) / self.height,
                width / self.width,
                height / self.height,
            ),
            label=label,
        )
        axes.tick_params(length=0, labelsize=9)
        axes.set(xticks=[], yticks=[])
        return axes

    def bar(
        self, label: str, left: float, top: float, height: float, norm: Normalize, colors: str
    ) -> None:
        """The colour bar of what ends at `left`."""
        axes = self.axes(f"{label} colours", left + BAR_GAP, top, BAR, height)
        bar = self.figure.colorbar(
            ScalarMappable(norm, colors),
            cax=axes,
            format=FuncFormatter(lambda value, _: number(value)),
            ticks=MaxNLocator(4 if height > 1.1 else 2),
        )
        bar.ax.tick_params(labelsize=9, length=3)
