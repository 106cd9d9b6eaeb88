"""Whether the numbers bear a claim out: worded by rules, the same for every outcome."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from minifbi.reproduce.claims import Claim, Reading
from minifbi.reproduce.results import ACTIVATION, MAIN, TRAINING, Key, Results
from minifbi.reproduce.statistics import Difference

AGREES, PARTLY, NOT, UNDECIDED = "agrees", "partly", "not", "undecided"

MOST, FEW = 0.8, 0.2
ACCURACY_MARGIN = 0.005

RULES = (
    "A comparison is one measure in one layer, FBI minus conventional, paired by seed. It "
    "**supports** a claim if the 95 % confidence interval of the difference lies on the claimed "
    "side of zero, **contradicts** it if it lies on the other side, and is **open** otherwise.",
    f"**agrees**: at least {100 * MOST:.0f} % of the comparisons support the claim, none "
    "contradicts it.",
    f"**not**: at most {100 * FEW:.0f} % support it, and more contradict than support it.",
    "**undecided**: more than half are open, and none of the above. **partly**: everything else.",
    "The intervals are Student's, each at 95 % by itself; no correction for many comparisons.",
)


@dataclass(frozen=True)
class Count:
    """How many comparisons support a claim, contradict it, or leave it open.

    Attributes
    ----------
    supports, contradicts, open : int
        Numbers of comparisons.
    """

    supports: int
    contradicts: int
    open: int

    @property
    def total(self) -> int:
        """All comparisons."""
        return self.supports + self.contradicts + self.open

    def __add__(self, other: Count) -> Count:
        return Count(
            self.supports + other.supports,
            self.contradicts + other.contradicts,
            self.open + other.open,
        )


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict and the reasons for it.

    Attributes
    ----------
    title, verdict : str
        The claim in a few words, and what :func:`decide` says of it.
    sentences : tuple of str
        The source of the claim first, then the counts.
    count, twin : Count or None
        The comparisons of FBI, and of a penalty of the same strength.
    """

    title: str
    verdict: str
    sentences: tuple[str, ...]
    count: Count | None = None
    twin: Count | None = None


def decide(count: Count) -> str:
    """The verdict by the rules above.

    Parameters
    ----------
    count : Count
        All comparisons that bear on the claim.

    Returns
    -------
    str
        "agrees", "partly", "not" or "undecided".
    """
    if not count.total:
        return UNDECIDED
    if count.supports >= MOST * count.total and not count.contradicts:
        return AGREES
    if count.supports <= FEW * count.total and count.contradicts > count.supports:
        return NOT
    if count.open > count.total / 2:
        return UNDECIDED
    return PARTLY


def tally(differences: Sequence[Difference], direction: int) -> Count:
    """Count differences whose interval lies on the claimed side, the other, or neither.

    Parameters
    ----------
    differences : sequence of Difference
        Paired differences between two methods.
    direction : {1, -1}
        The claimed side of zero.

    Returns
    -------
    Count
    """
    signs = [d.direction * direction for d in differences]
    return Count(signs.count(1), signs.count(-1), signs.count(0))


def keys_of(reading: Reading, results: Results, group: str = MAIN) -> list[Key]:
    """The numbers that a reading uses: one per layer that the network has.

    Parameters
    ----------
    reading : Reading
        What to measure, and in which layers.
    results : Results
        Says which layers the group's network has.
    group : str
        The group of experiments to use.

    Returns
    -------
    list of Key
    """
    if reading.kind != ACTIVATION:
        return [Key(reading.kind, reading.measure, layer) for layer in reading.layers]
    layers = results.layers(group)
    wanted = [layer for layer in reading.layers if layer in layers] if reading.layers else layers
    return [Key(reading.kind, reading.measure, layer) for layer in wanted]


def judge(claim: Claim, results: Results, group: str = MAIN, twin: str = "l1") -> Judgement:
    """The verdict on a claim about activations or explanations.

    Parameters
    ----------
    claim : Claim
        The claim with its readings.
    results : Results
        All numbers of all runs.
    group : str
        The group of experiments to use.
    twin : str
        A method with the same comparisons, to see which effects are specific to FBI.

    Returns
    -------
    Judgement
    """
    total, other = Count(0, 0, 0), Count(0, 0, 0)
    sentences = [claim.source + "."]
    for reading in claim.readings:
        keys = keys_of(reading, results, group)
        differences = [results.difference("fbi", "none", key, group) for key in keys]
        count = tally(differences, reading.direction)
        total += count
        other += tally(
            [results.difference(twin, "none", key, group) for key in keys], reading.direction
        )
        sentences.append(_reading_sentence(reading, results, keys, count, group))
    sentences.append(
        f"In all, {total.supports} of {total.total} comparisons support the claim, "
        f"{total.contradicts} contradict it, {total.open} are open; for the {twin.upper()} penalty "
        f"of the same mean activation, {other.supports} support, {other.contradicts} contradict, "
        f"{other.open} are open."
    )
    return Judgement(claim.title, decide(total), tuple(sentences), total, other)


def _reading_sentence(
    reading: Reading, results: Results, keys: list[Key], count: Count, group: str
) -> str:
    word, opposite = ("higher", "lower") if reading.direction > 0 else ("lower", "higher")
    name = f"**{reading.label[0].upper()}{reading.label[1:]}**"
    means = [
        [number(results.summary(method, key, group).mean) for method in ("none", "fbi")]
        for key in keys
    ]
    if len(keys) == 1:
        outcome = "supports" if count.supports else "contradicts" if count.contradicts else "open"
        (none, fbi), *_ = means
        return f"{name} ({word} is better): {none} → {fbi}, {outcome}."
    pairs = [f"{key.layer} {none} → {fbi}" for key, (none, fbi) in zip(keys, means, strict=True)]
    return (
        f"{name}: {word} in {count.supports} of {count.total}, {opposite} in {count.contradicts} "
        f"({', '.join(pairs)})."
    )


def judge_accuracy(results: Results, group: str = MAIN) -> Judgement:
    """Whether accuracy is kept: within half a percentage point, by the confidence interval.

    Parameters
    ----------
    results : Results
        All numbers of all runs.
    group : str
        The group of experiments to use.

    Returns
    -------
    Judgement
    """
    key = Key(TRAINING, "test_accuracy")
    none, fbi = (results.summary(method, key, group) for method in ("none", "fbi"))
    d = results.difference("fbi", "none", key, group)
    if d.low > -ACCURACY_MARGIN:
        verdict = AGREES
    elif d.high < -ACCURACY_MARGIN:
        verdict = NOT
    else:
        verdict = PARTLY if d.high < 0 else UNDECIDED
    sentences = [
        "The paper prints no accuracy; that it is kept is our reading of what a regularisation "
        "must not spoil.",
        f"Test accuracy {percent(none.mean)} conventional, {percent(fbi.mean)} FBI; difference "
        f"{points(d.mean)} points, 95 % interval {points(d.low)} to {points(d.high)} over "
        f"{d.count} seeds. The claim counts as kept if the whole interval lies above "
        f"{points(-ACCURACY_MARGIN)} points, as broken if it lies below; "
        "as partly kept if accuracy is surely lower, but perhaps by less.",
    ]
    if none.mean < 1 and math.isfinite(none.mean):
        ratio = (1 - fbi.mean) / (1 - none.mean)
        sentences.append(f"That is {ratio:.2f} times as many errors.")
    return Judgement("Accuracy is kept", verdict, tuple(sentences))


def judge_explanations(claim: Claim, results: Results) -> Judgement:
    """As :func:`judge`, and FBI against L1 by the same measures.

    Parameters
    ----------
    claim : Claim
        The claim; each of its readings uses one number.
    results : Results
        All numbers of all runs.

    Returns
    -------
    Judgement
    """
    judgement = judge(claim, results)
    found: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for reading in claim.readings:
        (key,) = keys_of(reading, results)
        sign = results.difference("fbi", "l1", key).direction * reading.direction
        found[sign].append(reading.label)
    against = (
        f"Against the L1 penalty itself, FBI is better in {len(found[1])} of these measures"
        f"{_list(found[1])}, worse in {len(found[-1])}{_list(found[-1])}, and not told apart in "
        f"{len(found[0])}."
    )
    return dataclasses.replace(judgement, sentences=(*judgement.sentences, against))


def _list(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def number(value: float, digits: int = 3) -> str:
    """A number as text, or a dash for NaN and infinity.

    Parameters
    ----------
    value : float
        What to show.
    digits : int
        Significant digits of numbers below 1,000.

    Returns
    -------
    str
    """
    if not math.isfinite(value):
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(value: float) -> str:
    """A share as percent with two digits.

    Parameters
    ----------
    value : float
        A share, 0 to 1.

    Returns
    -------
    str
    """
    return f"{100 * value:.2f} %" if math.isfinite(value) else "-"


def points(value: float) -> str:
    """A difference of shares, in percentage points.

    Parameters
    ----------
    value : float
        A difference of shares.

    Returns
    -------
    str
    """
    if not math.isfinite(value):
        return "unbounded"
    return f"{100 * value:+.2f}"
