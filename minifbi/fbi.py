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

from collections.abc import Mapping, Sequence
from typing import Any

from minifbi.arguments import choice, number
from minifbi.autograd import Tensor, record
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Layer, Step
from minifbi.numerics import Watch, checking
from minifbi.rules import walk
from minifbi.rules.composite import AnyRule
from minifbi.rules.passage import NO_LAYERS

STARTS = ("target", "logits", "predicted")
REDUCTIONS = ("sum", "mean")


def forward_pass(model: Layer, x: Any) -> list[Step]:
    """Step 1, Eq. (1): apply the model and keep every a_i^+.

    Parameters
    ----------
    model : Layer
        A network, or a single layer.
    x : Tensor or array, shape (N, C, H, W)
        Images, in [0, 1].

    Returns
    -------
    list of Step
        One per layer, first to last.  ``step.x`` of a functional layer is a_{i-1}^+, and
        ``steps[-1].z`` are the logits.
    """
    return model.trace(model.as_input(x))


def start_ratio(logits: Tensor, start: str = "target", labels: Any = None) -> Tensor:
    """The ratio a_{K+1}^- / a_K^+ with which Eq. (2) starts, at the logits.

    Parameters
    ----------
    logits : Tensor, shape (N, F)
        The network's outputs y, for F classes.
    start : {"target", "logits", "predicted"}
        Which logits to explain: that of the true class (as in Bach et al. 2015), all of
        them, or the largest (the first of equals).  Their values are the relevance with which
        the pass starts: the ratio is 1 there and 0 elsewhere.
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
    choice("start", start, STARTS)
    if logits.ndim != 2:
        raise ShapeError(f"the relevance pass starts at logits (N, F), got shape {logits.shape}")
    backend, (n, classes) = logits.backend, logits.shape
    if start == "logits":
        return Tensor(backend.xp.ones_like(logits.data), backend=backend)
    if start == "target":
        if labels is None:
            raise ConfigError("start='target' needs the labels; pass them, or use 'predicted'")
        chosen = backend.labels(labels, n, classes)
    else:
        chosen = logits.data.argmax(axis=1)
    ratio = backend.xp.zeros_like(logits.data)
    ratio[backend.xp.arange(n), chosen] = 1
    return Tensor(ratio, backend=backend)


def relevance_pass(
    steps: Sequence[Step], start: str = "target", labels: Any = None, rule: AnyRule = "zero"
) -> dict[str, Tensor]:
    """Step 2, Eq. (2): from the last layer to the first, collect every a_i^-.

    Parameters
    ----------
    steps : list of Step
        The forward pass.
    start, labels
        See :func:`start_ratio`.
    rule : str, Rule or Composite
        "zero" is LRP-0, the paper's rule, carried as a ratio so that nothing is divided.
        Another rule goes by its name, such as ``"epsilon:0.05"`` for the divided form
        R / (z + 0.05 sign(z)), or as an object; see :func:`minifbi.rules.get_rule`.

    Returns
    -------
    dict of str to Tensor
        a_i^- for each functional layer by its name, first layer first; each
        has the shape of a_{i-1}^+.

    Raises
    ------
    ConfigError
        If an option is outside its values, or there are no layers.
    """
    if not steps:
        raise ConfigError(NO_LAYERS)
    relevances: dict[str, Tensor] = {}
    for passage in walk(steps, start_ratio(steps[-1].z, start, labels), rule):
        step = passage.step
        if step.layer.functional:
            # a_i^- = a_{i-1}^+ * W_i^T( a_{i+1}^- / a_i^+ )
            relevances[step.name] = passage.below.relevance(step.inputs[0])
    return dict(reversed(relevances.items()))


def fbi_terms(
    steps: Sequence[Step], relevances: Mapping[str, Tensor], reduction: str = "sum"
) -> dict[str, Tensor]:
    """The terms L_1(a_{i-1}^+, a_i^-) of Eq. (3), one per functional layer.

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
    choice("reduction", reduction, REDUCTIONS)
    terms = {}
    for step in steps:
        if step.layer.functional:
            a_plus, a_minus = step.inputs[0], relevances[step.name]
            count = len(a_plus.data) if reduction == "sum" else a_plus.size
            terms[step.name] = l1_difference(a_plus, a_minus, count)
            if checking():
                Watch(step.name, step.layer, a_plus.backend).term(terms[step.name].data)
    return terms


def l1_difference(a_plus: Tensor, a_minus: Tensor, count: int) -> Tensor:
    """L_1(a_{i-1}^+, a_i^-) of Eq. (3): sum of |a_{i-1}^+ - a_i^-| over all units, / `count`.

    Parameters
    ----------
    a_plus, a_minus : Tensor, one shape
        a_{i-1}^+ and a_i^-.
    count : int
        The batch size, or the number of elements, by the reduction of Eq. (3).

    Returns
    -------
    Tensor, shape ()
    """
    product = a_minus.node
    if product is None or product.name != "multiply" or product.inputs[0] is not a_plus:
        return (a_plus - a_minus).abs().sum() * (1.0 / count)
    # The tape says that a_i^- = a_{i-1}^+ * ratio, Eq. (2).  So |x - x * ratio| has, for
    # sigma = sign(x - x * ratio), the gradients sigma * (1 - ratio) at x and -sigma * x at the
    # ratio, which one kernel computes together.
    backend, x, ratio = a_plus.backend, a_plus.data, product.inputs[1].data
    return record(
        backend.l1_difference(x, ratio) / count,
        product.inputs,
        lambda g: backend.l1_difference_backward(x, ratio, g / count),
        "l1_difference",
    )


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
    summands = [term.data for term in inputs]
    total = sum(summands[1:], summands[0])
    return record(total * share, inputs, lambda g: [g * share] * len(inputs), "fbi_loss")


def objective(task_loss: Tensor, fbi: Tensor, fbi_weight: float) -> Tensor:
    """L of Eq. (4): (1 - lambda) L_TSK + lambda L_FBI, lambda = `fbi_weight`.

    Parameters
    ----------
    task_loss, fbi : Tensor, shape ()
        L_TSK and L_FBI.
    fbi_weight : float
        lambda, in [0, 1]; the paper uses 0.001.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ConfigError
        If lambda is not in [0, 1].
    """
    number("fbi_weight", fbi_weight, 0, 1)
    rest = 1.0 - fbi_weight
    return record(
        task_loss.data * rest + fbi.data * fbi_weight,
        (task_loss, fbi),
        lambda g: (g * rest, g * fbi_weight),
        "objective",
    )
