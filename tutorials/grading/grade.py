"""Grade a folder of students' notebooks: run each, apply the checks, write tables.

    python tutorials/grading/grade.py FOLDER                # prints a table
    python tutorials/grading/grade.py FOLDER --out RESULTS  # and writes tables and feedback
    python -m pytest tutorials/grading/test_exercises.py --notebooks FOLDER  # the same as tests

FOLDER holds a folder for each student (``anna/04_relevance.ipynb``), or notebooks with the
students' names (``anna_04_relevance.ipynb``), or what Moodle or Canvas hand out.  To which tutorial
a notebook belongs is found by the checks that it imports, else by its name.

Each notebook runs in a process of its own, in an empty folder, in the fast mode of the tutorials,
with a time limit for each cell and for the whole.  A notebook that crashes, never ends or is no
notebook loses its own points only.

.. warning:: This executes the code that students wrote, with your rights: it is NOT a sandbox.
   Run it where such code can do no harm, in a container or a virtual machine without a network;
   docs/course.md says how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grading import NOT_REACHED, Limits, Submission, Tutorial, collect, grade_all, tutorials_in
from tables import (
    Student,
    as_text,
    counting,
    details,
    grades,
    moodle,
    students,
    write_csv,
    write_feedback,
)


def tell(submission: Submission) -> None:
    """One line about a file, and one for each exercise that is not passed."""
    what = submission.tutorial.stem if submission.tutorial else submission.path.name
    of = f"{submission.points}/{len(submission.marks)}" if submission.marks else "-"
    problem = f"  {submission.problem}" if submission.problem else ""
    print(f"{submission.student}: {what} {of} ({submission.seconds:.0f} s){problem}", flush=True)
    for mark in submission.marks:
        if not mark.passed and not mark.message.startswith(NOT_REACHED):
            print(f"    {mark.exercise}: {mark.message:.160}")


def asked_for(names: Sequence[str], ours: dict[str, Tutorial]) -> list[Tutorial]:
    """The tutorials whose names begin so; a SystemExit names one that does not exist."""
    found = []
    for name in names:
        fitting = [t for t in ours.values() if t.stem.startswith(name)]
        if len(fitting) != 1:
            stems = ", ".join(t.stem for t in ours.values())
            raise SystemExit(f"--tutorials {name}: expected the beginning of one of {stems}")
        found += fitting
    return found


def write(
    out: Path, who: Sequence[Student], tutorials: list[Tutorial], options: argparse.Namespace
) -> list[Path]:
    """All tables, and the feedback; return what was written."""
    out.mkdir(parents=True, exist_ok=True)
    tables = {
        "grades.csv": grades(who, tutorials),
        "details.csv": details([s for student in who for s in student.files]),
    }
    if any(student.identifier for student in who):
        tables["moodle.csv"] = moodle(who, tutorials, options.max_grade)
    for name, rows in tables.items():
        write_csv(out / name, rows)
    write_feedback(out / "feedback", who, options.folder)
    return [out / name for name in (*tables, "feedback")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Grade a folder of students' notebooks. This RUNS THEIR CODE with your rights: "
        "do it in a container or a virtual machine (docs/course.md).",
    )
    parser.add_argument("folder", type=Path, help="a folder for each student, or their notebooks")
    parser.add_argument(
        "--out", type=Path, help="write grades.csv, details.csv, moodle.csv and feedback/ here"
    )
    parser.add_argument(
        "--tutorials",
        nargs="+",
        metavar="NN",
        help="which ones count, such as 04 05 (default: all of which somebody handed in one)",
    )
    parser.add_argument(
        "--max-grade",
        type=float,
        help="the assignment's maximum in Moodle, for moodle.csv (default: one per exercise)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (1)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a notebook (600)")
    parser.add_argument("--cell-timeout", type=float, default=120, help="seconds for a cell (120)")
    parser.add_argument("--memory", type=float, default=8, help="GiB that a notebook may use (8)")
    parser.add_argument("--full", action="store_true", help="not in the fast mode (slower)")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    for name in ("jobs", "timeout", "cell_timeout", "memory", "max_grade"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    ours = tutorials_in()
    chosen = None if options.tutorials is None else asked_for(options.tutorials, ours)
    submissions = collect(options.folder, ours)
    if not submissions:
        parser.error(f"there is nothing to grade in {options.folder}")
    limits = Limits(options.timeout, options.cell_timeout, options.memory)
    grade_all(submissions, limits, fast=not options.full, jobs=options.jobs, tell=tell)
    who, tutorials = students(submissions), counting(submissions, chosen)
    print("\n" + as_text(grades(who, tutorials)))
    if options.out:
        written = write(options.out, who, tutorials, options)
        print(f"\nwritten: {', '.join(map(str, written))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
