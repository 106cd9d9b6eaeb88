"""Initial weights: He et al. 2015, and where their random numbers come from."""

from __future__ import annotations

from typing import Any

import numpy as np


def make_rng(rng: int | np.random.Generator) -> np.random.Generator:
    """A generator from a seed; a generator is passed on, so that layers may share one."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


def he_normal(
    shape: tuple[int, ...], fan_in: int, rng: int | np.random.Generator
) -> np.ndarray[Any, Any]:
    """Normal numbers of standard deviation sqrt(2 / fan_in), in float64.

    This keeps the mean square of ReLU activations the same from layer to layer
    (He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, Eq. 10).
    Drawn in float64 whatever the dtype of the model, so that a float32 and a
    float64 model of one seed are the same to rounding.
    """
    return make_rng(rng).standard_normal(shape) * np.sqrt(2.0 / fan_in)
