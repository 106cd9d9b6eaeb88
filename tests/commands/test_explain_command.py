"""``python -m minifbi.explain`` and ``python -m minifbi.train --fbi-rule`` as a user meets them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import command, write_idx_folder
from matplotlib.image import imread

from minifbi.datasets import load_dataset
from minifbi.explain import EXPLAINERS, get_explainer
from minifbi.explain.__main__ import main
from minifbi.explain.runs import trained_with
from minifbi.plots import plot_heatmaps, save_figure
from minifbi.train import main as train_main
from minifbi.training import TrainConfig, Trainer, load_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_idx_folder(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A small net trained with another rule than that of the paper."""
    out = tmp_path_factory.mktemp("runs") / "gamma"
    flags = ["--model", "lenet", "--backend", "numpy", "--epochs", "2", "--batch-size", "32"]
    flags += ["--fbi-gate", "0", "--fbi-rule", "gamma:0.5", "--data-dir", str(data)]
    assert train_main([*flags, "--quiet", "--out", str(out)]) == 0
    return out


def explain(*arguments):
    return main([str(argument) for argument in arguments])


def test_training_with_a_rule_learns_and_remembers_it(run):
    assert json.loads((run / "config.json").read_text())["fbi_rule"] == "gamma:0.5"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(record["penalty_active"] for record in records)
    assert records[-1]["val_accuracy"] > 0.7
    assert load_model(run)[1]["config"]["fbi_rule"] == "gamma:0.5"


@pytest.mark.parametrize("rule", ["epsilon-plus", "alpha-beta", "flat"])
def test_training_lowers_the_fbi_loss_of_another_rule(rule, data):
    """Measured with the same rule in both runs, minimised in one of them."""
    dataset = load_dataset("digits", data_dir=data)
    records = {}
    for fbi_weight in (0.0, 0.02):
        config = TrainConfig(
            model="mlp",
            backend="numpy",
            epochs=3,
            batch_size=32,
            fbi_weight=fbi_weight,
            fbi_gate=0.0,
            gate_interval=5,
            fbi_rule=rule,
        )
        trainer = Trainer(config, dataset)
        records[fbi_weight] = [trainer.run_epoch() for _ in range(3)][-1]
    assert records[0.02]["penalty"] < 0.7 * records[0.0]["penalty"]
    assert min(record["val_accuracy"] for record in records.values()) > 0.7


def test_a_picture_of_several_classes_and_methods(run, data, tmp_path, capsys):
    out = tmp_path / "seven.png"
    code = explain(
        run, "--index", 0, 3, "--class", "label", "predicted", "5", "--method", "lrp-epsilon",
        "--method", "integrated-gradients", "--out", out, "--backend", "numpy",
    )  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert "digits, test image 0: label 7, predicted" in said
    assert said.endswith(f"wrote {out}\n")
    picture = imread(out)
    assert picture.ndim == 3
    assert picture[..., :3].std() > 0.05
    # the numbers are those of the explainers
    model, _ = load_model(run, backend="numpy")
    images, labels = load_dataset("digits", data_dir=data).test.batch(slice(0, 1))
    found = get_explainer("lrp-epsilon")(model, images, labels)
    assert f"class {labels[0]} " in said
    assert f"sum {found.sum():.4f}" in said


def test_conservation_is_printed(run, tmp_path, capsys):
    out = tmp_path / "c.png"
    arguments = ["--method", "lrp-epsilon-plus:0.1", "--method", "gradient", "--conservation"]
    assert explain(run, *arguments, "--out", out, "--backend", "numpy") == 0
    said = capsys.readouterr().out
    assert "where the relevance of lrp-epsilon-plus:0.1 goes:\n" in said
    (line,) = [line for line in said.splitlines() if line.startswith("dense5")]
    name, *rule, above, bias, stabilizer, below = line.split()
    assert (name, rule) == ("dense5", ["epsilon", "0.1"])
    balance = float(above) - float(bias) - float(stabilizer) - float(below)
    assert balance == pytest.approx(0, abs=3e-4)
    assert float(stabilizer) != 0
    assert "gradient has no relevance pass" in said


def test_list_methods_needs_no_checkpoint(capsys):
    assert main(["--list-methods"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == list(EXPLAINERS)
    assert "epsilon 1e-06 in dense layers" in said[list(EXPLAINERS).index("lrp-epsilon-plus")]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--index", "120"], 2, "index 120: the test split of digits has 120 images"),
        (["--index", "-1"], 2, "index -1"),
        (["--class", "10"], 2, "target '10': expected a class (label, predicted, 0, 1, 2,"),
        (["--method", "lrp"], 2, "unknown method 'lrp': expected one of lrp-0"),
        (["--method", "lrp-gamma:x"], 2, "rule 'gamma' got 'x'; expected gamma (0.25)"),
        (["--out", "picture.pdf"], 2, "expected a name that ends in .png"),
        (["--out", "none/picture.png"], 1, "No such file"),
        (["--data-dir", "none"], 1, "none"),
    ],
)
def test_errors_are_one_line(run, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main([str(run), *arguments, "--backend", "numpy"]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert said.startswith("minifbi.explain: error: ")
    assert not list(tmp_path.iterdir())


def test_as_a_command(run, tmp_path):
    done = command("explain", run, "--index", 1, "--backend", "numpy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "explanation.png").stat().st_size > 5_000
    missing = command("explain", tmp_path / "none", cwd=tmp_path)
    assert missing.returncode == 1
    assert "there is no checkpoint" in missing.stderr
    assert command("explain", cwd=tmp_path).returncode == 2
    wrong = command("train", "--fbi-rule", "delta", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "rule 'delta': expected one of zero" in wrong.stderr


def test_all_zero_heatmaps_are_drawn(run, tmp_path):
    """A black image: pixel times anything is 0."""
    model, _ = load_model(run, backend="numpy")
    black = np.zeros((1, 1, 28, 28), np.float32)
    found = {name: get_explainer(name)(model, black, [3]) for name in ("lrp-0", "lrp-flat")}
    assert not found["lrp-0"].any()
    save_figure(plot_heatmaps(found, black), tmp_path / "black.png")


def test_the_picture_says_what_the_network_was_trained_with():
    options = TrainConfig().to_dict()
    assert trained_with(options) == "lambda = 0.001"
    assert trained_with(options | {"fbi_weight": 0.0}) == "conventional training"
    # the weight of the FBI loss has its default in a run that never looks at it
    assert trained_with(options | {"regularizer": "none"}) == "conventional training"
    l1 = options | {"regularizer": "l1", "regularizer_weight": 0.002}
    assert trained_with(l1) == "L1 penalty with weight 0.002"
    assert trained_with(options | {"regularizer": "mine"}) == "mine"


def test_a_folder_that_is_not_there_is_said_before_the_work(run, tmp_path, capsys):
    assert explain(run, "--out", tmp_path / "nowhere" / "x.png", "--backend", "numpy") == 1
    said = capsys.readouterr()
    assert f"make the folder first: {tmp_path / 'nowhere'}" in said.err
    assert not said.out
