"""The commands on the cupy backend, each in a process of its own.

Without a card `import cupy` finds the stand-in there: what runs is all of minifbi's own code.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import GPU
from helpers import command, write_idx_folder

from minifbi.training import load_model

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "tests" / "support" / "stand_in"


@pytest.fixture
def device() -> dict[str, str]:
    """An environment in which there is a device, real or not."""
    return {} if GPU else {"PYTHONPATH": f"{STAND_IN}:{ROOT}"}


def test_train_resume_and_explain(device, tmp_path):
    data = write_idx_folder(tmp_path / "digits", train=300, test=40)
    common = ["--data-dir", data, "--model", "lenet", "--batch-size", "50", "--fbi-gate", "0"]
    finished = {}
    for backend in ("cupy", "numpy"):
        run = tmp_path / backend
        options = [*common, "--epochs", "1", "--backend", backend, "--out", run]
        done = command("train", *options, env=device)
        assert done.returncode == 0, done.stderr
        assert f"backend {backend}" in done.stdout
        finished[backend] = load_model(run, backend="numpy")[0].state_dict()
    for name, expected in finished["numpy"].items():
        np.testing.assert_allclose(finished["cupy"][name], expected, rtol=1e-3, atol=1e-5)

    run = tmp_path / "cupy"
    assert json.loads((run / "config.json").read_text())["backend"] == "cupy"
    done = command("train", "--resume", run, "--backend", "numpy", "--epochs", "2")
    assert done.returncode == 0, done.stderr  # begun there, finished here
    assert "backend numpy" in done.stdout
    assert json.loads((run / "result.json").read_text())["backend"] == "numpy"
    done = command("train", "--resume", run, "--backend", "cupy", "--epochs", "3", env=device)
    assert done.returncode == 0, done.stderr  # and on there again
    assert json.loads((run / "result.json").read_text())["backend"] == "cupy"

    maps = {}
    for backend in ("cupy", "numpy"):
        picture = tmp_path / f"{backend}.png"
        done = command(
            "explain", run, "--data-dir", data, "--backend", backend, "--out", picture, env=device
        )
        assert done.returncode == 0, done.stderr
        maps[backend] = picture.read_bytes()
    assert maps["cupy"][:4] == maps["numpy"][:4] == b"\x89PNG"
