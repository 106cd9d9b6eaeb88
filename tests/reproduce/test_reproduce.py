"""Reproducing: the plan, the runs that are never redone, and the report that follows."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import small_mnist

from minifbi.datasets import Dataset, decoy_mnist
from minifbi.errors import ConfigError, DataError, NonFiniteError
from minifbi.reproduce import __main__ as command
from minifbi.reproduce import pipeline, store
from minifbi.reproduce.data import Data, first
from minifbi.reproduce.experiments import (
    ABLATION,
    DECOY,
    FASHION,
    LAMBDA,
    MAIN,
    METHODS,
    NETWORKS,
    cost,
    plan,
    with_method,
)
from minifbi.reproduce.matching import TOLERANCE, mean_activation, search_weight
from minifbi.reproduce.pipeline import Clock, Reproduction
from minifbi.reproduce.settings import Settings, quick
from minifbi.reproduce.store import Store, plain
from minifbi.training import TrainConfig, Trainer

MLP = TrainConfig(model="mlp", epochs=2, regularizer="none", gate_interval=3)


@pytest.fixture
def runs(tmp_path: Path) -> Store:
    return Store(tmp_path, lambda config: small_mnist())


# ---- the plan ----------------------------------------------------------------------------
def test_plan_holds_what_is_to_be_compared():
    settings = Settings(seeds=3, side_seeds=2)
    experiments = plan(settings, 0.002, fashion=True)
    groups = list(dict.fromkeys(e.group for e in experiments))
    assert groups == [MAIN, DECOY, LAMBDA, NETWORKS, FASHION, ABLATION]
    main = [e for e in experiments if e.group == MAIN]
    assert {(e.method, e.seed) for e in main} == {(m, s) for m in METHODS for s in range(3)}
    # the paper's own pairs come first, whole pair by whole pair
    assert [(e.method, e.seed) for e in main[:4]] == [
        ("none", 0),
        ("fbi", 0),
        ("none", 1),
        ("fbi", 1),
    ]
    assert {e.config.regularizer_weight for e in main if e.method == "l1"} == {0.002}
    assert {e.config.dataset for e in experiments if e.group == DECOY} == {"decoy-mnist"}
    weights = [e.config.fbi_weight for e in experiments if e.group == LAMBDA and e.method == "fbi"]
    assert weights == sorted(weights)
    assert weights[-1] == 1.0
    varied = " ".join(e.setting for e in experiments if e.group == ABLATION)
    for choice in ("start", "reduction", "gate", "biases", "rule = epsilon"):
        assert choice in varied


def test_fashion_is_left_out_where_it_is_not():
    assert not any(e.group == FASHION for e in plan(Settings(), None, fashion=False))


def test_same_configuration_is_the_same_run():
    """lambda = 0.001 and the ablations' defaults are the main runs, not new ones."""
    experiments = plan(Settings(), 0.002, fashion=False)
    main = {e.config for e in experiments if e.group == MAIN}
    shared = [e.setting for e in experiments if e.group != MAIN and e.config in main]
    assert set(shared) == {"lambda = 0", "lambda = 0.001", "conventional", "defaults"}


def test_plan_does_not_change_when_the_l1_weight_is_found():
    before, after = (plan(quick(None, None, None), w, fashion=True) for w in (None, 0.004))
    assert [e.label for e in before] == [e.label for e in after]


def test_cost_counts_steps_and_what_they_do():
    base = TrainConfig(epochs=3)
    none = cost(with_method(base, "none"), 1000)
    assert none == 3 * 8  # 1000 images are 8 batches of 128
    assert cost(with_method(base, "fbi"), 1000) > 2 * none
    assert cost(dataclasses.replace(base, fbi_rule="gamma"), 1000) > 6 * none


@pytest.mark.parametrize("name", ["seeds", "epochs"])
def test_settings_refuse_nothing_at_all(name):
    with pytest.raises(ConfigError, match=f"{name}=0: expected "):
        Settings(**{name: 0})


# ---- data --------------------------------------------------------------------------------
def test_first_keeps_masks():
    decoys = decoy_mnist(small_mnist())
    part = first(decoys.train, 5)
    assert len(part) == 5
    np.testing.assert_array_equal(part.masks, decoys.train.masks[:5])
    assert first(decoys.train, None) is decoys.train


def test_fashion_is_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIFBI_CACHE_DIR", str(tmp_path))
    data = Data(Settings())
    found, why = data.fashion()
    assert found is None
    assert str(tmp_path) in why
    with pytest.raises(DataError, match="--fashion-dir"):
        data(TrainConfig(dataset="fashion-mnist"))
    assert list(tmp_path.iterdir()) == []


# ---- runs --------------------------------------------------------------------------------
def test_finished_run_is_never_redone(runs, monkeypatch):
    done = runs.train(MLP)
    assert done["test_accuracy"] > 0.2
    written = (runs.folder(MLP) / "checkpoint.npz").stat().st_mtime_ns

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(store, "train", never)
    monkeypatch.setattr(store, "resume", never)
    assert runs.train(MLP) == done
    assert (runs.folder(MLP) / "checkpoint.npz").stat().st_mtime_ns == written


@pytest.mark.parametrize("killed_after", [0, 1])
def test_interrupted_run_goes_on_and_ends_the_same(runs, tmp_path, monkeypatch, killed_after):
    whole = runs.train(MLP)
    other = Store(tmp_path / "other", lambda config: small_mnist())
    epoch = Trainer.run_epoch

    def stop(self, progress=None):
        if self.epoch == killed_after:
            raise KeyboardInterrupt
        return epoch(self, progress)

    monkeypatch.setattr(Trainer, "run_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        other.train(MLP)
    assert other.result(MLP) is None
    monkeypatch.setattr(Trainer, "run_epoch", epoch)
    again = other.train(MLP)
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    for name, p in other.model(MLP).parameters().items():
        np.testing.assert_array_equal(p.numpy(), runs.model(MLP).parameters()[name].numpy())


def test_other_options_or_images_are_another_folder(runs):
    folders = {
        runs.folder(MLP),
        runs.folder(dataclasses.replace(MLP, seed=1)),
        runs.folder(dataclasses.replace(MLP, lr=0.01)),
        Store(runs.root, lambda config: small_mnist(480)).folder(MLP),
    }
    assert len(folders) == 4


def test_auto_is_the_backend_that_it_stands_for(runs):
    name = runs.key(MLP)["config"]["backend"]
    assert name != "auto"
    assert runs.folder(MLP) == runs.folder(dataclasses.replace(MLP, backend=name))


def test_diverged_run_is_remembered(runs, monkeypatch):
    def diverge(self, progress=None):
        raise NonFiniteError("the loss became nan")

    monkeypatch.setattr(Trainer, "run_epoch", diverge)
    assert "nan" in runs.train(MLP)["diverged"]
    monkeypatch.undo()
    assert "nan" in runs.train(MLP)["diverged"]


def test_measure_is_taken_once_for_each_option(runs):
    runs.train(MLP)
    asked = []

    def take(value):
        asked.append(value)
        return {"value": np.float32(value), "none": float("nan")}

    for images in (10, 10, 20, 10):
        found = runs.measured(MLP, "thing", {"images": images}, lambda n=images: take(n))
        assert found == {"value": images, "none": None}
    assert asked == [10, 20]
    folder = runs.folder(MLP) / "measured"
    path = next(p for p in folder.iterdir() if json.loads(p.read_text())["values"]["value"] == 20)
    path.write_text("{")
    with pytest.raises(DataError, match="delete it"):
        runs.measured(MLP, "thing", {"images": 20}, lambda: take(20))


def test_plain_numbers():
    value = {"a": np.array([1.5, np.nan]), 2: (np.int64(3), True, None, float("inf"))}
    assert plain(value) == {"a": [1.5, None], "2": [3, True, None, None]}


# ---- the L1 weight -----------------------------------------------------------------------
@pytest.mark.parametrize("exponent", [-0.2, -0.5, -1.0])
@pytest.mark.parametrize("right", [1e-5, 3e-3, 0.2])
def test_search_finds_the_weight_of_a_power_law(exponent, right):
    weight, tried = search_weight(1.0, lambda w: (w / right) ** exponent, 0.001, runs=8)
    best = min(abs(t["error"]) for t in tried)
    assert best < TOLERANCE
    assert (weight / right) ** exponent == pytest.approx(1, abs=TOLERANCE)


def test_search_stops_in_time_and_survives_silence():
    """At a large weight all activations are zero, and a logarithm has nothing to say."""
    asked = []

    def measure(w):
        asked.append(w)
        return 0.0 if w > 1e-4 else 5.0

    weight, tried = search_weight(1.0, measure, 0.001, runs=4)
    assert len(asked) == len(tried) == 4
    assert all(w > 0 for w in asked)
    assert weight in asked


def test_mean_activation_counts_every_unit_alike():
    trainer = Trainer(TrainConfig(model="lenet", epochs=1), small_mnist())
    split = small_mnist().validation
    x, _ = split.batch(slice(0, 7))
    steps = {s.name: s for s in trainer.model.trace(trainer.model.as_input(x))}
    units = np.concatenate([steps[f"relu_conv{i}"].z.numpy().ravel() for i in (1, 2)])
    assert mean_activation(trainer.model, split, 7) == pytest.approx(units.mean(), rel=1e-5)


# ---- the clock ---------------------------------------------------------------------------
def test_clock_believes_what_it_saw():
    clock = Clock(step=1.0)
    clock.learn(100, 2.0)
    assert clock.step == 1.0  # too little to go by
    clock.learn(400, 8.0)
    assert clock.step == pytest.approx(0.02)


# ---- the whole, small --------------------------------------------------------------------
def tiny(_seeds: object, _epochs: object, _fashion: object) -> Settings:
    return Settings(
        seeds=2,
        side_seeds=1,
        epochs=1,
        gate_interval=2,
        train=384,
        validation=60,
        test=60,
        activation_images=20,
        explanation_images=4,
        lambdas=(0.1,),
        searches=2,
        thorough=False,
    )


FILES = (
    "figure1.png",
    "figure2.png",
    "figure3.png",
    "lambda.png",
    "table1.csv",
    "table1.md",
    "evaluation.csv",
    "ablations.csv",
    "values.csv",
    "results.json",
    "report.md",
    "report.html",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[str]]:
    """A whole reproduction on a few images, interrupted once, then made again."""
    out = tmp_path_factory.mktemp("whole") / "out"
    patch = pytest.MonkeyPatch()
    patch.setenv("MINIFBI_CACHE_DIR", str(out / "nothing"))
    patch.setattr(command, "quick", tiny)
    said: list[str] = []
    patch.setattr(command, "say", said.append)
    patch.setattr(pipeline, "time_step", lambda data: 0.02)
    patch.setattr(command, "time_step", lambda data: 0.02)
    measured = pipeline.measure
    count = 0

    def stop(*arguments):
        nonlocal count
        count += 1
        if count == 8:
            raise KeyboardInterrupt
        return measured(*arguments)

    patch.setattr(pipeline, "measure", stop)
    assert command.main(["--quick", "--out", str(out)]) == 130
    assert command.main(["--quick", "--out", str(out), "--report"]) == 0
    assert "Incomplete" in (out / "report.md").read_text()
    assert command.main(["--quick", "--out", str(out)]) == 0
    yield out, said
    patch.undo()


def test_every_artefact_is_there(whole):
    out, _ = whole
    for name in FILES:
        assert (out / name).stat().st_size > 200, name
    assert not list(out.glob(".*.tmp"))
    assert "Incomplete" not in (out / "report.md").read_text()


def test_progress_says_what_is_done_and_left(whole):
    _, said = whole
    lines = [line for line in said if line.startswith("[")]
    assert re.match(r"\[1/\d+\] main, none, seed 0: accuracy 0\.\d{4} \(\d+ s\); about", lines[0])
    assert "was done" in lines[-1] or "left" in lines[-1]
    assert sum("was done" in line for line in lines) >= 7  # those before the interruption


def test_report_needs_nothing_else(whole):
    out, _ = whole
    page = (out / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page)
    assert page.count("data:image/png;base64,") == 5
    assert "https://" not in page
    assert 'name="viewport"' in page


def test_report_shows_the_numbers_that_were_measured(whole):
    out, _ = whole
    with (out / "values.csv").open() as file:
        values = list(csv.DictReader(file))
    accuracies = [
        float(row["value"])
        for row in values
        if (row["group"], row["method"], row["measure"]) == ("main", "fbi", "test_accuracy")
    ]
    assert len(accuracies) == 2
    report = (out / "report.md").read_text()
    assert f"FBI ({100 * np.mean(accuracies):.2f} %)" in report
    folders = list((out / "runs").glob("alexnet-mnist-fbi-seed0-*"))
    stored = [json.loads((f / "result.json").read_text())["test_accuracy"] for f in folders]
    assert accuracies[0] in stored
    assert "Not measured: Fashion-MNIST was not on this machine" in report
    for claim in ("Accuracy is kept", "Higher maxima", "More explainable"):
        assert f"**{claim}: " in report


def test_all_images_but_no_training_makes_the_same_report_again(whole, monkeypatch):
    out, _ = whole
    before = (out / "report.md").read_text()

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(store, "train", never)
    monkeypatch.setattr(store, "resume", never)
    assert command.main(["--quick", "--out", str(out), "--report"]) == 0
    assert (out / "report.md").read_text() == before


def test_plan_is_printed_and_nothing_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "time_step", lambda data: 0.02)
    assert command.main(["--plan", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"together\s+\d+ runs\s+[\d.]+ min", printed)
    assert not (tmp_path / "out").exists()


def test_a_report_of_nothing_says_so(tmp_path, capsys):
    assert command.main(["--report", "--out", str(tmp_path / "out")]) == 2
    assert "run the same command without --report" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_names_no_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIFBI_CACHE_DIR", str(tmp_path / "cache"))
    why = Data(Settings()).fashion()[1]
    assert "~/cache/fashion-mnist" in why
    assert str(tmp_path) not in why


def test_wrong_arguments_are_one_line(capsys):
    assert command.main(["--plan", "--report"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert command.main(["--seeds", "0", "--plan"]) == 2


def test_own_data_set_object_is_used(tmp_path):
    seen: list[Dataset] = []

    def data(config):
        seen.append(small_mnist())
        return seen[-1]

    Store(tmp_path, data).train(dataclasses.replace(MLP, epochs=1))
    assert seen
    assert all(len(d.train) == 960 for d in seen)


def test_estimate_ends_at_zero(tmp_path):
    reproduction = Reproduction(tiny(None, None, None), tmp_path, lambda text: None)
    total = len(reproduction.experiments())
    clock = Clock(0.02)
    left = [reproduction.seconds_left(i, clock) for i in (0, 5, total)]
    assert left[0] > left[1] > left[2] == 0


def test_net_without_biases_trains_and_loads(runs):
    """And no figures are drawn into the folder of a run of a reproduction."""
    config = dataclasses.replace(MLP, epochs=1, bias=False)
    assert runs.train(config)["test_accuracy"] > 0.2
    assert all(name.endswith("weight") for name in runs.model(config).parameters())
    assert not list(runs.folder(config).glob("*.png"))
    with pytest.raises(ConfigError, match="bias=1"):
        TrainConfig(bias=1)
