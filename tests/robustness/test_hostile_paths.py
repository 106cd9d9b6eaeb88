"""Names, links, pipes, and what a terminal shows of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fuzz import commands, mutators, targets
from helpers import command
from hostile import members, state

from minifbi.cli import printable
from minifbi.datasets import load_idx_folder, read_idx
from minifbi.errors import CheckpointError, ConfigError, DataError
from minifbi.files.checkpoint import load_checkpoint, save_checkpoint
from minifbi.reproduce.document import Text, to_html
from minifbi.training import TrainConfig, load_model, resume
from minifbi.training.folder import read_config


# ---- paths -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["../../escaped", "/tmp/escaped", "a/../../escaped", "C:\\escaped"]
)
def test_names_in_an_archive_are_never_paths(tmp_path, monkeypatch, name):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    before = sorted(tmp_path.rglob("*"))
    one = mutators.npy("'|u1', 'fortran_order': False, 'shape': (1,), ", b"x")
    path = inner / "checkpoint.npz"
    path.write_bytes(members(**{f"parameters:{name}": one}))
    with pytest.raises(CheckpointError, match="not in this model"):
        load_model(path, backend="numpy")
    path.unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    for name in ("checkpoint.npz", "config.json", "images"):
        os.mkfifo(tmp_path / name)
    for path in (tmp_path / "checkpoint.npz", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="not a regular file"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_config(tmp_path)
    with pytest.raises(DataError, match="not a regular file"):
        read_idx("/dev/zero")


def test_links_are_read_through_and_never_written_through(tmp_path):
    """A run folder whose files are links to somebody's own files leaves those as they are."""
    own = tmp_path / "own"
    own.mkdir()
    names = (
        "checkpoint.npz",
        "previous.npz",
        "best.npz",
        "config.json",
        "metrics.jsonl",
        "metrics.csv",
        "result.json",
    )
    for name in names:
        (own / name).write_bytes(b"precious")
    (own / "checkpoint.npz").write_bytes(targets.tiny_checkpoint())
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        if name != "config.json":
            (folder / name).symlink_to(own / name)
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    resume(folder, dataset=targets.tiny_data(), quiet=True, figures=False)
    assert (folder / "result.json").exists()
    assert not (folder / "result.json").is_symlink()
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    (folder / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="cannot write"):
        resume(folder, epochs=3, dataset=targets.tiny_data(), quiet=True, figures=False)
    assert not (tmp_path / "elsewhere").exists()


def test_links_that_go_round_in_a_circle(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for read, error in (
        (read_idx, DataError), (load_idx_folder, DataError), (load_checkpoint, CheckpointError),
    ):  # fmt: skip
        with pytest.raises(error):
            read(tmp_path / "loop")
    done = command("train", "--data-dir", tmp_path / "loop", "--quiet")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_names_with_a_nul():
    for read, error in ((read_idx, DataError), (load_idx_folder, DataError)):
        with pytest.raises(error, match="null"):
            read("a\0b")
    with pytest.raises(ConfigError, match="NUL"):
        TrainConfig(data_dir="a\0b")
    with pytest.raises(CheckpointError):
        load_checkpoint("a\0b")


# ---- what is shown -----------------------------------------------------------------------
def test_messages_do_nothing_to_a_terminal():
    assert printable("a\x1b[2Jb\r\x07\udcff\u202e") == "a\\x1b[2Jb\\r\\x07\\udcff\\u202e"
    assert printable("Größe, 数, \U0001f600") == "Größe, 数, \U0001f600"
    assert len(printable("x" * 10**6)) < 3000


def test_an_interrupted_run_names_its_folder_harmlessly():
    """Found by the fuzzer; commands.run looks for escape sequences."""
    line = "train --model tiny --data-dir data --num-classes 3 --batch-size 8 --out \x1b[2J"
    assert commands.run(line.replace(" ", "\n").encode())


def test_a_name_from_a_file_on_the_terminal(tmp_path):
    one = np.zeros(1, np.float32)
    save_checkpoint(tmp_path / "checkpoint.npz", *state())
    arrays, meta = load_checkpoint(tmp_path / "checkpoint.npz")
    meta["config"] = {**meta["config"], "model": "mlp\x1b[31m"}
    save_checkpoint(tmp_path / "checkpoint.npz", {**arrays, "x": {"y": one}}, meta)
    done = command("explain", tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_report_shows_markup_and_does_not_run_it(tmp_path):
    page = to_html([Text("**<script>alert(1)</script>** `<img onerror=x>`")], tmp_path)
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


# ---- the environment ---------------------------------------------------------------------
def test_environment_variables_that_make_no_sense(tmp_path):
    """A home that nobody has, bytes that are no letters, a backend that does not exist."""
    cache = os.fsdecode(b"~nobody-of-this-name/\xff")
    done = command("doctor", env={"MINIFBI_CACHE_DIR": cache})
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "~nobody-of-this-name/\\udcff" in done.stdout
    for wanted in (["train", "--data-dir", tmp_path], ["explain", tmp_path]):
        done = command(*wanted, env={"MINIFBI_BACKEND": "tpu\x1b[31m"})
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stderr
