"""Optimisers and learning-rate schedules, with PyTorch's definitions.

An optimiser gives each parameter a new array and never writes into the old one:
a tape that still holds it stays right, and so does the array that a user made the
parameter from.  Its memory goes by the parameter's name, so that a checkpoint can
hold it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minifbi.arguments import finite_array, number
from minifbi.autograd import Tensor
from minifbi.backends import Array
from minifbi.errors import CheckpointError, ConfigError

SCHEDULES = ("constant", "cosine", "step")


class Optimizer:
    """Base class: parameters by name, a learning rate, and slots of memory.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        For example ``model.parameters()``.
    lr : float
        Learning rate, at least 0.
    weight_decay : float
        L2 penalty: weight_decay * p is added to the gradient of every parameter.

    Raises
    ------
    ConfigError
        If a number is outside its range, or there are no parameters.
    """

    slots: tuple[str, ...] = ()

    def __init__(
        self, parameters: Mapping[str, Tensor], lr: float, weight_decay: float = 0.0
    ) -> None:
        if not parameters:
            raise ConfigError("the optimiser got no parameters; pass model.parameters()")
        self.parameters = dict(parameters)
        # plain floats: a NumPy float64 would turn float32 parameters into float64
        self.lr = number("lr", lr, 0)
        self.weight_decay = number("weight_decay", weight_decay, 0)
        self.steps = 0
        self.memory: dict[str, dict[str, Array]] = {
            slot: {n: p.backend.xp.zeros(p.shape, p.dtype) for n, p in self.parameters.items()}
            for slot in self.slots
        }

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        self.steps += 1
        for name, p in self.parameters.items():
            if p.grad is not None:
                grad = p.grad + self.weight_decay * p.data if self.weight_decay else p.grad
                p.data = self._update(name, p, grad)

    def _update(self, name: str, p: Tensor, grad: Array) -> Array:
        """The parameter's new array."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Number of steps and all memory, as NumPy arrays by "slot/parameter"."""
        state: dict[str, Any] = {"steps": np.array(self.steps)}
        for slot, arrays in self.memory.items():
            for name, array in arrays.items():
                state[f"{slot}/{name}"] = np.array(self.parameters[name].backend.to_numpy(array))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the memory back.

        Parameters
        ----------
        state : mapping of str to array
            From :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If it was saved by another optimiser or for other parameters.
        """
        own = self.state_dict()
        if set(own) != set(state) or any(own[k].shape != np.shape(state[k]) for k in own):
            raise CheckpointError(
                f"the optimiser's state does not belong to this {type(self).__name__} "
                f"and these parameters"
            )
        steps = np.asarray(state["steps"])
        if steps.dtype.kind not in "iu" or not 0 <= steps <= 2**62:
            raise CheckpointError(
                f"the optimiser's state says {steps} steps; expected a whole number of at least 0"
            )
        found: dict[str, dict[str, Array]] = {slot: {} for slot in self.memory}
        for slot, arrays in self.memory.items():
            for name in arrays:
                p, key = self.parameters[name], f"{slot}/{name}"
                value = finite_array(f"the optimiser's state {key}", state[key], p.dtype)
                found[slot][name] = p.backend.asarray(value)
        self.steps, self.memory = int(steps), found


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v = m v + g, p = p - lr v.

    Parameters
    ----------
    parameters, lr, weight_decay
        See :class:`Optimizer`.
    momentum : float
        m, 0 <= m < 1.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    slots = ("velocity",)

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        lr: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = number("momentum", momentum, 0, below=1)

    def _update(self, name: str, p: Tensor, grad: Array) -> Array:
        velocity = self.memory["velocity"][name]
        velocity *= self.momentum
        velocity += grad
        return (p.data - self.lr * velocity).astype(p.dtype, copy=False)


def adam_step(
    p: Array,
    grad: Array,
    mean: Array,
    square: Array,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    t: int,
) -> Array:
    """Adam's step number t for one parameter: Kingma and Ba 2015, Algorithm 1.

    Where a backend has a kernel for it (``backend.adam``), :class:`Adam` calls that.

    Parameters
    ----------
    p, grad : array
        The parameter and its gradient; both stay as they are.
    mean, square : array of p's shape
        Running means of the gradient and of its square; they change in place.
    lr : float
        Learning rate: the length of a step.
    betas : (float, float)
        How much of the running means stays in a step.
    eps : float
        Keeps the division away from 0, in units of the gradient.
    t : int
        Counts from 1.

    Returns
    -------
    array
        The new parameter.
    """
    b1, b2 = betas
    mean *= b1
    mean += (1 - b1) * grad
    square *= b2
    square += (1 - b2) * grad * grad
    # the running means start at 0; 1 - b^t undoes their bias towards it
    size = lr / (1 - b1**t)
    change = size * mean / ((square / (1 - b2**t)) ** 0.5 + eps)
    return (p - change).astype(p.dtype, copy=False)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, Algorithm 1): steps scaled by running moments.

    Parameters
    ----------
    parameters, lr, weight_decay
        See :class:`Optimizer`.
    betas : (float, float)
        Decay of the running mean of g and of g^2.
    eps : float
        Keeps the division away from 0, in units of the gradient; above 0.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    slots = ("mean", "square")

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        first, second = (number("betas", beta, 0, below=1) for beta in betas)
        self.betas, self.eps = (first, second), number("eps", eps, above=0)

    def _update(self, name: str, p: Tensor, grad: Array) -> Array:
        mean, square = self.memory["mean"][name], self.memory["square"][name]
        step = p.backend.adam or adam_step
        return step(p.data, grad, mean, square, self.lr, self.betas, self.eps, self.steps)


OPTIMIZERS = {"sgd": SGD, "adam": Adam}
DEFAULT_LR = {"sgd": 0.05, "adam": 1e-3}


def learning_rate(base: float, schedule: str, step: int, total: int) -> float:
    """Learning rate of step `step` (from 0) out of `total`.

    Returns
    -------
    float

    Parameters
    ----------
    base : float
        The first learning rate.
    schedule : {"constant", "cosine", "step"}
        "cosine" falls to 0 along half a cosine (Loshchilov and Hutter 2017,
        without restarts); "step" divides by 10 at half and at three quarters.

    Raises
    ------
    ConfigError
        If the schedule is unknown.
    """
    progress = step / max(total, 1)
    if schedule == "constant":
        return base
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if schedule == "step":
        return base * (1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01)
    raise ConfigError(f"schedule={schedule!r}: expected one of {', '.join(SCHEDULES)}")
