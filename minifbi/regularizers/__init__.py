"""Regularizers: penalties that join the task loss, the FBI loss and those to compare it with.

===================  ======================================================================
``fbi``              the FBI loss of the paper, Eq. (3), (4)
``l2``               squared weights
``l1``               activations
``input-gradient``   double backpropagation
``right-reasons``    the gradient at pixels that must not matter (needs masks)
``saliency-guided``  the answer with the least salient pixels masked
===================  ======================================================================

``none``, conventional training, is a name that the trainer takes as well.  docs/baselines.md
compares them and adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minifbi.errors import ConfigError
from minifbi.regularizers.activations import FBI, L1
from minifbi.regularizers.base import Batch, Regularizer
from minifbi.regularizers.gradients import InputGradient, RightReasons, input_gradient
from minifbi.regularizers.saliency import SaliencyGuided
from minifbi.regularizers.weights import L2

#: Every regularizer by the name that ``--regularizer`` takes; put your own here.
REGULARIZERS: dict[str, Callable[..., Regularizer]] = {
    "fbi": FBI,
    "l2": L2,
    "l1": L1,
    "input-gradient": InputGradient,
    "right-reasons": RightReasons,
    "saliency-guided": SaliencyGuided,
}


def regularizer_names() -> tuple[str, ...]:
    """What ``--regularizer`` may be: the names in :data:`REGULARIZERS`, and "none".

    Returns
    -------
    tuple of str
    """
    first, *others = REGULARIZERS
    return (first, "none", *others)


def get_regularizer(name: str, **options: Any) -> Regularizer:
    """Make a regularizer by its name.

    Returns
    -------
    Regularizer

    Parameters
    ----------
    name : str
        A key of :data:`REGULARIZERS`.
    **options
        As its class takes them.

    Raises
    ------
    ConfigError
        If there is none of that name.

    Examples
    --------
    >>> get_regularizer("saliency-guided", share=0.3).default_weight
    0.1
    """
    if name not in REGULARIZERS:
        raise ConfigError(
            f"unknown regularizer {name!r}: expected one of {', '.join(REGULARIZERS)}"
        )
    return REGULARIZERS[name](**options)


__all__ = ["FBI", "L1", "L2", "REGULARIZERS", "Batch", "InputGradient", "Regularizer"]
__all__ += ["RightReasons", "SaliencyGuided", "get_regularizer", "input_gradient"]
__all__ += ["regularizer_names"]
