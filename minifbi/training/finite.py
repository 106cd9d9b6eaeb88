"""What the trainer does about NaN and infinity: it stops, and says where they came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from minifbi.errors import NonFiniteError
from minifbi.layers import Sequential
from minifbi.numerics import check_numerics
from minifbi.training.config import TrainConfig

T = TypeVar("T")


def checked(config: TrainConfig, where: str, computation: Callable[[], T]) -> T:
    """Carry out a computation; with `check_numerics`, name the first layer at fault, and `where`.

    Raises
    ------
    NonFiniteError
        If a layer computed a NaN or an infinity.
    """
    if not config.check_numerics:
        return computation()
    try:
        with check_numerics():
            return computation()
    except NonFiniteError as error:
        raise NonFiniteError(f"{where}: {error}") from None


def check_parameters(model: Sequential, config: TrainConfig, step: int, lr: float) -> None:
    """Raise NonFiniteError if a parameter is not finite after update number `step`."""
    parameters = model.parameters()
    finite = [p.backend.xp.isfinite(p.data).all() for p in parameters.values()]
    for name, whole in zip(parameters, model.backend.scalars(finite), strict=True):
        if not whole:
            raise NonFiniteError(
                f"parameter {name} is not finite any more after step {step}; "
                f"try a smaller learning rate than {lr:g}{hint(config)}"
            )


def hint(config: TrainConfig) -> str:
    """How to learn more, for the end of a message."""
    return "" if config.check_numerics else "; --check-numerics names the first layer at fault"
