"""The tables of the report, and the same numbers as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minifbi.reproduce.document import Table
from minifbi.reproduce.experiments import ABLATION, LAMBDA, MAIN
from minifbi.reproduce.results import ACTIVATION, ALL_LAYERS, EXPLANATION, TRAINING, Key, Results
from minifbi.reproduce.statistics import Summary, paired_difference, summarize
from minifbi.reproduce.verdict import number, percent

PAPER = {  # Table 1 as printed: conventional, relevance
    "max": ((1.377, 1.270, 0.941, 2.355, 14.741), (2.576, 1.205, 1.647, 3.883, 16.524)),
    "skewness": ((0.603, 1.484, 0.806, 0.707, 0.651), (2.576, 2.086, 1.484, 1.314, 1.012)),
}
PAPER_LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")

READINGS = {  # for each row of Table 1, its possible meanings
    "max": {"maximum as it is": "maximum", "maximum / RMS": "rms_maximum"},
    "skewness": {
        "1/variance as it is": "inverse_variance",
        "1/variance, divided by RMS": "inverse_variance_rms",
        "1/variance, divided by mean": "inverse_variance_mean",
        "1/variance, divided by maximum": "inverse_variance_max",
        "third-moment skewness": "skewness",
    },
}

ACCURACY = Key(TRAINING, "test_accuracy")
LABELS = {
    "none": "conventional",
    "fbi": "FBI",
    "l1": "L1",
    "l2": "L2",
    "input-gradient": "input gradient",
    "saliency-guided": "saliency-guided",
    "right-reasons": "right reasons",
}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the columns of the first row; NaN and infinity become empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else ["empty"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value


def with_spread(summary: Summary) -> str:
    """Mean and spread as text."""
    if not summary.count:
        return "-"
    text = number(summary.mean)
    return f"{text} ± {number(summary.spread, 2)}" if summary.count > 1 else text


# ---- Table 1 -----------------------------------------------------------------------------
def table1_rows(results: Results) -> list[dict[str, Any]]:
    """Table 1 in long form: one row for each reading and layer."""
    rows = []
    for printed, readings in READINGS.items():
        for label, measure in readings.items():
            for column, layer in enumerate(PAPER_LAYERS):
                key = Key(ACTIVATION, measure, layer)
                none, fbi = (results.summary(method, key) for method in ("none", "fbi"))
                d = results.difference("fbi", "none", key)
                before, after = (PAPER[printed][i][column] for i in (0, 1))
                rows.append(
                    {
                        "row": printed,
                        "reading": label,
                        "layer": layer,
                        "conventional_mean": none.mean,
                        "conventional_sd": none.spread,
                        "fbi_mean": fbi.mean,
                        "fbi_sd": fbi.spread,
                        "seeds": d.count,
                        "difference": d.mean,
                        "difference_low": d.low,
                        "difference_high": d.high,
                        "direction": d.direction,
                        "paper_conventional": before,
                        "paper_relevance": after,
                        "paper_direction": 1 if after > before else -1,
                    }
                )
    return rows


def table1(results: Results) -> Table:
    """Table 1 in the paper's layout, its printed values above ours."""
    header = ["conventional / **FBI**", *PAPER_LAYERS, "as printed", "as the text says"]
    rows = []
    long = table1_rows(results)
    for printed, readings in READINGS.items():
        pairs = zip(*PAPER[printed], strict=True)
        cells = [f"{before:.3f} / **{after:.3f}**" for before, after in pairs]
        rows.append([f"**{printed}, printed in the paper**", *cells, "", ""])
        for label in readings:
            mine = [row for row in long if row["reading"] == label]
            cells = []
            for row in mine:
                count = row["seeds"]
                none = Summary(row["conventional_mean"], row["conventional_sd"], count)
                fbi = Summary(row["fbi_mean"], row["fbi_sd"], count)
                cells.append(f"{with_spread(none)} / **{with_spread(fbi)}**")
            same = sum(row["direction"] == row["paper_direction"] for row in mine)
            up = sum(row["direction"] == 1 for row in mine)
            rows.append([label, *cells, f"{same} of {len(mine)}", f"{up} of {len(mine)}"])
    caption = (
        "Mean ± standard deviation over the seeds. “As printed”: layers in which the 95 % interval "
        "of our difference lies on the side of the paper's printed numbers (its conv2 maximum "
        "falls). “As the text says”: layers in which FBI is surely larger. Divided by the mean, "
        "1/variance is always 1 less than divided by the RMS; the verdicts count the two as one."
    )
    return Table(header, rows, caption)


# ---- the evaluation ----------------------------------------------------------------------
def evaluation_rows(results: Results, groups: Sequence[str]) -> list[dict[str, Any]]:
    """Every measure of every method with its differences from conventional and L1, long form."""
    rows = []
    for group in groups:
        for method, setting in results.variants(group):
            accuracy = results.summary(method, ACCURACY, group, setting).mean
            for kind in (TRAINING, ACTIVATION, EXPLANATION, "confounder"):
                for key in results.keys(kind, group):
                    summary = results.summary(method, key, group, setting)
                    if not summary.count:
                        continue
                    row = {
                        "group": group,
                        "network": setting or "alexnet",
                        "method": method,
                        "kind": kind,
                        "measure": key.measure,
                        "layer": key.layer,
                        "mean": summary.mean,
                        "sd": summary.spread,
                        "seeds": summary.count,
                        "test_accuracy": accuracy,
                    }
                    for other in ("none", "l1"):
                        d = results.difference(method, other, key, group, setting)
                        row[f"minus_{other}"] = d.mean
                        row[f"minus_{other}_low"] = d.low
                        row[f"minus_{other}_high"] = d.high
                    rows.append(row)
    return rows


def method_header(results: Results, methods: Sequence[str], group: str, setting: str) -> list[str]:
    """The methods' names, each with its test accuracy."""
    header = []
    for method in methods:
        accuracy = results.summary(method, ACCURACY, group, setting).mean
        header.append(f"{LABELS.get(method, method)} ({percent(accuracy)})")
    return header


def evaluation_table(
    results: Results,
    labels: Mapping[Key, str],
    methods: Sequence[str],
    *,
    group: str = MAIN,
    setting: str = "",
    caption: str = "",
) -> Table:
    """Measures by methods, with the accuracy beside each method's name.

    A mark means that the 95 % interval of a paired difference excludes zero: ↑ or ↓ for the
    difference from conventional training, * for that from L1.
    """
    header = ["measure", *method_header(results, methods, group, setting)]
    rows = []
    for key, label in labels.items():
        cells = [label]
        for method in methods:
            text = with_spread(results.summary(method, key, group, setting))
            if method != "none":
                sign = results.difference(method, "none", key, group, setting).direction
                text += {1: " ↑", -1: " ↓", 0: ""}[sign]
            if method not in ("none", "l1"):
                if results.difference(method, "l1", key, group, setting).direction:
                    text += " *"
            cells.append(text)
        rows.append(cells)
    return Table(header, rows, caption)


def difference_table(results: Results, labels: Mapping[Key, str]) -> Table:
    """FBI against conventional training and against L1, with intervals."""
    rows = []
    for key, label in labels.items():
        cells = [label]
        for other in ("none", "l1"):
            d = results.difference("fbi", other, key)
            finite = math.isfinite(d.low)
            interval = f" [{number(d.low)}, {number(d.high)}]" if finite else ""
            cells.append(f"{number(d.mean)}{interval}")
        rows.append(cells)
    caption = "Paired differences over the seeds with their 95 % intervals (Student's t)."
    return Table(["measure", "FBI - conventional", "FBI - L1"], rows, caption)


# ---- ablations ---------------------------------------------------------------------------
ABLATED = {
    ACCURACY: "test accuracy",
    Key(TRAINING, "gate_step"): "gate at step",
    Key(ACTIVATION, "mean", ALL_LAYERS): "mean activation",
    Key(ACTIVATION, "rms_maximum", ALL_LAYERS): "maximum / RMS",
    Key(ACTIVATION, "gini", ALL_LAYERS): "Gini",
    Key(ACTIVATION, "zero_fraction", ALL_LAYERS): "zeros",
    Key(ACTIVATION, "zeroed_filters", ALL_LAYERS): "zeroed filters",
    Key(ACTIVATION, "background_share", ALL_LAYERS): "background share",
}


def ablation_rows(results: Results) -> list[dict[str, Any]]:
    """Every number of the runs over lambda and of the ablations, in long form."""
    rows = []
    references = {LAMBDA: ("fbi", "lambda = 0.001"), ABLATION: ("fbi", "defaults")}
    for group, reference in references.items():
        for method, setting in results.variants(group):
            for kind in (TRAINING, ACTIVATION, EXPLANATION):
                for key in results.keys(kind, group):
                    ours = results.by_seed(method, key, group, setting)
                    summary = summarize(list(ours.values()))
                    if not summary.count:
                        continue
                    base = results.by_seed(reference[0], key, group, reference[1])
                    d = paired_difference(ours, base)
                    rows.append(
                        {
                            "group": group,
                            "setting": setting,
                            "kind": kind,
                            "measure": key.measure,
                            "layer": key.layer,
                            "mean": summary.mean,
                            "sd": summary.spread,
                            "seeds": summary.count,
                            "minus_default": d.mean,
                            "minus_default_low": d.low,
                            "minus_default_high": d.high,
                        }
                    )
    return rows


def ablation_table(results: Results, group: str, caption: str = "") -> Table:
    """One row per setting: accuracy and concentration."""
    rows = []
    for method, setting in results.variants(group):
        diverged = results.by_seed(method, Key(TRAINING, "diverged"), group, setting)
        cells = [setting]
        for key in ABLATED:
            summary = results.summary(method, key, group, setting)
            text = percent(summary.mean) if key == ACCURACY else with_spread(summary)
            cells.append("diverged" if diverged and key == ACCURACY else text)
        rows.append(cells)
    return Table(["setting", *ABLATED.values()], rows, caption)


def value_rows(results: Results) -> Iterable[dict[str, Any]]:
    """All raw numbers, one row per run and measure."""
    for v in results.values:
        yield {
            "group": v.experiment.group,
            "setting": v.experiment.setting,
            "method": v.experiment.method,
            "model": v.experiment.config.model,
            "dataset": v.experiment.config.dataset,
            "seed": v.experiment.seed,
            "kind": v.key.kind,
            "measure": v.key.measure,
            "layer": v.key.layer,
            "value": v.value,
        }
