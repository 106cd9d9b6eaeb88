"""The curves of several runs in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minifbi.errors import ConfigError
from minifbi.plots.curves import GATE, MARKERS, column_of, say, style, use_log_axis
from minifbi.plots.figure import new_figure

ROWS = 12  # of the legend in a column


def plot_runs(runs: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Figure:
    """Draw validation accuracy, task loss and penalty of several runs over their epochs.

    Parameters
    ----------
    runs : sequence of mapping
        As :func:`minifbi.runs.read_runs` returns them: "records", "gate_epoch" and "options".
    labels : sequence of str
        What the legend calls them.

    Returns
    -------
    Figure
        Three axes, a colour per run, and a legend below.  A ring marks the epoch in which a
        run's gate opened.

    Raises
    ------
    ConfigError
        If there is no run, or not one label per run.
    """
    if not runs or len(labels) != len(runs):
        raise ConfigError(f"{len(labels)} labels for {len(runs)} runs: expected one for each")
    across = min(max(1, math.floor(170 / (max(map(len, labels)) + 8))), len(runs))
    legend = 0.1 + 0.24 * math.ceil(len(runs) / across)
    figure = new_figure(13, 4.6 + legend)
    axes = figure.subplots(1, 3)
    top, bottom = 0.45, legend + 0.8  # inches
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.055, right=0.985, wspace=0.2, top=1 - top / height, bottom=bottom / height
    )
    kinds = {run["options"].get("regularizer") for run in runs} - {"none"}
    penalty = "FBI loss" if kinds <= {"fbi"} else "penalty"
    colors = _colors(len(runs))
    for one, name, title in zip(
        axes,
        ("val_accuracy", "task_loss", "penalty"),
        ("validation accuracy", "task loss $L_{TSK}$", penalty),
        strict=True,
    ):
        style(one, title)
        one.set_xlabel("epoch")
        one.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _draw(one, runs, labels, name, colors)
    if any(run["gate_epoch"] is not None for run in runs):
        axes[0].text(
            0,
            -0.17,
            "ring: the gate opened in this epoch",
            transform=axes[0].transAxes,
            fontsize=10,
            color=GATE,
        )
    lines, names = axes[0].get_legend_handles_labels()
    if lines:
        shown = figure.legend(
            lines, names, loc="lower center", ncols=across, fontsize=10, frameon=False
        )
        for text in shown.get_texts():
            text.set_parse_math(False)
    return figure


def _colors(count: int) -> list[Any]:
    """Ten that are easily told apart, or as many as are needed along a scale."""
    if count <= 10:
        return list(matplotlib.colormaps["tab10"].colors)  # type: ignore[attr-defined]
    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count)))


def _draw(
    axes: Axes,
    runs: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    name: str,
    colors: Sequence[Any],
) -> None:
    """One number of every run's epochs."""
    everything = np.zeros(0)
    for i, (run, label) in enumerate(zip(runs, labels, strict=True)):
        epochs = np.array([record["epoch"] for record in run["records"]], dtype=float)
        values = column_of(run["records"], name)
        everything = np.concatenate([everything, values])
        axes.plot(
            epochs,
            values,
            marker=MARKERS[i // 10 % len(MARKERS)],
            markersize=4,
            linewidth=1.5,
            color=colors[i],
            label=label,
        )
        if (gate := run["gate_epoch"]) is not None and gate <= len(values):
            axes.plot(gate, values[gate - 1], "o", markersize=9, color=colors[i], fillstyle="none")
    if not np.isfinite(everything).any():
        say(axes, "not measured")
    elif name != "val_accuracy":
        use_log_axis(axes, everything, 10)
