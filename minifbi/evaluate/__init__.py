"""Measures of interpretability: of activations, of explanations, and of confounders.

Each docstring gives the measure's definition and source; :mod:`minifbi.evaluate.measures` lists
all measures.  The functions of one layer's activations have plain names such as ``maximum``, so
they are not repeated here: use ``minifbi.evaluate.activations``.

An explainer is any function ``explainer(model, images, classes)`` that returns the signed
attribution of the logit of ``classes[n]`` to each pixel of ``images[n]``, NumPy arrays in and
out.
"""

from minifbi.evaluate import activations, explanations
from minifbi.evaluate.collect import activation_report, collect_activations
from minifbi.evaluate.confounders import (
    DecoyGap,
    confounder_report,
    decoy_gap,
    wrong_reason_share,
)
from minifbi.evaluate.explanations import (
    complexity,
    explanation_report,
    max_sensitivity,
    pixel_flipping,
    randomization,
    relevance_mass,
    relevance_rank,
    road,
)
from minifbi.evaluate.masks import UnitGrid, digit_mask, pool_mask, unit_grids
from minifbi.evaluate.measures import (
    ACTIVATION_MEASURES,
    CONFOUNDER_MEASURES,
    EXPLANATION_MEASURES,
    Measure,
)

__all__ = ["ACTIVATION_MEASURES", "CONFOUNDER_MEASURES", "EXPLANATION_MEASURES", "DecoyGap"]
__all__ += ["Measure", "UnitGrid", "activation_report", "activations", "collect_activations"]
__all__ += ["complexity", "confounder_report", "decoy_gap", "digit_mask", "explanation_report"]
__all__ += ["explanations", "max_sensitivity", "pixel_flipping", "pool_mask", "randomization"]
__all__ += ["relevance_mass", "relevance_rank", "road", "unit_grids", "wrong_reason_share"]
