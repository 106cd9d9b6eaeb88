"""Trains each run once and takes each measure once, also if the machine fails in between.

::

    OUT/runs/NAME-1a2b3c4d/             a run folder as `python -m minifbi.train` makes it
    OUT/runs/NAME-1a2b3c4d/measured/    one JSON file per measure

The folder's name ends with a checksum of the configuration and of the numbers of images,
so a run with other options has another folder.  Each file appears complete or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minifbi import __version__
from minifbi.backends import get_backend
from minifbi.datasets import Dataset
from minifbi.errors import DataError, NonFiniteError
from minifbi.files.atomic import write_json
from minifbi.files.source import is_own, part_name
from minifbi.files.strict_json import read_json
from minifbi.reproduce.experiments import NOTHING
from minifbi.training import TrainConfig, load_model, resume, train
from minifbi.training.folder import CONFIG, LAST, RESULT
from minifbi.training.part import KINDS
from minifbi.training.parts import Parts

QUIET: dict[str, Any] = {"quiet": True, "figures": False}
DIVERGED = "diverged.json"
"""In the folder of a run that ended in NaN, instead of result.json: the reason."""


def plain(value: Any) -> Any:
    """Convert a value for JSON: NumPy numbers become Python's, NaN and infinity become None.

    Parameters
    ----------
    value : object
        Numbers, texts, arrays, and lists and mappings of them.

    Returns
    -------
    object
        Of the types that JSON knows.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def checksum(value: Any) -> str:
    """Eight hexadecimal digits that identify a JSON value.

    Parameters
    ----------
    value : object
        What :func:`plain` takes; equal values have equal checksums.

    Returns
    -------
    str
    """
    text = json.dumps(plain(value), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]


class Store:
    """The runs and measures of one reproduction.

    Parameters
    ----------
    root : Path
        The folder of the reproduction.
    data : callable
        Takes a configuration and returns its data set.
    parts : Parts
        Parts of the user's own, for the runs that name them.
    """

    def __init__(
        self, root: Path, data: Callable[[TrainConfig], Dataset], parts: Parts = NOTHING
    ) -> None:
        self.root, self.data, self.parts = root, data, parts

    def own(self, config: TrainConfig) -> dict[str, Any]:
        """The parts of the user's own that a configuration names, but for the data set.

        Parameters
        ----------
        config : TrainConfig
            Of the run.

        Returns
        -------
        dict of str to Part
        """
        found = {name: getattr(self.parts, name) for name in ("model", "regularizer", "rule")}
        return {n: part for n, part in found.items() if is_own(getattr(config, KINDS[n].option))}

    # ---- runs --------------------------------------------------------------------------
    def _resolve(self, config: TrainConfig) -> TrainConfig:
        """The configuration as its run will have it: "auto" is a backend by then."""
        return dataclasses.replace(config, backend=get_backend(config.backend).name)

    def key(self, config: TrainConfig) -> dict[str, Any]:
        """Everything that the run's outcome depends on, except the program itself.

        Parameters
        ----------
        config : TrainConfig
            The run's options.

        Returns
        -------
        dict
        """
        data = self.data(config)
        sizes = [len(split) for split in (data.train, data.validation, data.test)]
        return {"config": self._resolve(config).to_dict(), "images": sizes}

    def folder(self, config: TrainConfig) -> Path:
        """The run's folder, whose name contains the main options.

        Parameters
        ----------
        config : TrainConfig
            The run's options.

        Returns
        -------
        Path
        """
        names = (config.model, config.dataset, config.regularizer)
        name = re.sub(r"[^\w.-]", "_", "-".join(map(part_name, names))) + f"-seed{config.seed}"
        return self.root / "runs" / f"{name}-{checksum(self.key(config))}"

    def result(self, config: TrainConfig) -> dict[str, Any] | None:
        """The numbers of a finished run, or None.

        A run that diverged counts as finished, since it would diverge again.  Its result has the
        key "diverged" with the reason.

        Parameters
        ----------
        config : TrainConfig
            The run's options.

        Returns
        -------
        dict or None
        """
        for name in (RESULT, DIVERGED):
            path = self.folder(config) / name
            if path.exists():
                return read_own(path, GOOD[name])
        return None

    def train(self, config: TrainConfig) -> dict[str, Any]:
        """Train a run, continue an interrupted one, or return the result of a finished one.

        Parameters
        ----------
        config : TrainConfig
            The run's options.

        Returns
        -------
        dict
            See :meth:`result`.
        """
        done = self.result(config)
        if done is not None:
            return done
        folder, data = self.folder(config), self.data(config)
        folder.parent.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        try:
            if (folder / CONFIG).exists() or (folder / LAST).exists():
                return resume(folder, dataset=data, **self.own(config), **QUIET)
            return train(self._resolve(config), folder, dataset=data, **self.own(config), **QUIET)
        except NonFiniteError as error:
            seconds = time.perf_counter() - begin
            outcome = {"diverged": str(error), "seconds": seconds, "seed": config.seed}
            write_json(folder / DIVERGED, outcome)
            return outcome

    def model(self, config: TrainConfig) -> Any:
        """The trained network of a finished run, in evaluation mode.

        Parameters
        ----------
        config : TrainConfig
            The run's options.

        Returns
        -------
        Layer
        """
        resolved = self._resolve(config)
        model, _ = load_model(
            self.folder(config),
            backend=resolved.backend,
            model=self.own(config).get("model"),
        )
        return model

    # ---- measures ----------------------------------------------------------------------
    def measured(
        self,
        config: TrainConfig,
        what: str,
        options: Mapping[str, Any],
        measure: Callable[[], Any],
    ) -> Any:
        """A measure of a run, from its file if there is one; otherwise computed and written.

        Parameters
        ----------
        config : TrainConfig
            The options of a finished run.
        what : str
            The measure's name.
        options : mapping
            Everything else that the measure depends on; other options have another file.
        measure : callable
            Computes it, without arguments; returns JSON or NumPy numbers.

        Returns
        -------
        JSON value
            Numbers that are not finite are None.
        """
        key = {"what": what, "options": plain(options), "version": __version__}
        path = self.folder(config) / "measured" / f"{what}-{checksum(key)}.json"
        if path.exists():
            values: Any = read_own(path, lambda found: _measure(found, what))["values"]
            return values
        values = plain(measure())
        path.parent.mkdir(exist_ok=True)
        write_json(path, {**key, "values": values})
        return values


def read_own(path: Path, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Read and check a JSON object that this program wrote and others may have changed.

    Parameters
    ----------
    path : Path
        The file.
    good : callable
        Says whether the object holds what it should.

    Returns
    -------
    JSON value

    Raises
    ------
    DataError
        If the file cannot be read, is not JSON, or does not hold what it should.
    """
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is damaged ({error}); delete it, and the command makes it again"
        ) from error
    if not isinstance(found, dict) or not good(found):
        raise DataError(
            f"{path} is damaged (it does not hold what it should); delete it, and the command "
            "makes it again"
        )
    return found


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _result(found: dict[str, Any]) -> bool:
    accuracies = ("test_accuracy", "val_accuracy", "test_loss", "seconds")
    optional = ("fbi_loss", "gate_step")
    return all(_number(found.get(name)) for name in accuracies) and all(
        found.get(name) is None or _number(found[name]) for name in optional
    )


GOOD: dict[str, Callable[[dict[str, Any]], bool]] = {
    RESULT: _result,
    DIVERGED: lambda found: isinstance(found.get("diverged"), str),
}


def _measure(found: dict[str, Any], what: str) -> bool:
    values = found.get("values")
    if what == "mean-activation":
        return isinstance(values, float) and values > 0
    return found.get("what") == what and _values(values, 2 if what == "activations" else 1)


def _values(value: Any, depth: int) -> bool:
    if depth:
        return isinstance(value, dict) and all(_values(v, depth - 1) for v in value.values())
    return value is None or _number(value)
