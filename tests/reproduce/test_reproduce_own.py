"""Parts of one's own in a reproduction: compared with the paper's methods, on their own data."""

from __future__ import annotations

import pytest

from minifbi.files.source import part_name
from minifbi.reproduce import __main__ as command
from minifbi.reproduce.document import to_markdown
from minifbi.reproduce.experiments import MAIN, OWN, cost, plan
from minifbi.reproduce.measuring import measure
from minifbi.reproduce.pipeline import Reproduction
from minifbi.reproduce.report import Facts
from minifbi.reproduce.results import Results
from minifbi.reproduce.sections import _others
from minifbi.reproduce.settings import Settings
from minifbi.training.parts import Parts

MINE = """
from minifbi.datasets import Dataset, Split, load_mnist
from minifbi.layers import Conv2d, Dense, Flatten, ReLU, Sequential
from minifbi.regularizers import Regularizer
from minifbi.rules import Epsilon


def build(input_shape, num_classes, *, seed):
    return Sequential({"conv": Conv2d(1, 2, 5, stride=4, rng=seed), "relu": ReLU(),
                       "flatten": Flatten(), "dense": Dense(72, num_classes, rng=seed)})


class SmallLogits(Regularizer):
    default_weight = 0.02

    def terms(self, batch):
        return {"logits": (batch.logits**2).mean()}


def strong():
    return Epsilon(0.5)


def few():
    part = Split.from_arrays(*load_mnist().train.batch(slice(0, 300)))
    return Dataset("few digits", part, part, part, 10, tuple("0123456789"))
"""
SMALL = Settings(
    seeds=1, epochs=1, gate_interval=1, train=200, validation=50, test=50, activation_images=10
)
METHODS = ["none", "fbi", "SmallLogits", "FBI with strong"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIFBI_BACKEND", "numpy")
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py"


@pytest.fixture
def parts(mine):
    return Parts.of(
        model=f"{mine}:build",
        regularizer=f"{mine}:SmallLogits",
        rule=f"{mine}:strong",
        dataset=f"{mine}:few",
    )


def test_the_plan_compares_them_with_the_methods_of_the_paper(parts):
    experiments = plan(SMALL, None, False, parts)
    own = [e for e in experiments if e.group == OWN]
    assert [e.method for e in own] == METHODS
    assert {e.setting for e in own} == {"build on few"}
    assert {part_name(e.config.model) for e in own} == {"build"}
    assert all(cost(e.config, 100) > 0 for e in own)
    without = plan(SMALL, None, False)
    assert [e for e in experiments if e.group != OWN] == without
    # a penalty alone is compared on the paper's network and data, whose runs are there already
    alone = plan(SMALL, None, False, Parts(regularizer=parts.regularizer))
    main = {e.config for e in alone if e.group == MAIN}
    assert [e.config in main for e in alone if e.group == OWN] == [True, True, False]


def test_they_are_trained_measured_and_reported(parts, tmp_path):
    whole = Reproduction(SMALL, tmp_path / "out", print, parts)
    values = []
    for experiment in whole.experiments():
        if experiment.group == OWN:
            result = whole.store.train(experiment.config)
            assert whole.store.train(experiment.config) == result  # from its folder
            values += measure(whole.store, experiment, SMALL)
    facts = Facts("", {}, SMALL, True, {}, {}, "", 0)
    text = to_markdown(_others(Results(values), facts))
    assert "## Your own: build on few" in text
    header = next(line for line in text.splitlines() if "SmallLogits" in line)
    assert [name in header for name in ("conventional", "FBI", "FBI with strong")] == [True] * 3
    again = Reproduction(SMALL, tmp_path / "out", print, parts)
    assert all(again.store.result(e.config) for e in again.experiments() if e.group == OWN)


def test_at_the_command_line(mine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "time_step", lambda data: 0.02)
    monkeypatch.setenv("MINIFBI_CACHE_DIR", str(tmp_path))
    plan_only = ["--quick", "--plan", "--out", str(tmp_path / "out")]
    assert command.main([*plan_only, "--model", f"{mine}:build", "--dataset", f"{mine}:few"]) == 0
    assert "your own         2 runs" in capsys.readouterr().out
    for wrong, said in {
        "lenet": "model='lenet': expected FILE.py:function",
        f"{mine}:few": "expected a Layer, got Dataset",
        f"{mine}:biuld": "has nothing called 'biuld'",
    }.items():
        assert command.main([*plan_only, "--model", wrong]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
