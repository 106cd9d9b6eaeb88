"""Statistics, verdicts and tables of the reproduction: they say what the numbers say."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from minifbi.evaluate.measures import ACTIVATION_MEASURES, EXPLANATION_MEASURES
from minifbi.reproduce.claims import ACTIVATION_CLAIMS, EXPLAINABLE, HIGHER, Claim, Reading
from minifbi.reproduce.document import (
    Bullets,
    Heading,
    Picture,
    Table,
    Text,
    Verdict,
    to_html,
    to_markdown,
)
from minifbi.reproduce.experiments import MAIN, Experiment, with_method
from minifbi.reproduce.results import ACTIVATION, EXPLANATION, TRAINING, Key, Results, Value
from minifbi.reproduce.statistics import paired_difference, summarize
from minifbi.reproduce.tables import (
    PAPER,
    PAPER_LAYERS,
    READINGS,
    csv_text,
    evaluation_rows,
    evaluation_table,
    table1,
    table1_rows,
)
from minifbi.reproduce.verdict import (
    AGREES,
    NOT,
    PARTLY,
    UNDECIDED,
    Count,
    decide,
    judge,
    judge_accuracy,
    judge_explanations,
    number,
    percent,
    points,
)
from minifbi.training import TrainConfig

SEEDS = range(5)
NOISE = np.array([-0.02, 0.01, 0.0, 0.015, -0.005])


def results(**methods: dict[Key, float | list[float]]) -> Results:
    """Five seeds of each method; a number gets a little noise, a list is taken as it is."""
    values = []
    for method, numbers in methods.items():
        for key, value in numbers.items():
            each = value if isinstance(value, list) else [value * (1 + e) for e in NOISE]
            for seed, one in enumerate(each):
                config = with_method(TrainConfig(seed=seed), method)
                values.append(Value(Experiment(MAIN, method, "", config), key, one))
    return Results(values)


def layered(measure: str, value: float) -> dict[Key, float]:
    return {Key(ACTIVATION, measure, layer): value for layer in PAPER_LAYERS}


# ---- statistics --------------------------------------------------------------------------
def test_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=7), rng.normal(size=7) + 0.3
    d = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (d.low, d.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert d.mean == pytest.approx((a - b).mean())
    assert d.count == 7


def test_pairs_are_by_seed():
    d = paired_difference({0: 1.0, 1: 2.0, 5: 9.0, 7: None}, {1: 1.0, 0: 1.0, 6: 3.0, 7: 1.0})
    assert (d.mean, d.count) == (0.5, 2)


def test_one_pair_decides_nothing():
    # the same numbers, added in another order: no difference, and no certainty
    d = paired_difference({0: 0.1 + 0.2, 1: 0.7}, {0: 0.3, 1: 0.7})
    assert (d.mean, d.low, d.high, d.direction) == (0, 0, 0, 0)
    assert summarize([0.1 + 0.2, 0.3]).spread == 0
    d = paired_difference({0: 3.0}, {0: 1.0})
    assert (d.mean, d.low, d.high, d.direction) == (2.0, -math.inf, math.inf, 0)
    assert paired_difference({0: 3.0}, {1: 1.0}).count == 0


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_direction_agrees_with_the_p_value(values):
    d = paired_difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    if np.ptp(values) > 1e-6:
        p = stats.ttest_1samp(values, 0).pvalue
        if abs(p - 0.05) > 1e-6:
            assert (d.direction != 0) == (p < 0.05)


def test_summary_leaves_out_what_is_not_there():
    s = summarize([1.0, None, 3.0, math.nan])
    assert (s.mean, s.spread, s.count) == (2.0, pytest.approx(math.sqrt(2)), 2)
    assert math.isnan(summarize([]).mean)


# ---- verdicts ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("supports", "contradicts", "open_", "verdict"),
    [
        (10, 0, 0, AGREES),
        (8, 0, 2, AGREES),
        (8, 1, 1, PARTLY),
        (7, 0, 3, PARTLY),
        (5, 5, 0, PARTLY),
        (0, 10, 0, NOT),
        (2, 8, 0, NOT),
        (1, 2, 7, NOT),
        (2, 0, 8, UNDECIDED),
        (0, 0, 10, UNDECIDED),
        (3, 1, 6, UNDECIDED),
        (0, 0, 0, UNDECIDED),
    ],
)
def test_decide(supports, contradicts, open_, verdict):
    assert decide(Count(supports, contradicts, open_)) == verdict


CLAIM = Claim("Higher", "somewhere", (Reading("thing", ACTIVATION, "maximum", HIGHER),))


@pytest.mark.parametrize(("fbi", "verdict"), [(2.0, AGREES), (0.5, NOT), (1.0, UNDECIDED)])
def test_verdict_follows_the_numbers(fbi, verdict):
    found = results(
        none=layered("maximum", 1.0), fbi=layered("maximum", fbi), l1=layered("maximum", 3.0)
    )
    judgement = judge(CLAIM, found)
    assert judgement.verdict == verdict
    assert judgement.twin == Count(5, 0, 0)
    text = " ".join(judgement.sentences)
    assert f"conv1 1 → {fbi:.3g}" in text
    assert "for the L1 penalty of the same mean activation, 5 support" in text


def test_half_of_the_layers_is_partly():
    values = [2, 2, 2, 0.5, 0.5]
    numbers = {Key(ACTIVATION, "maximum", n): v for n, v in zip(PAPER_LAYERS, values, strict=True)}
    judgement = judge(CLAIM, results(none=layered("maximum", 1.0), fbi=numbers))
    assert judgement.verdict == PARTLY
    assert "higher in 3 of 5, lower in 2" in " ".join(judgement.sentences)


ACCURACY = Key(TRAINING, "test_accuracy")
STEADY = [0.990, 0.991, 0.989, 0.990, 0.992]


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        ([0.0, 0.0005, -0.0005, 0.0, 0.0], AGREES),
        ([0.003, 0.0032, 0.0028, 0.003, 0.003], AGREES),  # surely worse, and within the margin
        ([0.02, 0.021, 0.019, 0.02, 0.02], NOT),
        ([0.002, 0.009, 0.003, 0.008, 0.004], PARTLY),  # surely worse, perhaps by much
        ([-0.01, 0.03, 0.02, -0.02, 0.0], UNDECIDED),
    ],
)
def test_accuracy(loss, verdict):
    fbi = [a - b for a, b in zip(STEADY, loss, strict=True)]
    judgement = judge_accuracy(results(none={ACCURACY: STEADY}, fbi={ACCURACY: fbi}))
    assert judgement.verdict == verdict
    ratio = (1 - np.mean(fbi)) / (1 - np.mean(STEADY))
    assert f"{ratio:.2f} times as many errors" in " ".join(judgement.sentences)


def test_explanations_are_compared_with_l1_too():
    keys = [Key(EXPLANATION, r.measure, r.layers[0]) for r in EXPLAINABLE.readings]
    signs = [r.direction for r in EXPLAINABLE.readings]
    none = dict.fromkeys(keys, 1.0)
    better = {key: 1.0 + 0.3 * sign for key, sign in zip(keys, signs, strict=True)}
    judgement = judge_explanations(EXPLAINABLE, results(none=none, fbi=better, l1=better))
    assert judgement.verdict == AGREES
    assert "better in 0 of these measures, worse in 0" in judgement.sentences[-1]
    judgement = judge_explanations(EXPLAINABLE, results(none=better, fbi=none, l1=better))
    assert judgement.verdict == NOT
    assert f"worse in {len(keys)} (" in judgement.sentences[-1]


def test_claims_ask_for_measures_that_exist():
    """And in the direction that the registry of measures calls the paper's."""
    for claim in (*ACTIVATION_CLAIMS, EXPLAINABLE):
        for reading in claim.readings:
            registry = ACTIVATION_MEASURES if reading.kind == ACTIVATION else EXPLANATION_MEASURES
            wanted = {1: "higher", -1: "lower"}[reading.direction]
            assert registry[reading.measure].direction in (wanted, "neither"), reading


def test_numbers_for_people():
    assert [number(v) for v in (1.23456, 12345.6, 0.0001234, math.nan)] == [
        "1.23",
        "12,346",
        "0.000123",
        "-",
    ]
    assert percent(0.98765) == "98.77 %"
    assert [points(v) for v in (-0.00354, math.inf)] == ["-0.35", "unbounded"]


# ---- tables ------------------------------------------------------------------------------
def test_paper_numbers_are_those_of_the_paper():
    """Table 1: "the paper's conv2 maximum falls", and all of its skewness rises."""
    before, after = (np.array(row) for row in PAPER["max"])
    assert (after > before).tolist() == [True, False, True, True, True]
    before, after = (np.array(row) for row in PAPER["skewness"])
    assert (after > before).all()


def test_table1_counts_directions():
    names = [m for readings in READINGS.values() for m in readings.values()]
    none = {k: v for name in names for k, v in layered(name, 1.0).items()}
    fbi = {k: 2 * v for k, v in none.items()}
    found = results(none=none, fbi=fbi)
    table, spread = table1(found), NOISE.std(ddof=1)
    rows = {row[0]: row for row in table.rows}
    assert rows["maximum / RMS"][-2:] == ["4 of 5", "5 of 5"]  # the paper's conv2 falls
    assert rows["third-moment skewness"][-2:] == ["5 of 5", "5 of 5"]
    assert rows["**max, printed in the paper**"][1] == "1.377 / **2.576**"
    assert rows["maximum as it is"][1] == f"1 ± {spread:.2g} / **2 ± {2 * spread:.2g}**"
    parsed = list(csv.DictReader(io.StringIO(csv_text(table1_rows(found)))))
    assert len(parsed) == 7 * 5
    assert parsed[0]["paper_relevance"] == "2.576"
    assert float(parsed[0]["fbi_mean"]) == pytest.approx(2.0)


def test_evaluation_marks_what_is_sure():
    key, accuracy = Key(ACTIVATION, "gini", "all"), {ACCURACY: 0.9}
    found = results(
        none={key: 1.0, **accuracy},
        fbi={key: 2.0, **accuracy},
        l1={key: 0.5, **accuracy},
        l2={key: 1.0, **accuracy},
    )
    table = evaluation_table(found, {key: "Gini"}, ["none", "fbi", "l1", "l2"])
    assert table.header[2] == "FBI (90.00 %)"
    (row,) = table.rows
    assert row[1].startswith("1 ± ")
    assert row[2].endswith(" ↑ *")
    assert row[3].endswith(" ↓")
    assert row[4].endswith(" *")
    assert "↑" not in row[4]
    rows = {(r["method"], r["measure"]): r for r in evaluation_rows(found, [MAIN])}
    assert rows["fbi", "gini"]["minus_none"] == pytest.approx(1.0)
    assert rows["fbi", "gini"]["minus_l1"] == pytest.approx(1.5)
    assert rows["fbi", "gini"]["test_accuracy"] == pytest.approx(0.9)


# ---- the document ------------------------------------------------------------------------
def test_document_escapes_and_inlines(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    blocks = [
        Heading(1, "a < b"),
        Text("**bold** and `code <x>`"),
        Bullets(["one", "two"]),
        Table(["m", "v"], [["x | y", "1 / **2**"]], "under it"),
        Picture("a.png", 'says "hi"', "below"),
        Verdict("Claim", "partly", ["Because."]),
    ]
    page = to_html(blocks, tmp_path)
    assert "<title>a &lt; b</title>" in page
    assert "<strong>bold</strong> and <code>code &lt;x&gt;</code>" in page
    assert 'alt="says &quot;hi&quot;" src="data:image/png;base64,iVBORw=="' in page
    assert '<div class="verdict partly">' in page
    assert "1 /<br><strong>2</strong>" in page
    text = to_markdown(blocks)
    assert "| x \\| y | 1 / **2** |" in text
    assert '![says "hi"](a.png)' in text
    assert "**Claim: partly.** Because." in text
