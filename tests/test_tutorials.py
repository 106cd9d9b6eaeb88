"""The tutorials run, say what their sources say, and were committed with clean outputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
jupytext = pytest.importorskip("jupytext")

TUTORIALS = Path(__file__).parent.parent / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
# no home, no temporary folder, no drive letter, no installed package, and no failure
FORBIDDEN = re.compile(
    r"Traceback|/(?:home|root|tmp|usr|opt|work|Users|private|var)/|\b[A-Z]:\\\\|site-packages"
)

pytestmark = pytest.mark.skipif(not TUTORIALS.exists(), reason="installed without tutorials")


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
    assert {p.stem for p in NOTEBOOKS} == {p.stem for p in TUTORIALS.glob("*.py")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_in_sync(path):
    notebook = nbformat.read(path, as_version=4)
    source = jupytext.read(path.with_suffix(".py"))

    def content(nb):
        return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in nb.cells]

    for ours, theirs in zip(content(notebook), content(source), strict=True):
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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_runs(path, tmp_path, monkeypatch):
    """In fast mode, from top to bottom, without an error or a warning."""
    monkeypatch.setenv("MINIFBI_TUTORIAL_FAST", "1")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output.text
