"""The doctor tells the truth, and survives what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minifbi.datasets
from minifbi import backends, diagnosis, doctor
from minifbi.errors import DataError

KEYS = {
    "versions",
    "platform",
    "backends",
    "auto",
    "blas",
    "threads",
    "numba",
    "cuda",
    "downloads",
    "mnist",
    "healthy",
}


def report_of(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = doctor.main(["--json"])
    return code, json.loads(capsys.readouterr().out)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = report_of(capsys)
    assert code == 0
    assert set(report) == KEYS
    assert report["healthy"] is True
    assert report["versions"]["python"] == platform.python_version()
    assert report["versions"]["numpy"] == np.__version__
    assert set(report["versions"]) == {"minifbi", "python", *diagnosis.PACKAGES}
    assert report["backends"] == backends.backend_status()
    assert report["auto"] == backends.get_backend("auto").name
    assert report["mnist"] == {
        "intact": True,
        "detail": "55,000 training, 5,000 validation, 10,000 test images",
    }
    assert report["platform"]["cores"] == os.cpu_count()
    assert report["blas"]["name"]


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert np.__version__ in text
    assert "MNIST" in text
    assert text.rstrip().endswith("minifbi can run here.")
    assert all(len(line) <= 100 or "/" in line for line in text.splitlines())


def test_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minifbi.doctor", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["healthy"] is True
    assert done.stderr == ""


def test_without_any_optional_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither their metadata nor their modules: the numpy backend and MNIST are enough."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name != "numpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    for name in (
        "scipy",
        "numba",
        "llvmlite",
        "llvmlite.binding",
        "matplotlib",
        "pooch",
        "threadpoolctl",
        "cupy",
    ):
        monkeypatch.setitem(sys.modules, name, None)  # import raises ModuleNotFoundError
    monkeypatch.delenv("MINIFBI_CACHE_DIR", raising=False)
    backends._load.cache_clear()
    try:
        code, report = report_of(capsys)
        assert doctor.main([]) == 0
    finally:
        backends._load.cache_clear()
    text = capsys.readouterr().out
    assert code == 0
    assert report["versions"]["numba"] == diagnosis.MISSING
    assert report["versions"]["cupy"] == diagnosis.MISSING
    assert report["versions"]["minifbi"] == minifbi.__version__  # from the checkout
    assert report["numba"] is None
    assert report["auto"] == "numpy"
    assert report["backends"]["numpy"] == "ok"
    assert "numba" in report["backends"]["numba"]
    assert "pooch" in report["downloads"]["error"]
    assert report["blas"]["threads"] is None
    assert text.count(diagnosis.MISSING) >= 6


def test_a_broken_numba_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict[str, str]:
        raise RuntimeError("numba is broken in a new way")

    def get(name: str) -> Any:
        if name != "numpy":
            raise RuntimeError("numba is broken in a new way")
        return backends._load(name)

    monkeypatch.setattr(backends, "backend_status", broken)
    monkeypatch.setattr(backends, "get_backend", get)
    code, report = report_of(capsys)
    assert code == 0
    assert report["backends"]["numpy"] == "ok"
    assert report["backends"]["numba"] == "RuntimeError: numba is broken in a new way"
    assert "broken in a new way" in report["auto"]["error"]
    assert doctor.main([]) == 0
    assert "could not be asked: RuntimeError" in capsys.readouterr().out


def test_damaged_mnist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> None:
        raise DataError("the SHA-256 sum is wrong")

    monkeypatch.setattr(minifbi.datasets, "load_mnist", damaged)
    code, report = report_of(capsys)
    assert code == 1
    assert report["healthy"] is False
    assert report["mnist"] == {"intact": False, "detail": "DataError: the SHA-256 sum is wrong"}
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "NOT intact: DataError" in text
    assert "Something is wrong" in text


def test_no_backend_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "backend_status", lambda: {"numpy": "no", "numba": "no"})
    code, report = report_of(capsys)
    assert code == 1
    assert report["healthy"] is False


def test_folders_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("MINIFBI_CACHE_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels" / "deep"))
    found = diagnosis.downloads()
    assert found == {"folder": str(tmp_path / "data"), "exists": False, "writable": True}
    state = diagnosis.numba_state()
    assert state is not None
    assert state["cache"] == str(tmp_path / "kernels" / "deep")
    assert state["cache_from"] == "NUMBA_CACHE_DIR"
    assert state["cache_writable"] is True
    assert list(tmp_path.iterdir()) == []  # nothing was made
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert diagnosis.downloads()["writable"] is False
    assert diagnosis.numba_state()["cache_writable"] is False  # type: ignore[index]


def test_kernels_are_kept_beside_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    state = diagnosis.numba_state()
    assert state is not None
    cache = Path(state["cache"])
    assert cache.name == "__pycache__"
    assert (cache.parent / "__init__.py").is_file()
    assert state["threads"] >= 1


def test_variables_for_threads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    _, report = report_of(capsys)
    assert report["threads"]["OMP_NUM_THREADS"] == "3"
    assert report["threads"]["MKL_NUM_THREADS"] is None


def test_wrong_argument() -> None:
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["--jsn"])
    assert stopped.value.code == 2
