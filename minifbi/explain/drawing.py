"""The pictures of ``python -m minifbi.explain``: the figure, and pixels."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.explain.questions import Answers, Question, same_as, value_name
from minifbi.explain.subjects import Subjects
from minifbi.explain.targets import Class, Difference
from minifbi.plots import heatmap_pixels, image_pixels, plot_heatmaps, save_figure, save_pixels
from minifbi.plots.heatmaps import blocks_of, colour_limits

LONGEST = 40  # letters of a class name in a figure
STRONGEST = 4  # channels of a hidden layer that are shown


def draw(
    answers: Sequence[Answers],
    subjects: Subjects,
    questions: Sequence[Question],
    options: argparse.Namespace,
) -> None:
    """The figure: a row per question, a block of columns per run."""
    alone = len(answers) == 1
    tiles = [tiles_of(one, getattr(options, "layer", None)) for one in answers]
    heads = [f"{one.run.name}\n{one.run.description}" for one in answers]
    of = [question.subject for question in questions]
    pictures: dict[str, Any] = {"image": list(subjects.images[of])}
    if subjects.originals is not None:
        shown = {"picture": [subjects.originals[i] for i in of]}
        pictures = shown | {"what the network sees": pictures["image"]}
    between = ", " if len(tiles[0]) > 1 else "\n"  # a narrow column, or a wide block
    title = [answers[0].run.description] if alone else []
    if "through" in options:
        title.append(f"only relevance through {' and '.join(options.through)}")
    figure = plot_heatmaps(
        tiles[0] if alone else dict(zip(heads, tiles, strict=True)),
        pictures=pictures,
        rows=[row_label(i, one, subjects, answers) for i, one in enumerate(questions)],
        notes=None
        if alone
        else {
            name: [
                between.join(note(row, question, one, place, several=True))
                for row, question in enumerate(questions)
            ]
            for place, (name, one) in enumerate(zip(heads, answers, strict=True))
        },
        shared=options.shared,
        per_line=(2 + STRONGEST if "layer" in options else 7) if alone else 10,
        title="; ".join(title),
        colorblind=options.colorblind,
        ends=ends_of(questions, answers[0].run.class_names),
    )
    save_figure(figure, options.out)
    print(f"wrote {options.out}")


def tiles_of(answer: Answers, layer: str | None) -> dict[str, Any]:
    """The maps of one network by their titles; of a hidden layer also its strongest channels."""
    if layer is None:
        return answer.maps
    found = {}
    for method, values in answer.maps.items():  # (questions, channels, h, w)
        start = f"{method}: " if len(answer.maps) > 1 else ""
        found[f"{start}{layer}, all channels"] = values.sum(axis=1, keepdims=True)
        strength = np.abs(values).sum(axis=(0, 2, 3))
        for channel in np.argsort(-strength, kind="stable")[:STRONGEST]:
            found[f"{start}channel {channel}"] = values[:, channel : channel + 1]
    return found


def ends_of(questions: Sequence[Question], class_names: Sequence[str]) -> tuple[str, str]:
    """What the two ends of the colours mean."""
    targets = [target for question in questions for target in question.targets]
    only = targets[0] if len({same_as(target) for target in targets}) == 1 else None
    if isinstance(only, Difference):
        first, second = (short(class_names[int(c)]) for c in (only.classes, only.others))
        return f"for {second}", f"for {first}"
    if all(isinstance(target, Class) for target in targets):
        return "against", "for the class"
    return "against", "for what is explained"


def row_label(row: int, question: Question, subjects: Subjects, answers: Sequence[Answers]) -> str:
    """What stands beside a row: the image, its label, and what is explained."""
    lines = [short(subjects.names[question.subject])]
    if subjects.labels is not None:
        lines.append(
            f"label {short(answers[0].run.class_names[subjects.labels[question.subject]])}"
        )
    if len(answers) == 1:
        lines += note(row, question, answers[0], 0, several=False)
    else:
        lines.append(f"explained: {short(question.names[0]) if question.same else question.wanted}")
    return "\n".join(lines)


def note(row: int, question: Question, answer: Answers, place: int, several: bool) -> list[str]:
    """What one network says of an image."""
    best = int(answer.logits[question.subject].argmax())
    probability = answer.probabilities[question.subject, best]
    lines = [f"predicted {short(answer.run.class_names[best])} ({probability:.3f})"]
    if not (several and question.same):  # then the row's label says it
        lines.append(f"explained: {short(question.names[place])}")
    value = f"{answer.values[row]:z.2f}".replace("-", "\N{MINUS SIGN}")
    return [*lines, f"{value_name(question.targets[place])} {value}"]


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
    layer = getattr(options, "layer", None)
    sums = blocks_of({one.run.name: tiles_of(one, layer) for one in answers})
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
