"""The relevance pass: the one walk from the last layer to the first.

Training (:mod:`minifbi.fbi`), heatmaps and bookkeeping (:mod:`minifbi.explain`), pictures and the
regularizers on gradients all read what :func:`walk` yields.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minifbi.arguments import whole
from minifbi.autograd import Tensor
from minifbi.errors import ConfigError
from minifbi.layers import Step
from minifbi.numerics import Watch, checking
from minifbi.rules.composite import AnyRule, get_rule
from minifbi.rules.flow import Book, Flow, Rule, pass_on

NO_LAYERS = "the model has no layers; a relevance pass needs at least one"


@dataclass(slots=True)
class Passage:
    """Relevance on its way through one layer.

    Attributes
    ----------
    step : Step
        The layer at work.
    rule : Rule or None
        The rule that it follows; None where it just passes relevance on.
    above : Flow
        What arrives at its output, in the shape of ``step.z``.
    below : Flow
        What the layer hands to its input (to each of them, if it is a sum), in the shape of
        ``step.x``.
    at_input : Flow
        All that has arrived at its input so far: `below`, and, where that is a branching point,
        what the layers beside it have handed there before.  At the first layer it is what
        arrives at the image.
    book : Book or None
        What the rule did not pass on, if the walk keeps books.
    """

    step: Step
    rule: Rule | None
    above: Flow
    below: Flow
    at_input: Flow
    book: Book | None


def walk(
    steps: Sequence[Step],
    start: Tensor,
    rule: AnyRule = "zero",
    *,
    books: bool = False,
    at: Tensor | None = None,
    through: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[Passage]:
    """Carry relevance from the last layer to the first, on the tape: Eq. (2) with any rule.

    Parameters
    ----------
    steps : sequence of Step
        The forward pass, first layer first.
    start : Tensor, shape of the logits (N, F), or of `at`
        The ratio at the logits: 1 at those to be explained, 0 elsewhere
        (:func:`minifbi.fbi.start_ratio`).
    rule : str, Rule or Composite
        Which rule each layer follows; see :func:`minifbi.rules.get_rule`.
    books : bool
        Whether to write down what the rules do not pass on.
    at : Tensor, optional
        The ``step.z`` where the walk starts; the logits if left out.
    through : mapping of str to sequence of int, optional
        Channels (or units of a dense layer) by the name of their layer: at this layer's output
        only their relevance goes on (Achtibat et al. 2023).

    Yields
    ------
    Passage
        One per step that relevance reaches, last layer first.

    Raises
    ------
    ConfigError
        If there are no steps, a rule does not fit its layer, or `through` names a layer or a
        channel that relevance does not reach.
    """
    if not steps:
        raise ConfigError(NO_LAYERS)
    rules = get_rule(rule).rules(steps)
    # what has arrived so far, by the place of arrival
    flows = {id(steps[-1].z if at is None else at): Flow(start)}
    masks = dict(through or {})
    for step, own in zip(reversed(steps), reversed(rules), strict=True):
        if id(step.z) not in flows:  # above the start, or beside the way down from there
            continue
        above = flows.pop(id(step.z))
        if step.name in masks:
            above = above.where(_only(step, masks.pop(step.name)))
        book = Book(len(step.z.data)) if books else None
        below = pass_on(step, above) if own is None else own(step, above, book)
        if checking():
            look = Watch(step.name, step.layer, step.z.backend)
            look.relevance(above.values.data, below.values.data)
        for x in step.inputs:
            known = flows.get(id(x))
            flows[id(x)] = below if known is None else known.plus(below, x)
        yield Passage(step, own, above, below, flows[id(step.inputs[0])], book)
    if masks:
        raise ConfigError(
            f"through={next(iter(masks))!r}: no relevance arrives at such a layer; expected one "
            f"of {', '.join(step.name for step in steps)}, below what is explained"
        )


def _only(step: Step, channels: Sequence[int]) -> Any:
    """A mask of one sample of ``step.z`` that is True at these channels."""
    shape = step.z.shape[1:]
    chosen = [whole(f"channel of {step.name}", c, 0, shape[0] - 1) for c in channels]
    mask = step.z.backend.xp.zeros(shape, bool)
    mask[chosen] = True
    return mask
