"""The helpers of exercises: what they accept, what they reject, and what they say to it."""

from __future__ import annotations

import nbformat
import numpy as np
import pytest

build = pytest.importorskip("build", reason="installed without tutorials")
checks = pytest.importorskip("checks", reason="installed without tutorials")
pytest.importorskip("jupytext")


# ---- values ------------------------------------------------------------------------------
def test_values_accepts_what_is_right():
    assert checks.values([1, 2.0], np.array([1.0, 2.0])).ok
    assert checks.values(1 / 3, 0.3333333333333).ok
    assert repr(checks.values(2, 2, praise="well done")) == "✓ passed: well done"


@pytest.mark.parametrize(
    ("got", "says"),
    [
        (..., "still `...`"),
        (None, "return"),
        ("3", "str"),
        (len, "expected numbers"),
        ([[1], [2, 3]], "no array of numbers"),
        ([1.0, 2.0, 3.0], "shape (3,), expected shape (2,)"),
        ([1.0, np.nan], "contains nan"),
        ([1.0, 2.5], "first at index 1: 2.5 instead of 2"),
        ([-1.0, -2.0], "the other sign"),
        (np.array(5.0), "shape ()"),
    ],
)
def test_values_says_what_differs(got, says):
    verdict = checks.values(got, [1.0, 2.0], typical=[([-1, -2], "the other sign")])
    assert not verdict
    assert says in verdict.message
    assert repr(verdict).startswith("✗ not yet: ")


def test_a_wrong_number_does_not_betray_the_right_one():
    verdict = checks.values(3.0, 42.0, hint="Look at the bias.")
    assert not verdict
    assert "42" not in verdict.message
    assert "Look at the bias." in verdict.message


# ---- functions ---------------------------------------------------------------------------
def double(x):
    return 2 * x


CASES = [(np.array([0.0]),), (np.array([1.0, 2.0]),)]


def changes_its_argument(x):
    x *= 2
    return x


def divides_by_zero(x):
    return [1 / 0 for _ in x]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "expected the function double"),
        (lambda x: ..., "returned `...`"),
        (lambda x: None, "returned None"),
        (lambda x: x**2, "you square"),
        (lambda x: x, "instead of 2"),
        (lambda x: 2 * x[0], "shape ()"),
        (changes_its_argument, "work on a copy"),
        (divides_by_zero, "ZeroDivisionError: division by zero, in the line `return [1 / 0"),
        (lambda: 1, "TypeError"),
    ],
)
def test_function_says_what_differs(answer, says):
    typical = [(lambda x: x**2, "you square")]
    verdict = checks.function(answer, double, CASES, typical=typical)
    assert not verdict.ok
    assert says in verdict.message


def test_function_accepts_what_is_right():
    assert checks.function(lambda x: x + x, double, CASES).ok


def test_function_with_two_results():
    def both(x):
        return x, -x

    assert checks.function(lambda x: [x, -x], both, CASES).ok
    verdict = checks.function(lambda x: (x, x), both, CASES)
    assert "result 1 of both([1., 2.])" in verdict.message
    assert "must return 2 values" in checks.function(lambda x: x[:1], both, CASES).message


def test_a_typical_mistake_that_fails_on_a_case_is_passed_over():
    typical = [(lambda x: x[5], "never")]
    assert "instead of" in checks.function(lambda x: x, double, CASES, typical=typical).message


# ---- choices -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "ok", "says"),
    [
        ("a", True, "yes"),
        ("b", False, "no"),
        ("c", False, "none of the answers"),
        (..., False, "replace `...`"),
        ([], False, "none of the answers"),
    ],
)
def test_choice(answer, ok, says):
    verdict = checks.choice(answer, "a", {"a": "yes", "b": "no"})
    assert verdict.ok == ok
    assert says in verdict.message


def test_every_lets_the_first_that_is_wrong_speak():
    right, wrong = checks.Verdict(True, "right"), checks.Verdict(False, "wrong")
    assert checks.every(right, wrong) == wrong
    assert checks.every(right, right, praise="all").message == "all"


# ---- the two versions of a source --------------------------------------------------------
CELL = """\
def area(r):
    # solution
    # student: # the area of a circle
    return np.pi * r**2
    # end solution

check.area(area)"""


def test_the_two_versions_of_a_cell():
    student, solution = build.split_solution(CELL)
    assert student == "def area(r):\n    # the area of a circle\n    ...\n\ncheck.area(area)"
    assert solution == "def area(r):\n    return np.pi * r**2\n\ncheck.area(area)"
    assert build.split_solution("x = 1") == ("x = 1", "x = 1")


def test_code_for_the_student_needs_no_dots():
    student, solution = build.split_solution(
        "# solution\n# student: x = ...  # a number\nx = 42\n# end solution"
    )
    assert (student, solution) == ("x = ...  # a number", "x = 42")


@pytest.mark.parametrize(
    "cell",
    ["# solution\nx = 1", "# end solution", "# solution\n# solution", "# student: x = 1"],
)
def test_markers_without_a_partner(cell):
    with pytest.raises(build.SourceError, match="cell 3"):
        build.split_solution(cell, "cell 3")


SOURCE = f"""\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# An exercise.

# %%
{CELL}

# %% [markdown] tags=["solution"]
# The answer is known.
"""


def test_what_build_writes(tmp_path, monkeypatch):
    source = tmp_path / "sources" / "09_circles.py"
    source.parent.mkdir()
    source.write_text(SOURCE, encoding="utf-8")
    (source.parent / "helper.py").write_text("x = 1\n", encoding="utf-8")
    assert build.sources(source.parent) == [source]
    monkeypatch.setattr(build, "execute", lambda notebook, folder: notebook)

    student, lecturer = tmp_path / "09_circles.ipynb", tmp_path / "solutions" / "09_circles.ipynb"
    assert build.build(source) == [student, lecturer]
    assert build.build(source) == []
    for_students = nbformat.read(student, as_version=4)
    nbformat.validate(for_students)
    text = student.read_text(encoding="utf-8")
    assert "np.pi" not in text
    assert "known" not in text
    assert "jupytext" not in for_students.metadata
    text = lecturer.read_text(encoding="utf-8")
    assert "np.pi" in text
    assert "known" in text

    source.write_text(SOURCE.replace("np.pi", "3.14"), encoding="utf-8")
    assert build.build(source) == [lecturer]  # students see no difference


def test_outputs_stay_where_only_the_text_changed(tmp_path, monkeypatch):
    source, notebook = tmp_path / "sources" / "09_circles.py", tmp_path / "09_circles.ipynb"
    source.parent.mkdir()
    source.write_text(SOURCE, encoding="utf-8")
    runs = []

    def execute(made, folder):
        runs.append(folder)
        for cell in made.cells:
            if cell.cell_type == "code":
                cell.execution_count = 7
        return made

    monkeypatch.setattr(build, "execute", execute)
    build.build(source)
    source.write_text(SOURCE.replace("An exercise", "One exercise"), encoding="utf-8")
    build.build(source)
    assert len(runs) == 1
    kept = nbformat.read(notebook, as_version=4)
    assert kept.cells[0].source == "One exercise."
    assert kept.cells[1].execution_count == 7
    source.write_text(SOURCE.replace("check.area", "print"), encoding="utf-8")
    build.build(source)
    assert len(runs) == 2


def test_handout_has_no_source_and_no_solution(tmp_path):
    names = {path.name for path in build.handout(tmp_path / "out")}
    assert "tutorial_01.py" in names
    assert "build.py" not in names
    for source in build.sources():
        assert f"{source.stem}.ipynb" in names
        assert source.name not in names


def test_unknown_name_and_check(capsys):
    with pytest.raises(SystemExit):
        build.main(["no_such_tutorial"])
    assert "no source of that name" in capsys.readouterr().err
    assert build.main(["--check"]) == 0
