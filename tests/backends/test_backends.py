"""Choosing a backend: by name, by `auto`, and what is said when one cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import command, write_idx_folder

from minifbi.backends import Backend, backend_status, get_backend
from minifbi.errors import ConfigError
from minifbi.models import alexnet


@pytest.fixture
def without_numba(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing numba fails, as where it is not installed."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "numba.py").write_text("raise ImportError('no numba on this machine')\n")
    root = Path(__file__).resolve().parents[2]
    return {"PYTHONPATH": f"{tmp_path / 'hidden'}:{root}"}


def test_by_name(backend):
    one = get_backend(backend)
    assert isinstance(one, Backend)
    assert one is get_backend(backend)  # one object, so that tensors can be compared by it
    assert one is get_backend(one)
    assert one.name == backend
    assert alexnet(backend=backend).backend is one


def test_auto_takes_numba_where_it_runs(monkeypatch):
    monkeypatch.delenv("MINIFBI_BACKEND", raising=False)
    expected = "numba" if backend_status()["numba"] == "ok" else "numpy"
    assert get_backend("auto").name == expected


def test_auto_takes_what_the_environment_names(monkeypatch):
    monkeypatch.setenv("MINIFBI_BACKEND", "numpy")
    assert get_backend("auto").name == "numpy"
    assert alexnet().backend.name == "numpy"
    monkeypatch.setenv("MINIFBI_BACKEND", "")  # as good as unset
    assert get_backend("auto").name in ("numpy", "numba")
    monkeypatch.setenv("MINIFBI_BACKEND", "gpu")
    with pytest.raises(ConfigError, match=r"MINIFBI_BACKEND is 'gpu'.*'cupy'"):
        get_backend("auto")
    assert get_backend("numpy").name == "numpy"  # a name that was given counts


def test_unknown():
    with pytest.raises(ConfigError, match=r"'tpu'.*'numpy', 'numba', 'cupy'"):
        get_backend("tpu")


def test_importing_minifbi_is_light():
    """No numba, matplotlib or cupy, nor what else is heavy."""
    code = "import sys, json, minifbi; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    heavy = {"numba", "matplotlib", "cupy", "scipy", "pooch", "requests", "tqdm", "torch"}
    assert heavy.isdisjoint(modules)


def test_auto_falls_back_and_says_why(without_numba, tmp_path):
    data = write_idx_folder(tmp_path / "digits", train=120, test=20)
    arguments = ["--data-dir", data, "--model", "mlp", "--epochs", "1", "--out", tmp_path / "run"]
    done = command("train", *arguments, env=without_numba)
    assert done.returncode == 0, done.stderr
    assert "backend numpy (chosen by auto" in done.stdout
    assert "no numba on this machine" in done.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["backend"] == "numpy"


def test_a_named_backend_never_falls_back(without_numba, tmp_path):
    done = command("train", "--backend", "numba", "--out", tmp_path / "run", env=without_numba)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no numba on this machine" in done.stderr
    assert not (tmp_path / "run").exists()


def test_numba_threads_spin_briefly_then_sleep_while_they_wait():
    """Endlessly spinning threads make a step slow where anything else wants a core."""
    code = (
        "import os; from minifbi import get_backend; get_backend('auto');"
        "print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    )
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for given, expected in ((None, "passive 30000"), ("active", "active None")):
        environment = {k: v for k, v in os.environ.items() if k not in ours}
        if given:
            environment["OMP_WAIT_POLICY"] = given
        said = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
        if backend_status()["numba"] == "ok":
            assert said.strip() == expected
