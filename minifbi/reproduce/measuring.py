"""What is measured on a trained network."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from minifbi.datasets import Split
from minifbi.evaluate.collect import activation_report
from minifbi.evaluate.confounders import confounder_report
from minifbi.evaluate.explanations import explanation_report
from minifbi.explain import get_explainer
from minifbi.reproduce.experiments import DECOY, MAIN, Experiment
from minifbi.reproduce.matching import mean_activation
from minifbi.reproduce.results import (
    ACTIVATION,
    ALL_LAYERS,
    CONFOUNDER,
    EXPLANATION,
    TRAINING,
    Key,
    Value,
)
from minifbi.reproduce.settings import Settings
from minifbi.reproduce.store import Store
from minifbi.training import TrainConfig

SIDES = {"higher": 1, "lower": -1, "neither": 0}
"""Which way a measure is better, as a sign."""
COSTLY = ("flipping", "road", "sensitivity", "randomization")
"""Groups of measures that are left out for the second explainer."""
FROM_RESULT = ("test_accuracy", "val_accuracy", "test_loss", "fbi_loss", "gate_step", "seconds")


def measure(store: Store, experiment: Experiment, settings: Settings) -> list[Value]:
    """All numbers of one run; what an earlier call computed is read from its files.

    Parameters
    ----------
    store : Store
        Trains the run and remembers its measures.
    experiment : Experiment
        Which run.
    settings : Settings
        On how many images, and with which explainers.

    Returns
    -------
    list of Value
        For a run that diverged only "diverged", which is 1.
    """
    return [Value(experiment, key, value) for key, value in _numbers(store, experiment, settings)]


def _numbers(
    store: Store, experiment: Experiment, settings: Settings
) -> Iterator[tuple[Key, float | None]]:
    config, count = experiment.config, settings.activation_images
    result = store.train(config)
    if "diverged" in result:
        yield Key(TRAINING, "diverged"), 1.0
        return
    for name in FROM_RESULT:
        value = result.get(name)
        yield Key(TRAINING, name), None if value is None else float(value)
    test = store.data(config).test
    layers: Mapping[str, Mapping[str, float | None]] = store.measured(
        config,
        "activations",
        {"split": "test", "images": count},
        lambda: activation_report(store.model(config), test, limit=count),
    )
    for layer, measures in layers.items():
        for name, value in measures.items():
            yield Key(ACTIVATION, name, layer), value
    if layers:  # a network of dense layers has none
        for name in next(iter(layers.values())):
            yield Key(ACTIVATION, name, ALL_LAYERS), _mean(m[name] for m in layers.values())
    if experiment.group == MAIN:
        yield from _explanations(store, config, settings, settings.explainer, ())
        yield from _explanations(store, config, settings, settings.second_explainer, COSTLY)
    if experiment.group == DECOY:
        yield from _confounders(store, config, settings)


def _explanations(
    store: Store, config: TrainConfig, settings: Settings, name: str, skip: tuple[str, ...]
) -> Iterator[tuple[Key, float | None]]:
    explained = settings.explanation_images
    images, classes = store.data(config).test.batch(slice(0, explained))
    found = store.measured(
        config,
        "explanations",
        {"split": "test", "images": explained, "explainer": name, "classes": "true", "skip": skip},
        lambda: explanation_report(
            store.model(config), get_explainer(name), images, classes, skip=skip
        ),
    )
    for measure, value in found.items():
        yield Key(EXPLANATION, measure, name), value


def _confounders(
    store: Store, config: TrainConfig, settings: Settings
) -> Iterator[tuple[Key, float | None]]:
    count = settings.activation_images
    clean = store.data(TrainConfig(dataset="mnist")).test  # the patches are put on there
    for name in (settings.explainer, settings.second_explainer):
        found = store.measured(
            config,
            "confounders",
            {"images": count, "explainer": name},
            functools.partial(_report, store, config, name, clean, count),
        )
        for measure, value in found.items():
            of_explanation = measure == "wrong_reason_share"
            yield Key(CONFOUNDER, measure, name if of_explanation else ""), value


def _report(
    store: Store, config: TrainConfig, explainer: str, clean: Split, count: int
) -> dict[str, float]:
    return confounder_report(store.model(config), get_explainer(explainer), clean, limit=count)


def _mean(values: Iterator[float | None]) -> float | None:
    """The mean over the layers, or None where one of them has no value."""
    every = list(values)
    known = [v for v in every if v is not None and math.isfinite(v)]
    return float(np.mean(known)) if known and len(known) == len(every) else None


def mean_activation_of(store: Store, config: TrainConfig, count: int) -> float:
    """Mean post-ReLU activation of a run on the validation split; see matching."""
    value: float = store.measured(
        config,
        "mean-activation",
        {"split": "validation", "images": count},
        lambda: mean_activation(store.model(config), store.data(config).validation, count),
    )
    return value
