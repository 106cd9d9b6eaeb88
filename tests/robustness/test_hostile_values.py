"""JSON and checkpoints that hold what they should not."""

from __future__ import annotations

import numpy as np
import pytest
from hostile import described, go_on, refused, state

from minifbi.errors import CheckpointError, DataError
from minifbi.files.strict_json import parse_json
from minifbi.reproduce.results import COLUMNS, read_values
from minifbi.training.folder import read_config


# ---- JSON --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": NaN}', "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"1e999", "too large"),
        (b"1" * 101, "digits"),
        (b"1" * 10_000, "digits"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "deeply"),
        (b'{"a":' * 100_000, "deeply"),
        (b'"\xff"', "utf-8"),
        (b'"\\ud800"', "surrogates"),
        (b'{"\\uDFFF": 1}', "surrogates"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b"{'a': 1}", "property name"),
        (b"", "Expecting value"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_json_that_is_refused(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_config(tmp_path)


def test_json_that_is_read():
    assert parse_json('{"a": [1, -2.5e3, "\\ud83d\\ude00", null, true]}') == {
        "a": [1, -2500.0, "\U0001f600", None, True]
    }
    assert parse_json(b"340282366920938463463374607431768211455") == 2**128 - 1
    assert parse_json(b" 0 ") == 0


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "null"])
def test_a_configuration_that_is_no_object(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="expected the options by name"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "cells",
    [b"x" * 200_000, b"\xff", b"nan", b"1e999", b"\0", b"9" * 5000],
    ids=["long", "no text", "nan", "infinite", "nul", "digits"],
)
def test_a_table_of_values(tmp_path, cells):
    """Each once was an error of another kind, or a number that is none."""
    head = (*COLUMNS, "value")
    (tmp_path / "values.csv").write_bytes(
        ",".join(head).encode() + b"\nmain,,none,mlp,mnist,0,training,loss,," + cells + b"\n"
    )
    with pytest.raises(DataError, match="expected"):
        read_values(tmp_path / "values.csv")


# ---- what a checkpoint says of itself: each once was an error of another kind ----------------
@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": "2"}, {"epoch": -1}, {"epoch": True}, {"epoch": 2}, {"step": 0.5},
        {"records": []},
        {"records": [{}]}, {"records": None}, {"best": {"epoch": 1}}, {"best": []},
        {"gate_step": "x"},
        {"seconds": None}, {"input_shape": [1, 2]}, {"input_shape": "122"}, {"num_classes": 0},
        {"num_classes": 3.0}, {"rng": []}, {"rng": {}}, {"layer_rngs": 1}, {"data": {"name": 1}},
        {"config": []}, {"config": {"epochs": 10**99}}, {"config": {"data_dir": 5}},
        {"class_names": [1]},
        {"config": {"dataset": []}}, {"config": {"lr": "0.1"}}, {"config": {"unknown": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_meta_of_the_wrong_kind(tmp_path, changes):
    refused(tmp_path, described(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", np.array(-5)), ("steps", np.array(2.5)), ("steps", np.array(2**63, np.uint64)),
        ("mean/dense1.weight", np.full((3, 4), np.nan)), ("steps", np.array([1, 2])),
    ],
)  # fmt: skip
def test_the_optimisers_memory(name, value):
    arrays, meta = state()
    arrays["optimizer"][name] = value
    with pytest.raises(CheckpointError, match="optimiser"):
        go_on(arrays, meta)


@pytest.mark.parametrize("value", [np.array(1.0), np.zeros((2, 2)), np.zeros(99)])
def test_the_history(value):
    arrays, meta = state()
    arrays["history"]["task_loss"] = value
    with pytest.raises(CheckpointError, match="history is missing or damaged; expected step, task"):
        go_on(arrays, meta)


def test_a_random_state_beyond_128_bits():
    arrays, meta = state()
    meta["rng"]["state"]["state"] = 10**99
    with pytest.raises(CheckpointError, match="does not fit"):
        go_on(arrays, meta)
