"""Trained networks that are explained, alone or side by side."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from minifbi.autograd import no_grad, softmax
from minifbi.errors import CheckpointError, ConfigError
from minifbi.explain.base import Floats
from minifbi.fbi import forward_pass
from minifbi.files.source import part_name
from minifbi.fusion import fuse
from minifbi.layers import Layer
from minifbi.switch import evaluating
from minifbi.training import RunState, TrainConfig, load_model
from minifbi.training.config import describe_regularizer

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class TrainedRun:
    """A network with what its checkpoint says of it.

    Attributes
    ----------
    name : str
        The run's folder, shortened where that is clear.
    model : Layer
        In evaluation mode.
    meta : mapping
        As :func:`minifbi.training.load_model` returns it.
    """

    name: str
    model: Layer
    meta: Mapping[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes."""
        return tuple(self.meta["class_names"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        channels, height, width = self.meta["input_shape"]
        return channels, height, width

    @property
    def data_name(self) -> str:
        """What it was trained on."""
        return str(self.meta["data"]["name"])

    @property
    def description(self) -> str:
        """Which network it is and how it was trained."""
        config = self.meta["config"]
        return (
            f"{part_name(config['model'])} on {self.data_name}, {trained_with(config)}, "
            f"epoch {self.meta.get('epoch', 'unknown')}"
        )

    def predict(self, images: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
        """Logits and probabilities, each of shape (N, classes)."""
        with evaluating(self.model), no_grad():
            logits = forward_pass(fuse(self.model), images)[-1].z
            return logits.numpy(), softmax(logits).numpy()


def load_runs(
    paths: Sequence[str], *, backend: str = "auto", models: Sequence[Any] = ()
) -> list[TrainedRun]:
    """Load networks that can be compared: for images of one shape, and with the same classes.

    Parameters
    ----------
    paths : sequence of str
        Checkpoints, or folders of runs.
    backend : str
        Where they run.
    models : sequence of function or str
        Networks of your own, for the runs that were trained with them; see
        :func:`minifbi.training.load_model`.

    Returns
    -------
    list of TrainedRun

    Raises
    ------
    ConfigError
        If a path is there twice, or two runs do not agree; the message says in what.
    CheckpointError
        If one cannot be used.
    """
    runs: list[TrainedRun] = []
    for path, name in zip(paths, names_of(paths), strict=True):
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            model, meta = load_model(path, backend=backend, model=list(models))
        for note in notes:
            print(f"{name}: {note.message}", file=sys.stderr)
        RunState.check(meta, ("class_names", "data"), path)
        if len(meta["class_names"]) != meta["num_classes"]:
            raise CheckpointError(
                f"{path}: {len(meta['class_names'])} class names for {meta['num_classes']} classes"
            )
        runs.append(TrainedRun(name, model, meta))
    first = runs[0]
    for run in runs[1:]:
        if run.input_shape != first.input_shape:
            shapes = [" x ".join(map(str, one.input_shape)) for one in (run, first)]
            raise ConfigError(
                f"{run.name} takes images of {shapes[0]} and {first.name} of {shapes[1]}; only "
                "runs that take the same images can be compared"
            )
        if run.class_names != first.class_names:
            raise ConfigError(
                f"{_different_classes(run, first)}; only runs with the same classes can be compared"
            )
    return runs


def _different_classes(run: TrainedRun, first: TrainedRun) -> str:
    if len(run.class_names) != len(first.class_names):
        counts = [f"{one.name} has {len(one.class_names)}" for one in (run, first)]
        return f"{counts[0]} classes and {counts[1]}"
    pairs = enumerate(zip(run.class_names, first.class_names, strict=True))
    place, (one, other) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    return f"class {place} is {one!r} in {run.name} and {other!r} in {first.name}"


def check_same_images(runs: Sequence[TrainedRun], split: str) -> None:
    """Raise ConfigError unless a split has the same images in all runs.

    Parameters
    ----------
    runs : sequence of TrainedRun
        At least one.
    split : {"train", "validation", "test"}
        Names of the data sets are compared, and number and labels of its images.
    """
    first, part = runs[0], SPLITS.index(split)
    for run in runs[1:]:
        if run.data_name != first.data_name:
            raise ConfigError(
                f"{run.name} was trained on {run.data_name} and {first.name} on "
                f"{first.data_name}; give --image FILE to compare them on a picture"
            )
        for what in ("images", "labels"):
            if run.meta["data"][what][part] != first.meta["data"][what][part]:
                raise ConfigError(
                    f"the {split} {what} of {first.data_name} were others in {run.name} than in "
                    f"{first.name}; give another --split, or --image FILE"
                )


def names_of(paths: Sequence[str]) -> list[str]:
    """A short name for each path: the folder's, unless two would have the same.

    Raises
    ------
    ConfigError
        If a path is there twice.
    """
    resolved = [Path(path).resolve() for path in paths]
    for path, times in Counter(resolved).items():
        if times > 1:
            raise ConfigError(f"{path} is there {times} times; expected different runs")
    short = [
        f"{path.parent.name}/{path.stem}" if path.suffix == ".npz" else path.name
        for path in resolved
    ]
    return [
        path if short.count(name) > 1 or not name else name
        for path, name in zip(paths, short, strict=True)
    ]


def trained_with(options: Mapping[str, Any]) -> str:
    """The regularizer of a checkpoint's network, for the title of the picture."""
    try:
        config = TrainConfig.from_run(options)
        if not config.penalty_weight:
            return "conventional training"
    except ConfigError:  # of a later version, or without the weight of a regularizer of one's own
        return part_name(str(options.get("regularizer", "another regularizer")))
    return describe_regularizer(config).replace("lambda ", "lambda = ")
