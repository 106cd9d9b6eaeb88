"""Who sets the learning rate: the schedule, the warm-up before it, or somebody by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

from minifbi.arguments import number
from minifbi.errors import CallbackError, ConfigError
from minifbi.optim import Optimizer, learning_rate
from minifbi.training.config import CUSTOM, TrainConfig
from minifbi.training.state import RunState

Schedule = Callable[[float], float]
"""Takes the epochs done so far, with fractions, and returns a factor of the learning rate."""


class LearningRate:
    """Gives the optimiser its learning rate before each update.

    The learning rate is ``config.lr``, times the factor of the schedule, times that of the warm-up.
    Who sets ``optimizer.lr`` by hand, for instance in a callback, takes over: the value then
    stays until it is set again.

    Parameters
    ----------
    config : TrainConfig
        Its `lr`, `schedule` and `warmup`.
    optimizer : Optimizer
        Whose learning rate it is.
    steps_per_epoch : int
        Updates in an epoch.
    function : callable, optional
        A schedule of one's own, where the configuration has "custom".

    Raises
    ------
    ConfigError
        If the configuration has "custom" and there is no function.
    """

    def __init__(
        self,
        config: TrainConfig,
        optimizer: Optimizer,
        steps_per_epoch: int,
        function: Schedule | None = None,
    ) -> None:
        if config.schedule == CUSTOM and not callable(function):
            raise ConfigError(
                f"schedule={CUSTOM!r} stands for a function of one's own; pass it: "
                f"train(..., schedule=function) or resume(..., schedule=function)"
            )
        self.config, self.optimizer, self.function = config, optimizer, function
        self.steps_per_epoch = steps_per_epoch
        self._looks = config.schedule.startswith("plateau")
        self._warmup = math.ceil(config.warmup * steps_per_epoch)  # updates
        self._given = optimizer.lr = optimizer.lr * 1.0

    def set(self, run: RunState) -> None:
        """Set the learning rate of the update that comes next.

        Parameters
        ----------
        run : RunState
            How far it is; its `lr` is what was set by hand.

        Raises
        ------
        ConfigError
            If what was set by hand, or what the function returned, is no learning rate.
        CallbackError
            If the function failed.
        """
        self.notice(run)
        self._given = self.optimizer.lr = self._planned(run) if run.lr is None else run.lr

    def notice(self, run: RunState) -> None:
        """Write down what was set by hand since the last update.

        Parameters
        ----------
        run : RunState
            Its `lr` changes.

        Raises
        ------
        ConfigError
            If it is no learning rate.
        """
        # The very object is compared, since a learning rate that is set to an equal number was set
        # too.  What stands here is always the result of a product, which nobody else holds.
        if self.optimizer.lr is not self._given:
            run.lr = self._given = self.optimizer.lr = number("optimizer.lr", self.optimizer.lr, 0)

    def load(self, run: RunState) -> None:
        """Go on with a run: what was set by hand in it still holds."""
        self._given = self.optimizer.lr = self._planned(run) if run.lr is None else run.lr

    def _planned(self, run: RunState) -> float:
        base = float(self.config.lr)  # type: ignore[arg-type]  # TrainConfig has filled it in
        if self.config.schedule == CUSTOM:
            lr = base * self._own_factor(run.step / self.steps_per_epoch)
        else:
            total = self.config.epochs * self.steps_per_epoch
            accuracies = [record["val_accuracy"] for record in run.records] if self._looks else []
            lr = learning_rate(base, self.config.schedule, run.step, total, accuracies)
        return lr * min(1.0, (run.step + 1) / self._warmup) if self._warmup else lr

    def _own_factor(self, epoch: float) -> float:
        assert self.function is not None
        try:
            factor = self.function(epoch)
        except Exception as error:
            raise CallbackError(
                f"the schedule failed at epoch {epoch:g}: {type(error).__name__}: {error}"
            ) from error
        return number(f"the schedule's factor at epoch {epoch:g}", factor, 0)
