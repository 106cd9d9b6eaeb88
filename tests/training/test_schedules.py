"""The learning rate: named schedules, warm-up, one's own, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from helpers import interrupt_after, small_mnist
from hypothesis import given
from hypothesis import strategies as st
from kill_moments import assert_same

from minifbi.errors import CallbackError, ConfigError
from minifbi.optim import learning_rate, parse_schedule, plateau_factor
from minifbi.training import Callback, TrainConfig, Trainer, resume, train

OPTIONS = {"model": "mlp", "backend": "numpy", "epochs": 4, "batch_size": 60, "lr": 0.01}


def data():
    return small_mnist(240, 120, 60)


class Rates(Callback):
    """The learning rate of each update."""

    def __init__(self):
        self.found = []

    def on_batch_end(self, trainer, batch):
        self.found.append(trainer.optimizer.lr)


def rates(schedule, **options):
    """Of all updates of a run, shape (16,)."""
    named = {"schedule": schedule} if isinstance(schedule, str) else {}
    config = TrainConfig(**{**OPTIONS, **named, **options})
    seen = Rates()
    trainer = Trainer(config, data(), callbacks=[seen], schedule=None if named else schedule)
    while not trainer.done:
        trainer.run_epoch()
    return np.array(seen.found)


class TestNamed:
    def test_numbers(self):
        assert learning_rate(1, "cosine:0.1", 100, 100) == pytest.approx(0.1)
        assert learning_rate(1, "cosine:0.1", 50, 100) == pytest.approx(0.55)
        found = [learning_rate(1, "step:0.5,0.3,0.6", s, 100) for s in (0, 29, 30, 59, 60, 99)]
        assert found == [1, 1, 0.5, 0.5, 0.25, 0.25]
        assert parse_schedule("plateau:0.5") == ("plateau", (0.5, 10))

    @pytest.mark.parametrize(
        "spec",
        [
            "constant:1", "cosine:2", "cosine:", "cosine:a", "cosine:nan", "cosine:0.1,0.2",
            "step:0.1", "step:2,0.5", "step:0.1,0.7,0.5", "step:0.1,1.5", "plateau:1",
            "plateau:0.1,2.5", "plateau:0.1,2,3", "plateau:-1", "linear", "", ":", 3, None,
        ],
    )  # fmt: skip
    def test_what_is_none(self, spec):
        with pytest.raises(ConfigError, match="schedule="):
            TrainConfig(schedule=spec)

    @given(st.lists(st.floats(0, 1), max_size=40), st.floats(0, 0.99), st.integers(0, 5))
    def test_plateau_falls_at_most_once_every_patience_epochs(self, values, factor, patience):
        found = [plateau_factor(values[:n], factor, patience) for n in range(len(values) + 1)]
        for now, after in itertools.pairwise(found):
            assert after in (now, now * factor)
        falls = [n for n, (a, b) in enumerate(itertools.pairwise(found)) if a != b]
        assert all(b - a > patience for a, b in itertools.pairwise(falls))

    @pytest.mark.parametrize("patience", [0, 2])
    def test_plateau_is_that_of_pytorch(self, patience):
        torch = pytest.importorskip("torch")
        values = np.random.default_rng(3).random(60).round(1).tolist()
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=0.7, patience=patience, eps=0
        )
        for n, value in enumerate(values, 1):
            theirs.step(value)
            ours = plateau_factor(values[:n], 0.7, patience)
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)

    def test_plateau_by_hand(self):
        # better, not better twice and once more; a gain below a ten-thousandth is none
        values = [0.5, 0.5, 0.50001, 0.4]
        assert [plateau_factor(values[:n], 0.1, 2) for n in range(5)] == [1, 1, 1, 1, 0.1]
        assert plateau_factor([*values, 0.4, 0.4], 0.1, 2) == 0.1
        assert plateau_factor([*values, 0.4, 0.4, 0.4], 0.1, 2) == pytest.approx(0.01)


class TestInARun:
    def test_the_plain_ones_are_the_formulas(self):
        for schedule in ("constant", "cosine", "cosine:0.2", "step"):
            expected = [learning_rate(0.01, schedule, s, 16) for s in range(16)]
            np.testing.assert_array_equal(rates(schedule), expected)

    def test_warm_up_multiplies_every_schedule(self):
        for schedule in ("constant", "cosine", "step", "plateau:0.5,0"):
            plain, warm = rates(schedule, lr=0.0), rates(schedule, lr=0.0, warmup=1.5)
            assert (plain == warm).all()  # both 0: the accuracies are the same ones
        ratio = rates("cosine", warmup=1.5) / rates("cosine")
        np.testing.assert_allclose(ratio[:6], np.arange(1, 7) / 6)
        np.testing.assert_array_equal(ratio[6:], 1)

    def test_plateau_looks_at_the_validation_accuracy(self):
        trainer = Trainer(TrainConfig(**OPTIONS, schedule="plateau:0.5,0"), data())
        while not trainer.done:
            trainer.run_epoch()
        accuracies = [r["val_accuracy"] for r in trainer.records]
        for n, record in enumerate(trainer.records):
            assert record["learning_rate"] == 0.01 * plateau_factor(accuracies[:n], 0.5, 0)

    def test_ones_own(self):
        seen = []

        def halves(epoch):
            seen.append(epoch)
            return 0.5 ** int(epoch)

        found = rates(halves)
        np.testing.assert_array_equal(found, np.repeat([0.01, 0.005, 0.0025, 0.00125], 4))
        assert seen == [n / 4 for n in range(16)]

    def test_ones_own_that_is_wrong(self):
        for wrong, error, message in (
            (lambda epoch: -1, ConfigError, "the schedule's factor at epoch 0=-1: expected"),
            (lambda epoch: None, ConfigError, "the schedule's factor at epoch 0=None"),
            (lambda epoch: math.nan, ConfigError, "factor at epoch 0=nan"),
            (lambda epoch: 1 / 0, CallbackError, "the schedule failed at epoch 0: ZeroDivisionErr"),
        ):
            with pytest.raises(error, match=message):
                rates(wrong)
        with pytest.raises(ConfigError, match="stands for a function of one's own; pass it"):
            Trainer(TrainConfig(schedule="custom"), data())


class ByHand(Callback):
    """Sets the learning rate at the start of these epochs."""

    def __init__(self, **plan):
        self.plan = {int(name[1:]): lr for name, lr in plan.items()}

    def on_epoch_begin(self, trainer):
        if trainer.epoch in self.plan:
            trainer.optimizer.lr = self.plan[trainer.epoch]


class TestByHand:
    @pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau:0.1,0"])
    def test_is_obeyed_from_then_on(self, schedule):
        config = TrainConfig(**OPTIONS, schedule=schedule)
        seen = Rates()
        trainer = Trainer(config, data(), callbacks=[ByHand(e1=0.01, e3=0.5), seen])
        while not trainer.done:
            trainer.run_epoch()
        # the first value is that of the configuration: setting it counts too
        np.testing.assert_array_equal(seen.found[4:], [0.01] * 8 + [0.5] * 4)
        assert seen.found[:4] == [learning_rate(0.01, schedule, s, 16) for s in range(4)]

    def test_before_the_first_update(self):
        config = TrainConfig(**OPTIONS)
        trainer = Trainer(config, data())
        trainer.optimizer.lr = config.lr
        trainer.run_epoch()
        assert trainer.optimizer.lr == config.lr

    def test_a_wrong_one_isrates(self):
        trainer = Trainer(TrainConfig(**OPTIONS), data(), callbacks=[ByHand(e0=-1.0)])
        with pytest.raises(ConfigError, match=r"optimizer\.lr=-1\.0: expected"):
            trainer.run_epoch()


def falls(epoch):
    return 0.8**epoch


CASES = [
    ({"schedule": "constant"}, None, ()),
    ({"schedule": "cosine:0.1", "warmup": 2.5}, None, ()),
    ({"schedule": "step:0.5,0.3,0.6"}, None, ()),
    ({"schedule": "plateau:0.5,0", "lr": 0.0}, None, ()),
    ({"schedule": "plateau:0.5,1", "patience": 3}, None, ()),
    ({}, falls, ()),
    ({}, None, (ByHand(e1=0.02),)),
]


@pytest.mark.parametrize(("options", "schedule", "callbacks"), CASES)
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, monkeypatch, options, schedule, callbacks):
    config = TrainConfig(**{**OPTIONS, **options})
    more = {"dataset": data(), "quiet": True, "figures": False, "callbacks": callbacks}
    train(config, tmp_path / "whole", schedule=schedule, **more)
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", schedule=schedule, **more)
    monkeypatch.undo()
    wrong, message = (None, "pass it") if schedule else (falls, "resume it without another")
    with pytest.raises(ConfigError, match=message):
        resume(tmp_path / "cut", schedule=wrong, **more)
    resume(tmp_path / "cut", schedule=schedule, **more)
    assert_same(tmp_path / "whole", tmp_path / "cut")
