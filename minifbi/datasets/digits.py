"""Prepare a drawing or photograph of one digit as MNIST's authors prepared theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import DataError

__all__ = ["as_digit"]

SIDE = 28  # of MNIST's images
BOX = 20  # the ink fits in a square of this side
CENTRE = 14.0  # row and column of MNIST's centres of mass, counted from 0

_WORKING_SIDE = 280  # larger pictures are made smaller first: the strokes of a digit stay
_LEAST = 0.1  # difference of ink and paper, of 1, below which there is no ink
_FAINTEST = 0.15  # the palest rim of a stroke, of the ink in its middle
_CLEAR = 6.0  # how many times the noise of the paper ink must stand out
_SPECK = 0.03  # pieces of ink smaller than this share of the largest are dust


def as_digit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn a drawing or photograph of one digit into an image like MNIST's.

    A network that learned MNIST knows digits of one kind only: white ink on black, as large and
    in the same place as all others.  LeCun et al. scaled each digit into a box of 20 x 20 pixels,
    kept the ratio of its sides, and moved it in a field of 28 x 28 so that its centre of mass is
    at the centre.  This function does the same, after it has separated ink from paper:

    1. Colours become grey.  If the edge of the picture is brighter than the ink, dark and bright
       change places.
    2. The paper's brightness, a quadratic function of the place, is fitted and subtracted, since
       a lamp lights a sheet unevenly.
    3. Otsu's threshold tells ink from paper.  Ink keeps its shades; paper and dust become 0.
    4. The ink is scaled (antialiased), made as bright as MNIST's, and moved.

    A thin pen leaves pale strokes; MNIST's are about a tenth as wide as a digit is high.

    Parameters
    ----------
    image : ndarray of uint8, shape (1, H, W), (3, H, W) or (H, W)
        As :func:`~minifbi.datasets.read_picture` returns it.  The digit is the only thing in the
        picture, and the paper reaches to its edges.

    Returns
    -------
    ndarray of uint8, shape (1, 28, 28)
        What a network trained on MNIST expects.

    Raises
    ------
    DataError
        If there is no ink, or the array has another shape or dtype.

    References
    ----------
    Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits,
    http://yann.lecun.com/exdb/mnist/.

    N. Otsu: A threshold selection method from gray-level histograms. IEEE Transactions on
    Systems, Man, and Cybernetics 9 (1979), 62-66.
    """
    ink = _ink(_grey(image))
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(ink.shape)
    height, width = (max(1, round(BOX * side / longest)) for side in ink.shape)
    digit = np.clip(_resize(ink, height, width), 0, None)
    digit = np.round(digit * (255 / digit.max())).astype(np.uint8)
    field = np.zeros((1, SIDE, SIDE), np.uint8)
    top, left = (_place(digit.sum(axis=axis, dtype=np.float64)) for axis in (1, 0))
    field[0, top : top + height, left : left + width] = digit
    return field


def _grey(image: Any) -> NDArray[np.float64]:
    """Brightness from 0 to 1, shape (H, W), not larger than the method needs."""
    from PIL import Image

    array = np.asarray(image)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3) or not array.size:
        raise DataError(
            f"the picture is {array.dtype} of shape {np.shape(image)}; expected uint8 of shape "
            "(1, H, W), (3, H, W) or (H, W), as minifbi.datasets.read_picture returns it."
        )
    pixels = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    picture = Image.fromarray(pixels).convert("L")
    longest = max(picture.size)
    if longest > _WORKING_SIDE:
        width, height = (max(1, round(_WORKING_SIDE * side / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture, np.float64) / 255


def _resize(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    from PIL import Image

    picture = Image.fromarray(values.astype(np.float32))
    return np.array(picture.resize((width, height), Image.Resampling.BILINEAR), np.float64)


def _ink(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each pixel is ink: 0 where it is paper, 1 in the middle of a stroke."""
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(edge) > _otsu(grey):
        grey = 1 - grey
    paper = np.ones(grey.shape, bool)
    for _ in range(5):  # the fit settles once it knows where the ink is
        above = grey - _smooth(grey, paper)
        paper = above <= max(_otsu(above), above.min())  # never empty
    noise = 1.4826 * float(np.median(np.abs(above[paper])))  # a standard deviation, robustly
    found = _without_dust(~paper)
    strength = float(np.quantile(above[found], 0.75)) if found.any() else 0.0
    if strength < max(_LEAST, _CLEAR * noise) or found.mean() > 0.5:
        raise DataError(
            "the picture shows no digit: nothing stands out from an even background; expected "
            "dark ink on light paper, or light on dark, with paper up to the edges of the picture."
        )
    # The shades at the rim of a stroke belong to it, down to the noise of the paper.
    from scipy.ndimage import binary_dilation

    near = binary_dilation(found, iterations=1 + max(grey.shape) // 100)
    rim = max(_FAINTEST * strength, 3 * noise)
    return np.where(near & (above > rim), np.minimum(above / strength, 1), 0.0)


def _otsu(values: NDArray[np.float64]) -> float:
    """The threshold with the largest variance between the two sides."""
    counts, borders = np.histogram(values, 256)
    middles = (borders[:-1] + borders[1:]) / 2
    below = np.cumsum(counts)
    sums = np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
        between = np.nan_to_num(below * above * gap**2)
    return float(borders[1 + int(between.argmax())])


def _smooth(grey: NDArray[np.float64], paper: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The quadratic function of row and column that fits the paper best."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])  # (6, H, W)
    step = 1 + max(grey.shape) // 70  # six numbers need no more pixels
    some = paper[::step, ::step]
    known, values = terms[:, ::step, ::step][:, some], grey[::step, ::step][some]
    weights = np.linalg.lstsq(known.T, values, rcond=None)[0]
    return np.tensordot(weights, terms, 1)


def _without_dust(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of ink that are not tiny beside the largest one."""
    from scipy.ndimage import label

    pieces, count = label(found, structure=np.ones((3, 3)))
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0  # the paper
    return (areas > _SPECK * areas.max())[pieces] & found


def _place(profile: NDArray[np.float64]) -> int:
    """Where the digit begins, so that its centre of mass is at the centre of the field."""
    centre = profile @ np.arange(len(profile)) / profile.sum()
    return int(np.clip(round(CENTRE - centre), 0, SIDE - len(profile)))
