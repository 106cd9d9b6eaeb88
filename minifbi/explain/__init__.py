"""Explain a trained network's logits for an image: attributions by name.

>>> from minifbi.explain import get_explainer
>>> get_explainer("lrp-epsilon:0.05")
LRP(rule='epsilon:0.05')

An explainer takes a model, images and classes, and returns the attribution of each class's
logit to the pixels of its image.  ``python -m minifbi.explain`` draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minifbi.errors import ConfigError
from minifbi.explain.attributions import (
    LRP,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SmoothGrad,
)
from minifbi.explain.base import Explainer
from minifbi.explain.conservation import ConservationReport, LayerBalance, conservation_report
from minifbi.rules import RULES, get_rule

__all__ = ["EXPLAINERS", "LRP", "ConservationReport", "Explainer", "Gradient"]
__all__ += ["GradientTimesInput", "IntegratedGradients", "LayerBalance", "Occlusion", "SmoothGrad"]
__all__ += ["conservation_report", "get_explainer"]


def _lrp(rule: str) -> Callable[..., Explainer]:
    def build(**numbers: float) -> Explainer:
        return LRP(get_rule(rule, **numbers) if numbers else rule)

    return build


EXPLAINERS: dict[str, Callable[..., Explainer]] = {
    **{"lrp-0" if rule == "zero" else f"lrp-{rule}": _lrp(rule) for rule in RULES},
    "gradient": Gradient,
    "gradient-x-input": GradientTimesInput,
    "integrated-gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "occlusion": Occlusion,
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
        A name in :data:`EXPLAINERS`.  After an LRP name a colon and the numbers of its rule may
        follow, as in ``"lrp-gamma:0.5"``.
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
    if base not in EXPLAINERS:
        raise ConfigError(f"unknown method {name!r}: expected one of {', '.join(EXPLAINERS)}")
    if colon and not base.startswith("lrp-"):
        raise ConfigError(f"method {name!r}: only LRP takes numbers after a colon")
    try:
        if colon:
            rule = "zero" if base == "lrp-0" else base.removeprefix("lrp-")
            return LRP(get_rule(f"{rule}:{numbers}", **options) if options else f"{rule}:{numbers}")
        return EXPLAINERS[base](**options)
    except TypeError as error:
        raise ConfigError(f"method {base!r} does not take {options}: {error}") from None
