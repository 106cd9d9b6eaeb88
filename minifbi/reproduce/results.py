"""All numbers of a reproduction, with means and differences."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minifbi.errors import DataError
from minifbi.files.strict_json import check_regular
from minifbi.reproduce.experiments import MAIN, Experiment
from minifbi.reproduce.statistics import Difference, Summary, paired_difference, summarize
from minifbi.training import TrainConfig

TRAINING, ACTIVATION, EXPLANATION, CONFOUNDER = (
    "training",
    "activation",
    "explanation",
    "confounder",
)
ALL_LAYERS = "all"
"""The mean over the convolutions, in place of a layer's name."""


@dataclass(frozen=True)
class Key:
    """What was measured.

    Attributes
    ----------
    kind : str
        "training", "activation", "explanation" or "confounder".
    measure : str
        The measure's name, for example "gini" or "test_accuracy".
    layer : str
        The convolution's name or "all" for activations, the explainer's name for
        explanations, otherwise empty.
    """

    kind: str
    measure: str
    layer: str = ""


@dataclass(frozen=True)
class Value:
    """One number of one run; None if it is not defined."""

    experiment: Experiment
    key: Key
    value: float | None


class Results:
    """Numbers by experiment and measure.

    Parameters
    ----------
    values : iterable of Value
        The numbers, in any order.
    """

    def __init__(self, values: Iterable[Value]) -> None:
        self.values = list(values)
        self._index: dict[tuple[str, str, str, Key], dict[int, float | None]] = {}
        for v in self.values:
            e = v.experiment
            place = self._index.setdefault((e.group, e.method, e.setting, v.key), {})
            place[e.seed] = v.value

    def by_seed(
        self, method: str, key: Key, group: str = MAIN, setting: str = ""
    ) -> dict[int, float | None]:
        """The number of each seed."""
        return self._index.get((group, method, setting, key), {})

    def summary(self, method: str, key: Key, group: str = MAIN, setting: str = "") -> Summary:
        """Mean and spread over the seeds."""
        return summarize(list(self.by_seed(method, key, group, setting).values()))

    def difference(
        self, method: str, other: str, key: Key, group: str = MAIN, setting: str = ""
    ) -> Difference:
        """One method minus another, paired by seed."""
        return paired_difference(
            self.by_seed(method, key, group, setting), self.by_seed(other, key, group, setting)
        )

    def variants(self, group: str) -> list[tuple[str, str]]:
        """(method, setting) of a group's experiments, in the order of the plan."""
        found = (v.experiment for v in self.values)
        return list(dict.fromkeys((e.method, e.setting) for e in found if e.group == group))

    def keys(self, kind: str, group: str = MAIN) -> list[Key]:
        """The measures of one kind, in the order of measuring."""
        found = (v for v in self.values if v.experiment.group == group)
        return list(dict.fromkeys(v.key for v in found if v.key.kind == kind))

    def layers(self, group: str = MAIN) -> list[str]:
        """The convolutions that were measured."""
        layers = dict.fromkeys(key.layer for key in self.keys(ACTIVATION, group))
        return [layer for layer in layers if layer != ALL_LAYERS]


COLUMNS = ("group", "setting", "method", "model", "dataset", "seed", "kind", "measure", "layer")


def read_values(path: str | Path) -> Results:
    """Read ``values.csv`` of a reproduction, for an analysis of your own.

    Parameters
    ----------
    path : str or Path
        The file, as ``python -m minifbi.reproduce`` writes it.

    Returns
    -------
    Results
        The numbers have the six digits of the file.  The configurations of the experiments
        hold the network, the data set and the seed; all other options have their defaults.

    Raises
    ------
    DataError
        If the file is not a values.csv.
    OSError
        If it cannot be read.
    """
    check_regular(Path(path))
    with Path(path).open(encoding="utf-8", newline="") as file:
        try:
            return Results(_values(csv.DictReader(file), path))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: {error}; expected values.csv, a text in UTF-8") from error


def _values(reader: csv.DictReader[str], path: str | Path) -> Iterator[Value]:
    missing = {*COLUMNS, "value"} - set(reader.fieldnames or ())
    if missing:
        raise DataError(
            f"{path} has no column {sorted(missing)[0]!r}; expected values.csv of "
            "`python -m minifbi.reproduce`, with the columns "
            f"{', '.join((*COLUMNS, 'value'))}"
        )
    for row in reader:
        yield _value(row, f"{path}, line {reader.line_num}")


def _value(row: dict[str, str], where: str) -> Value:
    try:
        number = float(row["value"]) if row["value"] else None
        if not all(isinstance(row[name], str) for name in COLUMNS):
            raise ValueError("it ends too early")
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{row['value']} is not a finite number")
        config = TrainConfig(model=row["model"], dataset=row["dataset"], seed=int(row["seed"]))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}; expected a line of values.csv") from None
    experiment = Experiment(row["group"], row["method"], row["setting"], config)
    return Value(experiment, Key(row["kind"], row["measure"], row["layer"]), number)
