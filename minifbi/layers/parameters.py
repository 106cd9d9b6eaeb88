"""A layer's parameters: their names, their way to and from files, and what goes with them.

Kept apart from :mod:`minifbi.layers.base` so that the file with a layer's four methods holds
little else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from minifbi.autograd import Tensor
from minifbi.backends import Backend, get_backend
from minifbi.errors import CheckpointError

if TYPE_CHECKING:
    from minifbi.layers.base import Layer


class Parameters:
    """Mixed into :class:`~minifbi.layers.base.Layer`: trainable tensors by stable names.

    Attributes
    ----------
    training : bool
    """

    training: bool
    _parameters: dict[str, Tensor]

    def __setattr__(self, name: str, value: Any) -> None:
        # `conv.weight = other` must reach the forward pass and the optimiser too
        if name in self.__dict__.get("_parameters", {}):
            if value is None:
                del self._parameters[name]
            else:
                self._parameters[name] = value
        super().__setattr__(name, value)

    # ---- parameters ------------------------------------------------------------------
    def add_parameter(self, name: str, array: Any, backend: str | Backend, dtype: Any) -> Tensor:
        """Register a trainable tensor under a stable name.

        Parameters
        ----------
        name : str
            Such as "weight"; no other parameter of the layer may have it.
        array : array, any shape
            Its first values; copied.
        backend : str or Backend
        dtype : float32 or float64

        Returns
        -------
        Tensor, shape of the array
            With ``requires_grad``.
        """
        parameter = Tensor(np.array(array), True, get_backend(backend), dtype)
        self._parameters[name] = parameter
        return parameter

    def own_parameters(self) -> dict[str, Tensor]:
        """The layer's own trainable tensors, without those of layers inside it."""
        return self._parameters

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """This layer and all layers inside it that do work, with their names."""
        yield "", cast("Layer", self)

    def parameters(self) -> dict[str, Tensor]:
        """All trainable tensors in a fixed order, by names such as "conv1.weight"."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, layer in self.named_layers():
            for key, tensor in layer.own_parameters().items():
                if id(tensor) not in seen:  # a layer that is used twice has its weights once
                    seen.add(id(tensor))
                    found[f"{name}.{key}" if name else key] = tensor
        return found

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def train(self, mode: bool = True) -> Self:
        """Training mode: Dropout drops.  Returns the layer itself.

        Parameters
        ----------
        mode : bool
            False: evaluation mode.

        Returns
        -------
        Layer
        """
        for _, layer in self.named_layers():
            layer.training = mode
        self.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode: Dropout does nothing.  Returns the layer itself."""
        return self.train(False)

    def random_states(self) -> dict[str, Any]:
        """State of each random generator inside, by the layer's name (for checkpoints)."""
        generators = {name: vars(layer).get("rng") for name, layer in self.named_layers()}
        return {
            name: rng.bit_generator.state
            for name, rng in generators.items()
            if isinstance(rng, np.random.Generator)
        }

    def load_random_states(self, states: Mapping[str, Any]) -> None:
        """Put the random generators back to `states`.

        Parameters
        ----------
        states : mapping of str to dict
            From :meth:`random_states`.
        """
        for name, layer in self.named_layers():
            if name in states:
                rng: np.random.Generator = vars(layer)["rng"]
                rng.bit_generator.state = states[name]

    # ---- to and from files -----------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters as NumPy arrays, by name."""
        return {name: np.array(p.backend.to_numpy(p.data)) for name, p in self.parameters().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters from a mapping of arrays.

        Parameters
        ----------
        state : mapping of str to array
            Each of the shape of the parameter of its name.

        Raises
        ------
        CheckpointError
            If names or shapes differ from this model's, or a number is not
            finite.  Nothing is changed then.
        """
        own = self.parameters()
        missing = [name for name in own if name not in state]
        surplus = [name for name in state if name not in own]
        if missing or surplus:
            raise CheckpointError(
                "the parameters belong to another model: "
                + "; ".join(
                    f"{what} {', '.join(names)}"
                    for what, names in (("missing", missing), ("not in this model", surplus))
                    if names
                )
            )
        arrays = {}
        for name, p in own.items():
            array = np.asarray(state[name])
            if array.shape != p.shape:
                raise CheckpointError(
                    f"the parameters belong to another model: {name} has shape {array.shape}, "
                    f"this model has {p.shape}"
                )
            with np.errstate(over="ignore"):
                numbers = array.dtype.kind in "fiu"
                arrays[name] = array.astype(p.dtype) if numbers else np.array(np.nan)
            if not np.isfinite(arrays[name]).all():
                raise CheckpointError(
                    f"parameter {name} holds values that are not finite numbers in {p.dtype}"
                )
        for name, p in own.items():
            p.data = p.backend.asarray(arrays[name])
