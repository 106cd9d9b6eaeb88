"""Checkpoints: a damaged one is noticed and named, and the one before takes its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from kill_moments import assert_same

from minifbi.errors import CheckpointError
from minifbi.files import keep_copy, save_checkpoint, write_atomically
from minifbi.training import checkpoint as checkpoint_file
from minifbi.training import load_checkpoint, resume
from minifbi.training.trainer import Trainer


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "checkpoint.npz"
    arrays = {"parameters": {"w": np.arange(6.0).reshape(2, 3)}}
    save_checkpoint(path, arrays, {"epoch": 3})
    return path, path.read_bytes()


def test_every_damaged_byte_is_noticed(small: tuple[Path, bytes]) -> None:
    """Each byte of a checkpoint, changed in one bit."""
    path, good = small
    load_checkpoint(path)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz"):
            load_checkpoint(path)


def test_every_truncation_is_noticed(small: tuple[Path, bytes]) -> None:
    path, good = small
    for length in range(0, len(good), 3):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz"):
            load_checkpoint(path)
    # and what is too long, or has lost its middle
    for bad in (good + b"\0", good * 2, good[:100] + good[200:], good[:512] + bytes(len(good))):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz"):
            load_checkpoint(path)


def test_a_checkpoint_of_an_earlier_version_is_read(small: tuple[Path, bytes]) -> None:
    """Without a sum; the format that it names says so."""
    path, _ = small
    arrays, meta = load_checkpoint(path)
    flat = {f"{group}:{name}": a for group, named in arrays.items() for name, a in named.items()}
    for name, readable in ((checkpoint_file.UNSEALED, True), (checkpoint_file.FORMAT, False)):
        text = json.dumps({**meta, "format": name}).encode()
        np.savez(path, **flat, meta=np.frombuffer(text, dtype=np.uint8))
        if readable:
            np.testing.assert_array_equal(
                load_checkpoint(path)[0]["parameters"]["w"], arrays["parameters"]["w"]
            )
        else:
            with pytest.raises(CheckpointError, match="its end, with the SHA-256 sum, is gone"):
                load_checkpoint(path)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing"])
def test_the_previous_checkpoint_stands_in(
    tiny_run: Path, tiny_copy: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    last = tiny_copy / "checkpoint.npz"
    good = last.read_bytes()
    bad = {"flipped": good[:-1] + b"x", "truncated": good[:999], "empty": b""}.get(damage)
    last.unlink() if bad is None else last.write_bytes(bad)
    resume(tiny_copy, quiet=True, figures=False)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "checkpoint.npz" in said
    assert f"going on from {tiny_copy / 'previous.npz'}, after epoch 2" in said
    if bad is not None:
        assert "kept as damaged.npz" in said
        assert (tiny_copy / "damaged.npz").read_bytes() == bad
    assert_same(tiny_run, tiny_copy, but=("damaged.npz",))


def test_the_damaged_file_never_becomes_the_previous_one(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again before the next checkpoint is complete: a good one must still be there."""
    (tiny_copy / "checkpoint.npz").write_bytes(b"damaged")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        resume(tiny_copy, quiet=True, figures=False)
    for name in ("checkpoint.npz", "previous.npz"):
        assert load_checkpoint(tiny_copy / name)[1]["epoch"] == 2


def test_both_checkpoints_damaged(tiny_copy: Path) -> None:
    for name in ("checkpoint.npz", "previous.npz"):
        (tiny_copy / name).write_bytes(b"rubbish")
    before = {path.name: path.read_bytes() for path in tiny_copy.iterdir()}
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz.*previous\.npz.*best\.npz"):
        resume(tiny_copy, quiet=True, figures=False)
    assert {path.name: path.read_bytes() for path in tiny_copy.iterdir()} == before


def test_a_copy_is_kept_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_):
        raise PermissionError(1, "Operation not permitted")

    for link in (os.link, unsupported):
        monkeypatch.setattr(os, "link", link)
        path, copy = tmp_path / "a", tmp_path / "b"
        keep_copy(tmp_path / "nothing", copy)
        path.write_bytes(b"1")
        keep_copy(path, copy)
        keep_copy(path, copy)  # two names of one file
        write_atomically(path, lambda file: file.write(b"2"), copy)
        assert (path.read_bytes(), copy.read_bytes()) == (b"2", b"1")
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]
        path.unlink()
        copy.unlink()


def test_bytes_reach_the_disk_before_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut could undo: the order of the calls that decide it."""
    calls: list[str] = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def called(*arguments, **options):
            calls.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, called)

    (tmp_path / "a").write_bytes(b"old")
    for name in ("fsync", "replace", "link"):
        spy(name)
    write_atomically(tmp_path / "a", lambda file: file.write(b"new"), tmp_path / "previous")
    assert calls == ["fsync", "link", "replace", "replace", "fsync"]  # the file's, the folder's
