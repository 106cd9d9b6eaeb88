"""The weight of the L1 penalty at which activations are, on average, as small as with FBI.

The FBI loss is an L1 penalty on activations, weighted by the distance of the gradient from 1.
To compare it fairly with a plain L1 penalty, both must have the same strength.  So the weight of
the plain penalty is searched on the validation split.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minifbi.datasets import Split
from minifbi.evaluate.collect import collect_activations
from minifbi.layers import Sequential

TOLERANCE = 0.05
"""The search ends when the means differ by less than this share."""


def mean_activation(model: Sequential, split: Split, limit: int) -> float:
    """Mean of all post-ReLU activations of the convolutions, each unit with the same weight.

    Parameters
    ----------
    model : Sequential
        The trained network.
    split : Split
        The images.
    limit : int
        Use only the first `limit` images.

    Returns
    -------
    float
    """
    layers = list(collect_activations(model, split, limit).values())
    total = sum(float(a.sum(dtype=np.float64)) for a in layers)
    return total / sum(a.size for a in layers)


def search_weight(
    target: float, measure: Callable[[float], float], start: float, runs: int
) -> tuple[float, list[dict[str, float]]]:
    """Find the weight at which a quantity that falls with the weight has a target value.

    The search works on logarithms, where the mean activation is nearly linear: after `start` it
    tries a second weight on the side of the target, then the secant method with the two nearest
    points.

    Parameters
    ----------
    target : float
        The wanted value, above 0.
    measure : callable
        Takes a weight and returns the quantity; each call costs a training run.
    start : float
        The first weight.
    runs : int
        Largest number of weights to try.

    Returns
    -------
    weight : float
        The tried weight whose quantity is nearest to the target.
    tried : list of dict
        For each: "weight", "value" and "error", the relative difference from the target.
    """
    tried: list[dict[str, float]] = []
    weight = start
    for _ in range(runs):
        value = measure(weight)
        error = value / target - 1
        tried.append({"weight": weight, "value": value, "error": error})
        if abs(error) < TOLERANCE:
            break
        weight = _next(tried, target)
    return min(tried, key=lambda t: abs(t["error"]))["weight"], tried


def _next(tried: list[dict[str, float]], target: float) -> float:
    points = sorted(tried, key=lambda t: abs(math.log(t["value"] / target)) if t["value"] else 99)
    a = points[0]
    slope = -0.5  # a guess: the mean falls with the square root of the weight
    if len(points) > 1 and a["value"] > 0 and points[1]["value"] > 0:
        b = points[1]
        found = math.log(a["value"] / b["value"]) / math.log(a["weight"] / b["weight"])
        slope = found if found < -0.05 else slope
    step = math.log(target / a["value"]) / slope if a["value"] > 0 else -2.0
    # three digits are plenty, and the weight is to be read and typed by people
    return float(f"{a['weight'] * math.exp(max(-2.3, min(2.3, step))):.3g}")
