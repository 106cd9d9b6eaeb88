"""The plan: which networks are trained, in which order, and what that costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minifbi.files.source import part_name
from minifbi.reproduce.settings import Settings
from minifbi.training import TrainConfig
from minifbi.training.parts import Parts

MAIN, DECOY, LAMBDA, ABLATION = "main", "decoy-mnist", "lambda", "ablation"
NETWORKS, FASHION, OWN = "networks", "fashion-mnist", "your own"
GROUPS = (MAIN, DECOY, LAMBDA, ABLATION, NETWORKS, FASHION, OWN)

METHODS = ("none", "fbi", "l1", "l2", "input-gradient", "saliency-guided")
DECOY_METHODS = ("none", "fbi", "l1", "right-reasons")

# What a training step costs, in conventional steps of the alexnet.  Only the estimate of the
# time depends on these; it is scaled by what finished runs took.
STEP_COST = {
    "none": 1.0,
    "l2": 1.0,
    "l1": 1.3,
    "fbi": 2.2,
    "input-gradient": 2.2,
    "right-reasons": 2.2,
    "saliency-guided": 2.5,
}
NOTHING = Parts()  # of one's own
MODEL_COST = {"alexnet": 1.0, "lenet": 0.5, "mlp": 0.3}
# of a relevance pass that cannot use the fused blocks, against one that can
RULE_COST = {"epsilon": 2.9, "gamma": 4.4, "alpha-beta": 5.9}


@dataclass(frozen=True)
class Experiment:
    """One training run and its place in the report.

    Attributes
    ----------
    group : str
        One of :data:`GROUPS`.
    method : str
        How it is regularised: a name of :data:`METHODS` or :data:`DECOY_METHODS`, or in the
        group "your own" that of a regularizer or a rule of one's own.
    setting : str
        What distinguishes it within its group, for example "start = logits"; empty if
        the method alone does.
    config : TrainConfig
        Its options; two experiments with the same options share one run.
    """

    group: str
    method: str
    setting: str
    config: TrainConfig

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed

    @property
    def label(self) -> str:
        """Group, setting and seed, for progress lines."""
        comparison = self.group not in (LAMBDA, ABLATION)
        parts = (self.group, self.setting, self.method if comparison else "", f"seed {self.seed}")
        return ", ".join(part for part in parts if part)


def with_method(config: TrainConfig, method: str, l1_weight: float | None = None) -> TrainConfig:
    """The configuration with one of the methods; all but L1 have their default weight.

    Parameters
    ----------
    config : TrainConfig
        The options that all methods share.
    method : str
        A regularizer's name: "none", "fbi", "l1", ...
    l1_weight : float or None
        Weight of the method "l1"; None for its default.

    Returns
    -------
    TrainConfig
    """
    weight = l1_weight if method == "l1" else None
    return dataclasses.replace(config, regularizer=method, regularizer_weight=weight)


def base_config(settings: Settings, seed: int, **options: object) -> TrainConfig:
    """The options that all runs share.

    Parameters
    ----------
    settings : Settings
        Gives the epochs and the gate's interval.
    seed : int
        Of the initial weights and of the order of the batches.
    **options
        Fields of the configuration.

    Returns
    -------
    TrainConfig
    """
    return TrainConfig(
        epochs=settings.epochs,
        gate_interval=settings.gate_interval,
        seed=seed,
        **options,  # type: ignore[arg-type]
    )


def cost(config: TrainConfig, images: int) -> float:
    """What a run costs, in conventional training steps of the alexnet.

    Parameters
    ----------
    config : TrainConfig
        The run's options.
    images : int
        Number of images in the training split.

    Returns
    -------
    float
    """
    step = STEP_COST.get(config.regularizer, 2.2)
    step *= RULE_COST.get(
        config.fbi_rule.partition(":")[0], 4.4 if "rule" in config.checksums else 1
    )
    steps = config.epochs * math.ceil(images / config.batch_size)
    return step * MODEL_COST.get(config.model, 1.0) * steps


def plan(
    settings: Settings, l1_weight: float | None, fashion: bool, parts: Parts = NOTHING
) -> list[Experiment]:
    """All experiments, the most important first.

    Parameters
    ----------
    settings : Settings
        How many seeds, values and ablations.
    l1_weight : float or None
        From :mod:`minifbi.reproduce.matching`; None while it is not known.
    fashion : bool
        Whether Fashion-MNIST is available.
    parts : Parts
        Parts of the user's own, which are compared with the paper's methods at the end.

    Returns
    -------
    list of Experiment
        Each seed begins with the two runs that the paper compares, so that an interrupted
        reproduction has complete pairs.
    """
    runs: list[Experiment] = []

    def compare(group: str, methods: tuple[str, ...], seeds: int, **options: object) -> None:
        for seed in range(seeds):
            base = base_config(settings, seed, **options)
            for method in methods:
                config = with_method(base, method, l1_weight)
                setting = str(options["model"]) if "model" in options else ""
                runs.append(Experiment(group, method, setting, config))

    compare(MAIN, METHODS[:2], settings.seeds)
    compare(MAIN, METHODS[2:], settings.seeds)
    compare(DECOY, DECOY_METHODS, settings.side_seeds, dataset=DECOY)
    compare(DECOY, DECOY_METHODS, settings.side_seeds, dataset=DECOY, model="mlp")
    runs += _lambdas(settings)
    for model in ("lenet", "mlp"):
        compare(NETWORKS, METHODS[:2], settings.side_seeds, model=model)
    if fashion:
        compare(FASHION, METHODS[:3], settings.side_seeds, dataset=FASHION)
    runs += _own(settings, parts)
    runs += _ablations(settings)  # last, since it ends with the slow rules
    return runs


def _own(settings: Settings, parts: Parts) -> Iterator[Experiment]:
    """Conventional and FBI training of one's own network on one's own data, and its penalties."""
    if parts == NOTHING:
        return
    where = Parts(model=parts.model, dataset=parts.dataset)
    for seed in range(settings.side_seeds):
        base = where.named_in(base_config(settings, seed))
        setting = f"{part_name(base.model)} on {part_name(base.dataset)}"
        for method in METHODS[:2]:
            yield Experiment(OWN, method, setting, with_method(base, method))
        for name in ("regularizer", "rule"):
            part = getattr(parts, name)
            if part is not None:
                config = dataclasses.replace(where, **{name: part}).named_in(base)
                method = f"{'FBI with ' if name == 'rule' else ''}{part_name(part.text)}"
                yield Experiment(OWN, method, setting, config)


def _lambdas(settings: Settings) -> Iterator[Experiment]:
    for weight in sorted({0.0, 0.001, *settings.lambdas}):
        for seed in range(settings.ablation_seeds):
            base = base_config(settings, seed)
            method = "fbi" if weight else "none"
            config = with_method(base, method)
            if weight:
                config = dataclasses.replace(config, fbi_weight=weight)
            yield Experiment(LAMBDA, method, f"lambda = {weight:g}", config)


def _ablations(settings: Settings) -> Iterator[Experiment]:
    every: dict[str, list[dict[str, object]]] = {
        "start": [{"fbi_start": "predicted"}, {"fbi_start": "logits"}],
        "reduction": [{"fbi_reduction": "mean"}],
        "gate": [{"fbi_gate": 0.0}, {"fbi_gate": 0.95}],
        "biases": [{"bias": False}],
        "rule": [{"fbi_rule": rule} for rule in RULE_COST],
    }
    change: Callable[..., TrainConfig] = dataclasses.replace
    for seed in range(settings.ablation_seeds):
        base = base_config(settings, seed)
        fbi = with_method(base, "fbi")
        none = with_method(base, "none")
        yield Experiment(ABLATION, "none", "conventional", none)
        without = change(none, bias=False)
        yield Experiment(ABLATION, "none", "conventional, biases = none", without)
        yield Experiment(ABLATION, "fbi", "defaults", fbi)
        for what, values in every.items():
            for options in values if settings.thorough else values[:1]:
                (value,) = options.values()
                shown = f"{value:g}" if isinstance(value, float) else str(value)
                shown = "none" if value is False else shown
                yield Experiment(ABLATION, "fbi", f"{what} = {shown}", change(fbi, **options))
