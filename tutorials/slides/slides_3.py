"""Slides of the third session: is it more interpretable?  And how to build one's own."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from minifbi.datasets import Dataset, decoy_mnist, load_mnist
from minifbi.explain import get_explainer

from slides_material import first
from slides_page import BLUE, GREEN, GREY, ORANGE, RED, Deck

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "reproduction"


def rows_of(name: str) -> list[dict[str, str]]:
    """A table of our full run."""
    with (RESULTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def third_session(deck: Deck, material: Any) -> None:
    """The pages of the session."""
    deck.begin(
        "Session 3",
        "Is it more interpretable?",
        [
            "the paper's figures and its table",
            "the twin that it needs",
            "rules, decoys and measures",
            "how to read such papers; build your own",
        ],
    )
    densities(deck, material)
    table_1(deck)
    twin(deck)
    rules(deck, material)
    question(deck, material)
    decoy(deck)
    verdicts(deck)
    deck.page("How to read such a paper")
    deck.points(
        [
            "What exactly is claimed? Which number would prove it wrong?",
            "Is the effect the method's own, or would a plain penalty do the same?",
            "Does the number survive another scale (raw, divided by RMS, by the maximum)?",
            "How many seeds? Is the difference larger than their spread?",
            "Was the picture chosen? Does the map change with the question?",
            "What was tuned, and on which data?",
        ],
        gap=0.82,
    )
    four_methods(deck)
    deck.page("To discuss")
    deck.points(
        [
            "‘Sparse’ and ‘interpretable’: the same? Find a sparse map that misleads.",
            "Which experiment would convince you that FBI helps a user?",
            "Your net explains an image of nothing with great confidence. What now?",
            "The loss hardly depends on the relevance rule. What does that say about its name?",
        ],
        gap=1.0,
    )


def densities(deck: Deck, material: Any) -> None:
    deck.page("Fig. 3: how activations are distributed")
    names = [f"relu_conv{i}" for i in (1, 2, 3, 4, 5)]
    found = {}
    for title, trainer in (("conventional", material.conventional), ("FBI", material.fbi)):
        steps = {s.name: s.z.numpy() for s in trainer.model.trace(material.images)}
        found[title] = [steps[name].ravel() for name in names]
    for scale, bottom, label in ((False, 4.0, "as they are"), (True, 1.2, "divided by their RMS")):
        for k, name in enumerate(names):
            ax = deck.axes(1.1 + 2.45 * k, bottom, 2.0, 1.75, size=11)
            pair = [found[title][k] for title in found]
            if scale:
                pair = [values / (np.sqrt((values**2).mean()) or 1.0) for values in pair]
            top = max(np.quantile(values, 0.999) for values in pair)
            for values, color in zip(pair, (BLUE, RED), strict=True):
                shares, edges = np.histogram(values, bins=40, range=(0, top))
                ax.stairs(shares / values.size, edges, color=color, lw=1.8)
            ax.set(yscale="log")
            if k == 0:
                ax.set_ylabel("share of units", size=13)
            if not scale:
                ax.set_title(name.removeprefix("relu_"), size=15)
        deck.text(label, bottom - 0.45, 5.6, 15, color=GREY)
    deck.text("blue: conventional   red: FBI   (200 test digits, zeros included)", 6.35, 4.2, 15)


def table_1(deck: Deck) -> None:
    deck.page("Table 1: another scale, another answer")
    table = rows_of("table1.csv")
    readings = list(dict.fromkeys((row["row"], row["reading"]) for row in table))
    layers = list(dict.fromkeys(row["layer"] for row in table))
    rows = [["reading", *layers]]
    for kind, reading in readings:
        marks = []
        for layer in layers:
            one = next(
                r for r in table if (r["row"], r["reading"], r["layer"]) == (kind, reading, layer)
            )
            marks.append({1: "higher", 0: "open", -1: "lower"}[int(float(one["direction"]))])
        rows.append([reading, *marks])
    deck.table(rows, [5.0, *[1.5] * len(layers)], height=0.54, size=18, y=5.9)
    seeds = table[0]["seeds"]
    deck.text(
        f"FBI against conventional training, {seeds} seeds, 95 % interval of paired differences.\n"
        "The paper says: higher, in each layer, for the maximum and for the ‘skewness’.",
        1.5,
        size=16,
        color=GREY,
    )


MEASURES = {
    ("zero_fraction", ""): "share of zeros",
    ("maximum", ""): "maximum",
    ("rms_maximum", ""): "maximum / RMS",
    ("background_share", ""): "activation on background",
    ("test_accuracy", "training"): "test accuracy",
}


def mean_of(method: str, measure: str, kind: str) -> float:
    """Mean over layers (activations) or over seeds (the rest) of the main networks."""
    values = [
        float(r["mean"])
        for r in rows_of("evaluation.csv")
        if (r["group"], r["method"], r["measure"]) == ("main", method, measure)
        and r["kind"] == (kind or "activation")
    ]
    return float(np.mean(values))


def twin(deck: Deck) -> None:
    deck.page("The twin that it needs: a plain L1 penalty")
    rows = [["measure", "conventional", "FBI", "L1 penalty"]]
    for (measure, kind), title in MEASURES.items():
        values = [mean_of(method, measure, kind) for method in ("none", "fbi", "l1")]
        rows.append([title, *[f"{v:.4f}" if kind else f"{v:.2f}" for v in values]])
    deck.table(rows, [4.8, 3.0, 2.2, 2.2], height=0.72, size=22)
    deck.points(
        [
            "Same net, data, optimiser and gate; the same mean activation as FBI.",
            "Where L1 does the same, the effect is not the relevance pass's own.",
        ],
        y=1.55,
        gap=0.6,
    )


METHODS = ("lrp-0", "lrp-epsilon:0.25", "lrp-gamma", "lrp-z-plus", "lrp-epsilon-gamma-box")


def short(method: str) -> str:
    """A method's name above a narrow picture."""
    return {"lrp-0": "LRP-0", "lrp-epsilon-gamma-box": "composite"}.get(
        method, method.removeprefix("lrp-")
    )


def rules(deck: Deck, material: Any) -> None:
    deck.page("Other rules, other pictures")
    chosen = [int(np.flatnonzero(material.labels == c)[0]) for c in (7, 4)]
    images, labels = material.images[chosen], material.labels[chosen]
    model = material.conventional.model
    logits = model(images).numpy()
    second = np.argsort(logits, axis=1)[:, -2]
    rows = [(0, labels), (1, labels), (1, second)]
    for k, (index, classes) in enumerate(rows):
        bottom = 4.45 - 1.72 * k
        deck.picture(images[index, 0], 1.6, bottom, 1.58, cmap="gray")
        deck.text(f"why {classes[index]}?", bottom + 0.9, 0.45, 16)
        for m, method in enumerate(METHODS):
            found = get_explainer(method)(
                model, images[index : index + 1], classes[index : index + 1]
            )
            deck.signed(
                found[0].sum(axis=0),
                3.5 + 1.9 * m,
                bottom,
                1.58,
                short(method) if k == 0 else "",
            )
    deck.text(
        "the last row asks for the runner-up: does the map change with the question?",
        0.75,
        size=16,
        x=3.4,
        color=GREY,
    )


def question(deck: Deck, material: Any) -> None:
    deck.page("Does the map answer “why this class?”")
    images, labels = material.images[:100], material.labels[:100]
    model = material.conventional.model
    logits = model(images).numpy()
    right = logits.argmax(axis=1) == labels
    images, labels, second = images[right], labels[right], np.argsort(logits, axis=1)[right, -2]
    values = []
    for method in METHODS:
        maps = [get_explainer(method)(model, images, c) for c in (labels, second)]
        values.append(
            np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*maps, strict=True)])
        )
    ax = deck.axes(4.3, 1.4, 8.0, 4.6)
    ax.barh(range(len(values)), values, color=BLUE, height=0.6)
    ax.set_yticks(range(len(values)), METHODS, size=17)
    ax.invert_yaxis()
    ax.set(
        xlabel="correlation of the maps of two classes (1: the same picture)",
        xlim=(min(0, *values) - 0.05, 1),
    )
    ax.axvline(0, color=GREY, lw=1)
    deck.text(f"true class and runner-up, {len(labels)} test digits", 6.2, 4.3, 16, color=GREY)


def decoy(deck: Deck) -> None:
    deck.page("A trap: Decoy-MNIST")
    mnist = load_mnist()
    few = [first(split, 4) for split in (mnist.train, mnist.validation, mnist.test)]
    data = decoy_mnist(Dataset("mnist", *few, 10, mnist.class_names))
    for row, split in enumerate((data.train, data.test)):
        images, labels = split.batch(slice(0, 4))
        deck.text(("training", "test")[row], 5.2 - 2.3 * row, 0.5, 18)
        for k in range(4):
            deck.picture(
                images[k, 0],
                1.9 + 1.35 * k,
                4.3 - 2.3 * row,
                1.25,
                str(labels[k]),
                cmap="gray",
                vmin=0,
                vmax=1,
            )
    rows = [["method", "as trained", "random"]]
    table = [
        r
        for r in rows_of("evaluation.csv")
        if (r["group"], r["network"]) == ("decoy-mnist", "alexnet")
    ]
    names = {
        "none": "conventional",
        "fbi": "FBI",
        "l1": "L1",
        "right-reasons": "Right Reasons",
    }
    for method, title in names.items():
        found = {r["measure"]: float(r["mean"]) for r in table if r["method"] == method}
        rows.append([title, f"{found['accuracy_rule']:.3f}", f"{found['accuracy_random']:.3f}"])
    deck.table(rows, [2.9, 1.5, 1.2], height=0.65, size=15, x=7.35, y=5.2)
    deck.text(
        "test accuracy if the patch follows the class\nas in training, or is random; 5 seeds",
        2.0,
        7.4,
        14,
        color=GREY,
    )
    deck.text(
        "In training, the grey of the patch gives the class away. Who falls for it?", 0.95, size=20
    )


def verdicts(deck: Deck) -> None:
    deck.page("The claims, and our verdicts")
    lines = (RESULTS / "report.md").read_text("utf-8").split("## Verdicts")[1].strip().splitlines()
    rows = [
        [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines)
    ]
    rows = [row for row in rows if not set(row[0]) <= {"-", " "}]
    head = ["claim of the paper", "verdict", "for : against : open", "for L1"]
    deck.table([head, *rows[1:]], [6.3, 1.6, 2.7, 1.6], height=0.6, size=16)
    deck.text(
        "5 seeds, 111 networks; docs/reproduction says how a verdict is reached.",
        0.95,
        size=16,
        color=GREY,
    )


CODE = """\
class LeakyReLU(Layer):

    def forward(self, backend, x):                      # Eq. (1)
        factor = where(x > 0, 1, self.slope)
        return x * factor, factor

    def backward(self, backend, grad, saved, needs_x):  # its adjoint
        return (grad * saved,)

    def relevance(self, backend, ratio, saved):         # Eq. (2): J^T ratio
        return ratio * saved

    def jvp(self, backend, u, saved):                   # its adjoint: J u
        return u * saved"""


def four_methods(deck: Deck) -> None:
    deck.page("Build your own: a layer is four methods")
    deck.text(CODE, 6.15, size=17, family="monospace", linespacing=1.3)
    deck.text(
        "(abridged)   The slope is to be trained. Which passes have a gradient for it?",
        0.85,
        size=19,
        color=ORANGE,
    )
    deck.figure.texts[-1].set_color(GREEN)
