"""Figures 1 to 3 of the paper, and lambda, from the runs of a reproduction."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from minifbi.evaluate.collect import collect_activations
from minifbi.plots import (
    Point,
    example_image,
    plot_comparison,
    plot_densities,
    plot_scheme,
    plot_tradeoff,
    save_figure,
)
from minifbi.reproduce.experiments import LAMBDA, MAIN, METHODS, base_config, with_method
from minifbi.reproduce.results import ACTIVATION, ALL_LAYERS, TRAINING, Key, Results
from minifbi.reproduce.settings import Settings
from minifbi.reproduce.statistics import summarize
from minifbi.reproduce.store import Store
from minifbi.reproduce.tables import LABELS

GINI = Key(ACTIVATION, "gini", ALL_LAYERS)
ACCURACY = Key(TRAINING, "test_accuracy")
NAMES = ("conventional training", "proposed training (FBI)")


def draw_paper_figures(
    store: Store, settings: Settings, out: Path, colorblind: bool = False
) -> dict[str, str]:
    """Fig. 1 to 3 from the conventional and the FBI network of seed 0.

    Parameters
    ----------
    store : Store
        Holds the two trained networks.
    settings : Settings
        Says on how many test images activations are measured.
    out : Path
        Folder for the PNG files.
    colorblind : bool
        Use colours that people with colour-vision deficiency can tell apart.

    Returns
    -------
    dict of str to str
        File names and captions.
    """
    base = base_config(settings, seed=0)
    configs = [with_method(base, method) for method in ("none", "fbi")]
    conventional, proposed = (store.model(config) for config in configs)
    test = store.data(base).test
    image, label = example_image(store.data(base))
    save_figure(plot_scheme(proposed, image, label, colorblind=colorblind), out / "figure1.png")
    models = dict(zip(NAMES, (conventional, proposed), strict=True))
    for name, normalization in (("figure2.png", "none"), ("figure2-rms.png", "rms")):
        figure = plot_comparison(
            models, image, label, normalization=normalization, colorblind=colorblind
        )
        save_figure(figure, out / name)
    count = min(settings.activation_images, 200)
    densities = [
        collect_activations(model, test, limit=count) for model in (conventional, proposed)
    ]
    save_figure(plot_densities(*densities, names=NAMES, colorblind=colorblind), out / "figure3.png")
    low, high = ("dark", "yellow") if colorblind else ("green", "red")
    second = "orange" if colorblind else "red"
    return {
        "figure1.png": (
            "Fig. 1: the training scheme, drawn from the FBI network of seed 0 and a test digit "
            f"{label}. Above, what goes forward (mean over the channels); below, the relevance "
            "that comes back; between them the terms of Eq. (3). All numbers are of this digit."
        ),
        "figure2.png": (
            f"Fig. 2: activation maps of the first three convolutions for a test digit {label}, "
            f"seed 0. In each layer one colour range for both networks, {low} is 0, {high} the "
            "larger maximum."
        ),
        "figure2-rms.png": (
            "Fig. 2 with each network's activations divided by their root mean square in the "
            "layer, since FBI makes all activations smaller: what is left is where they lie."
        ),
        "figure3.png": (
            f"Fig. 3: density of the activations after the ReLU over {count} test images, seed 0; "
            f"blue conventional, {second} FBI. Gaussian kernels, reflected at 0, over all values, "
            "zeros included; the share of exact zeros is printed, because a lump has no "
            "density: the height at 0 is that share over the bandwidth. Both curves of a panel "
            "have the same bandwidth. Above, activations as they are; below, divided by their root "
            "mean square."
        ),
    }


def draw_lambda(results: Results, out: Path) -> dict[str, str]:
    """Accuracy against concentration for every lambda, beside the other methods.

    Returns
    -------
    dict of str to str
        File name and caption; empty if fewer than two weights of lambda were trained.
    """
    curve = {}
    seeds: set[int] = set()  # the other methods are shown for the same
    for method, setting in results.variants(LAMBDA):
        point = _point(results, method, LAMBDA, setting, setting)
        if point is not None:
            curve[float(setting.split("=")[1])] = point
            seeds |= set(results.by_seed(method, ACCURACY, LAMBDA, setting))
    if len(curve) < 2 or max(curve) == 0:
        return {}
    named = [m for m in METHODS if m not in ("none", "fbi")]
    others = [_point(results, m, MAIN, "", LABELS[m], seeds) for m in named]
    figure = plot_tradeoff(curve, [point for point in others if point is not None])
    save_figure(figure, out / "lambda.png")
    return {
        "lambda.png": (
            "The weight of the FBI loss from 0 (conventional) to 1, without the task loss: test "
            "accuracy, concentration (Gini index of the activations, mean of the convolutions), "
            "and one against the other, with the other methods at their own weights."
        )
    }


def _point(
    results: Results,
    method: str,
    group: str,
    setting: str,
    name: str,
    seeds: Collection[int] | None = None,
) -> Point | None:
    means = []
    for key in (GINI, ACCURACY):
        values = results.by_seed(method, key, group, setting)
        means.append(summarize([v for s, v in values.items() if seeds is None or s in seeds]))
    if not means[1].count:
        return None  # one that diverged
    # a network without activity has an accuracy, but no Gini index
    return Point(name, means[0].mean if means[0].count else math.nan, means[1].mean)
