"""Optimisers and learning-rate schedules, with PyTorch's definitions.

An optimiser gives each parameter a new array and never writes into the old one:
a tape that still holds it stays right, and so does the array that a user made the
parameter from.  Its memory goes by the parameter's name, so that a checkpoint can
hold it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minifbi.arguments import choice, finite_array, number, refused
from minifbi.autograd import Tensor
from minifbi.backends import Array
from minifbi.errors import CheckpointError, ConfigError

SCHEDULES: dict[str, tuple[float, ...]] = {
    "constant": (),
    "cosine": (0.0,),
    "step": (0.1, 0.5, 0.75),
    "plateau": (0.1, 10.0),
}
"""Schedules of the learning rate, with the numbers that each takes where none are given.

cosine: END, the last factor.  step: FACTOR, and the shares of the run after which it multiplies the
learning rate.  plateau: FACTOR, PATIENCE.
"""


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


def parse_schedule(spec: str) -> tuple[str, tuple[float, ...]]:
    """A schedule's name and its numbers, from a text such as "cosine" or "step:0.5,0.3,0.6".

    Parameters
    ----------
    spec : str
        A name in :data:`SCHEDULES`, if need be with its numbers after a colon.  The first ones
        may be given alone: "plateau:0.5" keeps the patience of 10.

    Returns
    -------
    name : str
    numbers : tuple of float

    Raises
    ------
    ConfigError
        If the name is unknown, or a number is missing, too many, or outside its range.
    """
    name, colon, text = spec.partition(":") if isinstance(spec, str) else (spec, "", "")
    choice("schedule", name, SCHEDULES)
    default = SCHEDULES[name]
    if not colon:
        return name, default
    try:
        given = [number("schedule", float(part), 0) for part in text.split(",")]
    except ValueError:  # ConfigError is one
        given = []
    if name != "step":
        given += default[len(given) :] if given else ()
    expected = {
        "constant": "constant without a number",
        "cosine": "cosine:END, with END from 0 to 1",
        "step": "step:FACTOR,SHARE,..., with FACTOR up to 1 and rising shares of the run up to 1",
        "plateau": "plateau:FACTOR,PATIENCE, with FACTOR below 1 and a whole number of epochs",
    }[name]
    fits = (
        bool(given)
        and {
            "constant": False,
            "cosine": len(given) == 1 and given[0] <= 1,
            "step": len(given) > 1 and max(given) <= 1 and given[1:] == sorted(given[1:]),
            "plateau": len(given) == 2 and given[0] < 1 and given[1].is_integer(),
        }[name]
    )
    if not fits:
        raise refused("schedule", spec, expected)
    return name, tuple(given)


def learning_rate(
    base: float, schedule: str, step: int, total: int, accuracies: Sequence[float] = ()
) -> float:
    """Learning rate of step `step` (from 0) out of `total`.

    Parameters
    ----------
    base : float
        The first learning rate.
    schedule : str
        As :func:`parse_schedule` reads it.  "cosine" falls to END times `base`, 0 if left out,
        along half a cosine (Loshchilov and Hutter 2017, without restarts).  "step" multiplies by
        FACTOR after each of the shares of the run, as PyTorch's MultiStepLR; if left out it divides
        by 10 at half and at three quarters.  "plateau" is :func:`plateau_factor`.
    accuracies : sequence of float
        Validation accuracies of the epochs so far, which only "plateau" looks at.

    Returns
    -------
    float

    Raises
    ------
    ConfigError
        If the schedule is unknown, or its numbers are wrong.
    """
    name, numbers = parse_schedule(schedule)
    progress = step / max(total, 1)
    factor = 1.0
    if name == "cosine":
        end = numbers[0]
        factor = end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    elif name == "step":
        factor = numbers[0] ** sum(progress >= share for share in numbers[1:])
    elif name == "plateau":
        factor = plateau_factor(accuracies, numbers[0], int(numbers[1]))
    return base * factor


def plateau_factor(accuracies: Sequence[float], factor: float = 0.1, patience: int = 10) -> float:
    """What the learning rate has been multiplied with after these epochs.

    It is multiplied with `factor` once more than `patience` epochs in a row brought no validation
    accuracy better than 1.0001 times the best one: PyTorch's ReduceLROnPlateau with
    ``mode="max"`` and its defaults, but that the learning rate may also fall below 1e-8.

    Parameters
    ----------
    accuracies : sequence of float
        One per epoch, from the first on.
    factor : float
        0 to 1.
    patience : int
        Epochs without a better one that are borne.

    Returns
    -------
    float
        A power of `factor`.
    """
    best, bad, result = -math.inf, 0, 1.0
    for accuracy in accuracies:
        better = accuracy > best * (1 + 1e-4)
        best, bad = (accuracy, 0) if better else (best, bad + 1)
        if bad > patience:
            result, bad = result * factor, 0
    return result
