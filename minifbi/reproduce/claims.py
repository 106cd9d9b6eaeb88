"""The claims of the paper, in a form that numbers can support or contradict.

The paper (Yoo, Kim and Kang 2019) does not say how its measures are computed, so a claim has
several readings.  Nothing in this file depends on a result.
"""

from __future__ import annotations

from dataclasses import dataclass

from minifbi.reproduce.results import ACTIVATION, EXPLANATION

HIGHER, LOWER = 1, -1


@dataclass(frozen=True)
class Reading:
    """One way to measure what a claim says.

    Attributes
    ----------
    label : str
        The reading in words, for the report.
    kind, measure : str
        As in :class:`~minifbi.reproduce.results.Key`.
    direction : int
        1 if the claim says that FBI makes it larger, -1 if smaller.
    layers : tuple of str
        Names of layers, or of the explainer; empty for every convolution.
    """

    label: str
    kind: str
    measure: str
    direction: int
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes
    ----------
    title : str
        The claim in a few words, as the report's tables show it.
    source : str
        The place in the paper, and its words.
    readings : tuple of Reading
        The ways to measure it.
    """

    title: str
    source: str
    readings: tuple[Reading, ...]


def _activation(label: str, measure: str, direction: int, layers: tuple[str, ...] = ()) -> Reading:
    return Reading(label, ACTIVATION, measure, direction, layers)


ACTIVATION_CLAIMS = (
    Claim(
        "Higher maxima",
        'Section 4.3: "higher confidence (a larger maximum value)", although in the paper\'s own '
        "Table 1 the maximum of conv2 falls",
        (
            _activation("maximum as it is", "maximum", HIGHER),
            _activation("maximum / RMS", "rms_maximum", HIGHER),
        ),
    ),
    Claim(
        'Higher "skewness"',
        'Section 4.3: "lower confusion (a large skewness)", skewness being "the inverse of the '
        'variance in the energy-normalized curves"',
        (
            _activation("1/variance as it is", "inverse_variance", HIGHER),
            # 1/var(a / mean) is always 1 less than 1/var(a / RMS): one comparison, not two
            _activation("1/variance after division by the RMS", "inverse_variance_rms", HIGHER),
            _activation("1/variance after division by the maximum", "inverse_variance_max", HIGHER),
            _activation("third-moment skewness", "skewness", HIGHER),
        ),
    ),
    Claim(
        "More zeroed filters in the last layers",
        'Section 4.2, of the last rows of Fig. 2 (conv3): "there are more zero-out filters in the '
        'proposed algorithm"',
        (
            _activation(
                "filters whose map is all zero for an image",
                "zeroed_filters",
                HIGHER,
                ("conv3", "conv5"),
            ),
            _activation("filters zero for every image", "dead_filters", HIGHER, ("conv3", "conv5")),
        ),
    ),
    Claim(
        "Less activation on the background, more on the digit",
        'Section 4.2: the conventional network "often shows strong activations in the '
        'background", the proposed one focuses "on a region of interest"',
        (_activation("share of activation on the background", "background_share", LOWER),),
    ),
    Claim(
        "Densities more skewed to 0",
        'Section 4.3 on Fig. 3: "the curves of the proposed algorithm are more skewed to 0 because '
        'the activations are more focused to specific regions"',
        (
            _activation("share of exact zeros", "zero_fraction", HIGHER),
            _activation("Gini index", "gini", HIGHER),
            _activation("Hoyer sparsity", "hoyer", HIGHER),
        ),
    ),
)

EXPLAINABLE = Claim(
    "More explainable",
    'Abstract: "allow for a CNN to be more explainable". The paper measures no explanation; these '
    "measures are ours, one of each idea in its usual form",
    tuple(
        Reading(label, EXPLANATION, measure, direction, (explainer,))
        for label, measure, direction, explainer in (
            ("Gini index of the relevance", "gini", HIGHER, "lrp-0"),
            ("complexity of the relevance", "complexity", LOWER, "lrp-0"),
            ("pixel flipping, most relevant first", "flipping_most", LOWER, "lrp-0"),
            ("pixel flipping, least relevant first", "flipping_least", HIGHER, "lrp-0"),
            ("pixel flipping, gain over ink in any order", "flipping_gain", HIGHER, "lrp-0"),
            ("ROAD, least minus most relevant", "road_difference", HIGHER, "lrp-0"),
            ("relevance on the digit, by rank", "relevance_rank", HIGHER, "lrp-0"),
            ("max-sensitivity of the relevance", "max_sensitivity", LOWER, "lrp-0"),
            ("Gini index of the gradient", "gini", HIGHER, "gradient"),
            ("gradient on the digit, by mass", "relevance_mass", HIGHER, "gradient"),
            ("gradient on the digit, by rank", "relevance_rank", HIGHER, "gradient"),
        )
    ),
)
