"""Checks of arguments: what they return, what they refuse, and in which words."""

from __future__ import annotations

import math
import re
import threading

import numpy as np
import pytest

from minifbi.arguments import (
    arrays_like,
    build,
    choice,
    expect_shape,
    labels_of,
    number,
    pair,
    refused,
    whole,
)
from minifbi.errors import CheckpointError, ConfigError, ShapeError
from minifbi.switch import Switch

HUGE = 10**5000


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_come_back_as_int(value):
    assert whole("n", value, 3, 3) == 3
    assert type(whole("n", value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None, [3], np.array([3])])
def test_whole_refuses_what_is_no_integer(value):
    with pytest.raises(ConfigError, match=r"^n=.*: expected a whole number$"):
        whole("n", value)


@pytest.mark.parametrize("value", [0, -1, 1001, HUGE, -HUGE], ids=type)
def test_whole_refuses_what_is_outside_the_bounds(value):
    with pytest.raises(ConfigError, match=r"whole number, at least 1 and at most 1,000$"):
        whole("n", value, 1, 1000)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.float64(2), np.int8(2)])
def test_numbers_come_back_as_float(value):
    assert number("x", value, 2, 2, above=1, below=3) == 2.0
    assert type(number("x", value)) is float


@pytest.mark.parametrize(
    "value", [False, "1", None, math.nan, math.inf, -math.inf, HUGE, 1j], ids=type
)
def test_number_refuses_what_is_no_finite_number(value):
    with pytest.raises(ConfigError, match=r"^x=.*: expected a finite number$"):
        number("x", value)


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (-0.1, {"low": 0}, "x=-0.1: expected a finite number, at least 0"),
        (1.5, {"low": 0, "high": 1}, "x=1.5: expected a finite number, at least 0 and at most 1"),
        (0, {"above": 0}, "x=0: expected a finite number, above 0"),
        (1, {"low": 0, "below": 1}, "x=1: expected a finite number, at least 0 and below 1"),
        (math.nan, {"low": 0}, "x=nan: expected a finite number, at least 0"),
    ],
)
def test_number_refuses_what_is_outside_the_bounds(value, bounds, message):
    with pytest.raises(ConfigError) as caught:
        number("x", value, **bounds)
    assert str(caught.value) == message


@pytest.mark.parametrize("allowed", [("sum", "mean"), {"sum": 1, "mean": 2}])
def test_a_choice(allowed):
    assert choice("how", "sum", allowed) == "sum"
    for value in ("su", "", None, ["sum"], 1, np.array(["sum", "mean"])):
        with pytest.raises(ConfigError, match=r"^how=(.|\n)*: expected one of sum, mean$"):
            choice("how", value, allowed)


def test_a_pair():
    assert pair("kernel", 3, 1) == (3, 3)
    assert pair("kernel", [np.int64(3), 5], 1) == (3, 5)
    assert type(pair("kernel", np.int64(3))[0]) is int
    for value in ((1, 2, 3), (1,), 0, (3, 0), (True, 1), 2.0, "33"):
        with pytest.raises(ConfigError, match=r"pair of integers, each at least 1$"):
            pair("kernel", value, 1)


def test_a_message_is_never_too_long():
    assert len(str(refused("x", "a" * 9999, "less"))) < 250


# ---- shapes, arrays and names ---------------------------------------------------------------
@pytest.mark.parametrize("shape", [(5, 3, 8, 9), (0, 3, 1, 1)])
def test_a_letter_stands_for_any_length(shape):
    expect_shape("Conv2d got an input", shape, ("N", 3, "H", "W"))


@pytest.mark.parametrize("shape", [(5, 4, 8, 9), (5, 3, 8), (5, 3, 8, 9, 1), (), (3,)])
def test_other_shapes_are_refused_with_both_and_a_hint(shape):
    said = rf"^Conv2d got an input of shape {re.escape(str(shape))}, expected \(N, 3, H, W\); why$"
    with pytest.raises(ShapeError, match=said):
        expect_shape("Conv2d got an input", shape, ("N", 3, "H", "W"), "; why")


def test_arrays_like_are_new_and_of_the_expected_dtype():
    expected = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(0)}
    given = {"b": [], "a": np.arange(6.0).reshape(2, 3)}
    found = arrays_like("parameter", given, expected)
    assert list(found) == ["a", "b"]
    assert found["a"].dtype == np.float32
    np.testing.assert_array_equal(found["a"], given["a"])
    given["a"][0, 0] = 7
    assert found["a"][0, 0] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": [1.0], "c": 1, "d": 1}, "parameters .*: missing b; not in this model c, d$"),
        ({"a": [1.0]}, ": missing b$"),
        ({"a": [1.0], "b": 1.0, "c": 1}, ": not in this model c$"),
        ({"a": [[1.0]], "b": [1]}, r"a has shape \(1, 1\), this model has \(1,\); b has shape"),
        ({"a": [np.nan], "b": 1.0}, "parameter a holds values that are not finite"),
        ({"a": [1e60], "b": 1.0}, "parameter a holds values that are not finite"),
        ({"a": ["x"], "b": 1.0}, "parameter a holds values that are not finite"),
    ],
)
def test_arrays_of_another_model_are_refused(given, said):
    expected = {"a": np.zeros(1, np.float32), "b": np.zeros(())}
    with pytest.raises(CheckpointError, match=said):
        arrays_like("parameter", given, expected)


def test_build_takes_numbers_after_a_colon_or_by_name():
    builders = {"plain": lambda: "plain", "two": lambda low=0.0, high=1.0: (low, high)}
    assert build("rule", "plain", builders) == "plain"
    assert build("rule", "two", builders) == (0, 1)
    assert build("rule", "two:-2,3e1", builders) == (-2, 30)
    assert build("rule", "two:5", builders, high=6.0) == (5, 6)
    for text in ("two:1,2,3", "two:x", "two:"):
        with pytest.raises(ConfigError, match=r"rule 'two' got .*expected low \(0\), high \(1\)$"):
            build("rule", text, builders)
    with pytest.raises(ConfigError, match="rule 'plain' got '1'; expected no numbers"):
        build("rule", "plain:1", builders)
    with pytest.raises(ConfigError, match=r"method 'tow': expected one of plain, two$"):
        build("method", "tow", builders)


def test_labels_on_a_device_are_not_looked_at():
    labels = np.array([0, 99])
    assert labels_of(labels, 2, 10, look=False) is labels
    with pytest.raises(ShapeError, match="label 99 at position 1"):
        labels_of(labels, 2, 10)
    with pytest.raises(ShapeError, match="expected integers"):
        labels_of(labels, 3, 10, look=False)


def test_a_switch_stands_as_before_after_its_block_in_each_thread():
    switch = Switch("test", on=False)
    seen = []
    with switch.set(True):
        assert switch.is_on()
        with switch.set(False):
            assert not switch.is_on()
        thread = threading.Thread(target=lambda: seen.append(switch.is_on()))
        thread.start()
        thread.join()
        with pytest.raises(KeyError), switch.set(False):
            raise KeyError
        assert switch.is_on()
    assert not switch.is_on()
    assert seen == [False]
