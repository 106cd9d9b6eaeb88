"""What grade.py writes: tables of points, and a page of feedback for each student."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from grading import Submission, Tutorial

Rows = list[list[str]]


class Student:
    """One student and the best notebook for each tutorial, if several were handed in.

    Parameters
    ----------
    name, identifier : str
        As the names of the files say them; see :class:`grading.Submission`.
    """

    def __init__(self, name: str, identifier: str) -> None:
        self.name, self.identifier = name, identifier
        self.files: list[Submission] = []
        self.best: dict[str, Submission] = {}

    def add(self, submission: Submission) -> None:
        """Count one file of this student."""
        self.files.append(submission)
        if submission.tutorial is not None:
            stem = submission.tutorial.stem
            if stem not in self.best or submission.points > self.best[stem].points:
                self.best[stem] = submission

    @property
    def points(self) -> int:
        """Exercises passed, over all tutorials."""
        return sum(submission.points for submission in self.best.values())

    @property
    def feedback(self) -> str:
        """What is right, what is missing, and why, for the student to read."""
        lines = [f"# {self.name}"]
        for stem, submission in sorted(self.best.items()):
            of = len(submission.marks)
            lines += ["", f"## {stem}: {submission.points} of {of} exercises", ""]
            if submission.problem:
                lines += [f"The notebook: {submission.problem}.", ""]
            for mark in submission.marks:
                sign = "passed" if mark.passed else "not yet"
                lines.append(f"- {mark.exercise}: {sign}. {mark.message}")
            for cell, reason in sorted(submission.stopped.items()):
                lines.append(f"- Code cell {cell} ended with an error: {reason}")
        counted = [submission.path for submission in self.best.values()]
        others = [s for s in self.files if s.path not in counted]
        if others:
            lines += ["", "## Files that do not count", ""]
            lines += [f"- {s.path.name}: {s.problem or 'another one is better'}" for s in others]
        return "\n".join(lines) + "\n"


def students(submissions: Iterable[Submission]) -> list[Student]:
    """Everybody who handed something in, by name."""
    found: dict[tuple[str, str], Student] = {}
    for submission in submissions:
        who = (submission.student, submission.identifier)
        found.setdefault(who, Student(*who)).add(submission)
    return [found[who] for who in sorted(found)]


def counting(
    submissions: Iterable[Submission], tutorials: Collection[Tutorial] | None = None
) -> list[Tutorial]:
    """The tutorials that count: those asked for, or all of which somebody handed in a notebook."""
    if tutorials is None:
        tutorials = {s.tutorial.stem: s.tutorial for s in submissions if s.tutorial}.values()
    return sorted(tutorials, key=lambda tutorial: tutorial.stem)


def percent(points: int, of: int) -> str:
    """Points as a percentage with one decimal; empty where nothing counts."""
    return f"{100 * points / of:.1f}" if of else ""


def grades(who: Sequence[Student], tutorials: Sequence[Tutorial]) -> Rows:
    """One row per student: points of each tutorial, their sum, and its percentage."""
    head = [f"{t.stem} (of {len(t.exercises)})" for t in tutorials]
    rows = [["student", "identifier", *head, "points", "of", "percent"]]
    of = sum(len(t.exercises) for t in tutorials)
    for student in who:
        best = [student.best.get(t.stem) for t in tutorials]
        points = ["" if s is None else str(s.points) for s in best]
        total = sum(s.points for s in best if s is not None)
        rows.append(
            [student.name, student.identifier, *points, str(total), str(of), percent(total, of)]
        )
    return rows


def details(submissions: Iterable[Submission]) -> Rows:
    """One row per exercise, and one for each file that is no notebook of ours."""
    rows = [["student", "identifier", "file", "tutorial", "exercise", "passed", "message"]]
    rows[0].append("seconds")
    for s in submissions:
        start = [s.student, s.identifier, s.path.name, s.tutorial.stem if s.tutorial else ""]
        took = f"{s.seconds:.1f}"
        for mark in s.marks:
            rows.append([*start, mark.exercise, str(int(mark.passed)), mark.message, took])
        if not s.marks:
            rows.append([*start, "", "0", s.problem, took])
    return rows


def moodle(who: Sequence[Student], tutorials: Sequence[Tutorial], out_of: float | None) -> Rows:
    """The columns that Moodle's "Upload grading worksheet" imports; empty without identifiers.

    Parameters
    ----------
    who : sequence of Student
        Those whose names come without a number are left out: Moodle knows nobody else.
    tutorials : sequence of Tutorial
        Which ones count.
    out_of : float or None
        The maximum grade of the assignment in Moodle; None: the number of exercises.
    """
    of = sum(len(t.exercises) for t in tutorials)
    most = of if out_of is None else out_of
    rows = [["Identifier", "Full name", "Grade", "Maximum Grade", "Feedback comments"]]
    for student in who:
        if student.identifier:
            total = sum(student.best[t.stem].points for t in tutorials if t.stem in student.best)
            grade = f"{most * total / of:.2f}" if of else "0.00"
            comment = f"{total} of {of} exercises"
            rows.append(
                [f"Participant {student.identifier}", student.name, grade, f"{most:.2f}", comment]
            )
    return rows


# ---- to files and to the terminal --------------------------------------------------------
def cell(text: str) -> str:
    """Text for a spreadsheet: what students wrote must not become a formula."""
    text = " ".join(text.split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def write_csv(path: Path, rows: Rows) -> None:
    """With a byte-order mark, by which spreadsheets know UTF-8."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([cell(text) for text in row] for row in rows)


def write_feedback(folder: Path, who: Sequence[Student], handed_in: Path) -> None:
    """One page per student.

    Who handed in a folder finds the page in a folder of the same name: that is how Moodle's
    "Upload multiple feedback files in a zip" knows whose it is.
    """
    taken: set[str] = set()
    for student in who:
        inside = student.files[0].path.relative_to(handed_in).parts
        is_folder = len(inside) > 1 or (handed_in / inside[0]).is_dir()
        name = inside[0] if is_folder else re.sub(r"[^\w .-]", "_", student.name).strip(" .") or "_"
        while name.casefold() in taken:  # two students of one name
            name += "_"
        taken.add(name.casefold())
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "feedback.md").write_text(student.feedback, encoding="utf-8")


def as_text(rows: Rows) -> str:
    """A table for the terminal, with the numbers of the tutorials in the place of their names."""
    rows = [[re.sub(r"^(\d+)_.* \(of (\d+)\)$", r"\1 of \2", h) for h in rows[0]], *rows[1:]]
    shown = [i for i, h in enumerate(rows[0]) if h != "identifier" or any(r[i] for r in rows[1:])]
    rows = [[row[i] for i in shown] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
