"""Which layer follows which rule: composites, and their names.

In practice no single rule suits all layers (Montavon et al. 2019; Kohlbrenner et al. 2020): near
the output few units matter and LRP-epsilon is faithful, in the convolutions a rule that favours
positive contributions gives less noisy pictures, and at the pixels a zero is not "nothing".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from minifbi.arguments import build, entries, refused
from minifbi.errors import ConfigError
from minifbi.layers import Dense, ReLU, Step
from minifbi.rules.flow import Rule
from minifbi.rules.proportional import AlphaBeta, Epsilon, Gamma, Zero, ZPlus
from minifbi.rules.spread import Flat, WSquare, ZBox

ZERO = Zero()


@dataclass(frozen=True)
class Composite:
    """A rule for each kind of layer, for each depth, or for each name.

    A layer with weights gets the first of these that has a rule for it: `first`, `named`,
    `depth`, and then `conv` or `dense`.

    Attributes
    ----------
    conv : Rule
        For convolutions, and for functional layers of your own.
    dense : Rule
        For dense layers.
    first : Rule, optional
        For the first layer with weights, in the place of the rule for its kind.
    pooling : Rule
        For average pooling, and other layers without weights that divide a sum.
    named : tuple of (str, Rule)
        For layers with weights by name; see :meth:`by_name`.
    depth : tuple of Rule
        The layers with weights in equal parts, from the image to the logits; with three rules
        each has a third of them.
    relu : Rule, optional
        For ReLU layers, which pass relevance on if left out.
    """

    conv: Rule
    dense: Rule
    first: Rule | None = None
    pooling: Rule = ZERO
    named: tuple[tuple[str, Rule], ...] = ()
    depth: tuple[Rule, ...] = ()
    relu: Rule | None = None

    @classmethod
    def uniform(cls, rule: Rule) -> Composite:
        """One rule for all layers; average pooling keeps LRP-0 if the rule needs weights.

        Parameters
        ----------
        rule : Rule
            For convolutions, dense layers, and average pooling where it suits it.

        Returns
        -------
        Composite
        """
        return cls(rule, rule, pooling=Zero() if rule.needs_weights else rule)

    @classmethod
    def by_name(cls, rules: Mapping[str, Rule], default: Rule = ZERO) -> Composite:
        """Rules by the names of the layers with weights.

        Parameters
        ----------
        rules : mapping of str to Rule
            By a name, a pattern such as ``"conv*"`` or ``"block1.*"`` (as in :mod:`fnmatch`), or
            a range such as ``"1..3"``, ``"4.."`` or ``"..2"``, which counts these layers from the
            image, starting at 1.  The first entry that fits a layer holds.
        default : Rule
            For layers that none fits.

        Returns
        -------
        Composite

        Examples
        --------
        >>> from minifbi.rules import Composite, Epsilon, Gamma, ZBox
        >>> rules = {"conv1": ZBox(), "conv*": Gamma(0.25), "dense*": Epsilon(0.01)}
        >>> Composite.by_name(rules).describe()
        'conv1=z-box 0, 1; conv*=gamma 0.25; dense*=epsilon 0.01; *=LRP-0'
        """
        return replace(cls.uniform(default), named=tuple(rules.items()))

    @property
    def exact(self) -> bool:
        """Whether every layer follows LRP-0 itself, and not a rule derived from it."""
        rest = (self.first, *(rule for _, rule in self.named), *self.depth, self.relu)
        own = {type(rule) for rule in (self.conv, self.dense, self.pooling, *rest) if rule}
        return own == {Zero}

    def describe(self) -> str:
        """The rules in words, for tables."""
        text = f"{self.conv}"
        if self.depth:
            text = f"{', '.join(map(str, self.depth))} by depth"
        elif self.conv != self.dense:
            text += f" in convolutions, {self.dense} in dense layers"
        if self.named:
            text = "; ".join(f"{name}={rule}" for name, rule in (*self.named, ("*", text)))
        return text if self.first is None else f"{text}, {self.first} in the first layer"

    def rules(self, steps: Sequence[Step]) -> list[Rule | None]:
        """The rule of each step; None where the layer just passes relevance on.

        Parameters
        ----------
        steps : sequence of Step
            A forward pass.

        Returns
        -------
        list of Rule or None
            One per step.

        Raises
        ------
        ConfigError
            If an entry of `named` fits no layer.
        """
        weighted = [step.name for step in steps if step.layer.functional]
        for pattern, _ in self.named:
            if not any(_fits(pattern, name, i) for i, name in enumerate(weighted, start=1)):
                raise ConfigError(
                    f"rule for {pattern!r}: no layer with weights is called so; expected some of "
                    f"{', '.join(weighted)}"
                )
        found: list[Rule | None] = []
        count = 0
        for step in steps:
            rule = None
            if step.layer.functional:
                count += 1
                own = [rule for pattern, rule in self.named if _fits(pattern, step.name, count)]
                if self.first is not None and count == 1:
                    own = [self.first]
                if not own and self.depth:
                    own = [self.depth[(count - 1) * len(self.depth) // len(weighted)]]
                rule = (own or [self.dense if isinstance(step.layer, Dense) else self.conv])[0]
            elif step.layer.proportional:
                rule = self.pooling
            elif isinstance(step.layer, ReLU):
                rule = self.relu
            found.append(rule)
        return found


def _fits(pattern: str, name: str, place: int) -> bool:
    """Whether a pattern of a name, or a range of places from 1, fits a layer."""
    span = re.fullmatch(r"(\d{0,9})\.\.(\d{0,9})", pattern)
    if span is None:
        return fnmatchcase(name, pattern)
    return int(span[1] or 1) <= place <= int(span[2] or place)


TINY = 1e-6  # epsilon of the composites: against 0/0, not against noise

RULES: dict[str, Callable[..., Composite]] = {
    "zero": lambda: Composite.uniform(Zero()),
    "epsilon": lambda epsilon=0.01: Composite.uniform(Epsilon(epsilon)),
    "gamma": lambda gamma=0.25: Composite.uniform(Gamma(gamma)),
    "alpha-beta": lambda alpha=2.0, beta=1.0: Composite.uniform(AlphaBeta(alpha, beta)),
    "z-plus": lambda: Composite.uniform(ZPlus()),
    "w-square": lambda: Composite.uniform(WSquare()),
    "flat": lambda: Composite.uniform(Flat()),
    "z-box": lambda low=0.0, high=1.0: Composite(Zero(), Zero(), first=ZBox(low, high)),
    "deep-taylor": lambda low=0.0, high=1.0: Composite(ZPlus(), ZPlus(), first=ZBox(low, high)),
    "epsilon-plus": lambda epsilon=TINY: Composite(ZPlus(), Epsilon(epsilon)),
    "epsilon-alpha2-beta1": lambda epsilon=TINY: Composite(AlphaBeta(), Epsilon(epsilon)),
    "epsilon-plus-flat": lambda epsilon=TINY: Composite(ZPlus(), Epsilon(epsilon), Flat()),
    "epsilon-alpha2-beta1-flat": lambda epsilon=TINY: Composite(
        AlphaBeta(), Epsilon(epsilon), Flat()
    ),
    "epsilon-gamma-box": lambda epsilon=TINY, gamma=0.25, low=0.0, high=1.0: Composite(
        Gamma(gamma), Epsilon(epsilon), ZBox(low, high)
    ),
    "zero-epsilon-gamma-box": lambda epsilon=0.01, gamma=0.25, low=0.0, high=1.0: Composite(
        ZERO, ZERO, ZBox(low, high), depth=(Gamma(gamma), Epsilon(epsilon), ZERO)
    ),
}
"""Rules and composites by name; each value builds one from its numbers, all of which have defaults.

``zero``, ``epsilon``, ``gamma``, ``alpha-beta``, ``z-plus``, ``w-square`` and ``flat`` are one
rule for all layers; ``z-box`` is that rule at the pixels and LRP-0 above.  ``deep-taylor`` is
Montavon et al. (2017).  The rest are the composites of practice, after Montavon et al. (2019) and
Kohlbrenner et al. (2020): LRP-epsilon in dense layers, z+, alpha-beta or gamma in
convolutions, and flat or z-box in the first layer if the name ends so.
``zero-epsilon-gamma-box`` is the recommendation of Montavon et al. (2019) by depth: gamma in the
lower third of the layers with weights, epsilon in the middle, LRP-0 in the upper third, and
z-box in the first layer.
"""


AnyRule = str | Rule | Composite


def get_rule(rule: AnyRule, **options: float) -> Composite:
    """A composite by name, for example ``"epsilon"``, ``"epsilon:0.05"`` or ``"alpha-beta:3,2"``.

    Parameters
    ----------
    rule : str, Rule or Composite
        A name in :data:`minifbi.rules.composite.RULES`, if need be with its numbers after a
        colon; or rules by the names of layers, as
        ``"conv1=z-box; conv*=gamma:0.25; *=zero"`` (:meth:`Composite.by_name`; layers that
        none fits follow LRP-0).  A Rule is used in all layers, a Composite is returned as it is.
    **options : float
        The numbers by name instead, such as ``epsilon=0.05``.

    Returns
    -------
    Composite

    Raises
    ------
    ConfigError
        If there is no such rule, or the numbers do not fit it.
    """
    if isinstance(rule, str) and "=" not in rule.partition(":")[0]:
        return build("rule", rule, RULES, **options)
    if options:
        raise ConfigError(f"rule {rule} has its numbers already; drop {', '.join(options)}")
    if isinstance(rule, Composite):
        return rule
    if isinstance(rule, Rule):
        return Composite.uniform(rule)
    form = "LAYERS=RULE, each LAYERS once"
    named = {layers: _one_rule(text) for layers, text in entries("rule", rule, form).items()}
    return Composite.by_name(named, default=named.pop("*", ZERO))


def _one_rule(text: str) -> Rule:
    found = get_rule(text)
    rule = found.first or found.conv
    if found not in (Composite.uniform(rule), Composite(ZERO, ZERO, rule)):
        raise refused("rule", text, "one rule for a layer, such as gamma:0.25")
    return rule
