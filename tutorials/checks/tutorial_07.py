"""Checks of the exercises of notebook 7, the paper's figures and its table."""

from __future__ import annotations

from typing import Any

import numpy as np

from checks import Verdict, call, choice, every, function, values


def inverse_variance(answer: Any) -> Verdict:
    """Exercise 1: 1 / variance in four normalisations."""

    def size(a, scale):
        return {
            "none": 1.0,
            "rms": np.sqrt(np.mean(a**2)),
            "mean": np.mean(a),
            "max": np.max(a),
        }[scale]

    def inverse_variance(a, scale):
        return 1 / np.var(a / size(a, scale))

    def not_inverted(a, scale):
        return np.var(a / size(a, scale))

    def sample(a, scale):
        return 1 / np.var(a / size(a, scale), ddof=1)

    def deviation(a, scale):
        return 1 / np.std(a / size(a, scale))

    def divided_once(a, scale):
        return 1 / (np.var(a) / size(a, scale))

    def by_deviation(a, scale):
        return inverse_variance(a, scale) if scale != "rms" else 1 / np.var(a / np.std(a))

    def mean_square(a, scale):
        return inverse_variance(a, scale) if scale != "rms" else 1 / np.var(a / np.mean(a**2))

    rng = np.random.default_rng(7)
    four = np.array([0.0, 0.0, 1.0, 3.0])
    batch = np.maximum(rng.standard_normal((2, 3, 4, 4)), 0)
    return function(
        answer,
        inverse_variance,
        [(a, scale) for a in (four, batch) for scale in ("none", "rms", "mean", "max")],
        hint="Section 6 has all four for (0, 0, 1, 3). All values of the array count alike.",
        praise="right. The impostor changes the first of them and none of the others.",
        typical=[
            (not_inverted, "that is the variance; its inverse is asked."),
            (sample, "divide the sum of squares by n, not by n - 1: np.var without ddof."),
            (deviation, "that is 1 / standard deviation."),
            (divided_once, "divide the activations by s: var(a / s) is var(a) / s squared."),
            (by_deviation, "the RMS is the root of the mean of a squared; no mean is taken off."),
            (mean_square, "that is the mean square; the RMS is its root."),
        ],
    )


def share_on_background(answer: Any) -> Verdict:
    """Exercise 2: where the activation lies."""

    def share_on_background(a, on_digit):
        places = a.sum(axis=1)
        return places[~on_digit].sum() / places.sum()

    def on_the_digit(a, on_digit):
        return 1 - share_on_background(a, on_digit)

    def mean_of_shares(a, on_digit):
        places = a.sum(axis=1)
        return np.mean([p[~m].sum() / p.sum() for p, m in zip(places, on_digit, strict=True)])

    def active_places(a, on_digit):
        active = (a > 0).sum(axis=1)
        return active[~on_digit].sum() / active.sum()

    def first_filter(a, on_digit):
        return a[:, 0][~on_digit].sum() / a[:, 0].sum()

    def ratio(a, on_digit):
        places = a.sum(axis=1)
        return places[~on_digit].sum() / places[on_digit].sum()

    rng = np.random.default_rng(8)
    tiny = np.array([[[[1.0, 0.0], [3.0, 4.0]]]]), np.array([[[True, False], [False, True]]])
    batch = (
        np.maximum(rng.standard_normal((3, 4, 5, 6)), 0) * np.array([1, 5, 9])[:, None, None, None]
    )
    return function(
        answer,
        share_on_background,
        [tiny, (batch, rng.random((3, 5, 6)) < 0.4)],
        hint="a.sum(axis=1) adds up the filters and has the shape of on_digit.",
        praise="right. In such a sum, images with much activation count more than faint ones.",
        typical=[
            (on_the_digit, "that is the share on the digit; the background is ~on_digit."),
            (mean_of_shares, "add up over all images first and divide once."),
            (active_places, "add the activations, not the number of active units."),
            (first_filter, "that is the first filter alone; all filters count."),
            (ratio, "divide by all of the activation, not by that on the digit."),
        ],
    )


def rescaled(answer: Any) -> Verdict:
    """Exercise 3: the same outputs from other activations."""
    rng = np.random.default_rng(9)
    W1, b1 = rng.standard_normal((4, 3)), rng.standard_normal(4)
    W2, b2 = rng.standard_normal((2, 4)), rng.standard_normal(2)
    x = rng.standard_normal((20, 3))
    hidden = np.maximum(x @ W1.T + b1, 0)
    outputs = hidden @ W2.T + b2
    verdicts = []
    for c in (1.0, 3.0, 0.25):
        got, failed = call(answer, (W1, b1, W2, b2, c), "rescaled")
        if failed is not None:
            return failed
        if not isinstance(got, (tuple, list)) or len(got) != 4:
            return Verdict(False, "return four arrays: W1, b1, W2, b2 of the impostor.")
        if any(part is Ellipsis for part in got):
            return Verdict(False, "one of the four is still `...`: replace it by your own.")
        try:
            V1, v1, V2, v2 = (np.asarray(part, dtype=float) for part in got)
            now = np.maximum(x @ V1.T + v1, 0)
            result = now @ V2.T + v2
        except (TypeError, ValueError) as error:
            return Verdict(False, f"your four arrays do not make such a net: {error}.")
        weights_only = np.maximum(x @ (c * W1).T + b1, 0)
        verdicts += [
            values(
                now,
                c * hidden,
                f"the hidden activations for c = {c:g}",
                hint="c * relu(z) is relu(c * z): what has to be multiplied so that z is?",
                typical=[
                    (weights_only, "the bias of the hidden layer is part of z, too."),
                    (hidden / c, "they became smaller by c; they should become larger."),
                ]
                if c != 1
                else [],
            ),
            values(
                result,
                outputs,
                f"the outputs for c = {c:g}",
                hint="The second layer gets c times as much; its result must stay what it was.",
                typical=[
                    (c * hidden @ W2.T + b2, "the second layer has to be told: it still has W2."),
                    (hidden @ W2.T + b2 / c, "b2 is added at the end and must stay what it is."),
                ]
                if c != 1
                else [],
            ),
        ]
    return every(*verdicts, praise="right: any activations that you like, and the same answers.")


def can_be(answer: Any) -> Verdict:
    """Exercise 4: Popoviciu's inequality."""

    def can_be(m, v):
        return bool(0 <= v <= m**2 / 4)

    cases = [(2.0, 0.5), (2.0, 1.5), (0.5, 0.06), (0.5, 0.2), (2.0, 0.0), (3.0, -0.1), (2.0, 1.0)]
    given = []
    for m, v in cases:
        got, failed = call(answer, (m, v), "can_be")
        if failed is not None:
            return failed
        if not isinstance(got, (bool, np.bool_)):
            return Verdict(False, f"can_be({m:g}, {v:g}) is {got!r:.40}; return True or False.")
        given.append(bool(got))
    if given == [v >= 4 / m**2 for m, v in cases]:
        return Verdict(False, "v is the variance here, not its inverse as in section 6.")
    for (m, v), got in zip(cases, given, strict=True):
        if got == can_be(m, v):
            continue
        message = (
            "How large can the variance of values between 0 and m be? Section 6 has it, for the "
            "inverse."
        )
        if v < 0:
            message = "A variance is a mean of squares: it is never negative."
        elif v == m**2 / 4:
            message = f"Half of the values 0 and half {m:g} gives just that."
        return Verdict(False, f"m = {m:g}, v = {v:g}: your answer is {got}. {message}")
    return Verdict(True, "right. Two lines of arithmetic, and one can check a printed table.")


def slide(answer: Any) -> Verdict:
    """Exercise 5: a common colour range."""
    return choice(
        answer,
        "b",
        {
            "a": "worth knowing, but even with the same image the conclusion does not follow: "
            "look at the impostor in section 4.",
            "b": "right. Darker may mean fainter and nothing else. Divided by its own RMS, each "
            "network shows where its activations lie, and the impostor cannot fool you.",
            "c": "then every map looks as bright as every other, also one that is almost 0 "
            "everywhere, and nothing can be compared any more.",
        },
    )
