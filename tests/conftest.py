"""What tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from minifbi.backends import backend_status

sys.path.insert(0, str(Path(__file__).parent))  # for tests/oracles.py

# MINIFBI_TEST_BACKENDS="numpy,numba" restricts the suite; by default every backend that runs
_asked = os.environ.get("MINIFBI_TEST_BACKENDS")
WORKING_BACKENDS = (
    _asked.split(",")
    if _asked
    else [name for name, status in backend_status().items() if status == "ok"]
)


@pytest.fixture(params=WORKING_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that runs here, by the same test body."""
    return request.param
