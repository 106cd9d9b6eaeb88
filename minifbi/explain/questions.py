"""What is asked of each image, and what each network answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import ConfigError
from minifbi.explain.attributions import LRP
from minifbi.explain.base import Explainer, Floats
from minifbi.explain.concepts import relevance_at
from minifbi.explain.runs import TrainedRun
from minifbi.explain.subjects import Subjects
from minifbi.explain.targets import Class, Difference, Target, parse_target
from minifbi.files.atomic import write_atomically
from minifbi.layers import Layer


@dataclass(frozen=True)
class Question:
    """One row of the figure: an image, and what is explained in it.

    Attributes
    ----------
    subject : int
        Which of the images.
    wanted : str
        What the user named, such as "predicted".
    targets : tuple of Target
        What is explained, for each run: "predicted" may differ.
    names : tuple of str
        The same in words.
    """

    subject: int
    wanted: str
    targets: tuple[Target, ...]
    names: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all runs explain the same."""
        return len(set(self.names)) == 1


@dataclass(frozen=True)
class Answers:
    """What one network says.

    Attributes
    ----------
    run : TrainedRun
        The network.
    logits, probabilities : ndarray, shape (images, classes)
        Of the images.
    values : ndarray, shape (questions,)
        What is explained, as a number: a logit, the difference of two, the output of a unit.
    maps : dict of str to ndarray, shape (questions, C, H, W)
        The attribution of each question, by method.
    """

    run: TrainedRun
    logits: NDArray[Any]
    probabilities: NDArray[Any]
    values: NDArray[Any]
    maps: dict[str, Floats]


def ask(
    runs: Sequence[TrainedRun],
    predicted: Sequence[Sequence[int]],
    subjects: Subjects,
    wanted: Sequence[str],
) -> list[Question]:
    """All questions, each once: for each image what the user wanted to know.

    Parameters
    ----------
    runs : sequence of TrainedRun
    predicted : sequence of sequence of int
        The predicted class, for each run and image.
    subjects : Subjects
        The images.
    wanted : sequence of str
        "label", "predicted", or what :func:`minifbi.explain.parse_target` takes; in the
        difference of two classes too: "label-predicted".

    Raises
    ------
    ConfigError
        If it is none of these, or "label" is wanted and there are no labels.
    """
    names = runs[0].class_names
    found: dict[tuple[Any, ...], Question] = {}
    for i in range(len(subjects.images)):
        words = {} if subjects.labels is None else {"label": subjects.labels[i]}
        for text in wanted:
            targets = tuple(
                parse_target(text, names, run.model, words | {"predicted": known[i]})
                for run, known in zip(runs, predicted, strict=True)
            )
            said = tuple(target.describe(names) for target in targets)
            key = (i, *map(same_as, targets))
            found.setdefault(key, Question(i, text, targets, said))
    return list(found.values())


def same_as(target: Target) -> Any:
    """What two targets for single images have in common if they are the same."""
    if isinstance(target, Class):
        return Class, int(target.classes)
    if isinstance(target, Difference):
        return Difference, int(target.classes), int(target.others)
    return target


def value_name(target: Target) -> str:
    """What the number is called that is explained."""
    return {Class: "logit", Difference: "difference"}.get(type(target), "value")


def together(targets: Sequence[Target]) -> list[tuple[Target, list[int]]]:
    """Targets of single images as few targets for many.

    Parameters
    ----------
    targets : sequence of Target
        One per image.

    Returns
    -------
    list of (Target, list of int)
        Each target with the images that it is for.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, target in enumerate(targets):
        kind = type(target)
        groups[kind if kind in (Class, Difference) else target].append(i)
    found: list[tuple[Target, list[int]]] = []
    for group, places in groups.items():
        of = np.array([same_as(targets[i])[1:] for i in places if not isinstance(group, Target)])
        if group is Class:
            group = Class(of[:, 0])
        elif group is Difference:
            group = Difference(of[:, 0], of[:, 1])
        found.append((group, places))
    return found


def for_each(targets: Sequence[Target], compute: Callable[[Target, list[int]], Floats]) -> Floats:
    """Compute something for many targets in few calls.

    Parameters
    ----------
    targets : sequence of Target
        One per image.
    compute : callable
        Takes a target and the places of its images; returns an array of them.

    Returns
    -------
    ndarray
        As if each had been computed alone.
    """
    groups = together(targets)
    order = np.argsort([place for _, places in groups for place in places])
    found = np.concatenate([compute(target, places) for target, places in groups])
    return np.asarray(found[order])


def attribute(
    explainer: Explainer,
    model: Layer,
    images: Floats,
    targets: Sequence[Target],
    layer: str | None = None,
) -> Floats:
    """The attributions of one method, each image with its own target.

    Parameters
    ----------
    explainer : Explainer
        For a hidden layer an :class:`~minifbi.explain.LRP`.
    model : Layer
        The network.
    images : ndarray, shape (N, C, H, W)
        Pixels in [0, 1].
    targets : sequence of N Target
        What is explained in each image.
    layer : str, optional
        Relevance at this layer instead of the pixels.

    Returns
    -------
    ndarray, shape (N, C, H, W)

    Raises
    ------
    ConfigError
        If there is no such layer, or its output is not made of maps.
    """
    if layer is None:
        return for_each(targets, lambda target, places: explainer(model, images[places], target))
    if not isinstance(explainer, LRP):
        raise ConfigError(f"layer={layer!r}: {explainer} has no relevance there; expected LRP")
    rule, through = explainer.composite, explainer.through
    found = for_each(
        targets,
        lambda target, places: relevance_at(model, images[places], target, layer, rule, through),
    )
    if found.ndim != 4:
        raise ConfigError(
            f"--layer {layer}: its output has shape {found.shape[1:]}, which is not made of maps; "
            "expected a layer before the first dense one"
        )
    return found


def save_answers(
    path: Path,
    subjects: Subjects,
    questions: Sequence[Question],
    answers: Sequence[Answers],
    layer: str = "",
    through: Sequence[str] = (),
) -> None:
    """Write images, questions and attributions as arrays, whole or not at all.

    :doc:`/explaining` lists the names.  There are no objects among them, so that
    ``np.load`` reads the file as it is.

    Parameters
    ----------
    path : Path
        Ends in ``.npz``; its folder exists.
    subjects : Subjects
        The images.
    questions : sequence of Question
        What was asked; one row of each array.
    answers : sequence of Answers
        By run.
    layer : str
        Where the attributions are; empty for the pixels.
    through : sequence of str
        The channels through which relevance went, if not all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    of = [question.subject for question in questions]
    unknown = [-1] * len(subjects.images)
    arrays: dict[str, Any] = {
        "images": subjects.images[of],
        "names": np.array([subjects.names[i] for i in of]),
        "indices": np.array(subjects.indices or unknown)[of],
        "labels": np.array(subjects.labels or unknown)[of],
        "class_names": np.array(answers[0].run.class_names),
        "runs": np.array([one.run.name for one in answers]),
        "trainings": np.array([one.run.description for one in answers]),
        "methods": np.array(list(answers[0].maps)),
        "targets": np.array([question.names for question in questions]).T,
        "values": np.stack([one.values for one in answers]),
        "layer": np.array(layer),
        "through": np.array(through, dtype=str),
        "logits": np.stack([one.logits[of] for one in answers]),
    }
    for number, one in enumerate(answers):
        for method, values in one.maps.items():
            arrays[f"run{number}/{method}"] = values
    write_atomically(path, lambda file: np.savez(file, **arrays))
