"""What tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from minifbi import backends
from minifbi.backends import backend_status

sys.path.insert(0, str(Path(__file__).parent))  # for tests/oracles.py

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
    """The cupy backend on tests/strict_cupy.py: its own code, and no GPU."""
    load = backends._load
    monkeypatch.setattr(backends, "_load", lambda name: _stand_in if name == "cupy" else load(name))
    return _stand_in


@pytest.fixture(params=WORKING_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that runs here, by the same test body; cupy on a stand-in without a GPU."""
    if request.param == "cupy" and not GPU:
        request.getfixturevalue("strict")
    return request.param
