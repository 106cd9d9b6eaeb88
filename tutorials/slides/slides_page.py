"""The pages of slides.py: large type, one thought a page, matplotlib only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

WIDE, HIGH = 13.333, 7.5  # inches: 16 to 9
BLUE, RED, GREY, GREEN, ORANGE = "#1f5fa8", "#c0392b", "#666666", "#2b7a4b", "#c44e00"
BODY = 21  # size of the text, in points


class Deck:
    """A PDF, page by page.

    Parameters
    ----------
    path : path
    pictures : path, optional
        Folder for a PNG of each page.
    """

    def __init__(self, path: Any, pictures: Any = None) -> None:
        self.pictures = None if pictures is None else Path(pictures)
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
        self.pdf = PdfPages(
            path, metadata={"Title": "minifbi: three sessions", "CreationDate": None}
        )
        self.session, self.number = "", 0
        self.figure = Figure()

    def __enter__(self) -> Deck:
        return self

    def __exit__(self, *_: Any) -> None:
        self._finish()
        self.pdf.close()

    def _finish(self) -> None:
        if self.number:
            self.pdf.savefig(self.figure)
            if self.pictures is not None:
                self.figure.savefig(self.pictures / f"page-{self.number:02d}.png", dpi=100)

    def page(self, title: str) -> Figure:
        """Begin a page."""
        self._finish()
        self.number += 1
        self.figure = Figure(figsize=(WIDE, HIGH))
        size = 31 if len(title) < 46 else 27
        self.figure.text(0.6 / WIDE, 1 - 0.62 / HIGH, title, size=size, va="center", weight="bold")
        self.figure.text(0.6 / WIDE, 0.3 / HIGH, self.session, size=12, color=GREY)
        self.figure.text(
            1 - 0.6 / WIDE, 0.3 / HIGH, f"{self.number}", size=12, color=GREY, ha="right"
        )
        return self.figure

    def begin(self, session: str, title: str, lines: Sequence[str]) -> None:
        """A page that opens a session."""
        self.session = session
        self.page("")
        self.text(session, 5.6, size=26, color=GREY)
        self.text(title, 4.8, size=42, weight="bold")
        for number, line in enumerate(lines):
            self.text(line, 3.5 - 0.62 * number)

    def text(self, text: str, y: float, x: float = 0.6, size: float = BODY, **options: Any) -> None:
        """Text whose first line has its middle at (x, y), in inches from the lower left."""
        options = {"va": "top", "linespacing": 1.45} | options
        self.figure.text(x / WIDE, (y + size / 144) / HIGH, text, size=size, **options)

    def points(
        self, items: Sequence[str], y: float = 6.0, gap: float = 0.8, x: float = 0.6
    ) -> None:
        """Items with a mark, one below the other; a second line of an item is indented."""
        for item in items:
            self.text("•", y, x)
            self.text(item, y, x + 0.35)
            y -= gap + 0.42 * item.count("\n")

    def axes(
        self, left: float, bottom: float, width: float, height: float, size: float = 15
    ) -> Any:
        """A plot, in inches, with large type."""
        ax = self.figure.add_axes((left / WIDE, bottom / HIGH, width / WIDE, height / HIGH))
        ax.tick_params(labelsize=size)
        ax.xaxis.label.set_size(size + 2)
        ax.yaxis.label.set_size(size + 2)
        ax.title.set_size(size + 2)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def canvas(self, left: float, bottom: float, width: float, height: float) -> Any:
        """A place to draw on, in inches."""
        ax = self.axes(left, bottom, width, height)
        ax.set(xlim=(0, width), ylim=(0, height))
        ax.axis("off")
        return ax

    def picture(
        self, values: Any, left: float, bottom: float, size: float, title: str = "", **options: Any
    ) -> Any:
        """An image or a map."""
        ax = self.axes(left, bottom, size, size)
        ax.imshow(values, **options)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if title:
            ax.set_title(title, size=15)
        return ax

    def signed(self, values: Any, left: float, bottom: float, size: float, title: str = "") -> Any:
        """A map of both signs: red for, blue against."""
        limit = float(np.abs(values).max()) or 1.0
        return self.picture(
            values, left, bottom, size, title, cmap="RdBu_r", vmin=-limit, vmax=limit
        )

    def table(
        self,
        rows: Sequence[Sequence[str]],
        widths: Sequence[float],
        y: float = 5.9,
        height: float = 0.55,
        size: float = 18,
        x: float = 0.6,
    ) -> None:
        """Rows of text; the first is the head."""
        for number, row in enumerate(rows):
            left = x
            for text, width in zip(row, widths, strict=True):
                weight = "bold" if number == 0 else "normal"
                row_y = y - height * number - size / 100  # a baseline: rows must not dance
                self.text(text, row_y, left, size, weight=weight, va="baseline")
                left += width
        line = (y - height / 2) / HIGH
        ax = self.figure.add_axes((x / WIDE, line, sum(widths) / WIDE, 0.002))
        ax.axis("off")
        ax.axhline(0.5, color=GREY, lw=1.5)

    def tiles(
        self,
        maps: Any,
        left: float,
        bottom: float,
        width: float,
        columns: int,
        vmax: float,
        cmap: str = "viridis",
    ) -> float:
        """Maps (C, H, W) in a grid, one colour range; returns the height of the grid."""
        rows = -(-len(maps) // columns)
        side = width / columns
        for k, one in enumerate(maps):
            place = left + side * (k % columns), bottom + side * (rows - 1 - k // columns)
            self.picture(one, *place, 0.93 * side, cmap=cmap, vmin=0, vmax=vmax)
        return rows * side


def box(
    ax: Any,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    color: str,
    size: float = 16,
) -> None:
    """A rounded box with text, centred at (x, y)."""
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0.02,rounding_size=0.1",
            facecolor="white",
            edgecolor=color,
            linewidth=2,
        )
    )
    ax.text(x, y, text, ha="center", va="center", size=size, color="black")


def arrow(
    ax: Any, start: tuple[float, float], end: tuple[float, float], color: str, width: float = 2.0
) -> None:
    """From one point to another."""
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, color=color, lw=width)
    )


def draw_net(deck: Deck, edges: Any, units: Any) -> None:
    """Units (activation, relevance) and edges (from, to, number, colour, width)."""
    ax = deck.canvas(0.6, 0.7, 12.1, 5.4)
    place = {("in", i): (1.2, 4.0 - 2.6 * i) for i in range(2)}
    place |= {("hid", j): (6.0, 4.7 - 2.0 * j) for j in range(3)} | {("out", 0): (10.8, 2.7)}
    for low, high, number, color, width in edges:
        (x0, y0), (x1, y1) = place[low], place[high]
        ax.plot([x0, x1], [y0, y1], color=color, lw=width, zorder=0)
        if number:
            t = 0.27 if low[0] == "in" else 0.5
            ax.text(
                x0 + t * (x1 - x0),
                y0 + t * (y1 - y0),
                f"{number:g}",
                color=color,
                size=20,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"},
            )
    for unit, (activation, relevance) in units.items():
        px, py = place[unit]
        ax.scatter(px, py, s=4200, color="white", edgecolor=GREY, linewidth=2, zorder=1)
        ax.text(px, py + 0.2, activation, color=GREY, ha="center", va="center", size=20)
        ax.text(px, py - 0.24, relevance, ha="center", va="center", size=22, weight="bold")
