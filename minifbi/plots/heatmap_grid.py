"""Where each picture, map and word of a grid of heatmaps stands, in inches."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FixedFormatter, FixedLocator
from numpy.typing import NDArray

from minifbi.plots.figure import Page, number

# All lengths in inches.
TILE, NARROWEST, GAP, EDGE = 1.55, 1.3, 0.22, 0.3
LONGEST_LINE, LETTER = 24, 0.07  # letters in a line of a row's label; inches of a letter
LINE, BELOW, BAR_WIDE, FOOTER = 0.18, 0.26, 3.0, 0.85
BETWEEN, SMALL, LETTERS = 0.3, 0.155, 11.5  # between blocks; a small line; letters per inch
COLORS = {False: "RdBu_r", True: "PuOr_r"}
"""The colours of heatmaps, by whether they are for the colour-blind."""


@dataclass(frozen=True)
class Place:
    """Where a tile is in each row: its line, and its left edge from the first tile."""

    name: str
    line: int
    left: float


@dataclass(frozen=True)
class Arrangement:
    """Tiles in lines, and what is above them.

    Attributes
    ----------
    places : dict of (str, str) to Place
        By block and name; pictures are in the block None.
    blocks : dict of str to (int, float, float)
        The line of each block that has a name, its left edge, and its width.
    lines : int
        How many lines a row has.
    wide, tall : float
        Size of a tile.
    width : float
        From the left edge of the first tile to the right edge of the last.
    """

    places: dict[tuple[str | None, str], Place]
    blocks: dict[str, tuple[int, float, float]]
    lines: int
    wide: float
    tall: float
    width: float


def arrange(
    pictures: Sequence[str],
    blocks: Mapping[str, Sequence[str] | Mapping[str, Any]],
    per_line: int,
    size: tuple[int, ...],
) -> Arrangement:
    """Put pictures at the left and the tiles of each block beside each other.

    Parameters
    ----------
    pictures : sequence of str
        Names of the pictures.
    blocks : mapping of str to names of tiles
        If each block fits beside the pictures, none is divided, and a block that
        continues on the next line begins below the one above it.
    per_line : int
        The most tiles in a line.
    size : (int, int)
        Height and width of a map in pixels.
    """
    h, w = size
    wide, tall = TILE * min(1, w / h), TILE * min(1, h / w)
    step = max(wide, NARROWEST) + GAP
    indent = len(pictures)
    whole = all(len(names) <= per_line - indent for names in blocks.values())
    places: dict[tuple[str | None, str], Place] = {}
    found: dict[str, tuple[int, float, float]] = {}
    line, column, gap, right = 0, 0, 0.0, 0.0
    for place, (block, names) in enumerate([(None, pictures), *blocks.items()]):
        if place > 1 and whole and column + len(names) > per_line:
            line, column, gap = line + 1, indent, 0.0
        elif place > 1:
            gap += BETWEEN
        begin = None
        for name in names:
            if column == per_line:
                line, column, gap = line + 1, 0, 0.0
            left = column * step + gap
            places[block, name] = Place(name, line, left)
            begin, column, right = begin or (line, left), column + 1, max(right, left + step)
        if block and begin:
            end = left + step if line == begin[0] else per_line * step
            found[block] = (*begin, end - begin[1] - GAP)
    return Arrangement(places, found, line + 1, wide, tall, right - GAP)


class HeatmapGrid(Page):
    """A page with places for tiles: one row per image, and as many lines as each row needs."""

    def __init__(
        self,
        arrangement: Arrangement,
        count: int,
        *,
        labels: Sequence[str] | None,
        notes: Mapping[str, Sequence[str]],
        title: str | None,
        colorblind: bool,
    ) -> None:
        self.arrangement, self.colors = arrangement, COLORS[colorblind]
        self.labels = [_wrapped(text, LONGEST_LINE) for text in labels or []]
        longest = max((len(line) for text in self.labels for line in text.split("\n")), default=0)
        self.left = EDGE + (LETTER * longest + 0.15 if labels is not None else 0)
        width = max(self.left + arrangement.width + EDGE, BAR_WIDE + 2 * EDGE + 1.4)
        # words, wrapped to what they belong to, and the height that each kind needs
        self.names = {place: _wrapped(place[1], 17) or " " for place in arrangement.places}
        self.headings = {
            block: _wrapped(block, int(wide * LETTERS))
            for block, (_, _, wide) in arrangement.blocks.items()
        }
        self.notes = {
            block: [_wrapped(text, int(wide * LETTERS * 1.1)) for text in notes[block]]
            for block, (_, _, wide) in arrangement.blocks.items()
            if block in notes
        }
        name_height = LINE * max(text.count("\n") + 1 for text in self.names.values()) + 0.03
        lines = [text.count("\n") + 1 for text in self.headings.values()]
        heading = LINE * max(lines, default=0)
        most = [text.count("\n") + 1 for texts in self.notes.values() for text in texts]
        self.note_height = SMALL * max(most) + 0.06 if most else 0.0
        self.space = 0.12 if most else 0.055  # below a tile's name
        self.header = name_height + self.space + (heading + 0.03 if heading else 0)
        # with several lines per image each tile needs its name, otherwise only the first row
        space = 0.14 if heading else 0.0
        each, once = (self.header + space, 0.0) if arrangement.lines > 1 else (0.0, self.header)
        self.line_height = each + self.note_height + arrangement.tall + BELOW
        tallest = 0.17 * max((text.count("\n") + 1 for text in self.labels), default=0)
        self.row_height = max(
            arrangement.lines * self.line_height, self.note_height + each + tallest + 0.15
        )
        titles = textwrap.wrap(title or "", int(width * 8.5))
        self.top = EDGE + 0.24 * len(titles) + once + each + self.note_height
        above = self.top - each - self.note_height
        super().__init__(width, above + count * self.row_height + FOOTER)
        if titles:
            self.figure.suptitle(
                "\n".join(titles), fontsize=12, y=1 - 0.18 / self.height, va="top", parse_math=False
            )
        self._headings(range(count if arrangement.lines > 1 else 1))
        for row, text in enumerate(self.labels):
            middle = self._top(row) + max(arrangement.tall, tallest) / 2
            self._text(EDGE, middle, text, fontsize=9.5, va="center")

    def _top(self, row: int, line: int = 0) -> float:
        return self.top + row * self.row_height + line * self.line_height

    def _text(self, left: float, top: float, text: str, **options: Any) -> None:
        self.figure.text(
            left / self.width, 1 - top / self.height, text, parse_math=False, **options
        )

    def _headings(self, rows: range) -> None:
        """The blocks' names above the names of their tiles, and the notes above the tiles."""
        for block, (line, left, _) in self.arrangement.blocks.items():
            for row in rows:
                top = self._top(row, line) - self.note_height - self.header
                text = self.headings[block]
                self._text(self.left + left, top, text, fontsize=10, fontweight="bold", va="top")
            for row, text in enumerate(self.notes.get(block, ())):
                top = self._top(row, line) - self.note_height
                self._text(self.left + left, top, text, fontsize=9, va="top", color="#333333")

    def _tile(self, block: str | None, name: str, row: int, size: tuple[int, ...]) -> Axes:
        """Axes at the place of a tile, as large as fits there for an image of this size."""
        place, (h, w) = self.arrangement.places[block, name], size
        wide, tall = self.arrangement.wide, self.arrangement.tall
        step, scale = max(wide, NARROWEST), min(max(wide, NARROWEST) / w, tall / h)
        if block is None and (w * tall != h * wide):  # a picture of another shape than the maps
            wide, tall = w * scale, h * scale
        axes = self.axes(
            " ".join(part for part in (block, name, str(row)) if part),
            self.left + place.left + (step - wide) / 2,
            self._top(row, place.line) + (self.arrangement.tall - tall) / 2,
            wide,
            tall,
        )
        if self.arrangement.lines > 1 or row == 0:
            above = 72 * (self.space + self.note_height + (self.arrangement.tall - tall) / 2)
            title = self.names[block, name]
            axes.set_title(title, fontsize=10, pad=above, parse_math=False)
        return axes

    def picture(self, name: str, row: int, pixels: NDArray[Any]) -> None:
        """An image, (H, W) or (H, W, 3), as it is."""
        axes = self._tile(None, name, row, pixels.shape[:2])
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")

    def heatmap(self, block: str, name: str, row: int, values: NDArray[Any], limit: float) -> None:
        """One map, and the end of its range below it."""
        axes = self._tile(block, name, row, values.shape)
        axes.imshow(
            values,
            cmap=self.colors,
            norm=Normalize(-limit, limit),
            aspect="auto",
            interpolation="nearest",
        )
        text = f"range ±{number(limit)}" if values.any() else "0 everywhere"
        axes.set_xlabel(text, fontsize=8.5, labelpad=2)

    def bar_for_all(self, limit: float | None, ends: tuple[str, str]) -> None:
        """The colour bar, with numbers if all maps share one range."""
        end = "range" if limit is None else number(limit)
        limit = 1.0 if limit is None else limit
        left, top = (self.width - BAR_WIDE) / 2, self.height - FOOTER + 0.22
        axes = self.axes("colours", left, top, BAR_WIDE, 0.13)
        self.figure.colorbar(
            ScalarMappable(Normalize(-limit, limit), self.colors),
            cax=axes,
            orientation="horizontal",
            ticks=FixedLocator([-limit, 0, limit]),
            format=FixedFormatter([f"\N{MINUS SIGN}{end}\n{ends[0]}", "0", f"+{end}\n{ends[1]}"]),
        )
        axes.tick_params(labelsize=9, length=3)


def _wrapped(text: str, width: int) -> str:
    """Each line of a text, cut into lines of at most `width` letters."""
    return "\n".join(textwrap.fill(part, width) for part in text.split("\n"))
