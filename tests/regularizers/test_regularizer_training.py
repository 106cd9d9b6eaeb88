"""Baselines through the trainer: configuration, gate, logs, resuming, and what they change."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from helpers import command, small_mnist, write_idx_folder

from minifbi.autograd import cross_entropy
from minifbi.backends import get_backend
from minifbi.datasets import Dataset, Split
from minifbi.errors import ConfigError
from minifbi.fbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.fusion import fuse
from minifbi.models import build_model
from minifbi.optim import Adam, learning_rate
from minifbi.regularizers import FBI, L1, L2, REGULARIZERS, get_regularizer
from minifbi.training import (
    TrainConfig,
    Trainer,
    default_folder,
    evaluate,
    evaluate_penalty,
    load_checkpoint,
    load_model,
    resume,
    save_checkpoint,
    train,
)
from minifbi.training.loading import load_run_data

BASELINES = [name for name in REGULARIZERS if name != "fbi"]
RNG = np.random.default_rng(8)


def with_masks(split: Split, images: np.ndarray, masks: np.ndarray) -> Split:
    made = Split.from_arrays(images, split.labels)
    object.__setattr__(made, "masks", masks)
    return made


def decoy(dataset: Dataset) -> Dataset:
    """The place of a white spot on the top edge tells the label, but not in the test images."""

    def part(split: Split, labels: np.ndarray) -> Split:
        images, masks = np.array(split.images), np.zeros((len(split), 28, 28), bool)
        for row, image, mask in zip(labels, images, masks, strict=True):
            spot = slice(2 * row, 2 * row + 2)
            image[0, :2, spot] = 255
            mask[:2] = True
        return with_masks(split, images, masks)

    return dataclasses.replace(
        dataset,
        train=part(dataset.train, dataset.train.labels),
        validation=part(dataset.validation, dataset.validation.labels),
        test=part(dataset.test, RNG.integers(0, 10, len(dataset.test))),
    )


def make_trainer(name: str, dataset: Dataset | None = None, **options) -> Trainer:
    settings = {"model": "mlp", "backend": "numpy", "epochs": 2, "batch_size": 64, **options}
    config = TrainConfig(regularizer=name, **settings)
    if dataset is None:
        dataset = decoy(small_mnist()) if name == "right-reasons" else small_mnist()
    return Trainer(config, dataset)


def assert_same_parameters(one: Trainer, other: Trainer) -> None:
    for key, array in one.model.state_dict().items():
        np.testing.assert_array_equal(array, other.model.state_dict()[key], err_msg=key)


# ---- the default run is what it was ------------------------------------------------------------
def test_the_default_run_is_the_papers_scheme_bit_for_bit(backend):
    """Against the whole computation written out once more, without trainer or regularizers."""
    dataset, config = (
        small_mnist(),
        TrainConfig(model="lenet", backend=backend, epochs=1, fbi_gate=0),
    )
    trainer = Trainer(config, dataset)
    record = trainer.run_epoch()

    model = build_model("lenet", seed=0, backend=get_backend(backend), dtype=np.float32)
    optimizer = Adam(model.parameters(), 1e-3)
    order, task_losses, fbi_losses = np.random.default_rng([0, 1]).permutation(960), [], []
    for step in range(8):
        x, labels = dataset.train.batch(order[128 * step : 128 * (step + 1)])
        steps = forward_pass(fuse(model), x)
        task = cross_entropy(steps[-1].z, labels)
        fbi = fbi_loss(fbi_terms(steps, relevance_pass(steps, "target", labels), "sum"))
        model.zero_grad()
        objective(task, fbi, 0.001).backward()
        optimizer.lr = learning_rate(1e-3, "cosine", step, 8)
        optimizer.step()
        task_losses.append(task.item())
        fbi_losses.append(fbi.item())
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, trainer.model.state_dict()[key], err_msg=key)
    assert record["task_loss"] == np.mean(task_losses)
    assert record["penalty"] == np.mean(fbi_losses)
    assert trainer.history["penalty"] == fbi_losses


def test_none_is_a_weight_of_zero():
    one, other = make_trainer("none"), make_trainer("fbi", fbi_weight=0.0)
    records = [trainer.run_epoch() for trainer in (one, other)]
    for record in records:
        del record["seconds"]
    assert records[0] == records[1]
    assert records[0]["penalty"] > 0  # the FBI loss, measured
    assert records[0]["penalty_terms"].keys() == {"dense1", "dense2", "dense3"}
    assert not records[0]["penalty_active"]
    assert_same_parameters(one, other)


def test_every_epoch_of_conventional_training_measures_the_fbi_loss():
    """Also where an epoch has fewer steps than there are between two measurements."""
    for interval, measured in ((50, [0, 15]), (4, [0, 4, 8, 12, 15, 19, 23, 27])):
        trainer = make_trainer("none", gate_interval=interval)
        records = [trainer.run_epoch() for _ in range(2)]
        known = np.flatnonzero(np.isfinite(trainer.history["penalty"]))
        assert known.tolist() == measured
        assert all(record["penalty"] > 0 for record in records)


# ---- each baseline through the trainer ---------------------------------------------------------
@pytest.mark.parametrize("name", BASELINES)
def test_the_gate_and_the_log(name):
    trainer = make_trainer(name, fbi_gate=0.4, gate_interval=4)
    conventional = make_trainer("none", trainer.dataset, gate_interval=4)
    records = [trainer.run_epoch() for _ in range(2)]
    plain = conventional.run_epoch()
    assert set(records[0]) == set(plain)
    opened = trainer.gate.step
    assert 0 < opened < 15
    assert records[-1]["penalty_active"]
    assert not plain["penalty_active"]
    # before the gate: the same batches and the same steps as without a regularizer, exactly
    assert (
        trainer.history["task_loss"][: opened + 1]
        == conventional.history["task_loss"][: opened + 1]
    )
    assert trainer.history["task_loss"][opened + 1] != conventional.history["task_loss"][opened + 1]
    penalties = np.array(trainer.history["penalty"])
    assert np.isfinite(penalties[opened:]).all()
    assert np.flatnonzero(np.isfinite(penalties[:opened])).tolist() == list(range(0, opened, 4))
    assert records[1]["penalty"] == pytest.approx(penalties[15:].mean())
    total = sum(records[1]["penalty_terms"].values())
    expected = total / 2 if name == "l1" else total  # the mean over the hidden layers
    assert records[1]["penalty"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("l1", 0.003),
        ("l2", 0.01),
        ("input-gradient", 1.0),
        ("right-reasons", 1.0),
        ("saliency-guided", 1.0),
    ],
)
def test_training_against_a_penalty_lowers_it(name, weight, backend):
    """On validation images, beside the same run without it; and digits are still learnt."""
    trained = make_trainer(name, backend=backend, regularizer_weight=weight, fbi_gate=0.0, epochs=4)
    plain = make_trainer("none", trained.dataset, backend=backend, epochs=4)
    for trainer in (trained, plain):
        for _ in range(4):
            trainer.run_epoch()
    split = trained.dataset.validation
    penalty = get_regularizer(name)
    with_it, without = (evaluate_penalty(t.model, split, penalty) for t in (trained, plain))
    assert with_it < 0.8 * without
    assert evaluate(trained.model, split)[0] > 0.7


def test_right_reasons_ignores_the_decoy():
    """Trained where a spot tells the label, tested where it lies."""
    dataset = decoy(small_mnist())
    accuracy = {}
    for name, options in (("none", {}), ("right-reasons", {"regularizer_weight": 0.3})):
        trainer = make_trainer(name, dataset, epochs=8, fbi_gate=0.0, **options)
        for _ in range(8):
            trainer.run_epoch()
        accuracy[name] = evaluate(trainer.model, dataset.test)[0]
    assert accuracy["right-reasons"] > accuracy["none"] + 0.1


def test_evaluate_penalty_is_a_mean_over_images():
    trainer = make_trainer("none")
    split = trainer.dataset.test  # 200 images
    for penalty in (L1(), L1("mean"), FBI("predicted")):
        whole, parts = (evaluate_penalty(trainer.model, split, penalty, n) for n in (200, 64))
        assert whole == pytest.approx(parts, rel=1e-5)
    weights = [p.numpy() for k, p in trainer.model.parameters().items() if "weight" in k]
    expected = 0.5 * sum((w.astype(float) ** 2).sum() for w in weights)
    assert evaluate_penalty(trainer.model, split, L2(), 64) == pytest.approx(expected, rel=1e-5)


def test_a_regularizer_of_ones_own_by_its_name(monkeypatch):
    class Logits(L1):
        label = "logit penalty"
        default_weight = 0.5

        def terms(self, batch):
            return {"logits": (batch.logits**2).mean()}

    monkeypatch.setitem(REGULARIZERS, "logits", Logits)
    trainer = make_trainer("logits", fbi_gate=0.0)
    record = trainer.run_epoch()
    assert trainer.config.penalty_weight == 0.5
    assert record["penalty_terms"].keys() == {"logits"}


def test_a_model_loads_where_its_regularizer_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setitem(REGULARIZERS, "own", L2)
    config = TrainConfig(model="mlp", backend="numpy", epochs=1, regularizer="own")
    train(config, tmp_path / "out", dataset=small_mnist(), quiet=True)
    monkeypatch.delitem(REGULARIZERS, "own")
    model, meta = load_model(tmp_path / "out", backend="numpy")
    assert meta["config"]["regularizer"] in ("own", "own:own")
    arrays, _ = load_checkpoint(tmp_path / "out" / "checkpoint.npz")
    np.testing.assert_array_equal(
        model.state_dict()["dense1.weight"], arrays["parameters"]["dense1.weight"]
    )
    with pytest.raises(ConfigError, match=r"regularizer 'own:own' is your own.*give it again"):
        resume(tmp_path / "out", epochs=2, dataset=small_mnist(), quiet=True)
    resume(tmp_path / "out", epochs=2, dataset=small_mnist(), quiet=True, regularizer=L2())


def test_another_form_of_the_fbi_loss_by_a_name_of_its_own(monkeypatch):
    """It must not be mistaken for the paper's."""

    class FirstLayer(FBI):
        def terms(self, batch):
            name, term = next(iter(super().terms(batch).items()))
            return {name: term}

    monkeypatch.setitem(REGULARIZERS, "first", FirstLayer)
    trainer = make_trainer("first", fbi_gate=0.0)
    assert trainer.run_epoch()["penalty_terms"].keys() == {"dense1"}
    assert trainer.config.penalty_weight == 0.001


# ---- configuration -----------------------------------------------------------------------------
def test_weights():
    assert TrainConfig().penalty_weight == TrainConfig().fbi_weight == 0.001
    assert TrainConfig(regularizer="none").penalty_weight == 0
    assert TrainConfig(regularizer="l2").penalty_weight == L2.default_weight
    given = TrainConfig(regularizer="l2", regularizer_weight=0.5)
    assert given.penalty_weight == 0.5
    assert TrainConfig.from_dict(json.loads(json.dumps(given.to_dict()))) == given
    # another regularizer does not inherit the default of the first
    other = dataclasses.replace(TrainConfig(regularizer="l2"), regularizer="l1")
    assert other.penalty_weight == L1.default_weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizer": "dropblock"}, "saliency-guided"),
        ({"regularizer_weight": 0.5}, "fbi_weight"),
        ({"regularizer": "none", "regularizer_weight": 0.5}, "no meaning"),
        ({"regularizer": "l1", "regularizer_weight": -1.0}, "at least 0"),
        ({"regularizer": "l1", "regularizer_weight": math.nan}, "finite"),
        ({"regularizer": "l1", "regularizer_weight": "big"}, "'big'"),
        ({"regularizer": "l1", "fbi_weight": 0.5}, "one regularizer at a time"),
        ({"regularizer": "l1", "regularizer_weight": 0.1, "fbi_weight": 0.5}, "one regularizer"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


def test_right_reasons_needs_masks(tmp_path):
    with pytest.raises(ConfigError, match="decoy-mnist"):
        make_trainer("right-reasons", small_mnist())
    done = command("train", "--regularizer", "right-reasons", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "decoy-mnist" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "fbi0.001"),
        ({"fbi_weight": 0.0}, "conventional"),
        ({"regularizer": "none"}, "conventional"),
        ({"regularizer": "l1", "regularizer_weight": 0.0}, "conventional"),
        ({"regularizer": "input-gradient", "regularizer_weight": 0.5}, "input-gradient-0.5"),
    ],
    ids=str,
)
def test_the_folder_says_what_was_trained_with(options, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_folder(TrainConfig(**options)).name == f"alexnet-mnist-{kind}-seed0"


# ---- run folders and resuming ------------------------------------------------------------------
@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_idx_folder(tmp_path_factory.mktemp("data") / "digits")


def test_a_run_of_the_command_line(data, tmp_path):
    flags = ("--data-dir", data, "--model", "mlp", "--backend", "numpy", "--epochs", 2)
    out = tmp_path / "out"
    done = command("train", *flags, "--regularizer", "l1", "--fbi-gate", 0.3, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "L1 penalty with weight" in done.stdout
    assert "the L1 penalty joins" in done.stdout
    assert "(on)" in done.stdout
    assert "FBI" not in done.stdout
    config = json.loads((out / "config.json").read_text())
    result = json.loads((out / "result.json").read_text())
    assert config["regularizer"] == result["regularizer"] == "l1"
    assert config["regularizer_weight"] == result["regularizer_weight"] == L1.default_weight
    assert result["penalty"] > 0
    assert result["penalty_terms"].keys() == {"dense2", "dense3"}
    model, meta = load_model(out)
    split = load_run_data(meta).validation
    assert result["fbi_loss"] == pytest.approx(evaluate_penalty(model, split, FBI()), rel=1e-5)
    assert result["gate_step"] > 0
    assert (out / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["saliency-guided", "l1"])
def test_a_baseline_resumes_bit_for_bit(name, tmp_path):
    def run(out, epochs):
        config = TrainConfig(
            model="mlp",
            backend="numpy",
            regularizer=name,
            fbi_gate=0.0,
            epochs=epochs,
            schedule="constant",
        )
        train(config, out, dataset=small_mnist(), quiet=True)

    run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    resume(tmp_path / "parts", epochs=2, dataset=small_mnist(), quiet=True)
    (one, _), (other, _) = (
        load_checkpoint(tmp_path / kind / "checkpoint.npz") for kind in ("whole", "parts")
    )
    for group, arrays in one.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, other[group][key], err_msg=key)


@pytest.mark.parametrize("weight", [0.001, 0.0])
def test_an_option_that_a_checkpoint_does_not_name_has_its_default(weight, tmp_path):
    def run(out, epochs):
        config = TrainConfig(
            model="mlp",
            backend="numpy",
            epochs=epochs,
            schedule="constant",
            fbi_weight=weight,
            fbi_gate=0.3,
        )
        train(config, out, dataset=small_mnist(), quiet=True)

    run(tmp_path / "whole", 2)
    run(tmp_path / "old", 1)
    new = ("regularizer", "regularizer_weight")
    arrays, meta = load_checkpoint(tmp_path / "old" / "checkpoint.npz")
    meta["config"] = {k: v for k, v in meta["config"].items() if k not in new}
    assert set(arrays["history"]) == {"step", "task_loss", "penalty", "val_step", "val_accuracy"}
    save_checkpoint(tmp_path / "old" / "checkpoint.npz", arrays, meta)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k not in new})
    )
    resumed = resume(tmp_path / "old", epochs=2, dataset=small_mnist(), quiet=True)
    whole = json.loads((tmp_path / "whole" / "result.json").read_text())
    for result in (resumed, whole):
        del result["seconds"]
    assert resumed == whole
