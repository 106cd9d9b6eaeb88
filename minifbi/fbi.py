"""The forward-backward interacted-activation (FBI) loss: Eq. (2), (3) and (4), one function each.

The symbols are the paper's (Yoo, Kim and Kang 2019):

=============  =====================================================================
a_i^+          forward activation of layer i; a_0^+ is the image
a_i^-          backward activation ("relevance") at the *input* of layer i, of the shape of
               a_{i-1}^+
K              number of functional layers: convolution and dense layers
=============  =====================================================================

Everything here is an ordinary computation on the tape, so ``backward()`` of the
objective differentiates through both passes, a^+ and a^- alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minifbi.autograd import Tensor, enable_grad, is_grad_enabled, record
from minifbi.autograd.classification import class_indices
from minifbi.autograd.functions import multiply
from minifbi.backends import Array
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Layer, Step
from minifbi.layers.fused import ConvBlock
from minifbi.layers.numerics import watch
from minifbi.rules import Composite, Flow, Rule, get_rule, propagate, stabilize

STARTS = ("target", "logits", "predicted")
REDUCTIONS = ("sum", "mean")


class Relevance(Tensor):
    """a_i^- = a_{i-1}^+ * ratio, Eq. (2): a Tensor that is multiplied out when it is looked at.

    Eq. (3) needs only |x - x * ratio|, which one kernel computes without writing
    the product to memory; everything else sees an ordinary Tensor.

    Attributes
    ----------
    x, ratio : Tensor
        The two factors.  Only made while the tape is written: under ``no_grad()`` the relevance
        pass returns plain products.
    """

    __slots__ = ("_product", "ratio", "x")

    def __init__(self, x: Tensor, ratio: Tensor) -> None:
        self.x, self.ratio = x, ratio
        self._product: Tensor | None = None
        self.backend, self.grad = x.backend, None

    def _multiplied(self) -> Tensor:
        if self._product is None:
            with enable_grad():  # as when the pass was made, whoever looks now
                self._product = self.x * self.ratio
        return self._product

    @property
    def data(self) -> Array:  # type: ignore[override]
        """The product."""
        return self._multiplied().data

    @property
    def node(self) -> Any:  # type: ignore[override]
        """The product's entry on the tape."""
        return self._multiplied().node

    @property
    def requires_grad(self) -> bool:  # type: ignore[override]
        """Whether a gradient flows through the product."""
        return self.x.requires_grad or self.ratio.requires_grad


def l1_difference(relevance: Relevance, count: int) -> Tensor:
    """Sum of |a_{i-1}^+ - a_i^-| = |x - x * ratio| over all units, divided by `count`.

    With sigma = sign(x - x * ratio) the gradients are sigma * (1 - ratio) / count at x
    and -sigma * x / count at the ratio.

    Parameters
    ----------
    relevance : Relevance
        a_i^-, with its factors x and ratio.
    count : int
        The batch size, or the number of elements, by the reduction of Eq. (3).

    Returns
    -------
    Tensor, shape ()
    """
    backend, x, ratio = relevance.backend, relevance.x.data, relevance.ratio.data
    return record(
        backend.l1_difference(x, ratio) / count,
        (relevance.x, relevance.ratio),
        lambda g: backend.l1_difference_backward(x, ratio, g / count),
        "l1_difference",
    )


def forward_pass(model: Layer, x: Any, fused: bool = False) -> list[Step]:
    """Step 1, Eq. (1): apply the model and keep every a_i^+.

    Parameters
    ----------
    model : Layer
    x : Tensor or array, shape (N, C, H, W)
    fused : bool
        Run convolution, ReLU and pooling as one step: the same numbers, faster.

    Returns
    -------
    list of Step
        One a layer (or fused block), first to last: ``step.x`` is a_{i-1}^+,
        ``steps[-1].z`` are the logits.
    """
    return model.trace(x, fused=fused)


def start_ratio(logits: Tensor, start: str = "target", labels: Any = None) -> Tensor:
    """The ratio a_{K+1}^- / a_K^+ with which Eq. (2) starts, at the logits.

    Parameters
    ----------
    logits : Tensor, shape (N, F)
    start : {"target", "logits", "predicted"}
        Which logits are the relevance to be explained: that of the true class
        (as in Bach et al. 2015), all of them, or the largest (the first of
        equals).  The ratio is 1 there and 0 elsewhere.
    labels : array_like of int, shape (N,)
        The true classes; needed for "target" only.

    Returns
    -------
    Tensor, shape (N, F)

    Raises
    ------
    ConfigError
        If `start` is unknown, or "target" has no labels.
    ShapeError
        If the logits are not (N, F), or the labels do not fit them.
    """
    if start not in STARTS:
        raise ConfigError(f"start={start!r}: expected one of {', '.join(STARTS)}")
    if logits.ndim != 2:
        raise ShapeError(f"the relevance pass starts at logits (N, F), got shape {logits.shape}")
    backend, (n, classes) = logits.backend, logits.shape
    if start == "logits":
        return Tensor(backend.xp.ones_like(logits.data), backend=backend)
    if start == "target":
        if labels is None:
            raise ConfigError("start='target' needs the labels; pass them, or use 'predicted'")
        chosen = class_indices(backend, labels, n, classes)
    else:
        chosen = logits.data.argmax(axis=1)
    ratio = backend.xp.zeros_like(logits.data)
    ratio[backend.xp.arange(n), chosen] = 1
    return Tensor(ratio, backend=backend)


def relevance_pass(
    steps: Sequence[Step],
    start: str = "target",
    labels: Any = None,
    stabilizer: float = 0.0,
    rule: str | Rule | Composite = "zero",
) -> dict[str, Tensor]:
    """Step 2, Eq. (2): from the last layer to the first, collect every a_i^-.

    Parameters
    ----------
    steps : list of Step
        The forward pass.
    start, labels
        See :func:`start_ratio`.
    stabilizer : float
        0 for the exact LRP-0 of the paper, carried as a ratio so that nothing
        is divided; eps > 0 for the divided form R / (z + eps * sign(z)).
    rule : str, Rule or Composite
        Another rule of relevance propagation instead of LRP-0, by name (``"epsilon:0.05"``) or
        as an object; see :func:`minifbi.rules.get_rule`.

    Returns
    -------
    dict of str to Tensor
        a_i^- for each functional layer by its name, first layer first; each
        has the shape of a_{i-1}^+.

    Raises
    ------
    ConfigError
        If an option is outside its values, or a stabiliser is to act inside a fused
        block, where no place is left for it, or a stabiliser is given for a rule that
        brings its own.
    """
    if not stabilizer >= 0 or not np.isfinite(stabilizer):
        raise ConfigError(f"stabilizer={stabilizer!r}: expected a number, at least 0")
    if not steps:
        raise ConfigError("the relevance pass needs at least one layer")
    ratio = start_ratio(steps[-1].z, start, labels)
    composite = get_rule(rule)
    if not composite.exact:
        check_rule(rule, stabilizer)
        return _relevance_pass_by(composite, steps, ratio)
    relevances: dict[str, Tensor] = {}
    for step in reversed(steps):
        if stabilizer and step.layer.proportional:
            if isinstance(step.layer, ConvBlock):
                raise ConfigError(
                    "a stabiliser needs the output of every layer: call forward_pass(model, x) "
                    "without fused=True"
                )
            ratio = stabilize(ratio, step.z, stabilizer)
        ratio = step.relevance(ratio)  # W_i^T( a_{i+1}^- / a_i^+ )
        if step.layer.functional:
            product = Relevance if is_grad_enabled() else multiply
            relevances[step.name] = product(step.x, ratio)  # a_i^- = x * ratio, Eq. (2)
    return dict(reversed(relevances.items()))


def check_rule(rule: str | Rule | Composite, stabilizer: float = 0.0) -> None:
    """Raise ConfigError unless there is such a rule, and the stabiliser has a meaning for it.

    Parameters
    ----------
    rule : str, Rule or Composite
    stabilizer : float
    """
    if stabilizer and not get_rule(rule).exact:
        raise ConfigError(
            f"stabilizer={stabilizer:g} belongs to the rule 'zero', and {rule} brings its own; "
            "leave it 0, or write for example rule='epsilon:0.01'"
        )
    get_rule(rule)


def _relevance_pass_by(
    composite: Composite, steps: Sequence[Step], ratio: Tensor
) -> dict[str, Tensor]:
    """The relevance pass where layers follow other rules than that of Eq. (2)."""
    relevances: dict[str, Tensor] = {}
    flow = Flow(ratio)
    for step, rule in zip(reversed(steps), reversed(composite.rules(steps)), strict=True):
        flow = propagate(step, flow, rule)
        if step.layer.functional:
            if flow.is_ratio and is_grad_enabled():
                relevances[step.name] = Relevance(step.x, flow.values)
            else:
                relevances[step.name] = flow.relevance(step.x)
    return dict(reversed(relevances.items()))


def fbi_terms(
    steps: Sequence[Step], relevances: Mapping[str, Tensor], reduction: str = "sum"
) -> dict[str, Tensor]:
    """The terms L_1(a_{i-1}^+, a_i^-) of Eq. (3), one a functional layer.

    Parameters
    ----------
    steps : list of Step
        The forward pass.
    relevances : dict of str to Tensor
        The relevance pass over the same steps.
    reduction : {"sum", "mean"}
        "sum": absolute differences summed over the units of a sample, averaged
        over the batch.  "mean": averaged over all elements.

    Returns
    -------
    dict of str to Tensor of shape ()

    Raises
    ------
    ConfigError
        If the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ConfigError(f"reduction={reduction!r}: expected one of {', '.join(REDUCTIONS)}")
    terms = {}
    for step in steps:
        if step.layer.functional:
            a_minus = relevances[step.name]
            count = step.x.shape[0] if reduction == "sum" else step.x.size
            if isinstance(a_minus, Relevance):
                terms[step.name] = l1_difference(a_minus, count)
            else:  # a rule that gives relevance to zeros, or someone's own
                terms[step.name] = (step.x - a_minus).abs().sum() * (1.0 / count)
            look = watch(step.name, step.layer, step.x.backend)
            if look:
                look.term(terms[step.name].data)
    return terms


def fbi_loss(terms: Mapping[str, Tensor]) -> Tensor:
    """L_FBI, Eq. (3): the mean of the K terms.

    Parameters
    ----------
    terms : mapping of str to Tensor of shape ()
        From :func:`fbi_terms`.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ConfigError
        If there are none.
    """
    if not terms:
        raise ConfigError("L_FBI needs at least one functional layer (Conv2d or Dense), got none")
    inputs, share = tuple(terms.values()), 1.0 / len(terms)
    mean = sum(term.data for term in inputs) * share
    return record(mean, inputs, lambda g: [g * share] * len(inputs), "fbi_loss")


def objective(task_loss: Tensor, fbi: Tensor, fbi_weight: float) -> Tensor:
    """L of Eq. (4): (1 - lambda) L_TSK + lambda L_FBI, lambda = `fbi_weight`.

    Parameters
    ----------
    task_loss, fbi : Tensor, shape ()
        L_TSK and L_FBI.
    fbi_weight : float

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ConfigError
        If lambda is not in [0, 1].
    """
    check_fbi_weight(fbi_weight)
    return task_loss * (1.0 - fbi_weight) + fbi * fbi_weight


def check_fbi_weight(fbi_weight: float) -> None:
    """Raise ConfigError unless 0 <= lambda <= 1.

    Parameters
    ----------
    fbi_weight : float
        lambda of Eq. (4).
    """
    if not 0 <= fbi_weight <= 1:
        raise ConfigError(
            f"fbi_weight={fbi_weight!r}: the lambda of Eq. (4) must lie in [0, 1]; "
            f"the paper uses 0.001"
        )
