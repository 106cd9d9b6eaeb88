"""What each number of the reports means: its formula, its source, and which direction is better.

Reports are plain dictionaries of floats.  The dictionaries below describe the same names, for
example for the headings of a table.

>>> EXPLANATION_MEASURES["complexity"].direction
'lower'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ACTIVATION_MEASURES", "CONFOUNDER_MEASURES", "EXPLANATION_MEASURES", "Measure"]

PAPER = "Yoo, Kim and Kang 2019"
SAMEK = "Bach et al. 2015; Samek et al. 2017"
ROAD = "Rong et al. 2022"
ARRAS = "Arras et al. 2022"
ADEBAYO = "Adebayo et al. 2018"
ROSS = "Ross et al. 2017"


@dataclass(frozen=True)
class Measure:
    """One number of a report.

    Attributes
    ----------
    name : str
        Its key in the report.
    title : str
        A heading for it.
    formula : str
        In plain text.
    direction : {"higher", "lower", "neither"}
        The direction that its source calls more interpretable; "neither" for controls and
        facts.
    source : str
        Authors and year; in full in the documentation.
    """

    name: str
    title: str
    formula: str
    direction: Literal["higher", "lower", "neither"]
    source: str


def _by_name(*measures: Measure) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


ACTIVATION_MEASURES: dict[str, Measure] = _by_name(
    Measure("mean", "mean", "mean(a)", "neither", "elementary"),
    Measure("maximum", "maximum", "max(a)", "higher", PAPER),
    Measure("rms_maximum", "maximum / RMS", "max(a) / sqrt(mean(a^2))", "higher", PAPER),
    Measure("variance", "variance", "var(a)", "lower", PAPER),
    Measure("inverse_variance", "1 / variance", "1 / var(a)", "higher", PAPER),
    Measure("variance_rms", "variance (RMS)", "var(a / sqrt(mean(a^2)))", "lower", PAPER),
    Measure("inverse_variance_rms", "1 / variance (RMS)", "1 / var(a / rms(a))", "higher", PAPER),
    Measure("variance_mean", "variance (mean)", "var(a / mean(a))", "lower", PAPER),
    Measure(
        "inverse_variance_mean", "1 / variance (mean)", "1 / var(a / mean(a))", "higher", PAPER
    ),
    Measure("variance_max", "variance (max)", "var(a / max(a))", "lower", PAPER),
    Measure("inverse_variance_max", "1 / variance (max)", "1 / var(a / max(a))", "higher", PAPER),
    Measure(
        "skewness", "skewness", "mean((a - mean(a))^3) / var(a)^(3/2)", "higher", "Fisher-Pearson"
    ),
    Measure("zero_fraction", "zeros", "share of a = 0", "higher", PAPER),
    Measure(
        "gini",
        "Gini index",
        "sum_k (2k - n - 1) a_k / (n sum_k a_k), a_k ascending",
        "higher",
        "Hurley and Rickard 2009",
    ),
    Measure(
        "hoyer",
        "Hoyer sparsity",
        "(sqrt(n) - |a|_1 / |a|_2) / (sqrt(n) - 1)",
        "higher",
        "Hoyer 2004",
    ),
    Measure(
        "zeroed_filters",
        "zeroed filters",
        "filters with an all-zero map, per image",
        "higher",
        PAPER,
    ),
    Measure(
        "dead_filters", "dead filters", "filters that are zero in every image", "neither", PAPER
    ),
    Measure(
        "background_share",
        "background share",
        "sum of a where there is no ink / sum of a",
        "lower",
        PAPER,
    ),
)
"""Of :func:`~minifbi.evaluate.activation_report`, for each layer."""

EXPLANATION_MEASURES: dict[str, Measure] = _by_name(
    Measure(
        "gini",
        "Gini index",
        "sum_k (2k - n - 1) c_k / (n sum_k c_k), c = |R| ascending",
        "higher",
        "Chalasani et al. 2020",
    ),
    Measure(
        "complexity",
        "complexity (nats)",
        "-sum_p f_p ln f_p, f = |R| / sum |R|",
        "lower",
        "Bhatt et al. 2020",
    ),
    Measure(
        "zero_attributions", "no attribution", "share of images with R = 0", "neither", "elementary"
    ),
    Measure(
        "flipping_most",
        "flipping, most relevant first",
        "area under the probability, highest R erased first",
        "lower",
        SAMEK,
    ),
    Measure(
        "flipping_least",
        "flipping, least relevant first",
        "area under the probability, lowest R erased first",
        "higher",
        SAMEK,
    ),
    Measure(
        "flipping_random",
        "flipping, random order",
        "area under the probability, erased by chance (control)",
        "neither",
        SAMEK,
    ),
    Measure(
        "flipping_ink",
        "flipping, ink in random order",
        "area under the probability, ink erased first by chance (control)",
        "neither",
        "control",
    ),
    Measure(
        "flipping_gain",
        "flipping, gain over ink",
        "flipping_ink - flipping_most",
        "higher",
        "control",
    ),
    Measure(
        "road_most",
        "ROAD, most relevant first",
        "mean probability after removal and imputation",
        "lower",
        ROAD,
    ),
    Measure(
        "road_least",
        "ROAD, least relevant first",
        "mean probability after removal and imputation",
        "higher",
        ROAD,
    ),
    Measure("road_difference", "ROAD", "road_least - road_most", "higher", ROAD),
    Measure(
        "road_accuracy_difference",
        "ROAD (accuracy)",
        "the same of the share of unchanged answers",
        "higher",
        ROAD,
    ),
    Measure(
        "relevance_mass",
        "relevance mass accuracy",
        "sum of R+ on the digit / sum of R+",
        "higher",
        ARRAS,
    ),
    Measure(
        "relevance_rank",
        "relevance rank accuracy",
        "share of the K highest R on the digit of K pixels",
        "higher",
        ARRAS,
    ),
    Measure(
        "max_sensitivity",
        "max-sensitivity",
        "max_d |E(x + d) - E(x)|_2 / |E(x)|_2, |d|_inf <= r",
        "lower",
        "Yeh et al. 2019",
    ),
    Measure(
        "randomization_spearman",
        "randomisation, rank correlation",
        "Spearman(R, R of the randomised model), mean over layers",
        "lower",
        ADEBAYO,
    ),
    Measure(
        "randomization_absolute",
        "randomisation, rank correlation of |R|",
        "Spearman(|R|, |R| of the randomised model), mean over layers",
        "lower",
        ADEBAYO,
    ),
    Measure(
        "randomization_ssim",
        "randomisation, SSIM",
        "SSIM(R, R of the randomised model), mean over layers",
        "lower",
        ADEBAYO,
    ),
)
"""Of :func:`~minifbi.evaluate.explanation_report`."""

CONFOUNDER_MEASURES: dict[str, Measure] = _by_name(
    Measure("accuracy_rule", "accuracy, telling patches", "patch = 255 - 25 y", "neither", ROSS),
    Measure("accuracy_clean", "accuracy, no patches", "MNIST as it is", "neither", ROSS),
    Measure(
        "accuracy_random",
        "accuracy, random patches",
        "patch = 255 - 25 y', y' random",
        "higher",
        ROSS,
    ),
    Measure("decoy_gap", "decoy gap", "accuracy_rule - accuracy_random", "lower", ROSS),
    Measure("clean_gap", "clean gap", "accuracy_clean - accuracy_random", "neither", ROSS),
    Measure(
        "wrong_reason_share",
        "wrong-reason share",
        "sum of |R| on the patch / sum of |R|",
        "lower",
        ROSS,
    ),
)
"""Of :func:`~minifbi.evaluate.confounder_report`."""
