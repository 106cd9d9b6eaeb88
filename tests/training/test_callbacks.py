"""Callbacks: their moments, their memory, what they may do, and what happens when they fail."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from helpers import interrupt_after, small_mnist
from kill_moments import assert_same

from minifbi.errors import CallbackError, CheckpointError, ConfigError
from minifbi.training import Callback, EarlyStopping, TrainConfig, Trainer, resume, train

OPTIONS = {"model": "mlp", "backend": "numpy", "epochs": 3, "batch_size": 120, "gate_interval": 3}


def data():
    return small_mnist(240, 120, 60)


def run(out, *callbacks, epochs=3, **options):
    config = TrainConfig(**{**OPTIONS, "epochs": epochs, **options})
    return train(config, out, dataset=data(), callbacks=callbacks, quiet=True, figures=False)


def go_on(out, *callbacks, **options):
    return resume(out, dataset=data(), callbacks=callbacks, quiet=True, figures=False, **options)


class Diary(Callback):
    """Writes down every moment."""

    def __init__(self):
        self.lines = []

    def on_train_begin(self, trainer):
        self.lines.append(("train begins", trainer.epoch))

    def on_epoch_begin(self, trainer):
        self.lines.append(("epoch begins", trainer.epoch))

    def on_batch_end(self, trainer, batch):
        assert batch.step == trainer.step
        assert trainer.history["task_loss"][-1] == batch.task_loss
        self.lines.append(("batch", batch.step))

    def on_gate_open(self, trainer):
        self.lines.append(("gate", trainer.gate.step))

    def on_epoch_end(self, trainer, record):
        assert trainer.records[-1] is record
        self.lines.append(("epoch ends", record["epoch"]))

    def on_train_end(self, trainer, result):
        assert (trainer.folder / "result.json").exists()
        self.lines.append(("train ends", result["epochs"]))


def test_moments_come_in_order(tmp_path):
    diary = Diary()
    run(tmp_path / "out", diary, epochs=2, fbi_gate=0.01)
    assert diary.lines == [
        ("train begins", 0),
        ("epoch begins", 0),
        ("batch", 1),
        ("batch", 2),
        ("gate", 2),
        ("epoch ends", 1),
        ("epoch begins", 1),
        ("batch", 3),
        ("batch", 4),
        ("epoch ends", 2),
        ("train ends", 2),
    ]
    again = Diary()
    go_on(tmp_path / "out", again, epochs=3)
    assert again.lines[:3] == [("train begins", 2), ("epoch begins", 2), ("batch", 5)]
    assert ("gate", 2) not in again.lines


def test_watching_changes_no_number_and_any_backend_tells_of_each_batch(backend):
    config = TrainConfig(**{**OPTIONS, "backend": backend})
    diary = Diary()
    watched, plain = Trainer(config, data(), callbacks=[diary]), Trainer(config, data())
    one, other = watched.run_epoch(), plain.run_epoch()
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert [line for line in diary.lines if line[0] == "batch"] == [("batch", 1), ("batch", 2)]


class Counter(Callback):
    """Adds up what it sees, and changes the learning rate by it."""

    def __init__(self):
        self.total, self.seen = 0.0, []

    def on_batch_end(self, trainer, batch):
        self.total += batch.task_loss
        trainer.optimizer.lr = 1e-3 / (1 + self.total)

    def on_epoch_end(self, trainer, record):
        self.seen.append(record["val_accuracy"])

    def state_dict(self):
        return {"total": self.total, "seen": self.seen}

    def load_state_dict(self, state):
        self.total, self.seen = state["total"], list(state["seen"])


def test_a_resumed_run_with_memory_is_the_uninterrupted_one(tmp_path, monkeypatch):
    whole = Counter()
    run(tmp_path / "whole", whole)
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Counter())
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "result.json").exists()
    second = Counter()
    go_on(tmp_path / "cut", second)
    assert (second.total, second.seen) == (whole.total, whole.seen)
    assert len(second.seen) == 3
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_callback_that_is_not_there_any_more_is_named(tmp_path, capfd):
    run(tmp_path / "out", Counter(), epochs=1)
    go_on(tmp_path / "out", epochs=2)
    assert capfd.readouterr().err == "the run had a callback Counter, and goes on without it\n"


class Stop(Callback):
    def __init__(self, moment, epoch=1, step=3):
        self.moment, self.epoch, self.step = moment, epoch, step

    def on_epoch_begin(self, trainer):
        if self.moment == "epoch begins" and trainer.epoch == self.epoch:
            trainer.stop("enough")

    def on_batch_end(self, trainer, batch):
        if self.moment == "batch" and batch.step == self.step:
            trainer.stop("enough")
            trainer.stop("more than enough")

    def on_epoch_end(self, trainer, record):
        if self.moment == "epoch ends" and record["epoch"] == self.epoch:
            trainer.stop("enough")


@pytest.mark.parametrize(
    ("moment", "epochs", "steps"), [("batch", 2, 3), ("epoch begins", 2, 3), ("epoch ends", 1, 2)]
)
def test_stopping_completes_the_run_and_says_why(tmp_path, capsys, moment, epochs, steps):
    config = TrainConfig(**OPTIONS)
    out = tmp_path / "out"
    result = train(config, out, dataset=data(), callbacks=[Stop(moment)], figures=False)
    assert (result["stopped"], result["epochs"], result["steps"]) == ("enough", epochs, steps)
    assert json.loads((out / "result.json").read_text())["stopped"] == "enough"
    assert f"stopped after epoch {epochs}: enough\n" in capsys.readouterr().out
    # complete: resuming trains nothing, unless more epochs are asked for
    assert go_on(out, Stop(""))["steps"] == steps
    assert go_on(out, Stop(""), epochs=epochs)["stopped"] == "enough"
    more = go_on(out, Stop(""), epochs=epochs + 1)
    assert (more["epochs"], more["stopped"]) == (epochs + 1, None)


def test_a_stop_before_anything_leaves_one_update(tmp_path):
    class Never(Callback):
        def on_train_begin(self, trainer):
            trainer.stop("no \ud800 reason")

    result = run(tmp_path / "out", Never())
    assert (result["epochs"], result["steps"]) == (1, 1)
    assert result["stopped"] == "no \\ud800 reason"
    assert go_on(tmp_path / "out", Never())["steps"] == 1  # the reason can be read again


@pytest.mark.parametrize(
    "moment",
    ["on_train_begin", "on_epoch_begin", "on_batch_end", "on_gate_open", "on_epoch_end"],
)
def test_an_error_names_the_callback_and_keeps_what_is_saved(tmp_path, moment):
    class Broken(Callback):
        def fail(self, trainer, *_):
            if trainer.epoch >= (moment != "on_gate_open") and trainer.folder is not None:
                raise OSError(28, "No space left")

    setattr(Broken, moment, Broken.fail)
    out = tmp_path / "out"
    run(out, epochs=1)
    late = moment == "on_gate_open"
    begin = (
        (lambda: run(tmp_path / "late", Broken(), fbi_gate=0.01))
        if late
        else (lambda: go_on(out, Broken(), epochs=3))
    )
    with pytest.raises(CallbackError, match=rf"callback Broken failed in {moment}: OSError: .*No"):
        begin()
    assert go_on(tmp_path / "late" if late else out)["epochs"] == 3


def test_a_memory_that_no_file_can_hold(tmp_path):
    class Wrong(Callback):
        name = "the wrong one"
        state: object = None

        def state_dict(self):
            return self.state

    for state in ({"a": np.float32(1)}, {"a": float("nan")}, {"a": "\ud800"}, [1], None):
        wrong = Wrong()
        wrong.state = state
        with pytest.raises(CallbackError, match=r"the wrong one: its state_dict\(\) cannot be sav"):
            Trainer(TrainConfig(**OPTIONS), data(), callbacks=[wrong]).state()


def test_what_is_no_callback_and_two_of_a_name():
    for wrong, message in (
        ([print], "callbacks=<built-in function print>: expected instances of"),
        ([Diary], "callbacks=<class"),
        ([Diary(), Diary()], "callbacks='Diary': expected one of this name"),
        ([EarlyStopping(3)], "callbacks='EarlyStopping': expected one of this name"),
    ):
        with pytest.raises(ConfigError, match=message):
            Trainer(TrainConfig(**OPTIONS, patience=2), data(), callbacks=wrong)


class TestEarlyStopping:
    def stops_after(self, accuracies, *, gate=None, weight=0.1, **options):
        """After how many epochs a run with these validation accuracies stops; None: never."""
        config = TrainConfig(**{**OPTIONS, "fbi_weight": weight})
        trainer = Trainer(config, data())
        stopping = EarlyStopping(**options)
        for epoch, accuracy in enumerate(accuracies, 1):
            if gate == epoch:
                trainer.gate.step = epoch * 2
            trainer.records.append({"epoch": epoch, "step": epoch * 2, "val_accuracy": accuracy})
            stopping.on_epoch_end(trainer, trainer.records[-1])
            if trainer.run.stopped:
                return epoch
        return None

    def test_counts_epochs_without_a_better_one(self):
        assert self.stops_after([0.5, 0.6, 0.6, 0.59], patience=2) == 4
        assert self.stops_after([0.5, 0.6, 0.6, 0.61, 0.6], patience=2) is None
        assert self.stops_after([0.5, 0.4], patience=1) == 2

    def test_min_delta(self):
        assert self.stops_after([0.5, 0.505, 0.509, 0.51], patience=3, min_delta=0.01) == 4
        assert self.stops_after([0.5, 0.505, 0.512, 0.51], patience=3, min_delta=0.01) is None

    def test_the_count_starts_again_at_the_gate(self):
        fall = [0.5, 0.8, 0.7, 0.71, 0.72, 0.72, 0.72]
        assert self.stops_after(fall, patience=2) == 4
        assert self.stops_after(fall, patience=2, gate=2) == 7
        assert self.stops_after(fall, patience=2, gate=2, weight=0) == 4  # no gate to speak of

    def test_in_a_run(self, tmp_path, capsys):
        config = TrainConfig(**{**OPTIONS, "epochs": 9, "lr": 0.0, "patience": 2})
        result = train(config, tmp_path / "out", dataset=data(), figures=False)
        assert (result["epochs"], result["best"]["epoch"]) == (3, 1)
        assert result["stopped"].startswith("no better validation accuracy in the last 2 epochs")
        assert f"{result['best']['val_accuracy']:.4f} of epoch 1" in capsys.readouterr().out

    def test_resumed_is_uninterrupted(self, tmp_path, monkeypatch):
        options = {"epochs": 9, "lr": 0.0, "patience": 3}
        assert run(tmp_path / "whole", **options)["epochs"] == 4
        interrupt_after(2, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", **options)
        monkeypatch.undo()
        go_on(tmp_path / "cut")
        assert_same(tmp_path / "whole", tmp_path / "cut")

    def test_wrong_numbers(self):
        for options in ({"patience": 0}, {"patience": 1.5}, {"min_delta": -1}):
            with pytest.raises(ConfigError, match=next(iter(options))):
                EarlyStopping(**options)


def test_older_checkpoints_are_still_read(tmp_path):
    """Those from before there were callbacks lack three fields."""
    from minifbi.training import RunState, load_checkpoint, save_checkpoint

    run(tmp_path / "out", epochs=1)
    path = tmp_path / "out" / "checkpoint.npz"
    arrays, meta = load_checkpoint(path)
    old = {name: meta[name] for name in meta if name not in ("lr", "stopped", "callbacks")}
    save_checkpoint(path, arrays, old)
    assert RunState.load(path).callbacks == {}
    assert go_on(tmp_path / "out", epochs=2)["epochs"] == 2
    for field, wrong in (("lr", -1), ("stopped", 3), ("callbacks", {"Mine": 3})):
        save_checkpoint(path, arrays, {**meta, field: wrong})
        with pytest.raises(CheckpointError, match=f"the checkpoint says {field} = "):
            RunState.load(path)


def test_configuration_of_early_stopping():
    config = dataclasses.replace(TrainConfig(), patience=3, min_delta=0.01)
    assert TrainConfig.from_dict(config.to_dict()) == config
    for options in ({"patience": -1}, {"min_delta": -0.1}, {"warmup": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            TrainConfig(**options)
