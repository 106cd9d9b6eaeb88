"""Densities of activations, layer by layer: the paper's Fig. 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from minifbi.errors import ConfigError
from minifbi.plots.figure import new_figure

CONVENTIONAL, PROPOSED = "#1f5fa8", "#d62728"  # the paper's blue and red
SAMPLE = 10_000  # values a density is estimated from
POINTS = 400


def reflected_density(
    values: NDArray[Any], at: NDArray[Any], bandwidth: float
) -> NDArray[np.float64]:
    """Gaussian kernel density of values that are never negative.

    Each value x counts as a pair at x and -x and the result is doubled, so that no mass
    leaks below 0 (boundary reflection: Silverman 1986, Density Estimation for Statistics and
    Data Analysis, Section 2.10).

    Parameters
    ----------
    values : ndarray, shape (N,)
        At least 0.
    at : ndarray, shape (P,)
        Where, at least 0.
    bandwidth : float
        Standard deviation of the kernel, in units of the values.

    Returns
    -------
    ndarray, shape (P,)
        Integrates to 1 over the numbers from 0.
    """
    from scipy.stats import gaussian_kde

    both = np.concatenate([values, -values]).astype(np.float64)
    spread = float(both.std(ddof=1))
    if spread == 0:  # all zero: one kernel at 0, which gaussian_kde refuses
        kernel = np.exp(-0.5 * (at / bandwidth) ** 2) / (bandwidth * np.sqrt(2 * np.pi))
        return 2 * np.asarray(kernel, dtype=np.float64)
    # scipy wants the bandwidth as a multiple of the sample's standard deviation
    return 2 * np.asarray(gaussian_kde(both, bw_method=bandwidth / spread)(at))


def plot_densities(
    conventional: Mapping[str, NDArray[Any]],
    proposed: Mapping[str, NDArray[Any]],
    *,
    names: tuple[str, str] = ("conventional training", "proposed training (FBI)"),
    title: str | None = None,
    colorblind: bool = False,
    seed: int = 0,
) -> Figure:
    """Draw the densities of the post-ReLU activations of two networks, one panel per convolution.

    The upper row shows the values, the lower row the values divided by their root mean square
    ("energy-normalised").  Many values are exactly 0, and the height of the density there is
    their share divided by the bandwidth.  So both networks share one bandwidth in each panel
    (Scott's rule on the wider of the two), and the share of zeros is printed.

    Parameters
    ----------
    conventional, proposed : mapping of str to ndarray
        Activations by layer, arrays of any shape, at least 0; the same layers in both.
    names : (str, str)
        For the legend.
    title : str, optional
        A line above the figure.
    colorblind : bool
        Dashes for the second network, and orange for red.
    seed : int
        Of the random sample of 10,000 values from which each density is estimated.

    Returns
    -------
    Figure
        Two rows of axes, one column per layer.

    Raises
    ------
    ConfigError
        If the layers differ, there are none, or an activation is negative.
    """
    if list(conventional) != list(proposed) or not conventional:
        raise ConfigError(
            f"layers {list(conventional)} and {list(proposed)}: expected the same ones, at least 1"
        )
    rng = np.random.default_rng(seed)
    figure = new_figure(3.0 * max(2, len(conventional)) + 0.6, 6.9, layout="constrained")
    axes = figure.subplots(2, len(conventional), squeeze=False)
    colors = (CONVENTIONAL, "#d55e00" if colorblind else PROPOSED)
    for column, layer in enumerate(conventional):
        both = [_sample(np.ravel(values[layer]), rng) for values in (conventional, proposed)]
        normal = [values / (np.sqrt(np.mean(values**2)) or 1.0) for values in both]
        zeros = [float(np.mean(np.asarray(v[layer]) == 0)) for v in (conventional, proposed)]
        for row, pair in enumerate((both, normal)):
            _panel(axes[row, column], pair, zeros, colors, colorblind)
        axes[0, column].set_title(layer, fontsize=12)
        axes[0, column].set_xlabel("activation")
        axes[1, column].set_xlabel("activation / its RMS")
    for row in axes:
        row[0].set_ylabel("density (logarithmic)")
    figure.suptitle(title or "", fontsize=13, parse_math=False)
    handles = axes[0, 0].get_lines()[:2]
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=11, frameon=False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _sample(values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    if values.size == 0 or not values.min() >= 0:
        raise ConfigError("activations after a ReLU are at least 0; got none, or a negative one")
    if values.size > SAMPLE:
        values = rng.choice(values, SAMPLE, replace=False)
    return values.astype(np.float64)


def _panel(
    axes: Axes,
    pair: list[NDArray[np.float64]],
    zeros: list[float],
    colors: tuple[str, str],
    dashed: bool,
) -> None:
    spread = max(float(np.concatenate([v, -v]).std()) for v in pair) or 1.0
    bandwidth = spread * len(pair[0]) ** -0.2  # Scott 1992
    end = max(float(np.quantile(values, 0.999)) for values in pair) or 1.0
    at = np.linspace(0, 1.05 * end, POINTS)
    densities = [reflected_density(values, at, bandwidth) for values in pair]
    for values, color, style in zip(densities, colors, ("-", "--" if dashed else "-"), strict=True):
        axes.plot(at, values, style, color=color, lw=1.8)
    top = max(float(values.max()) for values in densities)
    axes.set(yscale="log", ylim=(top * 1e-4, top * 6), xlim=(0, at[-1]))
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=9)
    axes.minorticks_off()
    for line, (share, color) in enumerate(zip(zeros, colors, strict=True)):
        axes.text(
            0.97,
            0.95 - 0.085 * line,
            f"zeros {share:.0%}",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=9.5,
            color=color,
        )
