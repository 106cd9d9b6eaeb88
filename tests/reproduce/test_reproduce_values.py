"""values.csv is read back as it was written, and the committed one gives the committed tables."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from minifbi.errors import DataError
from minifbi.reproduce.experiments import DECOY, MAIN, Experiment
from minifbi.reproduce.results import ACTIVATION, TRAINING, Key, Results, Value, read_values
from minifbi.reproduce.tables import csv_text, table1_rows, value_rows
from minifbi.training import TrainConfig

COMMITTED = Path(__file__).parents[2] / "docs/reproduction"


def few() -> Results:
    values = []
    for seed in range(3):
        main = Experiment(MAIN, "fbi", "", TrainConfig(seed=seed))
        decoy = Experiment(DECOY, "l1", "mlp", TrainConfig(model="mlp", dataset=DECOY, seed=seed))
        values += [
            Value(main, Key(ACTIVATION, "gini", "conv1"), 0.25 + seed),
            Value(main, Key(ACTIVATION, "gini", "conv2"), None),
            Value(decoy, Key(TRAINING, "test_accuracy"), 1e-7 * seed),
        ]
    return Results(values)


def test_read_back_as_written(tmp_path):
    path, results = tmp_path / "values.csv", few()
    path.write_text(csv_text(list(value_rows(results))), encoding="utf-8")
    read = read_values(path)
    assert [(v.key, v.value) for v in read.values] == [(v.key, v.value) for v in results.values]
    for ours, theirs in zip(read.values, results.values, strict=True):
        a, b = ours.experiment, theirs.experiment
        assert (a.group, a.method, a.setting, a.seed) == (b.group, b.method, b.setting, b.seed)
        assert (a.config.model, a.config.dataset) == (b.config.model, b.config.dataset)
    key = Key(ACTIVATION, "gini", "conv1")
    assert read.summary("fbi", key) == results.summary("fbi", key)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("measure", "gauge", 1), "no column 'measure'"),
        (lambda text: "", "no column"),
        (lambda text: text.replace(",0.25\n", ",a quarter\n", 1), "line 2: could not convert"),
        (lambda text: text.replace("mnist,0,", "mnist,-1,", 1), "line 2: seed=-1"),
        (lambda text: text.replace("alexnet", "densenet", 1), "line 2: model='densenet'"),
        (lambda text: text + "main,,fbi\n", "line 11"),
    ],
)
def test_what_is_no_such_file(tmp_path, change, says):
    path = tmp_path / "values.csv"
    path.write_text(change(csv_text(list(value_rows(few())))), encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_values(path)


@pytest.mark.skipif(not COMMITTED.exists(), reason="installed without docs")
def test_the_committed_values_give_the_committed_table():
    rows = table1_rows(read_values(COMMITTED / "values.csv"))
    with (COMMITTED / "table1.csv").open(encoding="utf-8", newline="") as file:
        committed = list(csv.DictReader(file))
    assert len(rows) == len(committed)
    for ours, theirs in zip(rows, committed, strict=True):
        assert (ours["reading"], ours["layer"]) == (theirs["reading"], theirs["layer"])
        assert str(ours["direction"]) == theirs["direction"]
        for name in ("conventional_mean", "fbi_mean", "difference_low", "difference_high"):
            # both files have six digits of their own, and a difference loses some of them
            scale = 1e-4 * max(abs(ours["conventional_mean"]), abs(ours["fbi_mean"]))
            assert math.isclose(ours[name], float(theirs[name]), rel_tol=1e-4, abs_tol=scale)
