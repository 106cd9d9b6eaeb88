"""Checkpoints: a damaged one is noticed and named, and the one before takes its place."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
from kill_moments import assert_same

from minifbi.errors import CheckpointError
from minifbi.files import checkpoint as checkpoint_file
from minifbi.files.atomic import keep_copy, write_atomically
from minifbi.files.checkpoint import save_checkpoint
from minifbi.training import RunState, TrainConfig, load_checkpoint, resume, stored, train
from minifbi.training import folder as folder_file
from minifbi.training import trainer as trainer_file
from minifbi.training.config import load_data
from minifbi.training.state import is_number
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


@pytest.mark.parametrize("version", ["minifbi-checkpoint-1", "minifbi-checkpoint-2", None])
def test_a_checkpoint_of_another_version_is_refused(
    small: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    """In one line that says both formats; the first had no seal, the second had one."""
    path, _ = small
    arrays, meta = load_checkpoint(path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_file, "FORMAT", version)
        save_checkpoint(path, arrays, meta)
    if version == "minifbi-checkpoint-1":
        path.write_bytes(without_seal(path))
    with pytest.raises(CheckpointError, match="expected 'minifbi-checkpoint-3'") as caught:
        load_checkpoint(path)
    assert str(version) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lost_seal_is_noticed(small: tuple[Path, bytes]) -> None:
    path, _ = small
    path.write_bytes(without_seal(path))
    with pytest.raises(CheckpointError, match="its end, with the SHA-256 sum, is gone"):
        load_checkpoint(path)


def without_seal(path: Path) -> bytes:
    """The same arrays, as plain np.savez writes them."""
    with np.load(path) as file, io.BytesIO() as out:
        np.savez(out, **file)
        return out.getvalue()


# ---- the fields of a run -------------------------------------------------------------------
@dataclasses.dataclass
class Warmer(RunState):
    """A run with one field more, declared in this one place."""

    temperature: float = dataclasses.field(
        default=1.5, metadata=stored(lambda t: is_number(t) and t > 0, "a number above 0")
    )
    averages: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict,
        metadata=stored(lambda found: "w" in found, "the averages, w among them", arrays=True),
    )


def test_a_new_field_is_declared_in_one_place(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved, read, checked, and resumed; trainer and folder know nothing of it."""
    monkeypatch.setattr(trainer_file, "RunState", Warmer)
    monkeypatch.setattr(folder_file, "RunState", Warmer)
    run_epoch = Trainer.run_epoch

    def heated(self, progress=None):
        self.run.temperature *= 2
        self.run.averages["w"] = np.full(3, self.run.temperature)
        return run_epoch(self, progress)

    monkeypatch.setattr(Trainer, "run_epoch", heated)
    train(dataclasses.replace(tiny_config, epochs=2), tmp_path / "out", quiet=True, figures=False)
    path = tmp_path / "out" / "checkpoint.npz"
    assert Warmer.load(path).temperature == 6.0
    resume(tmp_path / "out", epochs=3, quiet=True, figures=False)
    run = Warmer.load(path)
    assert run.temperature == 12.0
    np.testing.assert_array_equal(run.averages["w"], [12.0, 12.0, 12.0])

    arrays, meta = load_checkpoint(path)
    for wrong, message in (
        ({**meta, "temperature": -1}, r"out: the checkpoint says temperature = -1; expected a n"),
        ({k: v for k, v in meta.items() if k != "temperature"}, "does not say its 'temperature'"),
    ):
        save_checkpoint(path, arrays, wrong)
        with pytest.raises(CheckpointError, match=message):
            resume(tmp_path / "out", quiet=True, figures=False)
    del arrays["averages"]
    save_checkpoint(path, arrays, meta)
    with pytest.raises(CheckpointError, match="averages is missing or damaged; expected the av"):
        resume(tmp_path / "out", quiet=True, figures=False)


def test_every_field_makes_the_way_through_the_file(tiny_copy: Path, tmp_path: Path) -> None:
    run = RunState.load(tiny_copy / "checkpoint.npz")
    run.layer_rngs = {"dropout": dict(run.rng)}
    run.lr, run.stopped, run.callbacks = 0.5, "enough", {"Mine": {"n": 3}}
    run.save(tmp_path / "again.npz")
    again = RunState.load(tmp_path / "again.npz")
    for part in dataclasses.fields(RunState):
        one, other = getattr(run, part.name), getattr(again, part.name)
        assert one, part.name  # nothing is empty, so that it is a test
        if part.metadata["arrays"]:
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        else:
            assert one == other, part.name


def test_what_was_taken_of_a_run_does_not_follow_it(tiny_config: TrainConfig) -> None:
    """A state is a copy; and two trainers that go on from it share nothing."""
    trainer = Trainer(tiny_config, load_data(tiny_config))
    trainer.run_epoch()
    state = trainer.state()
    two = [Trainer(tiny_config, trainer.dataset) for _ in range(2)]
    for one in two:
        one.load_state(state)
    trainer.run_epoch()
    records = [two[0].run_epoch(), two[1].run_epoch()]
    assert (state.epoch, len(state.records), state.history["step"]) == (1, 1, [*range(1, 8)])
    assert records[0]["task_loss"] == records[1]["task_loss"] == trainer.records[1]["task_loss"]


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
