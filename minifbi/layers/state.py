"""What a layer holds: parameters and buffers by name, its mode, its random generator.

Kept apart from :mod:`minifbi.layers.base` so that the file with a layer's methods holds
little else.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from minifbi.arguments import arrays_like
from minifbi.autograd import Tensor
from minifbi.backends import Array, Backend, get_backend


class State:
    """Mixed into :class:`~minifbi.layers.base.Layer`: what is saved of a layer, by stable names.

    Attributes
    ----------
    training : bool
        Whether the layer is in training mode; see :meth:`train`.
    own_parameters : dict of str to Tensor
        The layer's own trainable tensors, without those of layers inside it.
    own_buffers : dict of str to array
        Arrays that are state and not trained, such as running means.
    """

    def __init__(self) -> None:
        self.training = True
        self.own_parameters: dict[str, Tensor] = {}
        self.own_buffers: dict[str, Array] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # `conv.weight = other` must reach the forward pass and the optimiser too
        for held in (self.__dict__.get("own_parameters", ()), self.__dict__.get("own_buffers", ())):
            if name in held:
                if value is None:
                    del held[name]
                else:
                    held[name] = value
        super().__setattr__(name, value)

    def add_parameter(self, name: str, array: Any, backend: str | Backend, dtype: Any) -> Tensor:
        """Register a trainable tensor under a stable name.

        Parameters
        ----------
        name : str
            Such as "weight"; no other parameter of the layer may have it.
        array : array, any shape
            Its first values; copied.
        backend : str or Backend
            Where it lives.
        dtype : float32 or float64
            To which the values are converted.

        Returns
        -------
        Tensor, shape of the array
            With ``requires_grad``.
        """
        parameter = Tensor(np.array(array), True, get_backend(backend), dtype)
        self.own_parameters[name] = parameter
        return parameter

    def add_buffer(self, name: str, array: Any, backend: str | Backend, dtype: Any) -> Array:
        """Register an array that is state and not trained; it is saved with the parameters.

        Assign to the attribute to change it: ``self.running_mean = new``.

        Parameters
        ----------
        name : str
            Such as "running_mean"; becomes an attribute of the layer.
        array : array, any shape
            Its first values; copied.
        backend : str or Backend
            Where it lives.
        dtype : float32 or float64
            To which the values are converted.

        Returns
        -------
        array, same shape
        """
        self.own_buffers[name] = get_backend(backend).asarray(np.array(array), dtype)
        setattr(self, name, self.own_buffers[name])
        return self.own_buffers[name]

    def named_layers(self) -> list[tuple[str, Any]]:
        """This layer, or a container's layers, with their names: those that do work."""
        return [("", self)]

    def _named(self, what: str) -> dict[str, tuple[Any, str, Any]]:
        """Each entry of the layers' `what` once, by its full name: its layer, its own name, it."""
        found, seen = {}, set()
        for name, layer in self.named_layers():
            for key, held in vars(layer)[what].items():
                if id(held) not in seen:  # a layer that is used twice has its weights once
                    seen.add(id(held))
                    found[f"{name}.{key}" if name else key] = (layer, key, held)
        return found

    def parameters(self) -> dict[str, Tensor]:
        """All trainable tensors in a fixed order, by names such as "conv1.weight"."""
        return {name: held for name, (_, _, held) in self._named("own_parameters").items()}

    def buffers(self) -> dict[str, Array]:
        """All arrays that are state and not trained, by names such as "norm1.running_mean"."""
        return {name: held for name, (_, _, held) in self._named("own_buffers").items()}

    @property
    def first_parameter(self) -> Tensor | None:
        """The first trainable tensor; it says where the layer computes."""
        for _, layer in self.named_layers():
            for parameter in layer.own_parameters.values():
                return parameter
        return None

    @property
    def backend(self) -> Backend:
        """Backend of the parameters (numpy for a layer without any)."""
        first = self.first_parameter
        return get_backend("numpy") if first is None else first.backend

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the parameters (float32 for a layer without any)."""
        first = self.first_parameter
        return np.dtype(np.float32) if first is None else first.dtype

    def to(self, backend: str | Backend, dtype: Any = None) -> Self:
        """Bring all parameters and buffers to a backend and a dtype; gradients are forgotten.

        Parameters
        ----------
        backend : str or Backend
            Where the layer then computes.
        dtype : float32 or float64, optional
            Of the parameters; as it is if left out.

        Returns
        -------
        Layer
            The layer itself.
        """
        new, arrays = get_backend(backend), self.state_dict()
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        if self.backend is new and dtype == self.dtype:
            return self
        self.zero_grad()
        self._put(arrays, new, dtype)
        return self

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
        for layer in (self, *(layer for _, layer in self.named_layers())):
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode: Dropout does nothing.  Returns the layer itself."""
        return self.train(False)

    # ---- to and from files -----------------------------------------------------------
    def random_states(self) -> dict[str, Any]:
        """State of each random generator inside, by the layer's name (for checkpoints)."""
        return {
            name: layer.rng.bit_generator.state
            for name, layer in self.named_layers()
            if isinstance(vars(layer).get("rng"), np.random.Generator)
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
                vars(layer)["rng"].bit_generator.state = states[name]

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers as NumPy arrays, by name."""
        arrays = {name: p.data for name, p in self.parameters().items()} | self.buffers()
        return {name: np.array(self.backend.to_numpy(array)) for name, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters and buffers from a mapping of arrays.

        Parameters
        ----------
        state : mapping of str to array
            Each of the shape of the parameter or buffer of its name.

        Raises
        ------
        CheckpointError
            If names or shapes differ from this model's, or a number is not
            finite.  Nothing is changed then.
        """
        self._put(arrays_like("parameter", state, self.state_dict()), self.backend)

    def _put(self, arrays: Mapping[str, Any], backend: Backend, dtype: Any = None) -> None:
        for name, p in self.parameters().items():
            p.data, p.backend = backend.asarray(arrays[name], dtype), backend
        for name, (layer, key, _) in self._named("own_buffers").items():
            setattr(layer, key, backend.asarray(arrays[name], dtype))
