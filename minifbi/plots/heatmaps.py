"""Heatmaps: attributions beside their images."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator
from numpy.typing import NDArray

from minifbi.arguments import choice, whole
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.plots.figure import Page, largest, number

SHARED = ("none", "row", "column", "all")

# All lengths in inches.
TILE, NARROWEST, GAP, EDGE, LABEL = 1.55, 1.3, 0.22, 0.3, 1.45
LINE, BELOW, BAR_WIDE, FOOTER = 0.18, 0.26, 3.0, 0.85


def plot_heatmaps(
    attributions: Mapping[str, Any],
    images: Any = None,
    *,
    rows: Sequence[str] | None = None,
    shared: str = "none",
    per_line: int = 7,
    title: str | None = None,
    colorblind: bool = False,
) -> Figure:
    """Draw a grid of heatmaps: one row per image, one column per method.

    A heatmap shows an attribution summed over the channels.  Its colours are symmetric about 0:
    white is 0, one colour is evidence for the class, the other against it.  Both end at the same
    magnitude, which is printed below the map.

    Parameters
    ----------
    attributions : mapping of str to array, shape (N, C, H, W)
        Signed attributions by the name of the method.
    images : array, shape (N, C, H, W), optional
        Pixels in [0, 1]; drawn at the left of each row.
    rows : sequence of N str, optional
        Labels of the rows; they may have several lines.
    shared : {"none", "row", "column", "all"}
        Which maps share one colour range: none, those of an image, those of a method, or all.
        Only maps with the same range can be compared by their colours.
    per_line : int
        Tiles per line; a row with more tiles continues on the next line.
    title : str, optional
        A line above the figure.
    colorblind : bool
        Purple-orange instead of red-blue.  Both can be told apart by colour-blind readers; this
        one also stays apart in shades for those who see no red.

    Returns
    -------
    Figure
        Its axes are labelled "image 0", "METHOD 0", ..., and "colours".

    Raises
    ------
    ShapeError, DataError, ConfigError
        If arrays do not fit together, hold NaN or infinity, or an option is unknown.
    """
    choice("shared", shared, SHARED)
    whole("per_line", per_line, 1)
    maps = _maps(attributions)
    count, (h, w) = len(next(iter(maps.values()))), next(iter(maps.values())).shape[1:]
    pictures = None if images is None else _pictures(images, (count, h, w))
    if rows is not None and len(rows) != count:
        raise ShapeError(f"rows has {len(rows)} labels for {count} images; expected as many")
    limits = _limits(maps, shared)

    names = [*([] if pictures is None else ["image"]), *maps]
    grid = _Grid(names, count, (h, w), int(per_line), rows is not None, title, colorblind)
    for row in range(count):
        if rows is not None:
            grid.label(row, rows[row])
        for place, name in enumerate(names):
            if place == 0 and pictures is not None:
                grid.picture(row, pictures[row])
            else:
                grid.heatmap(row, place, maps[name][row], limits[name][row])
    grid.bar_for_all(limits if shared == "all" else None)
    return grid.figure


class _Grid(Page):
    """Places for tiles: `per_line` in a line, as many lines as each image needs."""

    def __init__(
        self,
        names: Sequence[str],
        count: int,
        size: tuple[int, int],
        per_line: int,
        labels: bool,
        title: str | None,
        colorblind: bool,
    ) -> None:
        self.names, self.per_line = names, min(len(names), per_line)
        self.colors = "PuOr_r" if colorblind else "RdBu_r"
        self.wide, self.tall = TILE * min(1, size[1] / size[0]), TILE * min(1, size[0] / size[1])
        self.step = max(self.wide, NARROWEST) + GAP
        self.left = EDGE + (LABEL if labels else 0)
        width = max(self.left + self.per_line * self.step - GAP + EDGE, BAR_WIDE + 2 * EDGE + 1.4)
        self.wrapped = ["\n".join(textwrap.wrap(name, 17)) or " " for name in names]
        self.header = LINE * max(text.count("\n") + 1 for text in self.wrapped) + 0.08
        # with several lines per image each tile needs its name, otherwise only the first row
        self.lines = math.ceil(len(names) / self.per_line)
        each, once = (self.header, 0.0) if self.lines > 1 else (0.0, self.header)
        self.line_height = each + self.tall + BELOW
        heading = textwrap.wrap(title or "", int(width * 8.5))
        self.top = EDGE + 0.24 * len(heading) + once + each
        super().__init__(width, self.top - each + count * self.lines * self.line_height + FOOTER)
        if heading:
            self.figure.suptitle(
                "\n".join(heading),
                fontsize=12,
                y=1 - 0.18 / self.height,
                va="top",
                parse_math=False,
            )

    def _row_top(self, row: int) -> float:
        return self.top + row * self.lines * self.line_height

    def _tile(self, row: int, place: int) -> Axes:
        line, column = divmod(place, self.per_line)
        left = self.left + column * self.step + (self.step - GAP - self.wide) / 2
        top = self._row_top(row) + line * self.line_height
        axes = self.axes(f"{self.names[place]} {row}", left, top, self.wide, self.tall)
        if self.lines > 1 or row == 0:
            axes.set_title(self.wrapped[place], fontsize=10, pad=4, parse_math=False)
        return axes

    def label(self, row: int, text: str) -> None:
        """The text beside a row."""
        self.figure.text(
            EDGE / self.width,
            1 - (self._row_top(row) + self.tall / 2) / self.height,
            "\n".join(textwrap.fill(part, 19) for part in text.split("\n")),
            fontsize=9.5,
            va="center",
            parse_math=False,
        )

    def picture(self, row: int, pixels: NDArray[Any]) -> None:
        """The image itself, at the first place."""
        axes = self._tile(row, 0)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")

    def heatmap(self, row: int, place: int, values: NDArray[Any], limit: float) -> None:
        """One map, and the end of its range below it."""
        axes = self._tile(row, place)
        axes.imshow(
            values,
            cmap=self.colors,
            norm=Normalize(-limit, limit),
            aspect="auto",
            interpolation="nearest",
        )
        text = f"range ±{number(limit)}" if values.any() else "0 everywhere"
        axes.set_xlabel(text, fontsize=8.5, labelpad=2)

    def bar_for_all(self, limits: Mapping[str, list[float]] | None) -> None:
        """The colour bar, with numbers if all maps share one range."""
        limit = 1.0 if limits is None else next(iter(limits.values()))[0]
        end = "range" if limits is None else number(limit)
        left, top = (self.width - BAR_WIDE) / 2, self.height - FOOTER + 0.22
        axes = self.axes("colours", left, top, BAR_WIDE, 0.13)
        self.figure.colorbar(
            ScalarMappable(Normalize(-limit, limit), self.colors),
            cax=axes,
            orientation="horizontal",
            ticks=FixedLocator([-limit, 0, limit]),
            format=FixedFormatter([f"\N{MINUS SIGN}{end}\nagainst", "0", f"+{end}\nfor the class"]),
        )
        axes.tick_params(labelsize=9, length=3)


def _maps(attributions: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Each attribution summed over its channels: (N, H, W)."""
    if not attributions:
        raise ConfigError("there is no attribution to draw; expected at least one")
    maps: dict[str, NDArray[Any]] = {}
    shape: tuple[int, ...] = ()
    for name, values in attributions.items():
        array = np.asarray(values)
        shape = shape or array.shape
        if array.ndim != 4 or 0 in array.shape or array.shape != shape:
            raise ShapeError(
                f"the attribution {name!r} has shape {array.shape}; expected "
                f"{shape if len(shape) == 4 else '(images, channels, height, width)'}"
            )
        if not np.isfinite(array).all():
            raise DataError(f"the attribution {name!r} holds NaN or infinity")
        maps[name] = array.sum(axis=1)
    return maps


def _pictures(images: Any, expected: tuple[int, ...]) -> NDArray[Any]:
    """Images for imshow: (N, H, W), or (N, H, W, 3) for three channels."""
    array = np.asarray(images)
    if array.ndim != 4 or (array.shape[0], *array.shape[2:]) != expected:
        raise ShapeError(
            f"the images have shape {array.shape}; expected {expected[0]} of "
            f"{expected[1]} x {expected[2]} pixels, as the attributions: (N, C, H, W)"
        )
    clipped = np.clip(array, 0, 1)
    return clipped.transpose(0, 2, 3, 1) if array.shape[1] == 3 else clipped.mean(axis=1)


def _limits(maps: Mapping[str, NDArray[Any]], shared: str) -> dict[str, list[float]]:
    """The end of each map's colour range: by method, one for each image."""
    count = len(next(iter(maps.values())))
    together = np.stack(list(maps.values()))  # (methods, N, H, W)
    if shared == "all":
        return {name: [largest(together)] * count for name in maps}
    if shared == "row":
        return {name: [largest(together[:, row]) for row in range(count)] for name in maps}
    if shared == "column":
        return {name: [largest(values)] * count for name, values in maps.items()}
    return {name: [largest(one) for one in values] for name, values in maps.items()}
