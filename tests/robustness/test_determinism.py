"""The same command gives the same bits; what may differ, and by how much, is stated here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_mnist, write_idx_folder
from kill_moments import content

from minifbi.backends import backend_status, get_backend
from minifbi.training import TrainConfig, Trainer

HERE = Path(__file__).parent
TESTS = HERE.parent
# relative to the largest number of each parameter, after 8 steps
BOUNDS = {"float32": 1e-4, "float64": 1e-12}

needs_numba = pytest.mark.skipif(backend_status()["numba"] != "ok", reason="no numba here")


def train_in(
    folder: Path, data: Path, backend: str, cwd: Path, **environment: str
) -> dict[str, Any]:
    """Train in a process of its own; what it left, file by file."""
    code = (
        "import sys; from minifbi.training import TrainConfig, train\n"
        "options = dict(model='lenet', epochs=2, batch_size=16, gate_interval=2, fbi_gate=0.1,\n"
        "    fbi_weight=0.01, data_dir=sys.argv[1], backend=sys.argv[3])\n"
        "train(TrainConfig(**options), sys.argv[2], figures=False)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(data), str(folder), backend],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), **environment},
        check=True,
        capture_output=True,
    )
    return {path.name: content(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=needs_numba)])
def test_only_the_options_count(backend: str, tmp_path: Path) -> None:
    """Not the hash seed, the working folder, the locale, the time zone, nor the home folder."""
    data = write_idx_folder(tmp_path / "data", train=96, test=24)
    plain = {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC", "LANG": "C"}
    other = {
        "PYTHONHASHSEED": "4242",
        "LC_ALL": "C.UTF-8",
        "LANG": "de_DE.UTF-8",
        "TZ": "Asia/Kathmandu",
        "HOME": str(tmp_path / "nowhere"),
        "PYTHONOPTIMIZE": "1",
    }
    one = train_in(tmp_path / "one", data, backend, tmp_path, **plain)
    assert one == train_in(tmp_path / "other", data, backend, Path("/"), **other)


def parameters(backend: str, dtype: str) -> dict[str, np.ndarray]:
    """Train LeNet for 8 steps with the FBI loss; its parameters, and the losses of each step."""
    config = TrainConfig(
        model="lenet", epochs=1, batch_size=32, gate_interval=2, fbi_gate=0.0, fbi_weight=0.01,
        dtype=dtype, backend=backend,
    )  # fmt: skip
    trainer = Trainer(config, small_mnist(256, 32, 32))
    trainer.run_epoch()
    losses = {name: np.array(trainer.history[name]) for name in ("task_loss", "penalty")}
    return {**trainer.model.state_dict(), **losses}


def assert_close(one: dict[str, np.ndarray], other: dict[str, np.ndarray], dtype: str) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        scale = np.abs(array).max()
        assert np.abs(array - other[name]).max() <= BOUNDS[dtype] * scale, name


@needs_numba
@pytest.mark.parametrize("dtype", BOUNDS)
def test_numpy_and_numba_agree_within_bounds(dtype: str) -> None:
    assert_close(parameters("numpy", dtype), parameters("numba", dtype), dtype)


THREADS = """
import os
import sys
sys.path[:0] = sys.argv[1].split(os.pathsep)
import numpy as np
from test_determinism import parameters
from minifbi.backends import set_threads
found = {}
for backend in sys.argv[3:]:
    for count in (1, 2):
        set_threads(count)
        result = parameters(backend, "float32")
        found |= {f"{backend}/{count}/{name}": array for name, array in result.items()}
np.savez(sys.argv[2], **found)
"""


@needs_numba
def test_the_number_of_threads(tmp_path: Path) -> None:
    """On numba no bit depends on it; in NumPy's matrix product the last digits may."""
    path = os.pathsep.join(map(str, (HERE, TESTS / "support", TESTS / "tools")))
    subprocess.run(
        [sys.executable, "-c", THREADS, path, str(tmp_path / "found.npz"), "numpy", "numba"],
        env={**os.environ, "NUMBA_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        check=True,
    )
    with np.load(tmp_path / "found.npz") as file:
        found = dict(file)

    def of(backend: str, count: int) -> dict[str, np.ndarray]:
        start = f"{backend}/{count}/"
        return {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}

    assert_close(of("numpy", 1), of("numpy", 2), "float32")
    for name, array in of("numba", 1).items():
        np.testing.assert_array_equal(array, of("numba", 2)[name], err_msg=name)


def test_another_seed_is_another_run() -> None:
    """The tests above would notice a difference."""
    first = parameters("numpy", "float64")
    trainer = Trainer(TrainConfig(model="lenet", backend="numpy", seed=1), small_mnist(256, 32, 32))
    weights = trainer.model.state_dict()
    assert not np.array_equal(first["conv1.weight"], weights["conv1.weight"])


@needs_numba
def test_a_kernel_that_computes_another_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part in a thousand, in one kernel."""
    backend = get_backend("numba")
    dense = type(backend).dense
    monkeypatch.setattr(type(backend), "dense", lambda *a: np.float32(1.001) * dense(*a))
    with pytest.raises(AssertionError):
        assert_close(parameters("numpy", "float32"), parameters("numba", "float32"), "float32")
