"""What tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from minifbi import backends
from minifbi.backends import backend_status
from minifbi.training import TrainConfig, train

# MINIFBI_TEST_BACKENDS="numpy,numba" restricts the suite; by default every backend that runs
_asked = os.environ.get("MINIFBI_TEST_BACKENDS")
_STATUS = backend_status()
GPU = _STATUS["cupy"] == "ok"
WORKING_BACKENDS = (
    _asked.split(",")
    if _asked
    else [name for name, status in _STATUS.items() if status == "ok" or name == "cupy"]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is no card, and say why."""
    if not GPU:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=f"no GPU: {_STATUS['cupy'][:110]}"))


@pytest.fixture(scope="session")
def _stand_in() -> backends.Backend:
    import cupy_twins
    import strict_cupy

    from minifbi.backends.cupy_backend import CupyBackend

    strict_cupy.executor = cupy_twins.run
    return CupyBackend(strict_cupy)


@pytest.fixture
def strict(_stand_in: backends.Backend, monkeypatch: pytest.MonkeyPatch) -> backends.Backend:
    """The cupy backend on tests/support/strict_cupy.py: its own code, and no GPU."""
    load = backends._load
    monkeypatch.setattr(backends, "_load", lambda name: _stand_in if name == "cupy" else load(name))
    return _stand_in


@pytest.fixture(params=WORKING_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that runs here, by the same test body; cupy on a stand-in without a GPU."""
    if request.param == "cupy" and not GPU:
        request.getfixturevalue("strict")
    return request.param


# a short real run, for the tests of what happens to its folder
@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    from helpers import write_idx_folder

    data = write_idx_folder(tmp_path_factory.mktemp("data") / "digits", train=240, test=60)
    return TrainConfig(
        model="mlp", backend="numpy", data_dir=str(data), epochs=3, batch_size=32, gate_interval=3
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "out"
    train(tiny_config, out, quiet=True, figures=False)
    return out


@pytest.fixture
def tiny_copy(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))
