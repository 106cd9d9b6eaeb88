"""Compiled kernels on disk: damaged files are compiled anew and never stop a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

CODE = """
from minifbi.backends.numba_kernels.jit import is_cached, jit

@jit(entry=True)
def double(x):
    return 2 * x

print(is_cached(double), double(21), sum(double.stats.cache_hits.values()))
"""


def test_a_damaged_cache(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CODE)

    def run() -> str:
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-500:]
        return done.stdout.strip()

    assert "42" in run()
    for pattern, length in (("*.nbi", 0), ("*.nbc", 100)):
        files = list((tmp_path / "cache").rglob(pattern))
        assert files
        for file in files:
            file.write_bytes(file.read_bytes()[:length])
        assert run().split()[1:] == ["42", "0"]  # compiled anew
    assert run().split()[1:] == ["42", "1"]  # and kept
