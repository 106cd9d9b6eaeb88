"""Students' notebooks, graded by pytest: one test for each exercise.

    python -m pytest tutorials/grading/test_exercises.py --notebooks FOLDER

The same as ``grade.py FOLDER``, for those who want pytest's reports (``--junitxml``, ``-k anna``).
Like that, it RUNS THE STUDENTS' CODE with your rights: see docs/course.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from grading import collect, grade, tutorials_in


def pytest_generate_tests(metafunc):
    folder = metafunc.config.getoption("--notebooks")
    cases = []
    if folder is not None:
        if not Path(folder).is_dir():
            raise pytest.UsageError(f"--notebooks {folder} is no folder")
        for submission in collect(Path(folder), tutorials_in()):
            tutorial = submission.tutorial
            start = f"{submission.student}-{tutorial.stem if tutorial else submission.path.name}"
            names = [e.name for e in tutorial.exercises] if tutorial else [""]
            cases += [pytest.param(submission, n, id=f"{start}-{n}".strip("-")) for n in names]
    metafunc.parametrize(("submission", "exercise"), cases)


def test_exercise(submission, exercise):
    if not submission.marks:
        grade(submission)  # once for all exercises of a notebook
    marks = {mark.exercise: mark for mark in submission.marks}
    if exercise not in marks:
        pytest.fail(submission.problem, pytrace=False)
    if not marks[exercise].passed:
        pytest.fail(marks[exercise].message, pytrace=False)
