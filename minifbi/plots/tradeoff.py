"""Accuracy against concentration as the weight of the FBI loss grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from minifbi.errors import ConfigError
from minifbi.plots.figure import new_figure

LINE, OTHERS = "#d62728", ("#1f5fa8", "#2b7a4b", "#7a4fa3", "#8a6d1d", "#555555")
MARKERS = "sD^vP"


@dataclass(frozen=True)
class Point:
    """One network, or the mean of several.

    Attributes
    ----------
    name : str
        The value of lambda, or a method.
    concentration : float
        The Gini index of the activations, 0 to 1.
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
    concentration : str
        What is meant by it, for the axes.

    Returns
    -------
    Figure
        Three axes: accuracy over lambda, concentration over lambda, and both together.

    Raises
    ------
    ConfigError
        If there are fewer than two points.
    """
    if len(curve) < 2:
        raise ConfigError(f"{len(curve)} values of lambda: expected at least 2")
    weights = sorted(curve)
    points = [curve[weight] for weight in weights]
    figure = new_figure(13.5, 4.9, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    # 0 has no place on a logarithmic axis: it stands a decade below the smallest weight
    zero = min(w for w in weights if w > 0) / 10
    places = [weight or zero for weight in weights]
    for axes, values, label in (
        (left, [p.accuracy for p in points], "test accuracy"),
        (middle, [p.concentration for p in points], "concentration (Gini)"),
    ):
        axes.plot(places, values, "o-", color=LINE)
        axes.set(xscale="log", xlabel=r"$\lambda$ of Eq. (4)", ylabel=label)
        axes.set_xticks(places, [f"{weight:g}" for weight in weights], rotation=45, ha="right")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
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
            markersize=9,
            label=point.name,
            linestyle="none",
        )
    right.set(xlabel=concentration, ylabel="test accuracy")
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    right.grid(alpha=0.3)
    right.legend(fontsize=9, loc="best")
    figure.suptitle(title or "", fontsize=13, parse_math=False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure
