"""Pictures with one pixel per pixel: no axes, no interpolation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from minifbi.arguments import whole
from minifbi.files.atomic import write_atomically
from minifbi.plots.heatmap_grid import COLORS
from minifbi.plots.heatmaps import picture_of


def heatmap_pixels(values: Any, limit: float, *, colorblind: bool = False) -> NDArray[np.uint8]:
    """The colours of a heatmap, as :func:`minifbi.plots.plot_heatmaps` shows them.

    Parameters
    ----------
    values : array, shape (H, W)
        Signed; finite.
    limit : float
        The magnitude at which the colours end, above 0.
    colorblind : bool
        Purple-orange instead of red-blue.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    colors = matplotlib.colormaps[COLORS[colorblind]]
    return np.asarray(colors(Normalize(-limit, limit)(np.asarray(values)), bytes=True)[..., :3])


def image_pixels(image: Any) -> NDArray[np.uint8]:
    """An image with pixels in [0, 1], (C, H, W), as bytes: (H, W), or (H, W, 3) for colour.

    Parameters
    ----------
    image : array, shape (C, H, W)
        Other numbers of channels than 3 are averaged.

    Returns
    -------
    ndarray of uint8, shape (H, W) or (H, W, 3)
    """
    return np.asarray(np.round(255 * picture_of(image)), np.uint8)


def save_pixels(pixels: NDArray[np.uint8], path: str | os.PathLike[str], *, scale: int = 1) -> None:
    """Write pixels as a PNG file of exactly their size, whole or not at all.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W) or (H, W, 3)
        Grey, or red, green and blue.
    path : path
        Ends in ``.png``; its folder exists.
    scale : int
        Each pixel becomes a square of this many pixels.

    Raises
    ------
    ConfigError
        If `scale` is not a whole number of at least 1.
    OSError
        If the file cannot be written.
    """
    from PIL import Image

    whole("scale", scale, 1)
    large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    write_atomically(Path(path), lambda file: Image.fromarray(large).save(file, format="PNG"))
