"""Grade a folder of students' notebooks: run each, apply the checks, write tables.

    python tutorials/grading/grade.py FOLDER                # prints a table
    python tutorials/grading/grade.py FOLDER --out RESULTS  # and writes grades.csv, details.csv
    python -m pytest tutorials/grading/test_exercises.py --notebooks FOLDER  # the same as tests

FOLDER holds a folder for each student (``anna/04_relevance.ipynb``), or notebooks with the
students' names (``anna_04_relevance.ipynb``).  To which tutorial a notebook belongs is found by
the checks that it imports, else by its name.

Each notebook runs in a process of its own, in an empty folder, in the fast mode of the tutorials,
with a time limit for each cell and for the whole.  A notebook that crashes, never ends or is no
notebook loses its own points only.

.. warning:: This executes the code that students wrote, with your rights: it is NOT a sandbox.
   Run it where such code can do no harm, in a container or a virtual machine without a network;
   docs/course.md says how.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from grading import NOT_REACHED, Limits, Submission, collect, grade_all, tutorials_in


# ---- tables ------------------------------------------------------------------------------
def cell(text: str) -> str:
    """Text for a spreadsheet: what students wrote must not become a formula."""
    text = " ".join(text.split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def best_of(submissions: Sequence[Submission]) -> dict[str, dict[str, Submission]]:
    """By student and tutorial the best notebook, if somebody handed in several."""
    table: dict[str, dict[str, Submission]] = {}
    for submission in submissions:
        row = table.setdefault(submission.student, {})
        if submission.tutorial is not None:
            stem = submission.tutorial.stem
            if stem not in row or submission.points > row[stem].points:
                row[stem] = submission
    return table


def grades(submissions: Sequence[Submission]) -> list[list[str]]:
    """One row a student: points by tutorial, and their sum; the first row is the head."""
    table = best_of(submissions)
    tutorials = {t.stem: t for s in submissions if (t := s.tutorial) is not None}
    stems = sorted(tutorials)
    head = [f"{stem} (of {len(tutorials[stem].exercises)})" for stem in stems]
    rows = [["student", *head, "points"]]
    for student, row in sorted(table.items()):
        points = [str(row[stem].points) if stem in row else "" for stem in stems]
        rows.append([student, *points, str(sum(s.points for s in row.values()))])
    return rows


def details(submissions: Sequence[Submission]) -> list[list[str]]:
    """One row an exercise, and one for each notebook that is none."""
    rows = [["student", "notebook", "tutorial", "exercise", "passed", "message", "seconds"]]
    for s in submissions:
        start = [s.student, s.path.name, s.tutorial.stem if s.tutorial else ""]
        took = f"{s.seconds:.1f}"
        for mark in s.marks:
            rows.append([*start, mark.exercise, str(int(mark.passed)), mark.message, took])
        if not s.marks:
            rows.append([*start, "", "0", s.problem, took])
    return rows


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """With a byte-order mark, by which spreadsheets know UTF-8."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([cell(text) for text in row] for row in rows)


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal, with the numbers of the tutorials in the place of their names."""
    rows = [[re.sub(r"^(\d+)_.* \(of (\d+)\)$", r"\1 of \2", h) for h in rows[0]], *rows[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def tell(submission: Submission) -> None:
    """One line about a notebook, and one for each exercise that is not passed."""
    what = submission.tutorial.stem if submission.tutorial else submission.path.name
    of = f"{submission.points}/{len(submission.marks)}" if submission.marks else "-"
    problem = f"  {submission.problem}" if submission.problem else ""
    print(f"{submission.student}: {what} {of} ({submission.seconds:.0f} s){problem}", flush=True)
    for mark in submission.marks:
        if not mark.passed and not mark.message.startswith(NOT_REACHED):
            print(f"    {mark.exercise}: {mark.message:.160}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Grade a folder of students' notebooks. This RUNS THEIR CODE with your rights: "
        "do it in a container or a virtual machine (docs/course.md).",
    )
    parser.add_argument("folder", type=Path, help="a folder for each student, or their notebooks")
    parser.add_argument("--out", type=Path, help="write grades.csv and details.csv here")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (1)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds a notebook (600)")
    parser.add_argument("--cell-timeout", type=float, default=120, help="seconds a cell (120)")
    parser.add_argument("--memory", type=float, default=8, help="GiB a notebook may use (8)")
    parser.add_argument("--full", action="store_true", help="not in the fast mode (slower)")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    for name in ("jobs", "timeout", "cell_timeout", "memory"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    submissions = collect(options.folder, tutorials_in())
    if not submissions:
        parser.error(f"there are no notebooks in {options.folder}")
    limits = Limits(options.timeout, options.cell_timeout, options.memory)
    grade_all(submissions, limits, fast=not options.full, jobs=options.jobs, tell=tell)
    print("\n" + as_text(grades(submissions)))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_csv(options.out / "grades.csv", grades(submissions))
        write_csv(options.out / "details.csv", details(submissions))
        print(f"\nwritten: {options.out / 'grades.csv'} and {options.out / 'details.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
