"""The progress bar in a notebook: a line of text that changes in place."""

from __future__ import annotations

import io
import os
import sys
import types

import pytest

from minifbi.training import log
from minifbi.training.log import NotebookLine, Progress, notebook_line


class Screen:
    """What IPython's display shows: the outputs of a cell."""

    def __init__(self):
        self.outputs, self.changes = [], 0

    def display(self, content, *, raw, display_id):
        assert raw
        assert display_id
        self.outputs.append(content["text/plain"])
        return self

    def update(self, content, *, raw):
        assert raw
        self.outputs[-1] = content["text/plain"]
        self.changes += 1


@pytest.fixture
def screen(monkeypatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(log, "notebook_line", lambda: NotebookLine(screen.display))
    return screen


def test_one_output_changes_and_stays(screen, capsys):
    progress = Progress(200, stream=io.StringIO())
    for _ in range(2):
        progress.bar.mininterval = progress.bar.miniters = 0
        progress.batch(100, 0.5, 1.25, 30.0)
    progress.say("epoch 1/1")
    progress.close()
    assert len(screen.outputs) == 1
    assert screen.changes >= 2
    assert screen.outputs[0].startswith("100%|████")
    assert screen.outputs[0].endswith("accuracy 0.500, task loss 1.2500, FBI loss 30")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("epoch 1/1\n", "")


def test_quiet_is_quiet(screen, capsys):
    progress = Progress(200, quiet=True, stream=io.StringIO())
    progress.batch(100, 0.5, 1.25, None)
    progress.say("epoch 1/1")
    progress.close()
    assert screen.outputs == []
    assert capsys.readouterr().out == ""


def test_a_terminal_has_its_own_bar(screen):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    progress = Progress(200, stream=terminal)
    progress.close()
    assert screen.outputs == []
    assert "|" in terminal.getvalue()


def test_a_notebook_is_known_by_its_kernel(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_line() is None  # and nothing was imported
    assert "IPython" not in sys.modules
    for shell, there in (
        (None, False),
        (types.SimpleNamespace(), False),
        (types.SimpleNamespace(kernel=1), True),
    ):
        ipython = types.ModuleType("IPython")
        ipython.get_ipython = lambda shell=shell: shell
        display = types.ModuleType("IPython.display")
        display.display = print
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        assert (notebook_line() is not None) == there


@pytest.mark.slow
def test_in_a_real_notebook(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = """
from helpers import small_mnist
from minifbi.training import TrainConfig, train
config = TrainConfig(model="mlp", epochs=2, batch_size=60, backend="numpy")
result = train(config, "run", dataset=small_mnist(240, 60, 60), figures=False)"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    paths = os.pathsep.join(path for path in sys.path if path)
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PYTHONPATH": paths})
    outputs = notebook.cells[0].outputs
    bars = [o["data"]["text/plain"] for o in outputs if o["output_type"] == "display_data"]
    printed = "".join(o["text"] for o in outputs if o["output_type"] == "stream")
    assert len(bars) == 1
    assert bars[0].startswith("100%|█")
    assert [line.split()[0] for line in printed.splitlines()].count("epoch") == 2
    assert not any(o.get("name") == "stderr" for o in outputs)
