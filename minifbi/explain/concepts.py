"""Relevance at inner layers, and through chosen channels: concept relevance (Achtibat et al. 2023).

A channel of a convolution often answers to one thing, a "concept".  Which channels carried the
decision, and which pixels does one of them stand for?  The relevance pass knows both: it goes
through all layers, and what it carries may be cut to some channels on the way
(:class:`minifbi.explain.LRP` with ``through``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minifbi.autograd import no_grad
from minifbi.errors import ConfigError
from minifbi.explain.base import BATCH_SIZE, Floats, check_batch, passages
from minifbi.explain.targets import as_target
from minifbi.layers import Layer
from minifbi.rules import Composite, Rule, get_rule
from minifbi.switch import evaluating

Through = Mapping[str, Sequence[int]]


def relevance_at(
    model: Layer,
    images: Any,
    target: Any,
    layer: str,
    rule: str | Rule | Composite = "zero",
    through: Through | None = None,
) -> Floats:
    """Relevance at the output of one layer.

    Parameters
    ----------
    model, images, target, rule, through
        See :func:`layer_relevances`.
    layer : str
        The layer's name, such as "conv3" or "block1.conv2".

    Returns
    -------
    ndarray, shape (N, ...)
        The shape of the layer's output.

    Raises
    ------
    ConfigError, ShapeError, DataError
        If no relevance arrives at such a layer, or something does not fit; the message says how.
    """
    found = layer_relevances(model, images, target, rule, through)
    if layer not in found:
        raise ConfigError(
            f"layer {layer!r}: no relevance arrives at such a layer; expected one of "
            f"{', '.join(found)}"
        )
    return found[layer]


def layer_relevances(
    model: Layer,
    images: Any,
    target: Any,
    rule: str | Rule | Composite = "zero",
    through: Through | None = None,
) -> dict[str, Floats]:
    """Relevance at the output of every layer.

    Parameters
    ----------
    model : Layer
        A network that takes images and returns logits (N, F).
    images : float array, shape (N, C, H, W)
        Pixels in [0, 1].
    target : int, array of int of shape (N,), Target, or callable
        What is explained, as for an :class:`Explainer`.
    rule : str, Rule or Composite
        See :func:`minifbi.rules.get_rule`.
    through : mapping of str to sequence of int, optional
        Channels, or units of a dense layer, by the name of their layer: only relevance that goes
        through these.

    Returns
    -------
    dict of str to ndarray
        By layer, first layer first: those that relevance reaches.

    Raises
    ------
    ConfigError, ShapeError, DataError
        If something does not fit; the message says how.
    """
    pixels, composite = check_batch(images, model.dtype), get_rule(rule)
    whole = as_target(target, len(pixels))
    parts: dict[str, list[Floats]] = {}
    with evaluating(model), no_grad():
        for begin in range(0, max(len(pixels), 1), BATCH_SIZE):
            rows = slice(begin, begin + BATCH_SIZE)
            chosen = whole.for_images(len(pixels), rows)
            for one in passages(
                model, pixels[rows], chosen, composite, through=through, every_layer=True
            ):
                relevance = one.above.relevance(one.step.z)
                parts.setdefault(one.step.name, []).append(np.array(relevance.numpy()))
    return {name: np.concatenate(found) for name, found in reversed(parts.items())}


def rank_channels(
    model: Layer,
    images: Any,
    target: Any,
    layer: str,
    rule: str | Rule | Composite = "zero",
) -> list[tuple[int, float]]:
    """The channels of a layer by their relevance, the most relevant first.

    Parameters
    ----------
    model, images, target, rule
        See :func:`layer_relevances`.
    layer : str
        The layer's name; a unit of a dense layer is a channel of its own.

    Returns
    -------
    list of (int, float)
        Channel, and its relevance: the sum over its map, as the mean over the images, in units
        of the target.  Negative ones spoke against it.

    Raises
    ------
    ConfigError, ShapeError, DataError
        As :func:`relevance_at`.
    """
    found = relevance_at(model, images, target, layer, rule)
    sums = found.reshape(*found.shape[:2], -1).sum(axis=2).mean(axis=0)
    return [(int(c), float(sums[c])) for c in np.argsort(-sums, kind="stable")]
