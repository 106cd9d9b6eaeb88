"""``--weights``: training starts from a file, and the run says from which."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
from helpers import command

from minifbi.errors import CheckpointError, ConfigError
from minifbi.exchange import load_weights, read_weights, save_weights
from minifbi.models import mlp
from minifbi.training import TrainConfig, Trainer, resume, train
from minifbi.training.config import load_data


@pytest.fixture
def given(tmp_path):
    """A file of weights of the network that tiny_config trains."""
    path = tmp_path / "given.safetensors"
    save_weights(mlp(seed=7, backend="numpy"), path)
    return path


def test_a_run_starts_from_the_file_and_says_so(tiny_config, given, tmp_path, capsys):
    """With a learning rate of 0 the network stays what was given."""
    config = dataclasses.replace(tiny_config, weights=given, lr=0, epochs=1)
    train(config, tmp_path / "run", figures=False)
    assert f"starting from {given}: all names and types agree" in capsys.readouterr().out
    after, before = (read_weights(path)[0] for path in (tmp_path / "run", given))
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["weights"] == str(given)
    assert stored["weights_sha256"] == hashlib.sha256(given.read_bytes()).hexdigest()


def test_going_on_does_not_read_the_file_again(tiny_config, given, tmp_path):
    whole = dataclasses.replace(tiny_config, weights=given, epochs=2)
    train(whole, tmp_path / "whole", quiet=True, figures=False)
    # a run that was told to end earlier has another learning rate; so it is cut off here
    stored = json.loads((tmp_path / "whole" / "config.json").read_text())
    del stored["versions"]
    trainer = Trainer(TrainConfig.from_dict(stored), load_data(whole))
    trainer.run_epoch()
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    trainer.state().save(tmp_path / "cut" / "checkpoint.npz")
    given.unlink()
    resume(tmp_path / "cut", quiet=True, figures=False)
    one, two = (read_weights(tmp_path / name)[0] for name in ("whole", "cut"))
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array)


def test_a_run_without_a_checkpoint_reads_it_again(tiny_config, given, tmp_path):
    """It was killed in its first epoch; another file in the place of the first is noticed."""
    config = dataclasses.replace(tiny_config, weights=given, epochs=1)
    train(config, tmp_path / "run", quiet=True, figures=False)
    for path in (tmp_path / "run").glob("*.npz"):
        path.unlink()
    save_weights(mlp(seed=8, backend="numpy"), given)
    with pytest.raises(CheckpointError, match="changed since the run began"):
        resume(tmp_path / "run", quiet=True, figures=False)
    save_weights(mlp(seed=7, backend="numpy"), given)
    resume(tmp_path / "run", quiet=True, figures=False)


def test_a_layer_that_starts_anew(tiny_config, given):
    config = dataclasses.replace(tiny_config, weights=given, weights_skip="dense3, dense2")
    trainer = Trainer(config, load_data(config))
    assert trainer.loaded.missing == [
        "dense2.weight",
        "dense2.bias",
        "dense3.weight",
        "dense3.bias",
    ]
    fresh, source = mlp(seed=config.seed, backend="numpy"), mlp(backend="numpy")
    load_weights(source, given)
    expected = {**fresh.state_dict(), "dense1.weight": source.state_dict()["dense1.weight"]}
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    "options",
    [
        {"weights": 3},
        {"weights": "a\0b"},
        {"weights_skip": "dense3"},
        {"weights": "a", "weights_skip": 3},
        {"weights_sha256": "0" * 64},
        {"weights": "a", "weights_sha256": "0" * 63},
    ],
)
def test_wrong_options(options):
    with pytest.raises(ConfigError, match=list(options)[-1]):
        TrainConfig(**options)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights", "gone.safetensors"], "there is no file gone.safetensors"),
        (["--weights", "net.pt"], "can run code"),
        (["--model", "lenet", "--weights", "given.safetensors"], "belong to another model"),
        (["--weights", "given.safetensors", "--weights-skip", "last"], "skip='last'"),
    ],
)
def test_errors_are_one_line(given, flags, message):
    done = command("train", "--model=mlp", "--backend=numpy", "--out=run", *flags, cwd=given.parent)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (given.parent / "run").exists()
