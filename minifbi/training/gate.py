"""The gate: when the FBI loss joins the training (Section 3.2 of the paper).

"Since the terms regarding the relevance computing pass are not stabilized enough
in an early stage of learning, we need to train the network using only the
task-specific loss [...] In our experiments, we set the moment when the
validation accuracy becomes above 70%."
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Gate:
    """Opens once, for good, when the validation accuracy first exceeds a threshold (Section 3.2).

    Attributes
    ----------
    threshold : float
        An accuracy, 0 to 1; 0 means open from the start.
    step : int or None
        The training step (number of updates made) at which it opened; None
        while it is shut.
    """

    threshold: float = 0.7
    step: int | None = None

    def __post_init__(self) -> None:
        if self.threshold == 0 and self.step is None:
            self.step = 0

    @property
    def open(self) -> bool:
        """Whether the FBI loss takes part."""
        return self.step is not None

    def look(self, step: int, accuracy: float) -> bool:
        """Tell the gate a validation accuracy; return whether it opened just now.

        Parameters
        ----------
        step : int
            Updates made so far.
        accuracy : float
            0 to 1.

        Returns
        -------
        bool
        """
        if self.open or not accuracy > self.threshold:
            return False
        self.step = step
        return True
