"""Means over seeds, and paired differences with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-12
"""Two numbers whose relative difference is smaller count as equal, so that the order of a sum
decides no claim."""


@dataclass(frozen=True)
class Summary:
    """A number over several seeds.

    Attributes
    ----------
    mean : float
        NaN for no values.
    spread : float
        Standard deviation of the sample (n - 1 below); NaN for fewer than 2 values.
    count : int
        Number of values, n.
    """

    mean: float
    spread: float
    count: int


def summarize(values: Sequence[float | None]) -> Summary:
    """Mean and spread of the known values.

    Parameters
    ----------
    values : sequence of float or None
        One per seed; None, NaN and infinity are left out.

    Returns
    -------
    Summary
    """
    known = np.array([v for v in values if v is not None], dtype=float)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if known.size else math.nan
    spread = float(known.std(ddof=1)) if known.size > 1 else math.nan
    if spread <= ROUNDING * abs(mean):
        spread = 0.0
    return Summary(mean, spread, int(known.size))


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences with its confidence interval.

    Attributes
    ----------
    mean : float
        The mean of the differences, the middle of the interval.
    low, high : float
        Ends of the interval; infinite for a single pair, whose spread is unknown.
    count : int
        Number of pairs.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def direction(self) -> int:
        """1 or -1 if the whole interval lies above or below zero, else 0."""
        if self.low > 0:
            return 1
        return -1 if self.high < 0 else 0


def paired_difference(
    ours: Mapping[int, float | None],
    theirs: Mapping[int, float | None],
    confidence: float = 0.95,
) -> Difference:
    """Ours minus theirs, seed by seed, with the interval of Student's t.

    The differences d of n seeds have the mean m and the sample standard deviation s; the
    interval is m -/+ t s / sqrt(n), where t is the quantile of Student's distribution with
    n - 1 degrees of freedom (Student, "The probable error of a mean", Biometrika 1908).
    Runs of the same seed share the initial weights and the order of the images, so
    pairing removes the effect of the seed.

    Parameters
    ----------
    ours, theirs : mapping of seed to number
        Seeds that are missing in one, and values that are None or not finite, are left out.
    confidence : float
        Probability that the interval of a single comparison covers the true mean.

    Returns
    -------
    Difference
        NaN if there is no common seed.
    """
    from scipy.stats import t

    pairs = []
    for seed in sorted(set(ours) & set(theirs)):
        a, b = ours[seed], theirs[seed]
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b):
            same = math.isclose(a, b, rel_tol=ROUNDING, abs_tol=0.0)
            pairs.append(0.0 if same else a - b)
    n = len(pairs)
    if n == 0:
        return Difference(math.nan, -math.inf, math.inf, 0)
    mean = float(np.mean(pairs))
    if n == 1:
        return Difference(mean, -math.inf, math.inf, 1)
    half = float(t.ppf((1 + confidence) / 2, n - 1) * np.std(pairs, ddof=1) / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)
