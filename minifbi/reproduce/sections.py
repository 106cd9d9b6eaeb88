"""The sections of the report, in the order of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minifbi.evaluate.measures import (
    ACTIVATION_MEASURES,
    CONFOUNDER_MEASURES,
    EXPLANATION_MEASURES,
    Measure,
)
from minifbi.reproduce.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Picture,
    Table,
    Text,
    Verdict,
)
from minifbi.reproduce.experiments import (
    ABLATION,
    DECOY,
    DECOY_METHODS,
    FASHION,
    LAMBDA,
    METHODS,
    NETWORKS,
    OWN,
)
from minifbi.reproduce.measuring import SIDES
from minifbi.reproduce.results import ACTIVATION, ALL_LAYERS, CONFOUNDER, EXPLANATION, Key, Results
from minifbi.reproduce.settings import Settings
from minifbi.reproduce.tables import (
    ACCURACY,
    LABELS,
    ablation_table,
    difference_table,
    evaluation_table,
    table1,
)
from minifbi.reproduce.verdict import (
    RULES,
    Judgement,
    number,
)

NOT_SHOWN = (
    "variance",
    "variance_rms",
    "variance_mean",
    "variance_max",
    "zero_attributions",
)
"""Measures that only the CSV files show; the tables show their inverses, or omit plain facts."""

MARKS = (
    "Mean ± standard deviation over the seeds; the test accuracy stands beside each method. "
    "↑ ↓: the 95 % interval of the paired difference from conventional training leaves out zero; "
    "*: that from L1 does."
)


@dataclass(frozen=True)
class Facts:
    """The content of the report beside the numbers.

    Attributes
    ----------
    command : str
        The command that writes the report again.
    machine : mapping of str to str
        Versions, processor, time.
    settings : Settings
        The size of the reproduction.
    quick : bool
        Whether it was a quick one, whose numbers are no results.
    captions : mapping of str to str
        Captions of the pictures, by file name.
    matching : mapping
        The search for the L1 weight; empty if there was none.
    fashion : str
        Why there is no Fashion-MNIST; empty if there is.
    missing : int
        Number of runs of the plan that are not finished.
    """

    command: str
    machine: Mapping[str, str]
    settings: Settings
    quick: bool
    captions: Mapping[str, str]
    matching: Mapping[str, Any]
    fashion: str
    missing: int


def compose(results: Results, facts: Facts, judgements: list[Judgement]) -> list[Block]:
    """The whole report."""
    blocks: list[Block] = [
        Heading(1, "Relevance regularization of CNNs: a reproduction of the paper"),
        Text(
            'Yoo, Kim and Kang, "Relevance Regularization of Convolutional Neural Network for '
            'Interpretable Classification", CVPR Workshops 2019, reproduced with minifbi: '
            "networks trained conventionally, with the FBI loss, and with the regularizers that "
            "one would compare it with."
        ),
        Code(facts.command),
    ]
    blocks += _conditions(facts)
    blocks += [Heading(2, "Verdicts"), summary_table(judgements), Bullets(RULES)]
    blocks += [Verdict(j.title, j.verdict, j.sentences) for j in judgements]
    blocks += [Heading(2, "The paper's figures and its table")]
    blocks += [_picture(name, facts) for name in _present(facts, "figure")]
    blocks += [Heading(3, "Table 1"), table1(results)]
    blocks += _evaluation(results, facts)
    blocks += _ablations(results, facts)
    blocks += _others(results, facts)
    blocks += [
        Heading(2, "Files"),
        Bullets(
            (
                "`table1.csv`, `evaluation.csv`, `ablations.csv`: the tables with all layers, "
                "differences and intervals",
                "`values.csv`: every number of every run; `results.json`: the same, with the "
                "verdicts",
                "`matching.json`: the search for the L1 weight",
            )
        ),
    ]
    return blocks


def summary_table(judgements: list[Judgement]) -> Table:
    """All verdicts at a glance."""
    rows = []
    for j in judgements:
        counts = [
            f"{c.supports} : {c.contradicts} : {c.open}" if c else "" for c in (j.count, j.twin)
        ]
        rows.append([j.title, f"**{j.verdict}**", *counts])
    return Table(
        ["claim", "verdict", "FBI, for : against : open", "L1, the same"],
        rows,
        "L1: a plain penalty on activations of the same mean activation. Where it does the same, "
        "the effect is not FBI's own.",
    )


def _conditions(facts: Facts) -> list[Block]:
    s = facts.settings
    images = "all images" if s.train is None else f"the first {s.train:,} training images"
    text = (
        f"{_many(s.seeds, 'seed')}, {_many(s.epochs, 'epoch')}, {images}; activations measured on "
        f"{s.activation_images:,} test images, explanations on {s.explanation_images}. "
        f"Decoy-MNIST and other networks: {_many(s.side_seeds, 'seed')}; lambda and ablations: "
        f"{_many(s.ablation_seeds, 'seed')}. "
    )
    text += "; ".join(f"{name} {value}" for name, value in facts.machine.items()) + "."
    blocks: list[Block] = [Text(text)]
    if facts.quick:
        blocks.append(
            Text(
                "**This was a quick run: few images, few seeds. It shows that everything works; "
                "its numbers and verdicts are no results.**"
            )
        )
    if facts.missing:
        blocks.append(
            Text(
                f"**Incomplete: {facts.missing} runs of the plan are not finished.** The same "
                "command goes on with them."
            )
        )
    return blocks


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _present(facts: Facts, prefix: str) -> list[str]:
    return [name for name in facts.captions if name.startswith(prefix)]


def _picture(name: str, facts: Facts) -> Picture:
    caption = facts.captions[name]
    return Picture(name, caption.split(":")[0], caption)


def _evaluation(results: Results, facts: Facts) -> list[Block]:
    methods = [m for m in METHODS if results.by_seed(m, ACCURACY)]
    blocks: list[Block] = [Heading(2, "Every measure, every method")]
    if facts.matching:
        m = facts.matching
        tried = "; ".join(f"{t['weight']:g} misses by {t['error']:+.1%}" for t in m["tried"])
        blocks.append(
            Text(
                "All methods share network, data, optimiser and gate. The weight of the L1 penalty "
                f"was chosen so that its mean activation on the validation split equals FBI's "
                f"({number(m['target'])}), with seed 0: {m['weight']:g} ({tried}). The others have "
                "their default weights."
            )
        )
    activations = titles(ACTIVATION, ACTIVATION_MEASURES, ALL_LAYERS)
    settings = facts.settings
    explanations = titles(EXPLANATION, EXPLANATION_MEASURES, settings.explainer)
    second = titles(EXPLANATION, EXPLANATION_MEASURES, settings.second_explainer)
    measured = set(results.keys(EXPLANATION))
    for key, title in second.items():
        if key in measured:
            explanations[key] = f"{settings.second_explainer}: {title}"
    blocks += [
        Heading(3, "Activations"),
        evaluation_table(
            results, activations, methods, caption=f"Mean of the convolutions. {MARKS}"
        ),
        Heading(3, "Explanations"),
        Text(
            f"Of `{settings.explainer}`, and where it is said of `{settings.second_explainer}`, "
            "for the true class; in brackets which "
            "side the measure's source calls the better one. LRP-0 is proportional to the pixel: "
            "on the black background it is 0 for every network, so its relevance mass on the digit "
            "is 1 by construction."
        ),
        evaluation_table(results, explanations, methods, caption=MARKS),
        Heading(3, "FBI against conventional training and against L1"),
        difference_table(results, {**activations, **explanations}),
    ]
    return blocks


def _confounder_titles(settings: Settings) -> dict[Key, str]:
    named = {}
    for key, title in titles(CONFOUNDER, CONFOUNDER_MEASURES).items():
        if key.measure == "wrong_reason_share":
            for name in (settings.explainer, settings.second_explainer):
                named[Key(CONFOUNDER, key.measure, name)] = f"{title}, {name}"
        else:
            named[key] = title
    return named


def titles(kind: str, measures: Mapping[str, Measure], layer: str = "") -> dict[Key, str]:
    """Row labels of a table: the measure, and for explanations its better direction."""
    named = {}
    for name, measure in measures.items():
        if name in NOT_SHOWN:
            continue
        side = f" ({measure.direction})" if kind != ACTIVATION and SIDES[measure.direction] else ""
        named[Key(kind, name, layer)] = measure.title + side
    return named


def _ablations(results: Results, facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    if results.variants(LAMBDA):
        blocks += [Heading(2, "The weight of the FBI loss")]
        blocks += [_picture(name, facts) for name in _present(facts, "lambda")]
        blocks += [ablation_table(results, LAMBDA, "Activations: mean of the convolutions.")]
    if results.variants(ABLATION):
        blocks += [
            Heading(2, "Ablations"),
            Text(
                "One choice changed at a time; the defaults are in the first lines. The rule "
                "epsilon is a stabiliser of 0.01."
            ),
            ablation_table(results, ABLATION, "Activations: mean of the convolutions."),
        ]
    return blocks


def _others(results: Results, facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    if results.variants(DECOY):
        blocks += [
            Heading(2, "Decoy-MNIST"),
            Text(
                "A grey patch in a corner gives the class away in training and misleads in the "
                "test (Ross et al. 2017). A method that makes networks look at the digit should "
                "lose less. The L1 weight is that of MNIST; right "
                "reasons is told where the patch is."
            ),
        ]
        for setting in dict.fromkeys(setting for _, setting in results.variants(DECOY)):
            blocks += [
                Heading(3, setting or "alexnet"),
                evaluation_table(
                    results,
                    _confounder_titles(facts.settings),
                    [m for m in DECOY_METHODS if results.by_seed(m, ACCURACY, DECOY, setting)],
                    group=DECOY,
                    setting=setting,
                    caption=MARKS,
                ),
            ]
    for setting in dict.fromkeys(setting for _, setting in results.variants(OWN)):
        blocks += _smaller(results, OWN, setting, f"Your own: {setting}")
    networks = list(dict.fromkeys(setting for _, setting in results.variants(NETWORKS)))
    for setting in networks:
        blocks += _smaller(results, NETWORKS, setting, f"Another network: {setting}")
    if results.variants(FASHION):
        blocks += _smaller(results, FASHION, "", "Fashion-MNIST")
    elif facts.fashion:
        blocks += [Heading(2, "Fashion-MNIST"), Text(f"Not measured: {facts.fashion}.")]
    return blocks


def _smaller(results: Results, group: str, setting: str, title: str) -> list[Block]:
    variants = results.variants(group)
    methods = [m for m in LABELS if (m, setting) in variants]
    methods += [m for m, where in variants if where == setting and m not in LABELS]
    keys = set(results.keys(ACTIVATION, group))
    labels: dict[Key, str] = {
        key: label
        for key, label in titles(ACTIVATION, ACTIVATION_MEASURES, ALL_LAYERS).items()
        if key in keys and results.summary("fbi", key, group, setting).count
    }
    table: Table = evaluation_table(
        results,
        {ACCURACY: "test accuracy", **labels},
        methods,
        group=group,
        setting=setting,
        caption=MARKS,
    )
    blocks: list[Block] = [Heading(2, title), table]
    if not labels:
        blocks.append(Text("It has no convolutions, so there are no activation maps to measure."))
    return blocks
