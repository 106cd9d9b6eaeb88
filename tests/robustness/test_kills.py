"""Some of the kills of tests/tools/kill_harness.py, which has them all."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import command
from kill_harness import Harness, jobs
from kill_moments import Plan

from minifbi.files import checkpoint
from minifbi.training import folder, run
from minifbi.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("kind", ["lines", "bytes", "resumed"])
def test_killed_while_writing(harness: Harness, kind: str) -> None:
    for _, plan in jobs(harness, [kind], 6):
        start = harness.interrupted if kind == "resumed" else harness.start
        assert harness.kill(start, plan)


def test_killed_at_random_moments(harness: Harness, tmp_path: Path) -> None:
    """The command as it is; twice it lives on and is killed again."""
    harness.place.joinpath("random").mkdir()
    whole = Harness.__new__(Harness)
    whole.place, whole.data, whole.figures = harness.place / "random", harness.data, True
    whole.whole = whole.place / "whole"
    # in a process of its own, as those that are killed: this one has seen other tests, which may
    # have changed, for example, how many threads NumPy's matrix product uses
    assert command("train", *whole.start(whole.whole)).returncode == 0
    assert sum(1 for _ in whole.kill_at_random(random.Random(1), 1.5, most=3)) >= 1


# ---- the harness notices what it is there for ------------------------------------------------
def broken_by(harness: Harness, kind: str) -> Iterator[str]:
    for _, plan in jobs(harness, [kind], 9):
        try:
            harness.kill(harness.start, plan)
        except Exception as error:
            yield str(error)


def test_a_file_that_is_not_written_atomically_is_noticed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plainly(path, write, previous=None):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            write(file)

    monkeypatch.setattr(checkpoint, "write_atomically", plainly)
    assert any("damaged" in text for text in broken_by(harness, "bytes"))


def test_a_generator_that_is_not_restored_is_noticed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Trainer.load_state

    def forgetful(self, state):
        load(self, dataclasses.replace(state, rng=self.rng.bit_generator.state))

    monkeypatch.setattr(Trainer, "load_state", forgetful)
    assert any("differs" in text for text in broken_by(harness, "lines"))


def test_a_log_that_is_not_completed_is_noticed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "write_log", lambda *_: None)
    monkeypatch.setattr(folder, "write_log", lambda *_: None)
    assert any("metrics.jsonl" in text for text in broken_by(harness, "lines"))


def test_what_is_announced_before_it_is_written_is_noticed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "save_epoch", lambda *_: None)
    moment = harness.moments["lines"] - 40
    with pytest.raises(AssertionError):
        harness.kill(harness.start, Plan("lines", moment))
