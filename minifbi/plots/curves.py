"""The curves of a training run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from minifbi.errors import ConfigError, ShapeError
from minifbi.plots.figure import new_figure

TASK, PENALTY, ACCURACY, GATE = "#1f77b4", "#c44e00", "#2b7a4b", "#555555"
MARKERS = "osD^vPX*<>"


def plot_curves(
    history: Mapping[str, ArrayLike],
    epochs: Sequence[Mapping[str, Any]],
    *,
    gate_step: int | None,
    title: str,
    gate_threshold: float = 0.7,
    label: str = "FBI loss",
) -> Figure:
    """Draw how a training went: task loss, penalty, accuracy, and the penalty term by term.

    Values that are not finite are left out.  Losses are drawn faint with a running
    mean on top, on a logarithmic axis where they span more than a factor of 10.

    Parameters
    ----------
    history : mapping of str to array
        ``step``, ``task_loss``, ``penalty`` (NaN where it was not measured), all of
        shape (S,), and ``val_step``, ``val_accuracy``, both of shape (V,).
    epochs : sequence of mapping
        The epoch records: ``epoch``, ``step``, ``task_loss``, ``val_accuracy``, and
        ``penalty`` and ``penalty_terms``, each possibly None.
    gate_step : int or None
        The step at which the penalty joined the training; None if it never did.
    title : str
        Stands above the axes; none if empty.
    gate_threshold : float
        The validation accuracy at which it joins.
    label : str
        What to call the penalty: the label of its regularizer.

    Returns
    -------
    Figure
        Four axes: task loss, penalty, validation accuracy, terms of the penalty.

    Raises
    ------
    ConfigError
        If `history` lacks one of its five arrays.
    ShapeError
        If arrays that belong together differ in length.
    """
    series = _check_history(history)
    figure = new_figure(12, 8)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    figure.suptitle("\n".join(textwrap.wrap(title, 100)), fontsize=14, parse_math=False)
    (task, penalty), (accuracy, terms) = figure.subplots(2, 2)
    ends = np.array([record["step"] for record in epochs], dtype=float)
    last = max([1.0, *series["step"], *series["val_step"], *ends])
    late = gate_step is not None and gate_step > last / 2
    style(task, "task loss $L_{TSK}$")
    _draw_loss(
        task, series["step"], series["task_loss"], TASK, ends, column_of(epochs, "task_loss")
    )
    style(penalty, label)
    _draw_loss(
        penalty, series["step"], series["penalty"], PENALTY, ends, column_of(epochs, "penalty")
    )
    _draw_accuracy(accuracy, series, ends, column_of(epochs, "val_accuracy"), gate_threshold)
    for axes, height in ((task, 0.04), (penalty, 0.04), (accuracy, 0.22)):
        axes.set(xlabel="training step", xlim=(-0.02 * last, 1.02 * last))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if gate_step is not None:
            _mark_gate(axes, gate_step, height, late)
    _draw_terms(terms, epochs, label)
    # Lay out once and keep it: each drawing would otherwise move things by a hair.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _check_history(history: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    names = ("step", "task_loss", "penalty", "val_step", "val_accuracy")
    missing = [name for name in names if name not in history]
    if missing:
        raise ConfigError(f"history lacks {', '.join(missing)}; expected {', '.join(names)}")
    series = {name: np.asarray(history[name], dtype=np.float64).reshape(-1) for name in names}
    for name in names:
        along = "val_step" if name.startswith("val_") else "step"
        if len(series[name]) != len(series[along]):
            raise ShapeError(
                f"history[{name!r}] has {len(series[name])} values and history[{along!r}] "
                f"{len(series[along])}; expected as many"
            )
        series[name] = np.where(np.isfinite(series[name]), series[name], np.nan)
    return series


def column_of(epochs: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """One value an epoch, NaN for None and for what is not finite: shape (E,)."""
    values = [record.get(key) for record in epochs]
    column = np.array([math.nan if value is None else value for value in values], dtype=float)
    return np.where(np.isfinite(column), column, np.nan)


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` (odd) values around each, fewer at the ends, NaN left out.

    NaN stays NaN: where nothing was measured there is no mean either.  Shape (S,) both.
    """
    if not values.size:
        return values
    known = np.isfinite(values)
    ones = np.ones(window)
    middle = slice(window // 2, window // 2 + len(values))
    total = np.convolve(np.where(known, values, 0.0), ones)[middle]
    count = np.convolve(known.astype(float), ones)[middle]
    return np.where(known, total / np.maximum(count, 1), np.nan)


def _middles(step: NDArray[Any], loss: NDArray[Any], ends: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of an epoch's steps at which the loss was measured, by epoch: shape (E,)."""
    measured = step[np.isfinite(loss)]
    middles, start = [], 0.0
    for end in ends:
        inside = measured[(measured > start) & (measured <= end)]
        middles.append(float(inside.mean()) if inside.size else (start + end) / 2)
        start = end
    return np.array(middles)


def use_log_axis(axes: Axes, values: NDArray[np.float64], factor: float) -> None:
    """A logarithmic y axis where all known values are positive and span more than `factor`."""
    known = values[np.isfinite(values)]
    if not known.size or known.min() <= 0 or known.max() <= factor * known.min():
        return
    axes.set_yscale("log", nonpositive="mask")
    subs = (1, 2, 5) if known.max() < 300 * known.min() else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=13, color=GATE
    )
    axes.set_yticks([])


def style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=12)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_loss(
    axes: Axes,
    step: NDArray[Any],
    loss: NDArray[Any],
    color: str,
    ends: NDArray[Any],
    by_epoch: NDArray[Any],
) -> None:
    """A loss along the steps, and its mean over each epoch amid the steps it is the mean of."""
    if not (np.isfinite(loss).any() or np.isfinite(by_epoch).any()):
        say(axes, "not measured")
        return
    if np.isfinite(loss).sum() >= 20:
        window = len(loss) // 50 * 2 + 1  # about a twenty-fifth of the run
        axes.plot(step, loss, color=color, alpha=0.3, linewidth=0.7, label="measured")
        axes.plot(step, running_mean(loss, window), color=color, linewidth=2, label="running mean")
    elif np.isfinite(loss).any():
        axes.plot(step, loss, "o-", color=color, markersize=4, label="measured")
    if np.isfinite(by_epoch).any():
        axes.plot(
            _middles(step, loss, ends),
            by_epoch,
            "o",
            color="white",
            markeredgecolor="black",
            markersize=6,
            label="mean of an epoch",
            zorder=3,
        )
    use_log_axis(axes, np.concatenate([loss, by_epoch]), 10)
    axes.legend(loc="best", fontsize=10)


def _draw_accuracy(
    axes: Axes,
    series: Mapping[str, NDArray[Any]],
    ends: NDArray[Any],
    by_epoch: NDArray[Any],
    threshold: float,
) -> None:
    accuracy = series["val_accuracy"]
    known = np.concatenate([accuracy, by_epoch])
    known = known[np.isfinite(known)]
    style(axes, "validation accuracy" + (f", best {known.max():.4f}" if known.size else ""))
    if not known.size:
        say(axes, "not measured")
        return
    few = np.isfinite(accuracy).sum() < 20
    axes.plot(series["val_step"], accuracy, "o-" if few else "-", color=ACCURACY, markersize=4)
    axes.plot(
        ends,
        by_epoch,
        "o",
        color="white",
        markeredgecolor="black",
        markersize=6,
        label="end of an epoch",
        zorder=3,
    )
    axes.axhline(
        threshold, color=GATE, linestyle=":", linewidth=1.5, label=f"gate threshold {threshold:.2f}"
    )
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower right" if known[-1] > 0.35 else "upper right", fontsize=10)


def _mark_gate(axes: Axes, gate_step: int, height: float, left: bool) -> None:
    """A dashed line at the gate's step, labelled at one side of it."""
    axes.axvline(gate_step, color=GATE, linestyle="--", linewidth=1.5, gid="gate")
    axes.annotate(
        f"gate: step {gate_step}",
        (gate_step, height),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom",
        fontsize=10,
        color=GATE,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )


def _draw_terms(axes: Axes, epochs: Sequence[Mapping[str, Any]], label: str) -> None:
    """The terms of the penalty, a line for each, dark for the first."""
    style(axes, f"terms of the {label}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    terms = [record.get("penalty_terms") or {} for record in epochs]
    names = list(dict.fromkeys(name for record in terms for name in record))
    columns = {name: column_of(terms, name) for name in names}
    values = np.concatenate([np.zeros(0), *columns.values()])
    number = np.array([record["epoch"] for record in epochs], dtype=float)
    if number.size:
        axes.set_xlim(number.min() - 0.5, number.max() + 0.5)
    if not np.isfinite(values).any():
        say(axes, "not measured")
        return
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for i, (name, column) in enumerate(columns.items()):
        axes.plot(
            number,
            column,
            marker=MARKERS[i % len(MARKERS)],
            color=colors[i],
            markersize=5,
            linewidth=1.5,
            label=name,
        )
    use_log_axis(axes, values[values > 0], 3)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize=10,
        frameon=False,
        ncols=1 + (len(names) - 1) // 14,
    )
