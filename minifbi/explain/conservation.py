"""Where relevance goes: what each layer gets, hands down, and keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.autograd import no_grad
from minifbi.errors import ConfigError
from minifbi.explain.base import check_batch, passages
from minifbi.explain.targets import Target, as_target
from minifbi.layers import Layer
from minifbi.rules import Book, Composite, Rule, get_rule
from minifbi.rules.flow import per_sample
from minifbi.switch import evaluating
from minifbi.text import table

Sums = NDArray[np.float64]
PASSES_ON = "passes on"


@dataclass(frozen=True)
class LayerBalance:
    """The balance of one layer, for each image.

    ``above = below + bias + stabilizer``, up to :attr:`residual`, which is rounding.

    Attributes
    ----------
    name, rule : str
        The layer, and its rule; "passes on" for a layer without a rule of its own.
    above, below : ndarray of float64, shape (N,)
        Sum of the relevance at its output and at its input.
    bias : ndarray of float64, shape (N,)
        Absorbed by the bias.
    stabilizer : ndarray of float64, shape (N,)
        Absorbed by the stabiliser, or arrived at outputs with nothing to share it among (0/0).
        With alpha-beta an output with contributions of one sign only hands down more or less
        than it got; the difference is counted here, and may be negative.
    """

    name: str
    rule: str
    above: Sums
    below: Sums
    bias: Sums
    stabilizer: Sums

    @property
    def residual(self) -> Sums:
        """above - below - bias - stabilizer, shape (N,)."""
        return np.asarray(self.above - self.below - self.bias - self.stabilizer)


@dataclass(frozen=True)
class ConservationReport:
    """The balance of all layers, last layer first: the way of the relevance pass.

    Attributes
    ----------
    layers : tuple of LayerBalance
        One per layer, in the order of the relevance pass.
    target : Target
        What was explained.
    at_image : ndarray of float64, shape (N,)
        What arrives at the pixels.  It is the last layer's `below`, unless the image goes into
        several layers: then it is the sum of what they hand there.
    """

    layers: tuple[LayerBalance, ...]
    target: Target
    at_image: Sums

    def __getitem__(self, name: str) -> LayerBalance:
        """The layer of that name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ConfigError(
            f"no layer is called {name!r}: expected one of {', '.join(s.name for s in self.layers)}"
        )

    def __str__(self) -> str:
        """A table of means over the images."""
        return self.table()

    def table(self, image: int | None = None) -> str:
        """The balance as text: of one image by its place in the batch, or the mean over all.

        Layers that pass everything on are left out.

        Parameters
        ----------
        image : int, optional
            Its place in the batch, from 0; the mean over all images if left out.

        Returns
        -------
        str
        """

        def number(sums: Sums) -> str:
            value = float(sums.mean() if image is None else sums[image])
            return f"{value:.4f}".replace("-0.0000", "0.0000")

        rows: list[tuple[str, ...]] = [("layer", "rule", "above", "bias", "stabiliser", "below")]
        rows += [
            (s.name, s.rule, *map(number, (s.above, s.bias, s.stabilizer, s.below)))
            for s in self.layers
            if s.rule != PASSES_ON or not np.allclose(s.above, s.below)
        ]
        kept = [sum(getattr(s, what) for s in self.layers) for what in ("bias", "stabilizer")]
        totals = (self.layers[0].above, *kept, self.at_image)
        rows.append(("logit to pixels", "", *map(number, totals)))
        return table(rows, right=range(2, 6), foot=1)


def conservation_report(
    model: Layer, images: Any, target: Any, rule: str | Rule | Composite = "zero"
) -> ConservationReport:
    """Follow the relevance of a target through the network and write down where it stays.

    Parameters
    ----------
    model : Layer
        A network that takes images and returns logits (N, F).
    images : float array, shape (N, C, H, W)
        Pixels in [0, 1].
    target : int, array of int of shape (N,), Target, or callable
        What is followed, as for an :class:`Explainer`.
    rule : str, Rule or Composite
        See :func:`minifbi.rules.get_rule`.

    Returns
    -------
    ConservationReport

    Raises
    ------
    ConfigError
        If the network has no layers, or a rule does not fit it.
    """
    pixels = check_batch(images, model.dtype)
    chosen = as_target(target, len(pixels))
    balances = []
    with evaluating(model), no_grad():
        for passage in passages(model, pixels, chosen, get_rule(rule), books=True):
            step, book = passage.step, passage.book or Book(0)
            above = per_sample(passage.above.relevance(step.z))
            parts = [per_sample(passage.below.relevance(x)) for x in step.inputs]
            below = np.sum(parts, axis=0)
            name = PASSES_ON if passage.rule is None else str(passage.rule)
            balances.append(LayerBalance(step.name, name, above, below, book.bias, book.stabilizer))
        at_image = per_sample(passage.at_input.relevance(step.inputs[0]))
    return ConservationReport(tuple(balances), chosen, at_image)
