"""Checks of single arguments: what they return, what they refuse, and in which words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minifbi.arguments import choice, number, pair, refused, whole
from minifbi.errors import ConfigError

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
