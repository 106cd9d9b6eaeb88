"""Explain what a trained network computes for an image: attributions by name.

>>> from minifbi.explain import get_explainer
>>> get_explainer("integrated-gradients:100")
IntegratedGradients(steps=100, baseline=0.0)

An explainer takes a model, images and a target, such as a class for each image, and returns the
attribution of the target to the pixels.  ``python -m minifbi.explain`` draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minifbi.arguments import build
from minifbi.errors import ConfigError
from minifbi.explain.attributions import (
    LRP,
    ExpectedGradients,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SmoothGrad,
    with_background,
)
from minifbi.explain.base import Explainer
from minifbi.explain.concepts import layer_relevances, rank_channels, relevance_at
from minifbi.explain.conservation import ConservationReport, LayerBalance, conservation_report
from minifbi.explain.counterexamples import GradCAM, GuidedBackpropagation
from minifbi.explain.targets import Class, Difference, Output, Target, Unit, parse_target
from minifbi.rules import RULES, get_rule

__all__ = ["EXPLAINERS", "LRP", "Class", "ConservationReport", "Difference", "ExpectedGradients"]
__all__ += ["Explainer", "GradCAM", "Gradient", "GradientTimesInput", "GuidedBackpropagation"]
__all__ += ["IntegratedGradients", "LayerBalance", "Occlusion", "Output", "SmoothGrad", "Target"]
__all__ += ["Unit", "conservation_report", "get_explainer", "layer_relevances", "parse_target"]
__all__ += ["rank_channels", "relevance_at", "with_background"]


def _lrp(rule: str) -> Callable[..., Explainer]:
    def build(**numbers: float) -> Explainer:
        return LRP(get_rule(rule, **numbers) if numbers else rule)

    return build


EXPLAINERS: dict[str, Callable[..., Explainer]] = {
    **{"lrp-0" if rule == "zero" else f"lrp-{rule}": _lrp(rule) for rule in RULES},
    "gradient": Gradient,
    "gradient-x-input": GradientTimesInput,
    "integrated-gradients": IntegratedGradients,
    "expected-gradients": ExpectedGradients,
    "smoothgrad": SmoothGrad,
    "occlusion": Occlusion,
    "guided-backpropagation": GuidedBackpropagation,
    "grad-cam": GradCAM,
}
"""All explainers by name; each value builds one from its options, all of which have defaults.

Each rule of :data:`minifbi.rules.composite.RULES` is one, as ``lrp-`` and its name; the rule
``zero`` is ``lrp-0``.
"""


def get_explainer(name: str, **options: Any) -> Explainer:
    """Build an explainer.

    Parameters
    ----------
    name : str
        A name in :data:`EXPLAINERS`.  Its options may follow after a colon, in their order or by
        name: ``"lrp-gamma:0.5"``, ``"integrated-gradients:100,mean"``,
        ``"smoothgrad:50,noise=0.1"``.  ``of=METHOD``, as the last option of ``smoothgrad``, says
        what is averaged: ``"smoothgrad:20,of=lrp-epsilon:0.01"``.  After ``lrp-`` there may also be
        rules by the names of layers (:func:`minifbi.rules.get_rule`):
        ``"lrp-conv*=gamma:0.25; dense*=epsilon"``.
    **options
        Arguments of the explainer, such as ``steps=100`` for ``"integrated-gradients"`` or
        ``gamma=0.5`` for ``"lrp-gamma"``.

    Returns
    -------
    Explainer

    Raises
    ------
    ConfigError
        If there is no such explainer, or an option does not fit.
    """
    base, colon, numbers = name.partition(":")
    if base.startswith("lrp-") and (base in EXPLAINERS or "=" in base):
        rule = "zero" if base == "lrp-0" else base.removeprefix("lrp-")
        text = f"{rule}{colon}{numbers}"
        return LRP(get_rule(text, **options) if options else text)
    if base not in EXPLAINERS:
        raise ConfigError(f"unknown method {name!r}: expected one of {', '.join(EXPLAINERS)}")
    if EXPLAINERS[base] is SmoothGrad:
        numbers, mark, inner = numbers.partition("of=")
        options |= {"of": inner} if mark else {}
        numbers = numbers.rstrip(", ") if mark else numbers
        name = base + (colon if numbers or not mark else "") + numbers
        if isinstance(options.get("of"), str):
            options["of"] = get_explainer(options["of"])
    return build("method", name, EXPLAINERS, **options)
