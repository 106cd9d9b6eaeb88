"""What a rule is."""

from __future__ import annotations

import dataclasses

from minifbi.layers import Step
from minifbi.rules.flow import Book, Flow


class Rule:
    """How a layer hands relevance from its outputs to its inputs.

    Attributes
    ----------
    name : str
        What to call it in tables; its numbers follow.
    needs_weights : bool
        Whether the rule asks for the weights themselves, so that it suits Conv2d
        and Dense only; the others suit every layer.
    """

    name = "rule"
    needs_weights = True

    def __call__(self, step: Step, flow: Flow, book: Book | None = None) -> Flow:
        """From the output of a layer to its input, on the tape.

        Parameters
        ----------
        step : Step
            The layer at work.
        flow : Flow
            What arrives at ``step.z``.
        book : Book, optional
            Where to write what is not passed on.

        Returns
        -------
        Flow
            What arrives at ``step.x``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def __str__(self) -> str:
        numbers: tuple[float, ...] = (
            dataclasses.astuple(self) if dataclasses.is_dataclass(self) else ()
        )
        return f"{self.name} {', '.join(f'{number:g}' for number in numbers)}".strip()
