"""Checks of the exercises of notebook 8, is it really more interpretable?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from checks import Verdict, choice, function


def gini_index(answer: Any) -> Verdict:
    """Exercise 1: the Gini index."""

    def gini_index(a):
        a = np.sort(np.ravel(a))
        n = len(a)
        return ((2 * np.arange(1, n + 1) - n - 1) * a).sum() / (n * a.sum())

    def counted_from_0(a):
        a = np.sort(np.ravel(a))
        n = len(a)
        return ((2 * np.arange(n) - n - 1) * a).sum() / (n * a.sum())

    def not_sorted(a):
        a = np.ravel(a)
        n = len(a)
        return ((2 * np.arange(1, n + 1) - n - 1) * a).sum() / (n * a.sum())

    def descending(a):
        return -gini_index(a)

    def not_divided(a):
        return gini_index(a) * np.size(a)

    rng = np.random.default_rng(3)
    cases = [
        (np.array([3.0, 0.0, 1.0, 0.0]),),
        (np.ones(5),),
        (rng.random((2, 3, 4)),),
    ]
    return function(
        answer,
        gini_index,
        cases,
        hint="Sort first; k runs from 1 to n; the values of all axes count alike (np.ravel).",
        praise="right: 0 if all are equal, and (n - 1)/n if one has everything.",
        typical=[
            (counted_from_0, "k counts from 1, and np.arange(n) from 0."),
            (not_sorted, "the values have to be sorted first."),
            (descending, "the order is ascending: the largest value has the largest k."),
            (not_divided, "the n below is missing."),
        ],
    )


def paired_interval(answer: Any) -> Verdict:
    """Exercise 2: the confidence interval of a paired difference."""

    def interval(a, b, t, spread):
        middle = (a - b).mean()
        half = t * spread(a, b)
        return middle - half, middle + half

    def paired_interval(a, b, t):
        return interval(a, b, t, lambda a, b: (a - b).std(ddof=1) / np.sqrt(len(a)))

    def population(a, b, t):
        return interval(a, b, t, lambda a, b: (a - b).std() / np.sqrt(len(a)))

    def of_one(a, b, t):
        return interval(a, b, t, lambda a, b: (a - b).std(ddof=1))

    def not_paired(a, b, t):
        return interval(a, b, t, lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)))

    def by_n(a, b, t):
        return interval(a, b, t, lambda a, b: (a - b).std(ddof=1) / len(a))

    def turned(a, b, t):
        return paired_interval(b, a, t)

    def upside_down(a, b, t):
        low, high = paired_interval(a, b, t)
        return high, low

    rng = np.random.default_rng(4)
    b = rng.random(5)
    a = b + 0.1 + 0.02 * rng.standard_normal(5)
    return function(
        answer,
        paired_interval,
        [(np.array([3.0, 5.0, 7.0]), np.array([1.0, 2.0, 6.0]), 4.3), (a, b, 2.776)],
        hint="d = a - b, seed by seed; then mean -/+ t * sample deviation of d / sqrt(n).",
        praise="right. For five seeds t is 2.78; for two it is 12.7.",
        typical=[
            (population, "the sample standard deviation divides by n - 1: std(ddof=1)."),
            (of_one, "that is the spread of one difference; of a mean of n it is / sqrt(n)."),
            (not_paired, "that forgets who belongs to whom: take the deviation of a - b."),
            (by_n, "divide by the root of n, not by n."),
            (turned, "the sign is wrong: it is a - b."),
            (upside_down, "the lower end comes first."),
        ],
    )


def at_least_one(answer: Any) -> Verdict:
    """Exercise 3: many comparisons."""

    def at_least_one(k):
        return 1 - 0.95**k

    return function(
        answer,
        at_least_one,
        [(1,), (2,), (40,)],
        hint="All k intervals cover 0 with probability 0.95 * 0.95 * ...: the opposite is asked.",
        praise="right: 87 % for 40. Correlated measures make it less, but never none.",
        typical=[
            (lambda k: 0.95**k, "that is the probability that none of them does."),
            (
                lambda k: 0.05 * k,
                "that is how many one expects on average; for k = 40 it would be a probability "
                "above 1.",
            ),
            (lambda k: 0.05**k, "that is the probability that all of them do."),
        ],
    )


def two_networks(answer: Any) -> Verdict:
    """Exercise 4: a control."""
    return choice(
        answer,
        "b",
        {
            "a": "A loses its answer fast whatever is erased, as its control says: it is fragile. "
            "What does its explanation add to the control?",
            "b": "right: the gain over the ink is 0.02 for A and 0.10 for B. The smaller area of "
            "A is due to the network, not to its explanation.",
            "c": "they may, if each is compared with a control on the same network.",
        },
    )


# What can be defended, and where to look.
CHECKLIST = {
    "defined": (
        ("no", "unclear"),
        "section 4.3: energy compaction, maximum and skewness are measured. Does the paper say "
        "why these are interpretability?",
    ),
    "explained": (
        ("no",),
        "section 4 measures and shows activations. Is a heatmap tested, or a person asked?",
    ),
    "formula": (
        ("no",),
        "section 4.3: how is the energy normalised, over which images? Notebook 7 tried.",
    ),
    "independent": (
        ("no",),
        "Eq. (3) presses activations down (section 2 here); what do Fig. 2, Fig. 3 and Table 1 "
        "measure?",
    ),
    "impostor": (
        ("no", "unclear"),
        "notebook 7, section 4: which readings of Table 1 does the impostor fool, and do we know "
        "which reading is meant?",
    ),
    "baseline": (
        ("no",),
        "section 4.2: which two networks are compared, and is there a third?",
    ),
    "accuracy": (("no",), "look for a number with a percent sign in section 4."),
    "seeds": (("no",), "is there a ± or an interval in Table 1?"),
    "breadth": (
        ("no",),
        "section 4.1 names the data and the network; the last sentence of section 5 says more.",
    ),
    "consistent": (
        ("no",),
        "the text says that the values are larger with the proposed training. Look at each "
        "maximum in Table 1.",
    ),
    "chosen": (("no",), "section 4.2 shows one digit; is it said why that one?"),
    "settings": (("yes",), "below Eq. (4), and the last paragraph of section 3.2."),
    "repeat": (
        ("no", "unclear"),
        "section 4.1: optimiser, learning rate, epochs, sizes of all layers, how L1 is reduced: "
        "which of them are there?",
    ),
}


def checklist(answer: Any) -> Verdict:
    """Exercise 5: the checklist, for Yoo, Kim and Kang (2019)."""
    if not isinstance(answer, Mapping):
        return Verdict(False, f"expected a dict of answers, got {answer!r:.40}.")
    if answer and all(value is Ellipsis for value in answer.values()):
        return Verdict(False, 'replace each `...` by "yes", "no" or "unclear".')
    missing = [name for name in CHECKLIST if answer.get(name, ...) is Ellipsis]
    if missing:
        return Verdict(False, f"not answered yet: {', '.join(missing)}.")
    unknown = [name for name in answer if name not in CHECKLIST]
    if unknown:
        return Verdict(False, f"{unknown[0]!r:.40} is not on the list.")
    for name, value in answer.items():
        if value not in ("yes", "no", "unclear"):
            return Verdict(False, f'{name}: {value!r:.40}; answer "yes", "no" or "unclear".')
    wrong = [name for name, (right, _) in CHECKLIST.items() if answer[name] not in right]
    if wrong:
        count = f"{len(CHECKLIST) - len(wrong)} of {len(CHECKLIST)} can be defended. "
        return Verdict(False, f"{count}Look again at {wrong[0]}: {CHECKLIST[wrong[0]][1]}")
    return Verdict(True, "all can be defended. Most papers, ours among them, fail some of these.")
