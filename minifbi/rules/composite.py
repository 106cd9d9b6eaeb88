"""Which layer follows which rule: composites, and their names.

In practice no single rule suits all layers (Montavon et al. 2019; Kohlbrenner et al. 2020): near
the output few units matter and LRP-epsilon is faithful, in the convolutions a rule that favours
positive contributions gives less noisy pictures, and at the pixels a zero is not "nothing".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minifbi.arguments import build
from minifbi.errors import ConfigError
from minifbi.layers import Dense, Step
from minifbi.rules.flow import Rule
from minifbi.rules.proportional import AlphaBeta, Epsilon, Gamma, Zero, ZPlus
from minifbi.rules.spread import Flat, WSquare, ZBox

ZERO = Zero()


@dataclass(frozen=True)
class Composite:
    """A rule for each kind of layer.

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
    """

    conv: Rule
    dense: Rule
    first: Rule | None = None
    pooling: Rule = ZERO

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

    @property
    def exact(self) -> bool:
        """Whether every layer follows LRP-0 itself, and not a rule derived from it."""
        own = {type(rule) for rule in (self.conv, self.dense, self.first, self.pooling) if rule}
        return own == {Zero}

    def describe(self) -> str:
        """The rules in words, for tables."""
        text = f"{self.conv}"
        if self.conv != self.dense:
            text += f" in convolutions, {self.dense} in dense layers"
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
        """
        found: list[Rule | None] = []
        first = self.first
        for step in steps:
            rule = None
            if step.layer.functional:
                own = self.dense if isinstance(step.layer, Dense) else self.conv
                rule, first = first or own, None
            elif step.layer.proportional:
                rule = self.pooling
            found.append(rule)
        return found


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
}
"""Rules and composites by name; each value builds one from its numbers, all of which have defaults.

``zero``, ``epsilon``, ``gamma``, ``alpha-beta``, ``z-plus``, ``w-square`` and ``flat`` are one
rule for all layers; ``z-box`` is that rule at the pixels and LRP-0 above.  ``deep-taylor`` is
Montavon et al. (2017).  The rest are the composites of practice, after Montavon et al. (2019) and
Kohlbrenner et al. (2020): LRP-epsilon in dense layers, z+, alpha-beta or gamma in
convolutions, and flat or z-box in the first layer if the name ends so.
"""


AnyRule = str | Rule | Composite


def get_rule(rule: AnyRule, **options: float) -> Composite:
    """A composite by name, for example ``"epsilon"``, ``"epsilon:0.05"`` or ``"alpha-beta:3,2"``.

    Parameters
    ----------
    rule : str, Rule or Composite
        A name in :data:`minifbi.rules.composite.RULES`, if need be with its numbers after a
        colon; a Rule is used in all layers, a Composite is returned as it is.
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
    if isinstance(rule, (Rule, Composite)):
        if options:
            raise ConfigError(f"{rule} has its numbers already; drop {', '.join(options)}")
        return rule if isinstance(rule, Composite) else Composite.uniform(rule)
    return build("rule", rule, RULES, **options)
