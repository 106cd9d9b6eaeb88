"""The whole reproduction: train the planned runs, measure them, write the report."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minifbi import __version__
from minifbi.files.atomic import write_json
from minifbi.reproduce.data import Data, first
from minifbi.reproduce.experiments import MAIN, NOTHING, OWN, Experiment, cost, plan, with_method
from minifbi.reproduce.matching import search_weight
from minifbi.reproduce.measuring import mean_activation_of, measure
from minifbi.reproduce.results import Value
from minifbi.reproduce.settings import Settings
from minifbi.reproduce.store import Store
from minifbi.training import TrainConfig, Trainer
from minifbi.training.parts import Parts

Say = Callable[[str], None]

L1_START = 0.001
"""Where the search for the L1 weight begins: at the paper's lambda."""
EXPLANATION_COST = 1.9
"""Conventional training steps in the time of one explained image, all measures."""
ACTIVATION_COST = 0.1
"""The same, of one image whose activations are measured."""


@dataclass
class Clock:
    """Estimates the time of runs from the time of finished ones.

    Attributes
    ----------
    step : float
        Seconds of a conventional training step of the alexnet on this machine.
    """

    step: float
    done_cost: float = 0.0
    done_seconds: float = 0.0

    def learn(self, steps: float, seconds: float) -> None:
        """Note that a run worth `steps` conventional steps took `seconds`."""
        self.done_cost += steps
        self.done_seconds += seconds
        if self.done_cost > 200:  # fewer say little: the first run compiles
            self.step = self.done_seconds / self.done_cost


def time_step(data: Data) -> float:
    """Seconds of a conventional training step here, measured on a few batches."""
    config = with_method(TrainConfig(epochs=3), "none")
    full = data(config)
    few = type(full)(
        name=full.name,
        train=first(full.train, 10 * config.batch_size),
        validation=first(full.validation, 100),
        test=first(full.test, 100),
        num_classes=full.num_classes,
        class_names=full.class_names,
    )
    trainer = Trainer(config, few)
    trainer.run_epoch()  # compiles, and warms up
    begin = time.perf_counter()
    trainer.run_epoch()
    return (time.perf_counter() - begin) / trainer.steps_per_epoch


class Reproduction:
    """A reproduction and its folder.

    Parameters
    ----------
    settings : Settings
        The size of the reproduction.
    out : Path
        Folder for runs, measures, figures and the report.
    say : callable
        Takes one line of progress as text.
    parts : Parts
        Parts of the user's own, to compare with the paper's.
    """

    def __init__(self, settings: Settings, out: Path, say: Say, parts: Parts = NOTHING) -> None:
        self.settings, self.out, self.say, self.parts = settings, out, say, parts
        self.data = Data(settings, parts)
        self.store = Store(out, self.data, parts)
        fashion, self.no_fashion = self.data.fashion()
        self.fashion = fashion is not None
        self.matching: dict[str, Any] = {}
        self.values: list[Value] = []
        for experiment in self.experiments():  # what does not fit is said now, not after hours
            if experiment.group == OWN and experiment.seed == 0:
                config = experiment.config
                Trainer(config, self.data(config), **self.store.own(config))

    # ---- the plan ------------------------------------------------------------------------
    def experiments(self) -> list[Experiment]:
        """The plan, with the L1 weight if it is known."""
        weight = self.matching.get("weight")
        return plan(self.settings, weight, self.fashion, self.parts)

    def cost(self, experiment: Experiment) -> float:
        """Conventional steps that an experiment costs, training alone."""
        return cost(experiment.config, len(self.data(experiment.config).train))

    def measuring_seconds(self, experiment: Experiment, step: float) -> float:
        """A rough estimate of the time for measuring, in seconds."""
        s = self.settings
        steps = ACTIVATION_COST * s.activation_images
        if experiment.group == MAIN:
            steps += EXPLANATION_COST * s.explanation_images
        return steps * step

    def describe_plan(self, step: float) -> str:
        """The plan as text: the runs of each group, and how long they take here."""
        lines = [f"a conventional step takes {1000 * step:.0f} ms here (batch of 128)"]
        experiments = self.experiments()
        seen: set[TrainConfig] = set()
        total = 0.0
        for group in dict.fromkeys(e.group for e in experiments):
            mine = [e for e in experiments if e.group == group]
            new = [e for e in mine if not (e.config in seen or seen.add(e.config))]  # type: ignore[func-returns-value]
            seconds = sum(self.cost(e) * step + self.measuring_seconds(e, step) for e in new)
            if group == MAIN:  # the search for the L1 weight, but for the run that it keeps
                l1 = next(e for e in mine if e.method == "l1")
                seconds += (self.settings.searches - 2) * self.cost(l1) * step
            total += seconds
            what = ", ".join(dict.fromkeys(e.setting or e.method for e in mine))
            lines.append(f"{group:<14} {len(new):>3} runs  {seconds / 60:5.1f} min  {what}")
        lines.append(f"{'together':<14} {len(seen):>3} runs  {total / 60:5.1f} min")
        if not self.fashion:
            lines.append(self.no_fashion)
        return "\n".join(lines)

    # ---- doing it ------------------------------------------------------------------------
    def run(self, clock: Clock) -> None:
        """Train and measure everything that is not done yet."""
        begin = time.perf_counter()
        total = len(self.experiments())
        for index in range(total):
            if self.experiments()[index].method == "l1" and not self.matching:
                self.match()
            experiment = self.experiments()[index]
            fresh = self.store.result(experiment.config) is None
            started = time.perf_counter()
            result = self.store.train(experiment.config)
            trained = time.perf_counter() - started
            if fresh:
                clock.learn(self.cost(experiment), trained)
            self.values += measure(self.store, experiment, self.settings)
            outcome = (
                "diverged" if "diverged" in result else f"accuracy {result['test_accuracy']:.4f}"
            )
            left = self.seconds_left(index + 1, clock)
            took = f"{time.perf_counter() - started:.0f} s" if fresh else "was done"
            self.say(
                f"[{index + 1}/{total}] {experiment.label}: {outcome} ({took}); "
                f"about {duration(left)} left"
            )
        self.say(f"all runs are done, {duration(time.perf_counter() - begin)} in this session")

    def seconds_left(self, index: int, clock: Clock) -> float:
        """Estimate for the experiments from `index` on."""
        seconds, seen = 0.0, set()
        for experiment in self.experiments()[index:]:
            if experiment.config in seen:
                continue
            seen.add(experiment.config)
            if self.store.result(experiment.config) is None:
                seconds += self.cost(experiment) * clock.step
                seconds += self.measuring_seconds(experiment, clock.step)
        return seconds

    def gather(self) -> int:
        """Read the numbers of the finished runs; return how many are not finished."""
        missing = 0
        self.recall_matching()
        for experiment in self.experiments():
            l1_unknown = experiment.method == "l1" and not self.matching
            if l1_unknown or self.store.result(experiment.config) is None:
                missing += 1
            else:
                self.values += measure(self.store, experiment, self.settings)
        return missing

    def pair_is_there(self) -> bool:
        """Whether the two networks of the figures are trained: conventional and FBI, seed 0."""
        configs = [e.config for e in self.experiments()[:2]]
        found = [self.store.result(config) for config in configs]
        return all(result is not None and "diverged" not in result for result in found)

    # ---- the L1 weight -------------------------------------------------------------------
    def match(self) -> None:
        """Search the L1 weight whose mean activation equals FBI's, with seed 0."""
        base = self.experiments()[0].config
        count = self.settings.activation_images
        target = self._mean(with_method(base, "fbi"), count)
        self.say(f"searching the L1 weight whose mean activation is FBI's, {target:.4g}")

        def trial(weight: float) -> float:
            value = self._mean(with_method(base, "l1", weight), count)
            self.say(
                f"  weight {weight:g}: mean activation {value:.4g} ({value / target - 1:+.1%})"
            )
            return value

        weight, tried = search_weight(target, trial, L1_START, self.settings.searches)
        self.matching = {"weight": weight, "target": target, "images": count, "tried": tried}
        write_json(self.out / "matching.json", self.matching)

    def recall_matching(self) -> None:
        """Repeat the search from its finished runs: it is deterministic."""
        base = self.experiments()[0].config
        done = self.store.result(with_method(base, "fbi")) is not None
        path = self.out / "matching.json"
        if done and path.exists():
            self.match()

    def _mean(self, config: TrainConfig, count: int) -> float:
        self.store.train(config)
        return mean_activation_of(self.store, config, count)


def duration(seconds: float) -> str:
    """A time as text: seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def machine() -> Mapping[str, str]:
    """Versions and processor, for the report."""
    from minifbi.backends import get_backend

    return {
        "minifbi": __version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
        "backend": get_backend("auto").name,
        "cores": str(os.cpu_count()),
    }
