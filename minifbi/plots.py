"""Figures of a training run and of one image, drawn without pyplot.

pyplot keeps global state, so it is left alone: each function makes a Figure with
its own canvas, which works without a screen and disturbs nobody.  To keep one, use
:func:`save_figure`; a notebook shows it by itself.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from minifbi.activation_maps import ActivationMaps, LayerMaps, activation_maps
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Sequential

__all__ = ["DPI", "plot_activations", "plot_curves", "save_figure"]

DPI = 150
"""Dots per inch of every figure: one of 12 inches is 1800 pixels wide."""

TASK, FBI, ACCURACY, GATE = "#1f77b4", "#c44e00", "#2b7a4b", "#555555"
MARKERS = "osD^vPX*<>"


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file, all of it or nothing.

    The file is written beside its final place and then moved there, so a reader
    never sees half of it.  No date and no software version is stored in it: the
    same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
    path : path
        Ends in ``.png``; its folder exists.

    Raises
    ------
    ConfigError
        If the name ends in anything else.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: figures are written as PNG; expected a name that ends in .png")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("xb") as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _new_figure(width: float, height: float, **options: Any) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


# ---- the curves of a training run --------------------------------------------------------
def plot_curves(
    history: Mapping[str, ArrayLike],
    epochs: Sequence[Mapping[str, Any]],
    *,
    gate_step: int | None,
    title: str,
    gate_threshold: float = 0.7,
) -> Figure:
    """Draw how a training went: both losses, the accuracy, and Eq. (3) layer by layer.

    Values that are not finite are left out.  Losses are drawn faint with a running
    mean on top, on a logarithmic axis where they span more than a factor of 10.

    Parameters
    ----------
    history : mapping of str to array
        ``step``, ``task_loss``, ``fbi_loss`` (NaN where it was not measured), all of
        shape (S,), and ``val_step``, ``val_accuracy``, both of shape (V,).
    epochs : sequence of mapping
        The epoch records: ``epoch``, ``step``, ``task_loss``, ``val_accuracy``, and
        ``fbi_loss`` and ``fbi_terms``, each possibly None.
    gate_step : int or None
        The step at which the FBI loss joined the training; None if it never did.
    title : str
    gate_threshold : float
        The validation accuracy at which it joins.

    Returns
    -------
    Figure
        Four axes: task loss, FBI loss, validation accuracy, terms by layer.

    Raises
    ------
    ConfigError
        If `history` lacks one of its five arrays.
    ShapeError
        If arrays that belong together differ in length.
    """
    series = _check_history(history)
    figure = _new_figure(12, 8, layout="constrained")
    figure.suptitle(title, fontsize=14)
    (task, fbi), (accuracy, terms) = figure.subplots(2, 2)
    ends = np.array([record["step"] for record in epochs], dtype=float)
    _draw_loss(task, "task loss $L_{TSK}$", series["step"], series["task_loss"], TASK,
               ends, _column(epochs, "task_loss"))
    _draw_loss(fbi, "FBI loss $L_{FBI}$, Eq. (3)", series["step"], series["fbi_loss"], FBI,
               ends, _column(epochs, "fbi_loss"))
    _draw_accuracy(accuracy, series, ends, _column(epochs, "val_accuracy"), gate_threshold)
    last = max([1.0, *series["step"], *series["val_step"], *ends])
    for axes in (task, fbi, accuracy):
        axes.set(xlabel="training step", xlim=(-0.02 * last, 1.02 * last))
        if gate_step is not None:
            _mark_gate(axes, gate_step, last)
    _draw_terms(terms, epochs)
    # Lay out once and keep it: each drawing would otherwise move things by a hair.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _check_history(history: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    names = ("step", "task_loss", "fbi_loss", "val_step", "val_accuracy")
    missing = [name for name in names if name not in history]
    if missing:
        raise ConfigError(f"history lacks {', '.join(missing)}; expected {', '.join(names)}")
    series = {name: np.asarray(history[name], dtype=np.float64).reshape(-1) for name in names}
    for name, along in zip(names, ("step", "step", "step", "val_step", "val_step"), strict=True):
        if len(series[name]) != len(series[along]):
            raise ShapeError(
                f"history[{name!r}] has {len(series[name])} values and history[{along!r}] "
                f"{len(series[along])}; expected as many"
            )
        series[name][...] = np.where(np.isfinite(series[name]), series[name], np.nan)
    return series


def _column(epochs: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """One value an epoch, NaN for None and for what is not finite: shape (E,)."""
    values = [record.get(key) for record in epochs]
    column = np.array([math.nan if value is None else value for value in values], dtype=float)
    return np.where(np.isfinite(column), column, np.nan)


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` (odd) values around each, fewer at the ends, NaN left out.

    NaN stays NaN: where nothing was measured there is no mean either.  Shape (S,) both.
    """
    known = np.isfinite(values)
    ones = np.ones(window)
    middle = slice(window // 2, window // 2 + len(values))
    total = np.convolve(np.where(known, values, 0.0), ones)[middle]
    count = np.convolve(known.astype(float), ones)[middle]
    return np.where(known, total / np.maximum(count, 1), np.nan)


def _use_log_axis(axes: Axes, values: NDArray[np.float64], factor: float) -> None:
    """A logarithmic y axis where all known values are positive and span more than `factor`."""
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > factor * known.min():
        axes.set_yscale("log")


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center",
              fontsize=13, color=GATE)
    axes.set_yticks([])


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=12)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_loss(
    axes: Axes, title: str, step: NDArray[Any], loss: NDArray[Any], color: str,
    ends: NDArray[Any], by_epoch: NDArray[Any],
) -> None:
    _style(axes, title)
    if not (np.isfinite(loss).any() or np.isfinite(by_epoch).any()):
        _say(axes, "not measured")
        return
    if np.isfinite(loss).sum() >= 20:
        window = len(loss) // 50 * 2 + 1  # about a twenty-fifth of the run
        axes.plot(step, loss, color=color, alpha=0.3, linewidth=0.7, label="each sample")
        axes.plot(step, running_mean(loss, window), color=color, linewidth=2, label="running mean")
    elif np.isfinite(loss).any():
        axes.plot(step, loss, "o-", color=color, markersize=4, label="each sample")
    if np.isfinite(by_epoch).any():
        axes.plot(ends, by_epoch, "o", color="white", markeredgecolor="black", markersize=6,
                  label="epoch", zorder=3)
    _use_log_axis(axes, np.concatenate([loss, by_epoch]), 10)
    axes.legend(loc="upper right", fontsize=10)


def _draw_accuracy(
    axes: Axes, series: Mapping[str, NDArray[Any]], ends: NDArray[Any], by_epoch: NDArray[Any],
    threshold: float,
) -> None:
    accuracy = series["val_accuracy"]
    known = np.concatenate([accuracy, by_epoch])
    known = known[np.isfinite(known)]
    _style(axes, "validation accuracy" + (f", best {known.max():.4f}" if known.size else ""))
    if not known.size:
        _say(axes, "not measured")
        return
    few = np.isfinite(accuracy).sum() < 20
    axes.plot(series["val_step"], accuracy, "o-" if few else "-", color=ACCURACY, markersize=4)
    axes.plot(ends, by_epoch, "o", color="white", markeredgecolor="black", markersize=6,
              label="epoch", zorder=3)
    axes.axhline(threshold, color=GATE, linestyle=":", linewidth=1.5,
                 label=f"gate threshold {threshold:.2f}")
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower right", fontsize=10)


def _mark_gate(axes: Axes, gate_step: int, last: float) -> None:
    """A dashed line at the gate's step, its label on the side with more room."""
    axes.axvline(gate_step, color=GATE, linestyle="--", linewidth=1.5, gid="gate")
    left = gate_step > 0.5 * last
    axes.annotate(
        f"gate: step {gate_step}", (gate_step, 0.04), xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0), textcoords="offset points",
        ha="right" if left else "left", va="bottom", fontsize=10, color=GATE,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )


def _draw_terms(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    """The terms of Eq. (3), a line for each layer, dark for the first."""
    _style(axes, "terms of Eq. (3) by layer")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    terms = [record.get("fbi_terms") or {} for record in epochs]
    names = list(dict.fromkeys(name for record in terms for name in record))
    columns = {name: _column(terms, name) for name in names}
    values = np.concatenate([np.zeros(0), *columns.values()])
    number = np.array([record["epoch"] for record in epochs], dtype=float)
    if number.size:
        axes.set_xlim(number.min() - 0.5, number.max() + 0.5)
    if not np.isfinite(values).any():
        _say(axes, "not measured")
        return
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for i, (name, column) in enumerate(columns.items()):
        # a term of exactly 0 has no place on a logarithmic axis
        axes.plot(number, np.where(column > 0, column, np.nan), marker=MARKERS[i % len(MARKERS)],
                  color=colors[i], markersize=5, linewidth=1.5, label=name)
    if (values > 0).any():
        axes.set_yscale("log")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=10, frameon=False,
                ncols=1 + (len(names) - 1) // 14)
