"""What is asked of each image, and what each network answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import ConfigError
from minifbi.explain.base import Floats
from minifbi.explain.runs import TrainedRun
from minifbi.explain.subjects import Subjects
from minifbi.files.atomic import write_atomically

WORDS = ("label", "predicted")  # classes that depend on the image


@dataclass(frozen=True)
class Question:
    """One row of the figure: an image, and what is explained in it.

    Attributes
    ----------
    subject : int
        Which of the images.
    wanted : str
        What the user named, such as "predicted".
    targets : tuple of int
        The class that is explained, for each run: "predicted" may differ.
    names : tuple of str
        The same in words.
    """

    subject: int
    wanted: str
    targets: tuple[int, ...]
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
    maps : dict of str to ndarray, shape (questions, C, H, W)
        The attribution of each question, by method.
    """

    run: TrainedRun
    logits: NDArray[Any]
    probabilities: NDArray[Any]
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
        "label", "predicted", a class's number or its name.

    Raises
    ------
    ConfigError
        If there is no such class, or "label" is wanted and there are no labels.
    """
    names = runs[0].class_names
    found: dict[tuple[Any, ...], Question] = {}
    for i in range(len(subjects.images)):
        label = None if subjects.labels is None else subjects.labels[i]
        for text in wanted:
            targets = tuple(which_class(text, label, known[i], names) for known in predicted)
            found[i, targets] = Question(
                i, text, targets, tuple(names[target] for target in targets)
            )
    return list(found.values())


def which_class(wanted: str, label: int | None, predicted: int, class_names: Sequence[str]) -> int:
    """The class that the user named."""
    if wanted == "label" and label is not None:
        return label
    if wanted == "predicted":
        return predicted
    if wanted in class_names:
        return list(class_names).index(wanted)
    # a number of thousands of digits would be an error of int's own
    if wanted.isdecimal() and len(wanted) < 20 and int(wanted) < len(class_names):
        return int(wanted)
    raise ConfigError(
        f"class {wanted!r}: expected {'' if label is None else repr('label') + ', '}'predicted', "
        f"0 to {len(class_names) - 1}, or one of {', '.join(class_names)}"
    )


def save_answers(
    path: Path, subjects: Subjects, questions: Sequence[Question], answers: Sequence[Answers]
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
        "logits": np.stack([one.logits[of] for one in answers]),
    }
    for number, one in enumerate(answers):
        for method, values in one.maps.items():
            arrays[f"run{number}/{method}"] = values
    write_atomically(path, lambda file: np.savez(file, **arrays))
