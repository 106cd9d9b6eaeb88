"""Two networks side by side: the paper's Fig. 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from minifbi.activation_maps import LayerMaps, activation_maps
from minifbi.arguments import choice
from minifbi.errors import ConfigError
from minifbi.layers import Sequential
from minifbi.plots.activations import (
    COLUMN,
    FOOTER,
    HEADER,
    ActivationPage,
    tiles_height,
)
from minifbi.plots.figure import largest


def plot_comparison(
    models: Mapping[str, Sequential],
    image: Any,
    label: int,
    *,
    layers: int = 3,
    normalization: str = "none",
    title: str | None = None,
    colorblind: bool = False,
) -> Figure:
    """Draw the activation maps of the first convolutions of two networks for one image.

    As in the paper's Fig. 2: one row of tiles per layer, the first network on the left, the
    second on the right.  Both share one colour range per layer, from 0 (green) to the larger of
    the two maxima (red).

    Parameters
    ----------
    models : mapping of str to Sequential
        Two networks with the same layers; the keys are the headings above them.
    image : array, shape (C, H, W)
        Pixels in [0, 1].
    label : int
        The image's class.
    layers : int
        Number of convolutions shown, from the first.
    normalization : {"none", "rms"}
        "rms" divides each network's activations by their root mean square over the layer, to
        compare networks whose activations differ in size.
    title : str, optional
        A line above the figure.
    colorblind : bool
        Viridis instead of green-red.

    Returns
    -------
    Figure
        Two axes per layer, each with the axes of its colour bar.

    Raises
    ------
    ConfigError
        If there are not two networks, their convolutions differ, or `normalization` is
        unknown.
    """
    choice("normalization", normalization, ("none", "rms"))
    if len(models) != 2:
        raise ConfigError(f"{len(models)} networks: expected two, to compare them")
    found = [activation_maps(model, image, label, layers=layers) for model in models.values()]
    sides = [[_normalize(layer, normalization) for layer in maps.layers] for maps in found]
    shapes = [[(layer.name, layer.activation.shape) for layer in side] for side in sides]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ConfigError(
            f"the networks' convolutions are {shapes[0]} and {shapes[1]}; expected the same "
            "ones, at least one"
        )
    heights = [tiles_height(layer.activation.shape) for layer in sides[0]]
    heading = [title] if title else []
    top = 0.35 + 0.28 * len(heading) + 0.5
    page = ActivationPage(2 * COLUMN, top + sum(HEADER + height for height in heights) + FOOTER)
    page.heading(heading)
    colors = "viridis" if colorblind else "RdYlGn_r"
    for column, (name, maps) in enumerate(zip(models, found, strict=True)):
        page.above(
            column * COLUMN,
            top - 0.55,
            f"{name}: predicts {maps.predicted} with probability {maps.probability:.3f}",
        )
    y = top + 0.1
    for rows, tall in zip(zip(*sides, strict=True), heights, strict=True):
        limit = max(largest(layer.activation) for layer in rows)
        for column, (name, layer) in enumerate(zip(models, rows, strict=True)):
            filters, h, w = layer.activation.shape
            zero = int((layer.activation == 0).all(axis=(1, 2)).sum())
            text = f"{layer.name}  ({filters} filters, {h} x {w}; {zero} all zero)"
            norm = Normalize(0, limit)
            page.tiles(layer, "activation", text, column * COLUMN, y, tall, norm, colors, str(name))
        y += tall + HEADER
    unit = "activation after ReLU" + (
        ", divided by its root mean square in the layer" if normalization == "rms" else ""
    )
    page.note(f"Colour: {unit}. One range for both networks in each layer, from 0 to the maximum.")
    return page.figure


def _normalize(layer: LayerMaps, normalization: str) -> LayerMaps:
    if normalization == "none":
        return layer
    rms = float(np.sqrt(np.mean(np.square(layer.activation, dtype=np.float64))))
    return dataclasses.replace(layer, activation=layer.activation / (rms or 1.0))
