"""The activations of a network on images, and all their measures in one table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import whole
from minifbi.autograd import no_grad
from minifbi.datasets import Split
from minifbi.evaluate import activations
from minifbi.evaluate._common import check_images, check_limit
from minifbi.evaluate.masks import UnitGrid, unit_grids
from minifbi.fbi import forward_pass
from minifbi.layers import Conv2d, Dense, ReLU, Sequential, Step
from minifbi.switch import evaluating

__all__ = ["activation_report", "collect_activations"]


def collect_activations(
    model: Sequential,
    images: Split | NDArray[Any],
    limit: int | None = None,
    batch_size: int = 250,
    *,
    dense: bool = False,
) -> dict[str, NDArray[Any]]:
    """Activations of every convolution after its ReLU and before any pooling.

    The model runs in evaluation mode and records no tape.

    Parameters
    ----------
    model : Sequential
        The network whose layers are looked at.
    images : Split, or ndarray of float, shape (N, C, H, W)
        Pixels as the network expects them: usually in [0, 1], but any finite numbers will do.
    limit : int, optional
        Use only the first `limit` images.
    batch_size : int
        Images at a time.
    dense : bool
        Whether to include dense layers that a ReLU follows, as (N, F, 1, 1).

    Returns
    -------
    dict of str to ndarray, shape (N, filters, h, w)
        By the convolution's name, first layer first, in the model's dtype.  A convolution
        without a ReLU gives its own output.

    Raises
    ------
    ConfigError
        If `limit` or `batch_size` is not at least 1.
    ShapeError, DataError
        If the images are not finite floats (N, C, H, W), or do not fit the model.
    """
    pixels = _pixels(model, images, limit, bounded=False)
    batch_size = whole("batch_size", batch_size, 1)
    found: dict[str, NDArray[Any]] = {}
    with evaluating(model), no_grad():
        for begin in range(0, len(pixels), batch_size):
            steps = forward_pass(model, pixels[begin : begin + batch_size])
            for name, step in _shown(steps, dense).items():
                a = step.z.numpy()
                a = a.reshape(*a.shape, 1, 1) if a.ndim == 2 else a
                every = found.setdefault(name, np.empty((len(pixels), *a.shape[1:]), a.dtype))
                every[begin : begin + len(a)] = a
    return found


def activation_report(
    model: Sequential,
    images: Split | NDArray[Any],
    limit: int | None = None,
    *,
    dense: bool = False,
    threshold: float = 0.0,
    exclude: NDArray[np.bool_] | None = None,
) -> dict[str, dict[str, float]]:
    """Every measure of :mod:`minifbi.evaluate.activations`, for every layer.

    Parameters
    ----------
    model : Sequential
        The network whose layers are measured.
    images, limit, dense
        A Split or an array of shape (N, C, H, W), and options: see :func:`collect_activations`.
    threshold, exclude
        See :func:`~minifbi.evaluate.activations.background_share`; a Split with masks
        excludes its own.

    Returns
    -------
    dict of str to dict of str to float
        For each layer the measures of ``ACTIVATION_MEASURES`` by name.  NaN where a measure is
        not defined: relative measures of a layer whose activations are all 0, and the
        background share of a dense layer, which has no grid.
    """
    pixels = _pixels(model, images, limit)
    if isinstance(images, Split) and exclude is None and images.masks is not None:
        exclude = images.masks[: len(pixels)]
    collected = collect_activations(model, pixels, dense=dense)
    with evaluating(model), no_grad():
        steps = forward_pass(model, pixels[:1])
    grids = unit_grids(steps)
    shown = _shown(steps, dense)
    report = {}
    for name in list(collected):
        a = collected.pop(name)  # large: let go of one layer before the next
        report[name] = _measure(a, pixels, grids.get(shown[name].name), threshold, exclude)
    return report


def _measure(
    a: NDArray[Any],
    pixels: NDArray[Any],
    grid: UnitGrid | None,
    threshold: float,
    exclude: NDArray[np.bool_] | None,
) -> dict[str, float]:
    """All measures of one layer."""
    values = {
        "mean": activations.mean(a),
        "maximum": activations.maximum(a),
        "rms_maximum": activations.rms_maximum(a),
    }
    for normalization in activations.NORMALIZATIONS:
        suffix = "" if normalization == "none" else f"_{normalization}"
        variance = activations.variance(a, normalization)
        values[f"variance{suffix}"] = variance
        values[f"inverse_variance{suffix}"] = 1.0 / variance if variance else float("nan")
    values |= {
        "skewness": activations.skewness(a),
        "zero_fraction": activations.zero_fraction(a),
        "gini": activations.gini(a),
        "hoyer": activations.hoyer(a),
        "zeroed_filters": activations.zeroed_filters(a),
        "dead_filters": activations.dead_filters(a),
        "background_share": float("nan"),
    }
    if grid is not None:
        values["background_share"] = activations.background_share(
            a, pixels, grid, threshold=threshold, exclude=exclude
        )
    return values


def _pixels(
    model: Sequential, images: Split | NDArray[Any], limit: int | None, bounded: bool = True
) -> NDArray[Any]:
    limit = check_limit(limit)
    if isinstance(images, Split):
        return images.batch(slice(limit), model.dtype)[0]
    return check_images(images, bounded)[:limit]


def _shown(steps: list[Step], dense: bool) -> dict[str, Step]:
    """The steps whose outputs are looked at, by the name of their convolution or dense layer."""
    shown: dict[str, Step] = {}
    for index, step in enumerate(steps):
        above = steps[index + 1] if index + 1 < len(steps) else None
        rectified = above is not None and isinstance(above.layer, ReLU)
        if isinstance(step.layer, Conv2d):
            shown[step.name] = above if rectified and above is not None else step
        elif dense and rectified and above is not None and isinstance(step.layer, Dense):
            shown[step.name] = above
    return shown
