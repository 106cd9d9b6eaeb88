"""What ``python -m minifbi.explain`` does with its arguments: load, explain, print, draw."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.autograd import no_grad
from minifbi.errors import ConfigError
from minifbi.explain import LRP, Explainer, conservation_report, get_explainer, with_background
from minifbi.explain.base import value_of
from minifbi.explain.drawing import draw, write_pixels
from minifbi.explain.questions import (
    Answers,
    Question,
    ask,
    attribute,
    for_each,
    save_answers,
    together,
    value_name,
)
from minifbi.explain.runs import TrainedRun, check_same_images, load_runs
from minifbi.explain.subjects import Subjects, from_files, from_split
from minifbi.explain.targets import Class, Target
from minifbi.plots.figure import check_place
from minifbi.switch import evaluating
from minifbi.training.loading import load_run_data


def explain(options: argparse.Namespace) -> int:
    """Run the command with arguments that fit together; return its exit code."""
    check_place(options.out)  # before the work, not after
    if "pixels" in options:
        check_folder(options.pixels)
    save = Path(options.save) if "save" in options else None
    if save is not None:
        check_place(save, ".npz", "arrays")
    explainers = find_explainers(options)
    networks = getattr(options, "model", [])
    runs = load_runs(options.checkpoints, backend=options.backend, models=networks)
    subjects = find_subjects(runs, options)
    known = [run.predict(subjects.images) for run in runs]
    predicted = [logits.argmax(axis=1).tolist() for logits, _ in known]
    questions = ask(runs, predicted, subjects, wanted_targets(subjects, options))
    images = subjects.images[[question.subject for question in questions]]
    if subjects.background is not None:
        explainers = {n: with_background(e, subjects.background) for n, e in explainers.items()}
    answers = []
    for place, (run, (logits, probabilities)) in enumerate(zip(runs, known, strict=True)):
        if len(runs) > 1:
            print(f"{run.name}: {run.description}")
        print_predictions(run, subjects, probabilities)
        targets = [question.targets[place] for question in questions]
        values = for_each(targets, partial(values_of, run, images))
        maps = {
            name: attribute(one, run.model, images, targets, getattr(options, "layer", None))
            for name, one in explainers.items()
        }
        answers.append(Answers(run, logits, probabilities, values, maps))
        for name, explainer in explainers.items():
            print_sums(name, answers[-1], place, subjects, questions)
            if options.conservation:
                print_conservation(name, explainer, run, images, targets)
    draw(answers, subjects, questions, options)
    if save is not None:
        layer, through = getattr(options, "layer", ""), getattr(options, "through", [])
        save_answers(save, subjects, questions, answers, layer, through)
        print(f"wrote {save}")
    if "pixels" in options:
        count = write_pixels(answers, subjects, questions, options)
        print(f"wrote {count} pictures to {options.pixels}")
    return 0


def values_of(run: TrainedRun, images: Any, target: Target, places: list[int]) -> Any:
    """What is explained, as a number for each of these images."""
    with evaluating(run.model), no_grad():
        return value_of(run.model, images[places], target)


def find_explainers(options: argparse.Namespace) -> dict[str, Explainer]:
    """The methods that the user named, and what belongs to relevance propagation alone."""
    through = parse_through(getattr(options, "through", []))
    found: dict[str, Explainer] = {}
    for name in getattr(options, "method", ["lrp-0"]):
        found[name] = get_explainer(name)
        for flag in ("through", "layer"):
            if flag in options and not isinstance(found[name], LRP):
                raise ConfigError(
                    f"--{flag} does not go with the method {name}; expected one that propagates "
                    "relevance, lrp-..."
                )
        if through:
            found[name] = replace(found[name], through=through)  # type: ignore[type-var]
        if "image" in options and "expected-gradients" in name:
            raise ConfigError(
                f"the method {name} needs images of the data set; it does not go with --image"
            )
    return found


def parse_through(texts: Sequence[str]) -> dict[str, list[int]]:
    """Channels by layer, from texts such as "conv3:5,7"."""
    found: dict[str, list[int]] = {}
    for text in texts:
        layer, colon, numbers = text.rpartition(":")
        channels = [number.strip() for number in numbers.split(",")]
        if not colon or not all(n.isdecimal() and len(n) < 10 for n in channels):
            raise ConfigError(f"--through {text}: expected LAYER:CHANNEL,... such as conv3:5,7")
        found.setdefault(layer, []).extend(map(int, channels))
    return found


def wanted_targets(subjects: Subjects, options: argparse.Namespace) -> list[str]:
    """What the user wants explained: by default the label, or the prediction for a picture."""
    units = getattr(options, "unit", [])
    default = [] if units else ["predicted" if subjects.labels is None else "label"]
    return [*getattr(options, "classes", default), *units]


def check_folder(path: str) -> None:
    """Raise unless there is such a folder, or it can be made."""
    if Path(path).exists() and not Path(path).is_dir():
        raise ConfigError(f"--pixels {path}: it is a file; expected a folder")
    check_place(Path(path) / "image.png" if Path(path).exists() else Path(f"{path}.png"))


def find_subjects(runs: Sequence[TrainedRun], options: argparse.Namespace) -> Subjects:
    """The images that the user asked for; says what was done to pictures."""
    first = runs[0]
    if "image" in options:
        subjects = from_files(
            options.image,
            first.input_shape,
            first.class_names,
            raw=options.raw_image,
            dtype=first.model.dtype,
        )
        print(f"{' and '.join(subjects.names)}: {subjects.preparation}")
        return subjects
    check_same_images(runs, options.split)
    own = getattr(options, "dataset", None)
    dataset = load_run_data(first.meta, getattr(options, "data_dir", None), dataset=own)
    return from_split(dataset, options.split, options.index, first.model.dtype)


# ---- words for the terminal ------------------------------------------------------------
def print_predictions(run: TrainedRun, subjects: Subjects, probabilities: Any) -> None:
    """One line per image: what the network takes it for."""
    classes = run.class_names
    for i, name in enumerate(subjects.names):
        best = np.argsort(-probabilities[i], kind="stable")[:3]
        first = f"predicted {classes[best[0]]} (probability {probabilities[i, best[0]]:.3f})"
        if subjects.labels is not None:
            print(f"{run.data_name}, {name}: label {classes[subjects.labels[i]]}, {first}")
        else:
            others = [f"{classes[c]} ({probabilities[i, c]:.3f})" for c in best[1:]]
            print(f"{name}: {first}" + (f", then {' and '.join(others)}" if others else ""))


def print_sums(
    method: str, answer: Answers, place: int, subjects: Subjects, questions: Sequence[Question]
) -> None:
    """One line per question: what speaks for its class, and what against it."""
    said = set()  # the rows of two questions may be the same for one run: label and predicted
    for question, value, one in zip(questions, answer.values, answer.maps[method], strict=True):
        if (question.subject, question.names[place]) in said:
            continue
        said.add((question.subject, question.names[place]))
        kind = "class " if isinstance(question.targets[place], Class) else ""
        print(
            f"  {method}, {subjects.names[question.subject]}, {kind}{question.names[place]} "
            f"({value_name(question.targets[place])} {value:.4f}): for {one[one > 0].sum():.4f}, "
            f"against {one[one < 0].sum():.4f}, sum {one.sum():.4f}"
        )


def print_conservation(
    name: str, explainer: Explainer, run: TrainedRun, images: Any, targets: Sequence[Target]
) -> None:
    """Where the relevance of a method went, layer by layer."""
    if not isinstance(explainer, LRP):
        print(f"  ({name} has no relevance pass, so nothing to conserve)")
        return
    for target, places in together(targets):
        report = conservation_report(run.model, images[places], target, explainer.composite)
        many = f", mean over {len(places)} explanations" if len(places) > 1 else ""
        many += "" if len(places) == len(targets) else f" ({target.describe(run.class_names)})"
        print(f"\nwhere the relevance of {name} goes{many}:\n{report}\n")
