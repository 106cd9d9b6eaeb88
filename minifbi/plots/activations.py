"""Activation and relevance maps of one image, in the style of the paper's Fig. 2."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from minifbi.activation_maps import ActivationMaps, LayerMaps, activation_maps
from minifbi.layers import Layer
from minifbi.plots.figure import BAR, BAR_GAP, Page, largest, number

# All lengths in inches.
BLOCK = 5.0  # width of the tiles of one layer
EDGE, BAR_TEXT = 0.5, 0.74  # left of the tiles; numbers of the colour bar at the right
COLUMN = EDGE + BLOCK + BAR_GAP + BAR + BAR_TEXT
LINE, HEADER, PICTURE, FOOTER = 0.23, 0.42, 2.0, 0.45
GREY = "#e0e0e0"  # around each tile, so that a white map still shows


def plot_activations(
    model: Layer,
    image: Any,
    label: int | None = None,
    *,
    layers: int = 3,
    title: str | None = None,
    start: str = "target",
    activation_max: Mapping[str, float] | None = None,
    colorblind: bool = False,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw the activation and relevance maps of the first convolutions for an image.

    The top shows the image and its relevance, a_1^- summed over the channels.  Below, each
    convolution has all its activation maps after the ReLU (left) and the relevance maps at the
    same point of the network, before any pooling (right); a filter has the same place on both
    sides.  Each layer has one colour range for its activations, from 0 to their maximum, and one
    for its relevances, symmetric about 0.

    Parameters
    ----------
    model : Layer
        With any number of convolutions, or none.
    image : array, shape (C, H, W)
        Pixels in [0, 1].
    label : int, optional
        The true class; needed for ``start="target"``.
    layers : int
        Number of convolutions shown, from the first.
    title : str, optional
        A line above the prediction.
    start : {"target", "predicted"}
        Which class is explained: the true one, as in training, or the predicted.
    activation_max : mapping of str to float, optional
        Upper ends of the activations' colour ranges by layer, such as
        ``{"conv1": 2.5}``, so that two models can be compared as in Fig. 2.
    colorblind : bool
        Viridis and purple-orange instead of green-red and red-blue.
    class_names : sequence of str, optional
        What to call the classes; long names are shortened.  By default by their numbers.

    Returns
    -------
    Figure
        One axes per picture and two per layer.  All but the image also have an axes for
        their colour bar.  Their labels are
        "input", "input relevance", "conv1 activation", "conv1 relevance", ...

    Raises
    ------
    MinifbiError
        If an argument does not fit; see :func:`minifbi.activation_maps.activation_maps`.
    """
    maps = activation_maps(model, image, label, layers=layers, start=start)
    colors, signed = ("viridis", "PuOr_r") if colorblind else ("RdYlGn_r", "RdBu_r")
    heights = [tiles_height(layer.activation.shape) for layer in maps.layers]
    column = COLUMN if maps.layers else EDGE + PICTURE + BAR_GAP + BAR + BAR_TEXT + 0.3
    h, w = maps.image_relevance.shape
    picture = PICTURE * min(1, h / w)
    names = [_short(name) for name in class_names or ()]
    heading = _heading(maps, label, title, int(2 * column * 9), names)
    y = 0.3 + LINE * len(heading) + HEADER  # where the pictures begin
    page = ActivationPage(2 * column, y + picture + sum(HEADER + h for h in heights) + FOOTER)
    page.heading(heading)
    page.pictures(maps, column, y, signed, _called(maps.explained, names))
    y += picture + HEADER
    for layer, tall in zip(maps.layers, heights, strict=True):
        filters, h, w = layer.activation.shape
        limit = (activation_max or {}).get(layer.name, largest(layer.activation))
        low = 0.0 if layer.after_relu else -limit
        what = "activation after ReLU" if layer.after_relu else "activation (no ReLU follows)"
        size = f"{filters} filter{'s' * (filters != 1)}, {h} x {w}"
        page.tiles(
            layer,
            "activation",
            f"{layer.name}: {what}  ({size})",
            0.0,
            y,
            tall,
            Normalize(low, limit),
            colors,
        )
        limit, total = largest(layer.relevance), float(layer.relevance.sum())
        page.tiles(
            layer,
            "relevance",
            f"{layer.name}: relevance there  (sum {number(total)})",
            column,
            y,
            tall,
            Normalize(-limit, limit),
            signed,
        )
        y += tall + HEADER
    if maps.layers:
        page.note(
            "One colour range per layer, on each side.  The number at the left is that of "
            "the first filter in the row;  a filter has the same place on both sides."
        )
    return page.figure


def _columns(filters: int) -> int:
    """Tiles in a row: 8 for up to 32 filters, then 16, 32, ..."""
    columns = 8
    while filters > columns * columns // 2:
        columns *= 2
    return columns


def tiles_height(shape: tuple[int, ...]) -> float:
    """Height of a layer's tiles, for maps of this shape, (filters, H, W)."""
    filters, h, w = shape
    return BLOCK * math.ceil(filters / _columns(filters)) / _columns(filters) * h / w


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."


def _called(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)


def _heading(
    maps: ActivationMaps, label: int | None, title: str | None, width: int, names: Sequence[str]
) -> list[str]:
    """The title and the prediction, cut into lines of at most `width` letters."""
    true = "" if label is None else f"true class {_called(label, names)},  "
    predicted = _called(maps.predicted, names)
    line = f"{true}predicted {predicted}  (probability {maps.probability:.3f})"
    lines = [line] if len(line) <= width else textwrap.wrap(line, width)
    return [*textwrap.wrap(title or "", width), *lines]


class ActivationPage(Page):
    """The pictures, the tiles and the words around them."""

    def heading(self, lines: list[str]) -> None:
        self.figure.suptitle(
            "\n".join(lines), fontsize=13, y=1 - 0.15 / self.height, va="top", parse_math=False
        )

    def pictures(
        self, maps: ActivationMaps, column: float, top: float, signed: str, explained: str
    ) -> None:
        """The image and its relevance."""
        h, w = maps.image_relevance.shape
        wide, tall = PICTURE * min(1, w / h), PICTURE * min(1, h / w)
        channels = len(maps.image)
        axes = self.axes("input", EDGE, top, wide, tall)
        rgb = np.moveaxis(maps.image, 0, -1)  # (H, W, C)
        axes.imshow(
            rgb if channels == 3 else rgb.mean(axis=-1),
            cmap="gray",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_title("input", loc="left", fontsize=11)
        limit = largest(maps.image_relevance)
        norm = Normalize(-limit, limit)
        axes = self.axes("input relevance", column + EDGE, top, wide, tall)
        axes.imshow(
            maps.image_relevance, cmap=signed, norm=norm, aspect="auto", interpolation="nearest"
        )
        axes.set_title(
            f"its relevance for class {explained}\n"
            f"(logit {number(maps.logit)}, sum {number(float(maps.image_relevance.sum()))})",
            loc="left",
            fontsize=11,
        )
        self.bar("input relevance", column + EDGE + wide, top, tall, norm, signed)

    def tiles(
        self,
        layer: LayerMaps,
        kind: str,
        title: str,
        left: float,
        top: float,
        tall: float,
        norm: Normalize,
        colors: str,
        model: str = "",
    ) -> None:
        """All maps of one layer, one image each, in rows; `model` goes into the axes' label."""
        maps: NDArray[Any] = getattr(layer, kind)
        columns, name = _columns(len(maps)), f"{model} {layer.name} {kind}".strip()
        rows, used = math.ceil(len(maps) / columns), min(len(maps), columns)
        wide = BLOCK * used / columns
        axes = self.axes(name, left + EDGE, top, wide, tall)
        axes.set_title(title, loc="left", fontsize=11)
        for i, one in enumerate(maps):
            row, column = divmod(i, columns)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=GREY, linewidth=0, zorder=-1))
            axes.imshow(
                one,
                cmap=colors,
                norm=norm,
                aspect="auto",
                interpolation="nearest",
                extent=(column + 0.03, column + 0.97, row + 0.97, row + 0.03),
            )
        axes.set(xlim=(0, used), ylim=(rows, 0))
        axes.spines[:].set_visible(False)
        axes.set_yticks(np.arange(rows) + 0.5, [str(row * columns) for row in range(rows)])
        self.bar(name, left + EDGE + wide, top, tall, norm, colors)

    def above(self, left: float, top: float, text: str) -> None:
        """A line over one side of the page."""
        x, y = (left + EDGE) / self.width, 1 - top / self.height
        self.figure.text(x, y, text, fontsize=12, fontweight="bold", va="top", parse_math=False)

    def note(self, text: str) -> None:
        self.figure.text(EDGE / self.width, 0.13 / self.height, text, fontsize=9.5, color="#444444")
