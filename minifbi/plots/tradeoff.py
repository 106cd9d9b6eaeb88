"""Accuracy against concentration as the weight of the FBI loss grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from minifbi.errors import ConfigError
from minifbi.plots.figure import new_figure

LINE, OTHERS = "#d62728", ("#1f5fa8", "#2b7a4b", "#7a4fa3", "#8a6d1d", "#555555")
MARKERS = "sD^vP"
PERCENTS = "10 20 30 40 50 60 70 80 85 90 93 95 96 97 97.5 98 98.5 99 99.3 99.5 99.7 99.9"
TICKS = tuple(float(percent) / 100 for percent in PERCENTS.split())
FAR = 5  # times as many errors: from there on the accuracies have a logarithmic axis


@dataclass(frozen=True)
class Point:
    """One network, or the mean of several.

    Attributes
    ----------
    name : str
        The value of lambda, or a method.
    concentration : float
        The Gini index of the activations, 0 to 1; NaN if a layer is 0 everywhere.
    accuracy : float
        0 to 1.
    """

    name: str
    concentration: float
    accuracy: float


def plot_tradeoff(
    curve: Mapping[float, Point],
    others: Sequence[Point] = (),
    *,
    title: str | None = None,
    concentration: str = "Gini index of the activations, mean of the convolutions",
) -> Figure:
    """Draw accuracy and concentration over lambda, and one against the other.

    Parameters
    ----------
    curve : mapping of lambda to Point
        In any order; lambda = 0 is conventional training.
    others : sequence of Point
        Other methods, drawn in the right panel.
    title : str, optional
        A line above the figure.
    concentration : str
        How concentration is measured, for the axis label.

    Returns
    -------
    Figure
        Three axes: accuracy over lambda, concentration over lambda, and both together.  Where
        accuracies are far apart, their axes are logarithmic in the error rate.

    Raises
    ------
    ConfigError
        If there are fewer than two points.
    """
    if len(curve) < 2:
        raise ConfigError(f"{len(curve)} values of lambda: expected at least 2")
    weights = sorted(curve)
    points = [curve[weight] for weight in weights]
    figure = new_figure(13.5, 5.2, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    # a logarithmic axis cannot show 0: it is drawn a decade below the smallest weight
    zero = min(w for w in weights if w > 0) / 10
    places = [weight or zero for weight in weights]
    for axes, values, label in (
        (left, [p.accuracy for p in points], "test accuracy"),
        (middle, [p.concentration for p in points], "concentration (Gini)"),
    ):
        axes.plot(places, values, "o-", color=LINE)
        axes.set(xscale="log", xlabel=r"$\lambda$ of Eq. (4)", ylabel=label)
        axes.set_xticks(places, [f"{weight:g}" for weight in weights], rotation=90)
        axes.set_xlim(min(places) / 1.6, max(places) * 1.6)  # the same, NaN or not
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    dead = [f"{w:g}" for w, p in zip(weights, points, strict=True) if math.isnan(p.concentration)]
    if dead:
        middle.text(
            0.5,
            0.03,
            rf"some layer is dead at $\lambda$ = {', '.join(dead)}",
            transform=middle.transAxes,
            ha="center",
            fontsize=9,
            color="#444444",
        )
    right.plot(
        [p.concentration for p in points],
        [p.accuracy for p in points],
        "o-",
        color=LINE,
        label=r"FBI, $\lambda$ as in the panels at the left",
    )
    for point, color, marker in zip(others, OTHERS, MARKERS, strict=False):
        right.plot(
            point.concentration,
            point.accuracy,
            marker,
            color=color,
            markersize=10,
            fillstyle="none",  # several may lie on one place, and on the line
            markeredgewidth=1.8,
            label=point.name,
            linestyle="none",
        )
    right.set(xlabel=concentration, ylabel="test accuracy")
    right.grid(alpha=0.3)
    right.legend(fontsize=9, loc="best")
    shown = [p.accuracy for p in (*points, *others) if not math.isnan(p.concentration)]
    _accuracy_axis(left, [p.accuracy for p in points])
    _accuracy_axis(right, shown)
    figure.suptitle(title or "", fontsize=13, parse_math=False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _accuracy_axis(axes: Axes, accuracies: Sequence[float]) -> None:
    """Accuracies in percent; if they are far apart, on a logarithmic axis of the error rate.

    On a linear axis one network that learnt nothing would press all the others into one point.
    """
    percent = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
    axes.yaxis.set_major_formatter(percent)
    least = 1e-4  # one error in 10,000 images: 100 % would have no place
    errors = [max(1 - a, least) for a in accuracies]
    if max(errors) < FAR * min(errors):
        return
    axes.set_yscale(
        "function",
        functions=(lambda a: -np.log(np.maximum(1 - a, least)), lambda y: 1 - np.exp(-y)),
    )
    low, high = -math.log(max(errors)), -math.log(min(errors))
    margin = 0.06 * (high - low)
    bottom, top = 1 - math.exp(margin - low), 1 - math.exp(-margin - high)
    axes.set_ylim(bottom, top)
    ticks = _apart([a for a in TICKS if bottom <= a <= top], (top, bottom))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(percent)  # a new scale forgets it
    axes.yaxis.set_minor_locator(NullLocator())


def _apart(ticks: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """Ticks that are at least a sixteenth of the axis apart."""
    top, bottom = (-math.log(1 - a) for a in ends)
    kept: list[float] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or math.log((1 - tick) / (1 - kept[-1])) > (top - bottom) / 16:
            kept.append(tick)
    return kept
