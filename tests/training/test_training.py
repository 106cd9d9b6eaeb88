"""The gate, the three steps, the loop: on real MNIST digits, few of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import small_mnist

from minifbi import fbi
from minifbi.autograd import cross_entropy
from minifbi.datasets import Split
from minifbi.errors import CheckpointError, ConfigError, NonFiniteError
from minifbi.layers import Dense, Dropout, Flatten, ReLU, Sequential
from minifbi.models import alexnet, build_model
from minifbi.training import Gate, TrainConfig, Trainer, evaluate, three_step

RECORD = {
    "epoch",
    "step",
    "task_loss",
    "penalty",
    "penalty_terms",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "penalty_active",
}


def make_trainer(**options):
    settings = {"model": "mlp", "backend": "numpy", "epochs": 2, "batch_size": 64, **options}
    return Trainer(TrainConfig(**settings), small_mnist())


class TestGate:
    def test_opens_above_the_threshold_and_latches(self):
        gate = Gate(0.7)
        assert not gate.open
        assert not gate.look(10, 0.7)  # "becomes above 70 %": not at
        assert gate.look(20, 0.71)
        assert not gate.look(30, 0.99)  # it opens once
        gate.look(40, 0.1)
        assert gate.open
        assert gate.step == 20

    def test_zero_is_open_from_the_start(self):
        assert Gate(0).open
        assert Gate(0).step == 0

    def test_one_never_opens(self):
        gate = Gate(1)
        gate.look(5, 1.0)
        assert not gate.open


def gradients(model) -> dict[str, np.ndarray]:
    """The gradients of a model's parameters, as NumPy arrays whatever its backend."""
    return {n: p.backend.to_numpy(p.grad).copy() for n, p in model.parameters().items()}


class TestThreeStep:
    @pytest.fixture
    def batch(self):
        return small_mnist().train.batch(slice(0, 16))

    def test_inactive_is_the_task_loss_alone(self, backend, batch):
        model = alexnet(backend=backend)
        losses = three_step(model, *batch, active=False)
        ours = gradients(model)
        model.zero_grad()
        cross_entropy(model(batch[0]), batch[1]).backward()
        for name, gradient in gradients(model).items():
            # fused or not: the same numbers, added in another order
            np.testing.assert_allclose(ours[name], gradient, rtol=1e-4, atol=1e-6)
        assert losses.loss is losses.task_loss
        assert losses.penalty is None

    def test_measuring_changes_no_gradient(self, backend, batch):
        model = alexnet(backend=backend)
        three_step(model, *batch, active=False)
        plain = gradients(model)
        losses = three_step(model, *batch, active=False, measure=True)
        assert losses.penalty.item() > 0
        for name, gradient in gradients(model).items():
            np.testing.assert_array_equal(plain[name], gradient)

    def test_active_is_eq_4_by_hand(self, backend, batch):
        model = alexnet(backend=backend)
        losses = three_step(model, *batch, weight=0.3)
        ours = gradients(model)
        model.zero_grad()
        steps = fbi.forward_pass(model, batch[0])
        terms = fbi.fbi_terms(steps, fbi.relevance_pass(steps, "target", batch[1]))
        assert list(terms) == [*(f"conv{i}" for i in range(1, 6)), "dense6", "dense7", "dense8"]
        task = cross_entropy(steps[-1].z, batch[1])
        (0.7 * task + 0.3 * (sum(terms.values(), start=0.0) / 8)).backward()
        for name, gradient in gradients(model).items():
            # two ways to add the same float32 numbers
            np.testing.assert_allclose(ours[name], gradient, rtol=1e-3, atol=1e-5)
        assert losses.loss.item() == pytest.approx(
            0.7 * losses.task_loss.item() + 0.3 * losses.penalty.item()
        )

    def test_nan_pixels(self, backend, batch):
        x = batch[0].copy()
        x[3, 0, 5, 5] = math.nan
        with pytest.raises(NonFiniteError, match="1 values"):
            three_step(alexnet(backend=backend), x, batch[1])

    @pytest.mark.parametrize("weight", [2, -0.1, math.nan])
    def test_lambda_outside_0_1(self, batch, weight):
        with pytest.raises(ConfigError, match=r"fbi_weight=.*at least 0 and at most 1"):
            three_step(alexnet(backend="numpy"), *batch, weight=weight)


class TestTrainer:
    def test_learns_real_digits_and_the_fbi_loss_falls(self, backend):
        trainer = make_trainer(backend=backend, epochs=6, gate_interval=5, fbi_weight=0.05)
        records = [trainer.run_epoch() for _ in range(6)]
        assert records[-1]["val_accuracy"] > 0.8
        assert trainer.gate.open
        assert records[-1]["penalty_active"]
        after_gate = [r["penalty"] for r in records if r["step"] > trainer.gate.step]
        assert after_gate[-1] < 0.8 * after_gate[0]
        assert evaluate(trainer.model, trainer.dataset.test)[0] > 0.8

    def test_record(self):
        trainer = make_trainer()
        record = trainer.run_epoch()
        assert set(record) == RECORD
        assert record["step"] == 15 == trainer.steps_per_epoch
        assert record["penalty_terms"].keys() == {"dense1", "dense2", "dense3"}
        assert record["penalty"] == pytest.approx(np.mean(list(record["penalty_terms"].values())))
        assert record["learning_rate"] < 1e-3

    def test_before_the_gate_only_the_task_loss_counts(self):
        shut, conventional = make_trainer(fbi_gate=1.0), make_trainer(fbi_weight=0.0)
        one, other = shut.run_epoch(), conventional.run_epoch()
        assert not one["penalty_active"]
        assert not other["penalty_active"]
        assert one["penalty"] is not None  # measured for the record
        for name, p in shut.model.parameters().items():
            np.testing.assert_array_equal(p.data, conventional.model.parameters()[name].data)

    def test_the_gate_looks_every_interval_and_says_when(self):
        trainer = make_trainer(gate_interval=4, fbi_gate=0.3)
        trainer.run_epoch()
        assert trainer.history["val_step"][0] == 4
        assert trainer.gate.step in trainer.history["val_step"]
        position = trainer.history["val_step"].index(trainer.gate.step)
        assert trainer.history["val_accuracy"][position] > 0.3
        assert all(a <= 0.3 for a in trainer.history["val_accuracy"][:position])

    def test_same_seed_same_run(self, backend):
        one, other = make_trainer(backend=backend), make_trainer(backend=backend)
        for trainer in (one, other):
            trainer.run_epoch()
        for name, p in one.model.parameters().items():
            np.testing.assert_array_equal(p.numpy(), other.model.parameters()[name].numpy())
        third = make_trainer(backend=backend, seed=1)
        third.run_epoch()
        assert not np.array_equal(
            one.model.state_dict()["dense1.weight"], third.model.state_dict()["dense1.weight"]
        )

    def test_the_test_set_is_never_looked_at(self, monkeypatch):
        trainer = make_trainer()
        real = Split.batch

        def guarded(self, *arguments):
            assert self is not trainer.dataset.test, "looked at the test set"
            return real(self, *arguments)

        monkeypatch.setattr(Split, "batch", guarded)
        trainer.run_epoch()

    def test_a_model_of_ones_own_with_dropout_resumes_exactly(self):
        def make():
            model = Sequential(
                Flatten(),
                Dense(784, 32, rng=1),
                ReLU(),
                Dropout(0.3, rng=2),
                Dense(32, 10, rng=3),
            )
            return Trainer(TrainConfig(backend="numpy", epochs=3), small_mnist(), model)

        whole, first, second = make(), make(), make()
        for _ in range(3):
            whole.run_epoch()
        first.run_epoch()
        second.load_state(first.state())
        for _ in range(2):
            second.run_epoch()
        for name, p in whole.model.parameters().items():
            np.testing.assert_array_equal(p.data, second.model.parameters()[name].data)
        for name, values in whole.history.items():
            np.testing.assert_array_equal(values, second.history[name])

    def test_diverging_stops_with_a_clear_message(self):
        trainer = make_trainer(optimizer="sgd", lr=1e6)
        with (
            pytest.raises(NonFiniteError, match="smaller learning rate"),
            np.errstate(all="ignore"),
        ):
            trainer.run_epoch()

    def test_state_of_another_model(self):
        state = make_trainer().state()
        other = Trainer(TrainConfig(model="lenet", backend="numpy"), small_mnist())
        with pytest.raises(CheckpointError, match="another model"):
            other.load_state(state)

    def test_evaluate_counts(self):
        dataset = small_mnist()
        model = build_model("mlp", backend="numpy", seed=3)
        accuracy, loss = evaluate(model, dataset.test, batch_size=64)
        x, labels = dataset.test.batch(slice(None))
        logits = model(x)
        assert accuracy == np.mean(logits.numpy().argmax(1) == labels)
        assert loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)


class TestConfig:
    @pytest.mark.parametrize(
        "option",
        [
            {"model": "densenet"},
            {"backend": "tpu"},
            {"epochs": 0},
            {"epochs": 1.5},
            {"batch_size": -1},
            {"seed": -1},
            {"lr": -0.1},
            {"lr": math.inf},
            {"momentum": 1.0},
            {"fbi_weight": 2},
            {"fbi_gate": 1.1},
            {"fbi_rule": 3},
            {"fbi_start": "all"},
            {"fbi_reduction": "max"},
            {"dtype": "float16"},
            {"schedule": "linear"},
            {"optimizer": "lbfgs"},
        ],
        ids=str,
    )
    def test_each_option_is_checked_and_named(self, option):
        with pytest.raises(ConfigError, match=next(iter(option))):
            TrainConfig(**option)

    def test_round_trip(self):
        config = TrainConfig(lr=0.3, fbi_weight=0)
        assert TrainConfig.from_dict(config.to_dict()) == config
        with pytest.raises(ConfigError, match="colour"):
            TrainConfig.from_dict({"colour": 1})

    def test_default_learning_rates(self):
        assert TrainConfig().lr == 1e-3
        assert TrainConfig(optimizer="sgd").lr == 0.05
