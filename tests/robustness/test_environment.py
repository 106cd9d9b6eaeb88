"""Training works where something is missing, closed, read-only or oddly named."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import command, obey_permissions, write_idx_folder

import minifbi

PACKAGE = Path(minifbi.__file__).parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx_folder(tmp_path_factory.mktemp("data") / "digits", train=96, test=24)


def flags(data: Path, out: Path, backend: str = "numpy") -> list[str]:
    options = f"--model mlp --backend {backend} --epochs 2 --batch-size 16"
    return [*options.split(), "--data-dir", str(data), "--out", str(out)]


def without(modules: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Train in a process in which these modules cannot be imported."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({modules!r}))\n"
        "from minifbi.train import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def finished(out: Path) -> bool:
    return bool(json.loads((out / "result.json").read_text())["epochs"] == 2)


def test_without_matplotlib(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = without(["matplotlib"], flags(data, out))
    assert done.returncode == 0, done.stderr
    assert "no figures, they need matplotlib" in done.stdout
    assert finished(out)
    assert not list(out.glob("*.png"))
    # and with it, the figures of the finished run are drawn as the line said
    assert command("train", "--resume", out).returncode == 0
    assert {path.name for path in out.glob("*.png")} == {"curves.png", "activations.png"}


def test_without_numba(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = without(["numba", "llvmlite", "matplotlib"], flags(data, out, "auto"))
    assert done.returncode == 0, done.stderr
    assert "backend numpy (chosen by auto; slow; backend 'numba' cannot run here" in done.stdout
    assert finished(out)


@linux
def test_a_home_folder_that_is_read_only(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    environment = {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    done = command("train", *flags(data, tmp_path / "out"), env=environment,
                   preexec_fn=obey_permissions)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert finished(tmp_path / "out")
    assert not list(home.iterdir())


def test_nothing_depends_on_an_assertion() -> None:
    """``python -O`` drops them: they may tell the type checker something, and no more."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                assert ast.unparse(node.test).endswith("is not None"), f"{path}:{node.lineno}"
                assert node.msg is None, f"{path}:{node.lineno}: an error that nobody would see"


def test_checks_stay_with_python_o(data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "minifbi.train", *flags(data, tmp_path / "out"), "--quiet"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert finished(tmp_path / "out")
    code = (
        "import numpy as np, minifbi\n"
        "from minifbi.errors import ShapeError\n"
        "try: minifbi.alexnet(backend='numpy')(np.zeros((1, 1, 20, 28), dtype=np.float32))\n"
        "except ShapeError: print('noticed')"
    )
    found = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert found.stdout == "noticed\n", found.stderr


@pytest.mark.parametrize("locale", ["C.UTF-8", "ascii"])
def test_a_path_with_spaces_and_letters_of_the_world(
    data: Path, tmp_path: Path, locale: str
) -> None:
    """Also where the terminal knows no such letters."""
    place = tmp_path / "Läufe des Semesters" / "数字 und 'mehr'"
    place.mkdir(parents=True)
    digits = Path(os.path.relpath(data.rename(place / "Ziffern"), tmp_path))
    environment = {"LC_ALL": "C.UTF-8"}
    if locale == "ascii":
        environment = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    try:
        for arguments in (flags(digits, place / "out"), ["--resume", str(place / "out")]):
            done = command("train", *arguments, env=environment, cwd=tmp_path)
            assert not done.stderr
            assert done.returncode == 0
        assert "Ziffern" in done.stdout
        assert finished(place / "out")
        done = command("train", *flags(digits, place / "out"), env=environment, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
    finally:
        (place / "Ziffern").rename(data)


@linux
def test_a_name_that_is_no_text_is_refused_before_the_run(data: Path, tmp_path: Path) -> None:
    """It could not be read back from the checkpoint."""
    strange = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.symlink(data, strange)
    (tmp_path / "real").mkdir()
    real = os.path.join(os.fsencode(tmp_path), b"real", b"\xff\xfe")
    os.rename(data, real)
    try:
        done = command("train", *flags(Path(os.fsdecode(real)), tmp_path / "out"))
    finally:
        os.rename(real, data)
    assert done.returncode == 2
    assert "expected a name in UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    # through a link of such a name, the folder itself counts
    done = command("train", *flags(Path(os.fsdecode(strange)), tmp_path / "out"))
    assert done.returncode == 0, done.stderr


@linux
@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        ("| true", "nothing more is printed (Broken pipe), the run goes on"),
        ("| head -1", None),  # it may read all before it goes
        ("> /dev/full", "nothing more is printed (No space left on device), the run goes on"),
        (">&-", ""),
        ("2>&-", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_a_stream_that_is_closed(
    data: Path, tmp_path: Path, redirection: str, said: str | None
) -> None:
    """Nobody reads any more: the run goes on to its end, without a traceback."""
    out = tmp_path / "out"
    run = shlex.join([sys.executable, "-m", "minifbi.train", *flags(data, out)])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{run} {redirection}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert finished(out)
    if said is not None:
        assert done.stderr.strip() == said
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@linux
@pytest.mark.parametrize("module", ["doctor", "explain --list-methods"])
def test_other_commands_into_a_closed_pipe(module: str) -> None:
    run = f"{shlex.quote(sys.executable)} -m minifbi.{module} | true"
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
