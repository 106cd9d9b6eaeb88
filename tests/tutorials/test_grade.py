"""Grading: right answers count, wrong ones do not, and no notebook spoils another's marks."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

grading = pytest.importorskip("grading", reason="installed without tutorials")
grade = pytest.importorskip("grade", reason="installed without tutorials")
tables = pytest.importorskip("tables", reason="installed without tutorials")
pytest.importorskip("IPython")

TUTORIALS = Path(__file__).parents[2] / "tutorials"
OURS = grading.tutorials_in()
FIRST = "01_tensors_and_the_tape"

CHECKS = """\
from checks import function

def double(answer):
    return function(answer, lambda x: 2 * x, [(1.0,), (3.0,)], "double", praise="twice as much.")

def square(answer):
    return function(answer, lambda x: x * x, [(1.0,), (3.0,)], "square")

def half(answer):
    return function(answer, lambda x: x / 2, [(1.0,), (3.0,)], "half")
"""
IMPORT = "from checks import tutorial_90 as check"
NAMES = ("double", "square", "half")
RIGHT = {"double": "2 * x", "square": "x**2", "half": "0.5 * x"}


def answer(name, body):
    return f"def {name}(x):\n    return {body}\n\ncheck.{name}({name})"


def write(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in cells]), path)
    return path


def cells_with(**changed):
    """The cells of a solved notebook, with some of them changed."""
    texts = {name: answer(name, RIGHT[name]) for name in NAMES} | changed
    return [IMPORT, *texts.values()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tutorial of three exercises, in a folder of its own."""
    folder = tmp_path_factory.mktemp("tutorials")
    (folder / "checks").mkdir()
    shutil.copy(TUTORIALS / "checks" / "__init__.py", folder / "checks")
    (folder / "checks" / "tutorial_90.py").write_text(CHECKS, encoding="utf-8")
    write(folder / "90_small.ipynb", [IMPORT, *(answer(name, "...") for name in NAMES)])
    return folder


def graded(small, path, **limits):
    """The marks of one notebook, by exercise."""
    found = grading.collect(path.parent.parent, grading.tutorials_in(small))
    (submission,) = (s for s in found if s.tutorial is not None)
    grading.grade(submission, grading.Limits(**limits), small, threads=1)
    assert [mark.exercise for mark in submission.marks] == list(NAMES)
    return submission, {mark.exercise: mark for mark in submission.marks}


# ---- what a notebook may do --------------------------------------------------------------
def test_right_answers_in_their_own_way(small, tmp_path):
    cells = [
        IMPORT,
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "from pathlib import Path\nPath('left_behind.txt').write_text('x')\nprint('much' * 10**6)",
        answer("double", "...") + "\n",  # a first attempt; the second one counts
        "import sys\nsys.exit()",
        answer("double", "x + x"),
        "def square(x):\n    return x * x",  # in two cells, and with another call
        "answer = square\ncheck.square(answer)",
        "half = lambda x: x / 2",  # its check is lost
    ]
    submission, marks = graded(small, write(tmp_path / "anna" / "90_small.ipynb", cells))
    assert submission.points == 3, submission
    assert marks["double"].message == "twice as much."
    assert submission.problem == ""
    assert submission.stopped == {5: "SystemExit: "}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["90_small.ipynb", "anna"]


def test_unsolved_and_wrong(small, tmp_path):
    cells = cells_with(double=answer("double", "..."), square=answer("square", "2 * x"))
    del cells[3]
    submission, marks = graded(small, write(tmp_path / "ben" / "90_small.ipynb", cells))
    assert submission.points == 0
    assert "returned `...`" in marks["double"].message
    assert "is 2; that is not it" in marks["square"].message
    assert marks["half"].message == "half is not defined."


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm on this system")
def test_errors_endless_loops_and_memory(small, tmp_path):
    cells = [
        "while True:\n    try:\n        sum(range(1000))\n    except Exception:\n        pass",
        *cells_with(
            double="def double(x)\n    return 2 * x\n\ncheck.double(double)",
            square="import time\nsquare = lambda x: time.sleep(600)\ncheck.square(square)",
        ),
    ]
    cells.insert(2, "much = bytearray(10**15)")
    cells.insert(2, "input('your name')")
    path = write(tmp_path / "cleo" / "90_small.ipynb", cells)
    submission, marks = graded(small, path, cell=2)
    assert submission.points == 1, submission
    assert "SyntaxError" in marks["double"].message
    assert "its cell ran longer than 2 s" in marks["square"].message
    assert marks["half"].passed
    assert submission.stopped[1] == "it ran longer than 2 s"
    assert submission.stopped[3].startswith("EOFError")
    assert submission.stopped[4].startswith("MemoryError")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm on this system")
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os\nos._exit(3)", "its process ended (exit code 3) in code cell 3"),
        (
            "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(600)",
            "stopped after 10 s in code cell 3",
        ),
    ],
    ids=["dies", "never ends"],
)
def test_what_was_graded_stays(small, tmp_path, code, says):
    path = write(tmp_path / "dan" / "90_small.ipynb", cells_with(square=code))
    submission, marks = graded(small, path, notebook=10, cell=5)
    assert marks["double"].passed
    assert submission.points == 1
    assert submission.problem == says
    assert marks["half"].message == f"not reached: {says}"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_children_end_with_the_notebook(small, tmp_path):
    note = tmp_path / "pid.txt"
    start = (
        "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))"
    )
    path = write(tmp_path / "in" / "eve" / "90_small.ipynb", [start, *cells_with()])
    submission, _ = graded(small, path)
    assert submission.points == 3
    stat = Path("/proc", note.read_text(encoding="utf-8"), "stat")
    assert not stat.exists() or stat.read_text(encoding="utf-8").split()[2] == "Z"


def test_checks_that_were_tampered_with(small, tmp_path):
    fake = "class check:\n    double = square = half = staticmethod(lambda f: print('✓ passed'))"
    path = write(
        tmp_path / "fritz" / "90_small.ipynb",
        [IMPORT, fake, *(answer(name, "0 * x") for name in NAMES)],
    )
    (path.parent / "checks").mkdir()
    (path.parent / "checks" / "__init__.py").write_text("", encoding="utf-8")
    (path.parent / "checks" / "tutorial_90.py").write_text("passed = True", encoding="utf-8")
    submission, _ = graded(small, path)
    assert submission.points == 0


REPLACE = {
    "the check": "import checks.tutorial_90 as c\nfrom checks import Verdict\n"
    "for name in ('double', 'square', 'half'):\n"
    "    setattr(c, name, lambda answer: Verdict(True, 'all mine'))",
    "what checks are made of": "import checks, checks.tutorial_90 as c\n"
    "checks.equal = checks.values = checks.function = c.function = "
    "lambda *a, **k: checks.Verdict(True, 'all mine')",
    "the verdict": "import checks\nchecks.Verdict.ok = True\n"
    "checks.Verdict.__init__ = lambda self, *a: object.__setattr__(self, 'message', 'all mine')",
    "code": "import checks.tutorial_90 as c\n"
    "def fake(answer):\n    import checks\n    return checks.Verdict(True, 'all mine')\n"
    "c.double.__code__ = c.square.__code__ = c.half.__code__ = fake.__code__",
    "numpy": "import numpy as np\nnp.allclose = lambda *a, **k: True",
    "a builtin": "import builtins\nbuiltins.bool = lambda *a: True",
    "the report": "import json\nold = json.dumps\n"
    "json.dumps = lambda entry: old({**entry, 'passed': True, 'message': 'all mine'})",
}


@pytest.mark.parametrize("what", REPLACE)
def test_what_a_cell_replaces_is_put_back_for_grading(small, tmp_path, what):
    cells = [REPLACE[what], *cells_with(double=answer("double", "3 * x")), "later = np.allclose"]
    cells.insert(0, "import numpy as np")
    submission, marks = graded(small, write(tmp_path / "kim" / "90_small.ipynb", cells))
    assert [mark.passed for mark in marks.values()] == [False, True, True], submission
    assert "all mine" not in str(marks)
    assert submission.problem == ""


def test_the_notebook_gets_its_own_world_back(small, tmp_path):
    note = tmp_path / "note.txt"
    cells = [
        "import numpy as np\nnp.mine = 1\nnp.allclose = 2",
        *cells_with(),
        f"open({str(note)!r}, 'w').write(f'{{np.mine}} {{np.allclose}}')",
    ]
    submission, _ = graded(small, write(tmp_path / "in" / "lea" / "90_small.ipynb", cells))
    assert submission.points == 3
    assert note.read_text(encoding="utf-8") == "1 2"


# ---- whose and what ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "student", "identifier"),
    [
        ("Anna Mai_123_assignsubmission_file/90_small.ipynb", "Anna Mai", "123"),
        ("Anna Mai_123_assignsubmission_file_/x/y.ipynb", "Anna Mai", "123"),
        ("Anna Mai_123_assignsubmission_file_90_small.ipynb", "Anna Mai", "123"),
        ("Müller Anna_123_file_/a.ipynb", "Müller Anna", "123"),
        ("maianna_LATE_77_4567_90_small-1.ipynb", "maianna", "77"),
        ("maianna_77_4567_90_small.ipynb", "maianna", "77"),
        ("anna_90_small.ipynb", "anna", ""),
        ("anna_mai/essay_1_2.ipynb", "anna_mai", ""),
        ("gina.docx", "gina", ""),
    ],
)
def test_names_that_platforms_give(tmp_path, path, student, identifier):
    write(tmp_path / path, [])
    assert grading.student_of(tmp_path / path, tmp_path, ["90_small"]) == (student, identifier)


def test_what_is_collected(small, tmp_path):
    ours = grading.tutorials_in(small)
    write(tmp_path / "Müller Anna_123_file_" / "90_small (1).ipynb", cells_with())
    write(tmp_path / "ben_90_small.ipynb", cells_with())
    write(tmp_path / "carl" / "my work.ipynb", cells_with())  # known by its import
    write(tmp_path / "dora" / "poem.ipynb", ["'roses are red'"])
    write(tmp_path / "dora" / ".ipynb_checkpoints" / "90_small.ipynb", cells_with())
    (tmp_path / "emil").mkdir()
    (tmp_path / "gina.docx").write_bytes(b"PK")
    (tmp_path / "carl" / "plot.png").write_bytes(b"PNG")
    (tmp_path / ".DS_Store").write_bytes(b"")
    texts = ["", "hello", "[]", "42", '{"cells": 3}', '{"nbformat": 4, "cells": [{}]}']
    for number, text in enumerate(texts):
        (tmp_path / f"broken{number}_90_small.ipynb").write_text(text, encoding="utf-8")
    (tmp_path / "binary_90_small.ipynb").write_bytes(bytes(range(256)))
    found = {s.student: s for s in grading.collect(tmp_path, ours)}
    broken = [f"broken{n}" for n in range(len(texts))]
    names = ["Müller Anna", "ben", "carl", "dora", "emil", "gina", "binary", *broken]
    assert sorted(found) == sorted(names)
    files = [s.path.name for s in grading.collect(tmp_path, ours) if s.student == "carl"]
    assert files == ["my work.ipynb", "plot.png"]
    found["carl"] = next(s for s in grading.collect(tmp_path, ours) if "my work" in s.path.name)
    assert found["gina"].problem == "not a notebook (.docx); expected .ipynb"
    for name in ("Müller Anna", "ben", "carl"):
        assert found[name].tutorial.stem == "90_small"
        assert found[name].problem == ""
    assert "none of the tutorials" in found["dora"].problem
    assert found["emil"].problem == "nothing in this folder"
    for name in ("binary", *broken):
        assert found[name].problem.startswith("not a notebook"), name
        grading.grade(found[name], tutorials=small)
        assert [mark.passed for mark in found[name].marks] == [False] * 3
        assert "not a notebook" in found[name].marks[0].message


def marked(student, passed, tutorial=None, message="m"):
    tutorial = tutorial or OURS["tutorial_01"]
    marks = [grading.Mark(e.name, i < passed, message) for i, e in enumerate(tutorial.exercises)]
    return grading.Submission(student, Path(f"{student}.ipynb"), tutorial, marks=marks)


def test_tables(tmp_path):
    second = OURS["tutorial_02"]
    found = [
        marked("anna", 1),
        marked("anna", 3),  # handed in twice: the better one counts
        marked("anna", 4, second),
        marked("=cmd()", 0, message="-1 is\nwrong"),
        grading.Submission("emil", Path("emil"), problem="nothing in this folder"),
    ]
    who, counted = tables.students(found), tables.counting(found)
    rows = tables.grades(who, counted)
    head = ["student", "identifier", f"{FIRST} (of 4)", f"{second.stem} (of 4)"]
    assert rows[0] == [*head, "points", "of", "percent"]
    assert rows[1:] == [
        ["=cmd()", "", "0", "", "0", "8", "0.0"],
        ["anna", "", "3", "4", "7", "8", "87.5"],
        ["emil", "", "", "", "0", "8", "0.0"],
    ]
    assert tables.grades(who, [second])[2] == ["anna", "", "4", "4", "4", "100.0"]
    assert tables.as_text(rows).splitlines()[0].split("  ")[0] == "student"
    assert "01 of 4  02 of 4  points  of  percent" in tables.as_text(rows)
    tables.write_csv(tmp_path / "details.csv", tables.details(found))
    with (tmp_path / "details.csv").open(encoding="utf-8-sig", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 4 * 4 + 1
    assert (read[12]["student"], read[12]["message"]) == ("'=cmd()", "'-1 is wrong")
    assert (read[-1]["student"], read[-1]["message"]) == ("emil", "nothing in this folder")


def test_two_students_of_one_name_and_what_moodle_reads(tmp_path):
    found = []
    for number, passed in ((7, 1), (8, 4)):
        submission = marked("Anna Mai", passed)
        submission.identifier = str(number)
        submission.path = tmp_path / f"Anna Mai_{number}_assignsubmission_file" / "a.ipynb"
        found.append(submission)
    found.append(marked("ben", 2))
    found[-1].path = tmp_path / "ben.ipynb"
    who, counted = tables.students(found), tables.counting(found)
    assert [(s.name, s.identifier, s.points) for s in who] == [
        ("Anna Mai", "7", 1),
        ("Anna Mai", "8", 4),
        ("ben", "", 2),
    ]
    assert tables.moodle(who, counted, 10) == [
        ["Identifier", "Full name", "Grade", "Maximum Grade", "Feedback comments"],
        ["Participant 7", "Anna Mai", "2.50", "10.00", "1 of 4 exercises"],
        ["Participant 8", "Anna Mai", "10.00", "10.00", "4 of 4 exercises"],
    ]
    for submission in found:
        write(submission.path, [])
    tables.write_feedback(tmp_path / "out", who, tmp_path)
    pages = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*.md"))
    folders = ["Anna Mai_7_assignsubmission_file", "Anna Mai_8_assignsubmission_file", "ben"]
    assert pages == [f"{folder}/feedback.md" for folder in folders]
    text = (tmp_path / "out" / "ben" / "feedback.md").read_text(encoding="utf-8")
    assert f"## {FIRST}: 2 of 4 exercises" in text
    assert text.count(": passed.") == text.count(": not yet.") == 2


# ---- our own notebooks -------------------------------------------------------------------
def test_every_exercise_of_every_tutorial_is_found():
    numbered = {path.stem for path in TUTORIALS.glob("[0-9]*.ipynb")}
    assert {tutorial.stem for tutorial in OURS.values()} >= numbered
    for tutorial in OURS.values():
        assert tutorial.exercises
        cells = grading.code_of(TUTORIALS / "solutions" / f"{tutorial.stem}.ipynb")
        assert tuple(grading.exercises_in(cells)) == tutorial.exercises


def run(*command):
    environment = {**os.environ, "PYTHONPATH": str(TUTORIALS.parent), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        timeout=300,
    )


@pytest.mark.slow
def test_the_command_and_one_right_answer(tmp_path):
    """The students' notebook with one right answer, and one that is typically wrong."""
    cells = grading.code_of(TUTORIALS / f"{FIRST}.ipynb")
    cells = [
        c.replace("culprit = ...", "culprit = 'swish'").replace(
            "def slopes_of_quotient(a, b):",
            "def slopes_of_quotient(a, b):\n    return 1 / b, a / b**2",
        )
        for c in cells
    ]
    write(tmp_path / "in" / "gina" / f"{FIRST}.ipynb", cells)
    done = run(TUTORIALS / "grading" / "grade.py", tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"gina: {FIRST} 1/4" in done.stdout
    assert "grow or shrink" in done.stdout
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["student", "identifier", f"{FIRST} (of 4)", "points", "of", "percent"],
            ["gina", "", "1", "1", "4", "25.0"],
        ]


@pytest.mark.slow
def test_pytest_grades_the_solution_and_what_is_no_notebook(tmp_path):
    shutil.copy(TUTORIALS / "solutions" / f"{FIRST}.ipynb", tmp_path / f"hugo_{FIRST}.ipynb")
    (tmp_path / "ida_02_convolution_three_ways.ipynb").write_text("hello", encoding="utf-8")
    done = run(
        *("-m", "pytest", "-p", "no:cacheprovider", TUTORIALS / "grading" / "test_exercises.py"),
        *("--notebooks", tmp_path),
    )
    assert "4 failed, 4 passed" in done.stdout, done.stdout
    assert f"ida-{OURS['tutorial_02'].stem}-shapes_and_costs" in done.stdout
    assert "not a notebook" in done.stdout


def test_the_handout_stands_alone(tmp_path):
    """In an empty folder, with nothing but the package, every check can be imported."""
    build = pytest.importorskip("build")
    names = {path.name for path in build.handout(tmp_path)}
    assert "README.md" in names
    assert not {name for name in names if "solution" in name or name.startswith("grad")}
    modules = [f"checks.{tutorial.module}" for tutorial in OURS.values()]
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TUTORIALS.parent)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "is no folder"),
        ([".", "--jobs", "0"], "--jobs must be above 0"),
        ([".", "--max-grade", "-1"], "--max-grade must be above 0"),
    ],
)
def test_wrong_arguments(arguments, says, capsys):
    with pytest.raises(SystemExit):
        grade.main(arguments)
    assert says in capsys.readouterr().err


def test_nothing_to_grade(tmp_path, capsys):
    with pytest.raises(SystemExit):
        grade.main([str(tmp_path)])
    assert "there is nothing to grade" in capsys.readouterr().err
