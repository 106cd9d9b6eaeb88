"""The tutorials run, say what their sources say, and were committed with clean outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
jupytext = pytest.importorskip("jupytext")
build = pytest.importorskip("build", reason="installed without tutorials")

TUTORIALS = Path(__file__).parents[2] / "tutorials"
SOURCES = build.sources()
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
SOLUTIONS = sorted((TUTORIALS / "solutions").glob("*.ipynb"))
# no home, no temporary folder, no drive letter, no installed package, and no failure
FORBIDDEN = re.compile(
    r"Traceback|/(?:home|root|tmp|usr|opt|work|Users|private|var)/|\b[A-Z]:\\\\|site-packages"
)
CHECK = re.compile(r"^check\.\w+\(", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.stem


def shown(outputs) -> list[str]:
    """All text that a cell shows."""
    text = []
    for output in outputs:
        text.append(output.get("text", ""))
        text += output.get("traceback", [])
        text += [str(v) for k, v in output.get("data", {}).items() if not k.startswith("image/")]
    return text


def test_every_source_has_its_notebook_and_the_other_way():
    assert NOTEBOOKS
    assert {p.stem for p in NOTEBOOKS} == {p.stem for p in SOURCES}
    with_solutions = {p.stem for p in SOURCES if build.has_solutions(p)}
    assert {p.stem for p in SOLUTIONS} == with_solutions


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_in_sync(source):
    """The notebook of the students and that of the lecturer are those of the source."""
    for path, made in build.targets(source).items():
        notebook = nbformat.read(path, as_version=4)
        for ours, theirs in zip(build.content(notebook), build.content(made), strict=True):
            assert ours == theirs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_committed_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1)), "not run from top to bottom"
    assert any(cell.outputs for cell in code)
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
        for text in shown(cell.outputs):
            assert not FORBIDDEN.search(text), text


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem[0].isdigit()], ids=name_of)
def test_student_notebooks_hold_no_solution(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    for marker in (build.BEGIN, build.END, build.STUDENT):
        assert f"{marker}\n" not in text
    verdicts = [
        text
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and CHECK.search(cell.source)
        for text in shown(cell.outputs)
    ]
    assert verdicts, "a tutorial has exercises with checks"
    assert not any("✓" in text for text in verdicts), "an exercise that is solved as it stands"


def both_versions(source):
    """The lecturer's notebook, followed by the cells that students find in place of solutions.

    In one run, because a notebook takes its time.
    """
    student, lecturer = build.make(source), build.make(source, solutions=True)
    texts = {cell.source for cell in lecturer.cells}
    unsolved = [c for c in student.cells if c.cell_type == "code" and c.source not in texts]
    for number, cell in enumerate(unsolved):
        cell["id"] = f"unsolved-{number}"
    solved = len(lecturer.cells)
    lecturer.cells += unsolved
    return lecturer, solved


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_runs(source, tmp_path, monkeypatch):
    """In fast mode, from top to bottom, without an error or a warning.

    Each check accepts the solution, and has a word for what stood in its place.
    """
    monkeypatch.setenv("MINIFBI_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", str(TUTORIALS), prepend=os.pathsep)
    notebook, solved = both_versions(source)
    build.execute(notebook, tmp_path)  # elsewhere, so that it leaves nothing behind
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output.text
    checked = [0, 0]
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not CHECK.search(cell.source):
            continue
        # one verdict a cell: only the last line of a cell shows itself
        assert len(CHECK.findall(cell.source)) == 1, cell.source
        passed = any("✓ passed" in text for text in shown(cell.outputs))
        assert passed == (number < solved), (cell.source, shown(cell.outputs))
        checked[number < solved] += 1
    assert checked[0] == checked[1]
    if build.has_solutions(source):
        assert checked[1]
