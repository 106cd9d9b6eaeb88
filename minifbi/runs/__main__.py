"""``python -m minifbi.runs``: a table of runs, and their curves together."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minifbi.cli import Parser, complain, printable, run_command
from minifbi.errors import RunFolderError
from minifbi.files.atomic import write_text
from minifbi.runs import SUMMARY, differences, read_runs
from minifbi.text import table

PROG = "minifbi.runs"
IMPORTANT = ("model", "data", "regularizer", "weight", "rule")
LARGEST_FIRST = ("val_accuracy", "test_accuracy")
LONGEST = 44  # characters of a cell


def build_parser() -> Parser:
    """All flags."""
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Compare runs: a table with a row per run, and their curves in one figure.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="a run folder, or a folder with runs in it"
    )
    parser.add_argument(
        "--sort",
        metavar="NAME",
        default="name",
        help=f"by one of {', '.join(SUMMARY)}, or by an option such as weight or lr; accuracies "
        "with the best first",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--csv", metavar="FILE", help="write all numbers and options as a table")
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw validation accuracy, task loss and penalty of all runs over the epochs",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)

    def command() -> int:
        if options.plot:  # before the work, not after
            from minifbi.plots.figure import check_place

            check_place(options.plot)
        complaints: list[str] = []
        runs = read_runs(options.folders, complaints.append)
        for text in complaints:
            complain(PROG, text)
        if not runs:
            raise RunFolderError("there is no run to show")
        known = [*SUMMARY, *dict.fromkeys(name for run in runs for name in run["options"])]
        if options.sort not in known:
            parser.error(f"--sort {options.sort}: expected one of {', '.join(known)}")
        runs = in_order(runs, options.sort, options.reverse)
        print(describe(runs))
        if options.csv:
            write_text(Path(options.csv), as_csv(runs))
        if options.plot:
            from minifbi.plots import plot_runs, save_figure

            save_figure(plot_runs(runs, labels(runs)), options.plot)
        return 1 if complaints else 0

    return run_command(command, PROG)


def value_of(run: Mapping[str, Any], name: str) -> Any:
    """One of a run's numbers or options, by name."""
    return run[name] if name in SUMMARY else run["options"].get(name)


def in_order(
    runs: Sequence[dict[str, Any]], name: str, reverse: bool = False
) -> list[dict[str, Any]]:
    """Sorted by one of its names; what has no value comes last, either way."""

    def key(run: dict[str, Any]) -> tuple[bool, float, str]:
        value = value_of(run, name)
        is_number = isinstance(value, (int, float))
        return (not is_number, float(value) if is_number else 0.0, str(value))

    there = [run for run in runs if value_of(run, name) is not None]
    there.sort(key=key, reverse=reverse != (name in LARGEST_FIRST))
    return there + [run for run in runs if value_of(run, name) is None]


def describe(runs: Sequence[Mapping[str, Any]]) -> str:
    """What all runs have in common, then the table of what they do not, and of the results."""
    differ = differences(runs)
    common = ", ".join(
        f"{name} {cell(runs[0]['options'].get(name))}" for name in IMPORTANT if name not in differ
    )
    head = ["run", *differ, "epochs", "gate", "validation", "test", "FBI loss", "time", "state"]
    rows = [head]
    for run in runs:
        done, asked = run["epochs"], run["epochs_asked"]
        early = run["stopped"] is not None
        rows.append(
            [
                cell(run["name"]),
                *(cell(run["options"].get(name)) for name in differ),
                f"{done}/{asked}",
                "-" if run["gate_epoch"] is None else f"epoch {run['gate_epoch']}",
                *(cell(run[name], ".4f") for name in ("val_accuracy", "test_accuracy")),
                cell(run["fbi_loss"], ".4g"),
                duration(run["seconds"]),
                "stopped early" if early else run["state"],
            ]
        )
    right = [i for i, column in enumerate(zip(*rows[1:], strict=True)) if all(map(_flush, column))]
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{count}{': ' if common else ''}{common}\n\n{table(rows, right)}"


def _flush(text: str) -> bool:
    return text == "-" or text[:1].isdigit()


def cell(value: Any, form: str = "g") -> str:
    """A value in a few characters, none of which moves the cursor."""
    if value is None:
        return "-"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format(value, form)
    text = printable(str(value)).replace("\n", "\\n")
    return text if len(text) <= LONGEST else f"...{text[3 - LONGEST :]}"


def duration(seconds: float) -> str:
    """A time in at most two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to call each run in a legend: the options that differ, or else its name."""
    differ = differences(runs)
    found = [", ".join(_phrases(run["options"], differ)) for run in runs]
    if len(set(found)) == len(found) and all(found):
        return found
    return [", ".join(filter(None, (cell(r["name"]), f))) for r, f in zip(runs, found, strict=True)]


def _phrases(options: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Options in words; regularizer and weight together, such as "fbi 0.01"."""
    found = [f"{n} {cell(options.get(n))}" for n in names if n not in ("regularizer", "weight")]
    if len(found) < len(names):
        weight = options["weight"]
        kind = cell(options["regularizer"])
        found.insert(0, f"{kind} {cell(weight)}" if weight else "no regularizer")
    return found


def as_csv(runs: Sequence[Mapping[str, Any]]) -> str:
    """All runs as a table: the summary, then every option; an empty cell where there is none."""
    options = list(dict.fromkeys(name for run in runs for name in run["options"]))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*SUMMARY, *options])
    for run in runs:
        rows.writerow([value_of(run, name) for name in (*SUMMARY, *options)])
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
