"""Heatmaps: attributions beside their images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from minifbi.arguments import choice, whole
from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.plots.heatmap_grid import HeatmapGrid, arrange

SHARED = ("none", "row", "column", "all")
Blocks = dict[str, dict[str, NDArray[Any]]]  # (N, H, W) by block and name


def plot_heatmaps(
    attributions: Mapping[str, Any],
    images: Any = None,
    *,
    rows: Sequence[str] | None = None,
    shared: str = "none",
    per_line: int = 7,
    title: str | None = None,
    colorblind: bool = False,
    pictures: Mapping[str, Sequence[Any]] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
    ends: tuple[str, str] = ("against", "for the class"),
) -> Figure:
    """Draw a grid of heatmaps: one row per image, one column per method.

    A heatmap shows an attribution summed over the channels.  Its colours are symmetric about 0:
    white is 0, one colour is evidence for the class, the other against it.  Both end at the same
    magnitude, which is printed below the map.

    Parameters
    ----------
    attributions : mapping of str to array, shape (N, C, H, W), or of str to such a mapping
        Signed attributions by the name of the method.  A mapping of mappings compares several
        networks: each has a block of columns, with its name above.
    images : array, shape (N, C, H, W), optional
        Pixels in [0, 1]; drawn at the left of each row.
    rows : sequence of N str, optional
        Labels of the rows; they may have several lines.
    shared : {"none", "row", "column", "all"}
        Which maps share one colour range: none, those of an image, those of a method, or all,
        across all blocks.  Only maps with the same range can be compared by their colours.
    per_line : int
        Tiles per line; a row with more tiles continues on the next line.  A block that fits into
        a line is not divided.
    title : str, optional
        A line above the figure.
    colorblind : bool
        Purple-orange instead of red-blue.  Both can be told apart by colour-blind readers; this
        one also stays apart in shades for those who see no red.
    pictures : mapping of str to sequence of N arrays, shape (C, H, W), optional
        More pictures at the left of each row, before `images`.  Pixels in [0, 1]; each has its
        own size.
    notes : mapping of str to sequence of N str, optional
        By block: what is written above its maps in each row, such as the prediction.
    ends : (str, str)
        What a value below 0 and one above 0 mean; for the colour bar.

    Returns
    -------
    Figure
        Its axes are labelled "image 0", "METHOD 0", ..., and "colours"; in blocks,
        "BLOCK METHOD 0".

    Raises
    ------
    ShapeError, DataError, ConfigError
        If arrays do not fit together, hold NaN or infinity, or an option is unknown.
    """
    choice("shared", shared, SHARED)
    whole("per_line", per_line, 1)
    blocks = blocks_of(attributions)
    first = next(iter(next(iter(blocks.values())).values()))
    count, size = len(first), first.shape[1:]
    shown: dict[str, Any] = {
        name: _pictures(f"pictures[{name!r}]", several, count)
        for name, several in (pictures or {}).items()
    }
    if images is not None:
        shown["image"] = _images(images, (count, *size))
    if rows is not None:
        _as_many("rows", rows, count)
    for name, texts in (notes or {}).items():
        _as_many(f"notes[{name!r}]", texts, count)
    limits = colour_limits(blocks, shared)

    grid = HeatmapGrid(
        arrange(list(shown), blocks, int(per_line), size),
        count,
        labels=rows,
        notes=notes or {},
        title=title,
        colorblind=colorblind,
    )
    for row in range(count):
        for name, several in shown.items():
            grid.picture(name, row, several[row])
        for block, maps in blocks.items():
            for name, values in maps.items():
                grid.heatmap(block, name, row, values[row], limits[block, name, row])
    grid.bar_for_all(next(iter(limits.values())) if shared == "all" else None, ends)
    return grid.figure


def colour_limits(blocks: Blocks, shared: str) -> dict[tuple[str, str, int], float]:
    """The end of each map's colour range, by block, name and row.

    Parameters
    ----------
    blocks : dict of str to dict of str to ndarray, shape (N, H, W)
        Maps, already summed over their channels.
    shared : {"none", "row", "column", "all"}
        As for :func:`plot_heatmaps`.

    Returns
    -------
    dict
        The largest magnitude among the maps that share a range; 1 if all of them are 0.
    """
    ends: dict[tuple[Any, ...], float] = defaultdict(float)
    group_of: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    for block, maps in blocks.items():
        for name, values in maps.items():
            for row, one in enumerate(values):
                group = {"none": (block, name, row), "row": (row,), "column": (name,), "all": ()}
                group_of[block, name, row] = group[shared]
                ends[group[shared]] = max(ends[group[shared]], float(np.abs(one).max()))
    return {place: ends[group] or 1.0 for place, group in group_of.items()}


def blocks_of(attributions: Mapping[str, Any]) -> Blocks:
    """Each attribution summed over its channels, by block and method.

    Parameters
    ----------
    attributions : mapping
        As for :func:`plot_heatmaps`; without blocks, all methods are in one without a name.

    Returns
    -------
    dict of str to dict of str to ndarray, shape (N, H, W)

    Raises
    ------
    ConfigError, ShapeError, DataError
        If there is nothing, the arrays do not fit together, or one holds NaN or infinity.
    """
    inside = [isinstance(one, Mapping) for one in attributions.values()]
    if any(inside) and not all(inside):
        raise ConfigError("expected arrays by method, or mappings by block, and not both")
    blocks = attributions if any(inside) else {"": attributions}
    if not all(blocks.values()):
        raise ConfigError("there is no attribution to draw; expected at least one")
    found: Blocks = {block: {} for block in blocks}
    count = 0
    for block, maps in blocks.items():
        shape: tuple[int, ...] = ()  # one per block: layers of two networks may differ in size
        for name, values in maps.items():
            array = np.asarray(values)
            shape = shape or (count or len(array) if array.ndim else 0, *array.shape[1:])
            if array.ndim != 4 or 0 in array.shape or array.shape != shape:
                raise ShapeError(
                    f"the attribution {name!r} has shape {array.shape}; expected "
                    f"{shape if len(shape) == 4 else '(images, channels, height, width)'}"
                )
            if not np.isfinite(array).all():
                raise DataError(f"the attribution {name!r} holds NaN or infinity")
            found[block][name], count = array.sum(axis=1), len(array)
    return found


def picture_of(pixels: Any) -> NDArray[Any]:
    """An image for imshow.

    Parameters
    ----------
    pixels : array, shape (..., C, H, W)
        In [0, 1]; what is outside is cut off.

    Returns
    -------
    ndarray, shape (..., H, W, 3) for three channels, (..., H, W) otherwise
    """
    clipped = np.clip(np.asarray(pixels), 0, 1)
    return np.moveaxis(clipped, -3, -1) if clipped.shape[-3] == 3 else clipped.mean(axis=-3)


def _pictures(what: str, several: Sequence[Any], count: int) -> list[NDArray[Any]]:
    """Pictures, each of its own size, for imshow."""
    for one in _as_many(what, several, count):
        if np.ndim(one) != 3 or 0 in np.shape(one):
            raise ShapeError(
                f"{what} has shape {np.shape(one)}; expected (channels, height, width)"
            )
    return [picture_of(one) for one in several]


def _images(images: Any, expected: tuple[int, ...]) -> list[NDArray[Any]]:
    """The images, of the size of their maps, for imshow."""
    array = np.asarray(images)
    if array.ndim != 4 or (array.shape[0], *array.shape[2:]) != expected:
        raise ShapeError(
            f"the images have shape {array.shape}; expected {expected[0]} of "
            f"{expected[1]} x {expected[2]} pixels, as the attributions: (N, C, H, W)"
        )
    return list(picture_of(array))


def _as_many(what: str, values: Sequence[Any], count: int) -> Sequence[Any]:
    if len(values) != count:
        raise ShapeError(f"{what} has {len(values)} entries for {count} images; expected as many")
    return values
