"""TensorBoard's event files, read back with the records' own protocol."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import interrupt_after, small_mnist

from minifbi.errors import CallbackError, ConfigError
from minifbi.tensorboard import TensorBoard, tiled
from minifbi.train import main
from minifbi.training import TrainConfig, Trainer, resume, train

pytest.importorskip("tensorboardX")

OPTIONS = {"backend": "numpy", "epochs": 2, "batch_size": 60}


def data():
    return small_mnist(240, 120, 60)


def events(folder: Path) -> list:
    """All events in a folder: a record is its length, a checksum, the event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_what_is_written_is_what_the_run_says(tmp_path):
    config = TrainConfig(model="lenet", fbi_gate=0.01, gate_interval=2, **OPTIONS)
    board = TensorBoard(every=3)
    more = {"dataset": data(), "quiet": True, "figures": False}
    result = train(config, tmp_path / "out", callbacks=[board], **more)
    records = Trainer(config, data())
    while not records.done:
        records.run_epoch()
    found = scalars(tmp_path / "out" / "tensorboard")
    for name in ("task_loss", "val_accuracy", "learning_rate", "penalty"):
        expected = {r["step"]: pytest.approx(r[name]) for r in records.records}
        assert found[f"epoch/{name}"] == expected
    assert found["penalty_terms/conv1"][8] == pytest.approx(result["penalty_terms"]["conv1"])
    losses = records.history["task_loss"]
    assert found["batch/task_loss"] == {n: pytest.approx(losses[n - 1]) for n in (3, 6)}
    assert found["test_accuracy"] == {8: pytest.approx(result["test_accuracy"])}
    images = [
        value.tag
        for event in events(tmp_path / "out" / "tensorboard")
        for value in event.summary.value
        if value.HasField("image")
    ]
    assert images == ["activations/conv1", "activations/conv2"] * 2


def test_a_resumed_run_goes_on_in_the_same_folder_and_hides_what_was_lost(tmp_path, monkeypatch):
    config = TrainConfig(model="mlp", **{**OPTIONS, "epochs": 3})
    more = {"dataset": data(), "quiet": True, "figures": False}
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "out", callbacks=[TensorBoard(images=False)], **more)
    monkeypatch.undo()
    resume(tmp_path / "out", callbacks=[TensorBoard(images=False)], **more)
    folder = tmp_path / "out" / "tensorboard"
    assert sorted(scalars(folder)["epoch/val_accuracy"]) == [4, 8, 12]
    restarts = [e.step for e in events(folder) if e.HasField("session_log")]
    assert restarts == [9]


def test_a_network_without_convolutions(tmp_path):
    config = TrainConfig(model="mlp", **{**OPTIONS, "epochs": 1})
    more = {"dataset": data(), "quiet": True, "figures": False}
    train(config, tmp_path / "out", callbacks=[TensorBoard()], **more)
    assert "epoch/task_loss" in scalars(tmp_path / "out" / "tensorboard")


def test_in_memory_it_needs_a_folder(tmp_path):
    trainer = Trainer(TrainConfig(model="mlp", **OPTIONS), data())
    with pytest.raises(ConfigError, match="folder=None: expected a path"):
        TensorBoard().on_train_begin(trainer)
    with pytest.raises(ConfigError, match="every=0"):
        TensorBoard(every=0)
    own = TensorBoard(tmp_path / "own")
    with pytest.raises(CallbackError, match="callback TensorBoard failed in on_epoch_end"):
        Trainer(TrainConfig(model="mlp", **OPTIONS), data(), callbacks=[own]).run_epoch()


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert main(["--tensorboard", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "`pip install tensorboardX`" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tiles():
    maps = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2) - 1
    page = tiled(maps)
    assert page.shape == (5, 5)
    assert page[0].tolist() == [0, 0, 64, 76, 102]  # -1, 0, the line, 3 and 4 of 10
    assert page[4, 1] == 255 * 10 // 10
    assert tiled(np.zeros((1, 2, 3))).tolist() == [[0] * 3] * 2
