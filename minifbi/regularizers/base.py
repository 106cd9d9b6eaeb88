"""What every regularizer is: terms of a penalty, and how the penalty joins the task loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minifbi.arguments import number
from minifbi.autograd import Tensor
from minifbi.errors import ConfigError
from minifbi.layers import Layer, Step
from minifbi.rules import Composite, get_rule

ZERO = get_rule("zero")


@dataclass
class Batch:
    """One batch after its forward pass: all that a regularizer may look at.

    Attributes
    ----------
    model : Layer
        The network whose forward pass this is.
    steps : sequence of Step
        The forward pass, Eq. (1): ``steps[0].x`` are the images, ``steps[-1].z`` the logits.
    labels : array of int, shape (N,)
        The true classes.
    masks : array of bool, shape (N, H, W), or None
        Pixels that must not matter, where the data set knows them.
    rng : numpy.random.Generator
        For regularizers that draw random numbers.
    """

    model: Layer
    steps: Sequence[Step]
    labels: Any
    masks: Any = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def logits(self) -> Tensor:
        """The outputs y, shape (N, F)."""
        return self.steps[-1].z

    def __len__(self) -> int:
        """N, the number of images."""
        return self.logits.shape[0]


class Regularizer:
    """Base class: a penalty P that joins the task loss once the gate is open.

    A new regularizer sets the four attributes and defines :meth:`terms`, an ordinary
    computation on the tape.  Put it into :data:`REGULARIZERS
    <minifbi.regularizers.REGULARIZERS>` under a name, and the trainer knows it by that name.

    Attributes
    ----------
    label : str
        What to call the penalty in logs and figures.
    default_weight : float
        The weight w of the objective where none is given.
    needs_masks : bool
        Whether :attr:`Batch.masks` must be there.
    rule : Composite or None
        The rule of the relevance pass that it makes, if it makes one; else LRP-0.  It looks at
        the inputs of convolution and dense layers only, so that a compiled backend may run a
        convolution, its ReLU and its pooling as one step, where the rule is LRP-0.  None: it
        looks at every layer, and nothing is rewritten.
    """

    label = "penalty"
    default_weight = 1.0
    needs_masks = False
    rule: Composite | None = None

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The summands of the penalty, by a name each (a layer's, for example), shape () each.

        Parameters
        ----------
        batch : Batch
            Images, labels and their forward pass.

        Returns
        -------
        dict of str to Tensor of shape ()
        """
        raise NotImplementedError(f"{type(self).__name__} must define terms")

    def penalty(self, terms: Mapping[str, Tensor]) -> Tensor:
        """P, shape (): the sum of the terms.

        Parameters
        ----------
        terms : mapping of str to Tensor of shape ()
            From :meth:`terms`.

        Returns
        -------
        Tensor, shape ()

        Raises
        ------
        ConfigError
            If there are none.
        """
        return total(terms)

    def objective(self, task_loss: Tensor, penalty: Tensor, weight: float) -> Tensor:
        """L = L_TSK + w P, the form of the baselines' papers.

        Parameters
        ----------
        task_loss, penalty : Tensor, shape ()
            L_TSK and P.
        weight : float
            w, at least 0.

        Returns
        -------
        Tensor, shape ()

        Raises
        ------
        ConfigError
            If w is negative or not finite.
        """
        number("weight", weight, 0)
        return task_loss + penalty * weight


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms.

    Raises
    ------
    ConfigError
        If there are none.
    """
    if not terms:
        raise ConfigError("the penalty has no terms: expected at least one; check the model")
    first, *others = terms.values()
    for term in others:
        first = first + term
    return first
