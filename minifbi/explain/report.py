"""What ``python -m minifbi.explain`` does with its arguments: load, explain, print, draw."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.errors import ConfigError
from minifbi.explain import LRP, Explainer, conservation_report, get_explainer
from minifbi.explain.questions import Answers, Question, ask, save_answers
from minifbi.explain.runs import TrainedRun, check_same_images, load_runs
from minifbi.explain.subjects import Subjects, from_files, from_split
from minifbi.plots import heatmap_pixels, image_pixels, plot_heatmaps, save_figure, save_pixels
from minifbi.plots.figure import check_place
from minifbi.plots.heatmaps import blocks_of, colour_limits
from minifbi.training.loading import load_run_data

LONGEST = 40  # letters of a class name in a figure


def explain(options: argparse.Namespace) -> int:
    """Run the command with arguments that fit together; return its exit code."""
    check_place(options.out)  # before the work, not after
    if "pixels" in options:
        check_folder(options.pixels)
    save = Path(options.save) if "save" in options else None
    if save is not None:
        check_place(save, ".npz", "arrays")
    methods = list(dict.fromkeys(getattr(options, "method", ["lrp-0"])))
    explainers = {name: get_explainer(name) for name in methods}
    networks = getattr(options, "model", [])
    runs = load_runs(options.checkpoints, backend=options.backend, models=networks)
    subjects = find_subjects(runs, options)
    known = [run.predict(subjects.images) for run in runs]
    predicted = [logits.argmax(axis=1).tolist() for logits, _ in known]
    wanted = getattr(options, "classes", ["predicted" if subjects.labels is None else "label"])
    questions = ask(runs, predicted, subjects, wanted)
    images = subjects.images[[question.subject for question in questions]]
    answers = []
    for place, (run, (logits, probabilities)) in enumerate(zip(runs, known, strict=True)):
        if len(runs) > 1:
            print(f"{run.name}: {run.description}")
        print_predictions(run, subjects, probabilities)
        targets = np.array([question.targets[place] for question in questions])
        maps = {name: one(run.model, images, targets) for name, one in explainers.items()}
        answers.append(Answers(run, logits, probabilities, maps))
        for name, explainer in explainers.items():
            print_sums(name, answers[-1], place, subjects, questions)
            if options.conservation:
                print_conservation(name, explainer, run, images, targets)
    draw(answers, subjects, questions, options)
    if save is not None:
        save_answers(save, subjects, questions, answers)
        print(f"wrote {save}")
    if "pixels" in options:
        count = write_pixels(answers, subjects, questions, options)
        print(f"wrote {count} pictures to {options.pixels}")
    return 0


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
    for question, one in zip(questions, answer.maps[method], strict=True):
        if (question.subject, question.targets[place]) in said:
            continue
        said.add((question.subject, question.targets[place]))
        logit = answer.logits[question.subject, question.targets[place]]
        print(
            f"  {method}, {subjects.names[question.subject]}, class {question.names[place]} "
            f"(logit {logit:.4f}): for {one[one > 0].sum():.4f}, "
            f"against {one[one < 0].sum():.4f}, sum {one.sum():.4f}"
        )


def print_conservation(
    name: str, explainer: Explainer, run: TrainedRun, images: Any, targets: Any
) -> None:
    """Where the relevance of a method went, layer by layer."""
    if not isinstance(explainer, LRP):
        print(f"  ({name} has no relevance pass, so nothing to conserve)")
        return
    report = conservation_report(run.model, images, targets, explainer.composite)
    many = f", mean over {len(images)} explanations" if len(images) > 1 else ""
    print(f"\nwhere the relevance of {name} goes{many}:\n{report}\n")


# ---- pictures --------------------------------------------------------------------------
def draw(
    answers: Sequence[Answers],
    subjects: Subjects,
    questions: Sequence[Question],
    options: argparse.Namespace,
) -> None:
    """The figure: a row per question, a block of columns per run."""
    alone = len(answers) == 1
    blocks = {f"{one.run.name}\n{one.run.description}": one for one in answers}
    of = [question.subject for question in questions]
    pictures: dict[str, Any] = {"image": list(subjects.images[of])}
    if subjects.originals is not None:
        shown = {"picture": [subjects.originals[i] for i in of]}
        pictures = shown | {"what the network sees": pictures["image"]}
    between = ", " if len(answers[0].maps) > 1 else "\n"  # a narrow column, or a wide block
    figure = plot_heatmaps(
        answers[0].maps if alone else {name: one.maps for name, one in blocks.items()},
        pictures=pictures,
        rows=[row_label(question, subjects, answers) for question in questions],
        notes=None
        if alone
        else {
            name: [between.join(note(question, one, place, several=True)) for question in questions]
            for place, (name, one) in enumerate(blocks.items())
        },
        shared=options.shared,
        per_line=7 if alone else 10,  # several runs are compared most easily on one line
        title=answers[0].run.description if alone else None,
        colorblind=options.colorblind,
    )
    save_figure(figure, options.out)
    print(f"wrote {options.out}")


def row_label(question: Question, subjects: Subjects, answers: Sequence[Answers]) -> str:
    """What stands beside a row: the image, its label, and what is explained."""
    lines = [short(subjects.names[question.subject])]
    if subjects.labels is not None:
        lines.append(
            f"label {short(answers[0].run.class_names[subjects.labels[question.subject]])}"
        )
    if len(answers) == 1:
        lines += note(question, answers[0], 0, several=False)
    else:
        lines.append(f"explained: {short(question.names[0]) if question.same else question.wanted}")
    return "\n".join(lines)


def note(question: Question, answer: Answers, place: int, several: bool) -> list[str]:
    """What one network says of an image."""
    best = int(answer.logits[question.subject].argmax())
    target = question.targets[place]
    logit = f"{answer.logits[question.subject, target]:.2f}".replace("-", "\N{MINUS SIGN}")
    probability = answer.probabilities[question.subject, best]
    lines = [f"predicted {short(answer.run.class_names[best])} ({probability:.3f})"]
    if not (several and question.same):  # then the row's label says it
        lines.append(f"explained: {short(question.names[place])}")
    return [*lines, f"logit {logit}"]


def short(text: str) -> str:
    """A name that may be long, for a figure."""
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def write_pixels(
    answers: Sequence[Answers],
    subjects: Subjects,
    questions: Sequence[Question],
    options: argparse.Namespace,
) -> int:
    """Each heatmap, and each image as the networks see it, as a PNG file of its own."""
    folder = Path(options.pixels)
    folder.mkdir(exist_ok=True)
    written: dict[str, bytes] = {}

    def write(pixels: Any, *words: str) -> None:
        name = "_".join(re.sub(r"[^\w.+-]+", "-", word)[:60] for word in words)
        number, unique = 1, name
        while unique.lower() in written:
            if written[unique.lower()] == pixels.tobytes():
                return  # label and predicted may be the same
            number += 1
            unique = f"{name}_{number}"
        written[unique.lower()] = pixels.tobytes()
        save_pixels(pixels, folder / f"{unique}.png", scale=options.scale)

    files = subjects.indices is None
    names = [Path(name).stem if files else name for name in subjects.names]
    for i in dict.fromkeys(question.subject for question in questions):
        write(image_pixels(subjects.images[i]), names[i])
    blocks = {one.run.name: one.maps for one in answers}
    sums = blocks_of(blocks)
    limits = colour_limits(sums, options.shared)
    for place, (run, maps) in enumerate(sums.items()):
        for method, values in maps.items():
            for row, (question, one) in enumerate(zip(questions, values, strict=True)):
                pixels = heatmap_pixels(
                    one, limits[run, method, row], colorblind=options.colorblind
                )
                words = [names[question.subject], question.names[place], method]
                write(pixels, *([run] if len(answers) > 1 else []), *words)
    return len(written)
