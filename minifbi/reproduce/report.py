"""The report: verdicts and tables computed, everything written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from minifbi.files.atomic import write_json, write_text
from minifbi.reproduce.claims import ACTIVATION_CLAIMS, EXPLAINABLE
from minifbi.reproduce.document import (
    Heading,
    to_html,
    to_markdown,
)
from minifbi.reproduce.experiments import (
    DECOY,
    FASHION,
    MAIN,
    NETWORKS,
)
from minifbi.reproduce.results import Results
from minifbi.reproduce.sections import Facts, compose
from minifbi.reproduce.store import plain
from minifbi.reproduce.tables import (
    ablation_rows,
    csv_text,
    evaluation_rows,
    table1,
    table1_rows,
    value_rows,
)
from minifbi.reproduce.verdict import (
    Judgement,
    judge,
    judge_accuracy,
    judge_explanations,
)


def write_report(results: Results, facts: Facts, out: Path) -> list[Judgement]:
    """Write every table as CSV, all numbers as CSV and JSON, and the report.

    Parameters
    ----------
    results : Results
        All numbers of all runs.
    facts : Facts
        Further content of the report.
    out : Path
        The folder to write to; it already holds the pictures.

    Returns
    -------
    list of Judgement
        The verdicts, in the order of the report.
    """
    groups = (MAIN, DECOY, NETWORKS, FASHION)
    write_text(out / "table1.csv", csv_text(table1_rows(results)))
    write_text(out / "table1.md", to_markdown([Heading(1, "Table 1"), table1(results)]))
    write_text(out / "evaluation.csv", csv_text(evaluation_rows(results, groups)))
    write_text(out / "ablations.csv", csv_text(ablation_rows(results)))
    values = list(value_rows(results))
    write_text(out / "values.csv", csv_text(values))
    judgements = verdicts(results, facts)
    write_json(
        out / "results.json",
        plain(
            {
                "command": facts.command,
                "machine": dict(facts.machine),
                "matching": dict(facts.matching),
                "verdicts": [dataclasses.asdict(j) for j in judgements],
                "values": values,
            }
        ),
    )
    blocks = compose(results, facts, judgements)
    write_text(out / "report.md", to_markdown(blocks))
    write_text(out / "report.html", to_html(blocks, out))
    return judgements


def verdicts(results: Results, facts: Facts) -> list[Judgement]:
    """One for each claim of the paper."""
    return [
        judge_accuracy(results),
        *(judge(claim, results) for claim in ACTIVATION_CLAIMS),
        judge_explanations(EXPLAINABLE, results),
    ]
