"""Checks of the exercises of notebook 6, three-step training."""

from __future__ import annotations

from typing import Any

import numpy as np

from checks import Verdict, call, choice, every, function, shown, values


# ---- exercise 1 --------------------------------------------------------------------------
def two_roads(through_forward: Any, through_relevance: Any) -> Verdict:
    """Exercise 1: the gradient of L_FBI through the two passes, for second weights of 1/2."""
    mean = "Eq. (3) is a mean: where is the 1/K?"
    return every(
        values(
            through_forward,
            0.25,
            "through_forward",
            hint="The second term is the sum of |h - (its relevance)|; what is the relevance of a "
            "hidden unit now, and by how much does the distance rise for each unit of h?",
            typical=[
                (1.0, "that is the part for weights of 3."),
                (0.5, mean),
                (
                    -0.25,
                    "the relevance is now smaller than the activation, so what stands between the "
                    "bars is positive and grows with h.",
                ),
                (0.125, "the 1/K comes once, and h rises by x for each unit of the weight."),
            ],
        ),
        values(
            through_relevance,
            0.25,
            "through_relevance",
            hint="The first term is the sum of |x - (its relevance)|; the relevance of an input is "
            "x times a sum over the hidden units. What does one of the weights add to it?",
            typical=[
                (1.5, "that is the part for weights of 3."),
                (0.5, mean),
                (
                    -0.25,
                    "is the relevance of an input larger or smaller than the input? Put in the "
                    "numbers: three hidden units, first weights of 2, second weights of 1/2.",
                ),
                (0.75, "one weight leads to one hidden unit only, not to all three."),
            ],
            praise="right: both are 1/4, and a unit's two roads add up to 1/2 here.",
        ),
    )


# ---- exercise 2 --------------------------------------------------------------------------
def opens_at(answer: Any) -> Verdict:
    """Exercise 2: when a gate opens."""
    cases: list[tuple[list[float], int, float, int | None, str]] = [
        ([0.3, 0.6, 0.8, 0.9], 50, 0.7, 150, "Count the steps, beginning with one interval."),
        ([0.5, 0.75, 0.6, 0.8], 10, 0.7, 20, "It opens the first time, and stays open."),
        ([0.2, 0.7, 0.71], 5, 0.7, 15, "The accuracy must exceed the threshold."),
        ([0.2, 0.3], 50, 0.7, None, "The gate stays shut."),
        ([], 50, 0.7, None, "Nothing was measured: the gate stays shut."),
    ]
    for accuracies, interval, threshold, right, hint in cases:
        arguments = (accuracies, interval, threshold)
        if not callable(answer):
            return Verdict(False, f"expected the function opens_at, got {answer!r:.40}.")
        if right is None:
            try:
                got = answer(*arguments)
            except Exception as error:  # belongs in the message
                return Verdict(
                    False, f"opens_at{shown(arguments)} raised {type(error).__name__}: {error}."
                )
            if got is Ellipsis:
                return Verdict(False, "opens_at returned `...`: write its body.")
            if got is not None:
                return Verdict(
                    False, f"opens_at{shown(arguments)} is {got!r:.40}, expected None. {hint}"
                )
            continue
        got, failed = call(answer, arguments, "opens_at")
        if failed is not None:
            return failed
        above = [n for n, a in enumerate(accuracies) if a > threshold]
        reached = next(n for n, a in enumerate(accuracies) if a >= threshold)
        typical = [
            (above[0], "that is a place in the list; the step is asked for."),
            (above[0] + 1, "that counts the measurements; the step is asked for."),
        ]
        if reached < above[0]:
            exceed = "the accuracy must exceed the threshold; reaching it is not enough."
            typical.append(((reached + 1) * interval, exceed))
        else:
            not_zero = "the first measurement comes after `interval` steps, not at 0."
            typical.append((above[0] * interval, not_zero))
        if len(above) > 1:
            first_time = "it opens the first time, and stays open."
            typical.append(((above[-1] + 1) * interval, first_time))
        verdict = values(got, right, f"opens_at{shown(arguments)}", hint=hint, typical=typical)
        if not verdict.ok:
            return verdict
    return Verdict(True, "right: it opens once, for good, and only above the threshold.")


# ---- exercise 3 --------------------------------------------------------------------------
def paired(answer: Any) -> Verdict:
    """Exercise 3: the mean of paired differences and half its interval."""

    def right(a, b, factor):
        d = b - a
        return d.mean(), factor * d.std(ddof=1) / np.sqrt(len(d))

    def turned(a, b, factor):
        mean, half = right(a, b, factor)
        return -mean, half

    def biased(a, b, factor):
        d = b - a
        return d.mean(), factor * d.std() / np.sqrt(len(d))

    def of_one(a, b, factor):
        d = b - a
        return d.mean(), factor * d.std(ddof=1)

    def by_m(a, b, factor):
        d = b - a
        return d.mean(), factor * d.std(ddof=1) / len(d)

    def not_paired(a, b, factor):
        both = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
        return b.mean() - a.mean(), factor * np.sqrt(both)

    def no_factor(a, b, factor):
        return right(a, b, 1.0)

    a = np.array([0.90, 0.94, 0.92])
    return function(
        answer,
        right,
        [
            (a, a + np.array([0.010, 0.020, 0.015]), 4.303),
            (np.array([3.0, 5.0]), np.array([2.0, 4.5]), 12.706),
            (np.random.default_rng(0).random(8), np.random.default_rng(1).random(8), 2.365),
        ],
        "paired",
        hint="First the differences; then their mean, and factor * s / sqrt(m).",
        praise="right. The seeds differ by more than the ways of training, and yet the pairs "
        "show the difference: that is why one pairs.",
        typical=[
            (turned, "the sign is turned around: b - a."),
            (biased, "for few seeds the standard deviation needs ddof=1, dividing by m - 1."),
            (of_one, "that is the spread of one difference; the mean of m varies less."),
            (by_m, "divide by the square root of m."),
            (not_paired, "take the difference within each pair first, and its spread after."),
            (no_factor, "the factor is missing."),
        ],
    )


# ---- exercise 4 --------------------------------------------------------------------------
def five_and_five(answer: Any) -> Verdict:
    """Exercise 4: why a prolonged run is not the long run."""
    return choice(
        answer,
        "c",
        {
            "a": "no: the state of the random generator is in the checkpoint. Section 6 compared "
            "the weights bit by bit.",
            "b": "no: Adam's two means are in the checkpoint. Section 6 compared the weights bit "
            "by bit.",
            "c": "right: the cosine falls to 0 at the end of the *planned* training, so the first "
            "five epochs differ already. An interrupted run knows its plan, a prolonged one has "
            "changed it.",
            "d": "no: the gate is latched, and the step at which it opened is in the checkpoint.",
        },
    )
