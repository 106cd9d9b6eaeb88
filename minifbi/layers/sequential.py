"""A chain of layers with names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minifbi.autograd import Tensor, no_grad
from minifbi.errors import ConfigError, NonFiniteError, ShapeError
from minifbi.layers.base import Layer, Step, evaluating
from minifbi.layers.fused import fuse


class Sequential(Layer):
    """Layers applied one after the other.

    Parameters
    ----------
    *layers : Layer, or one mapping of str to Layer
        Without names, layers are called "0", "1", ... as in PyTorch.

    Attributes
    ----------
    layers : dict of str to Layer
    input_shape : tuple of int or None
        Shape of one sample, if the network was built for one.

    Examples
    --------
    >>> from minifbi.layers import Dense, ReLU, Sequential
    >>> net = Sequential({"hidden": Dense(4, 3), "relu": ReLU(), "out": Dense(3, 2)})
    >>> list(net.parameters())
    ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']

    Raises
    ------
    ConfigError
        If something is no layer, or a name is empty or has a dot.
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        self.input_shape: tuple[int, ...] | None = None  # of one sample, where it is known
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            self.layers = dict(layers[0])
        else:
            self.layers = {str(i): layer for i, layer in enumerate(layers)}  # type: ignore[misc]
        for name, layer in self.layers.items():
            if not isinstance(layer, Layer) or "." in name or not name:
                raise ConfigError(
                    f"Sequential got {name!r}: {layer!r}; expected layers, "
                    f"with names that are not empty and have no dot"
                )

    def __repr__(self) -> str:
        inside = "\n".join(f"  {name}: {layer!r}" for name, layer in self.layers.items())
        return f"Sequential(\n{inside}\n)"

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, key: str | int) -> Layer:
        return list(self.layers.values())[key] if isinstance(key, int) else self.layers[key]

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        for name, layer in self.layers.items():
            for inner, part in layer.named_layers():
                yield f"{name}.{inner}" if inner else name, part

    # ---- Eq. (1), layer by layer -------------------------------------------------------
    def as_input(self, x: Any) -> Tensor:
        """Bring an array to the model's backend and dtype; check that it is finite.

        Parameters
        ----------
        x : Tensor or array, shape (N, ...)

        Returns
        -------
        Tensor, same shape

        Raises
        ------
        NonFiniteError
            If x holds NaN or infinity.  What is on a GPU already is not looked at, since the
            host would have to wait for it in each step.
        BackendMismatchError, TypeError
            If x is a Tensor of another backend or dtype.
        """
        given, x = x, super().as_input(x)
        values, xp = x.data, x.backend.xp
        if x.backend.asynchronous:
            if isinstance(given, Tensor) or x.backend.holds(given):
                return x
            with np.errstate(over="ignore"):
                values, xp = np.asarray(given, dtype=x.dtype), np  # before it went to the device
        if not bool(xp.isfinite(values).all()):
            bad = int((~xp.isfinite(values)).sum())
            first = next((name for name, _ in self.named_layers()), "")
            raise NonFiniteError(
                f"the input{f' of layer {first!r}' if first else ''} holds {bad} values that are "
                f"NaN or infinite out of {x.size}; a net cannot learn from them: clean the data "
                f"first"
            )
        return x

    def __call__(self, x: Any) -> Tensor:
        """Apply all layers to a Tensor or an array."""
        steps = self.trace(x)
        return steps[-1].z if steps else self.as_input(x)

    def trace(self, x: Any, name: str = "", fused: bool = False) -> list[Step]:
        x = self.as_input(x)
        steps: list[Step] = []
        prefix = f"{name}." if name else ""
        layers = list(self.layers.items())
        for key, layer in fuse(layers) if fused else layers:
            try:
                steps += layer.trace(x, prefix + key, fused)
            except ShapeError as error:
                if str(error).startswith("layer "):  # a Sequential inside has said it
                    raise
                raise ShapeError(f"layer {prefix + key!r}: {error}") from None
            x = steps[-1].z if steps else x
        return steps

    def summary(self, input_shape: tuple[int, ...] | None = None) -> None:
        """Print a table of layers, output shapes and numbers of parameters.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Shape of one sample, without the batch: (1, 28, 28) for MNIST.  The models
            of :mod:`minifbi.models` know their own.

        Raises
        ------
        ConfigError
            If the shape is neither given nor known.
        """
        print(self.describe(input_shape))

    def describe(self, input_shape: tuple[int, ...] | None = None) -> str:
        """The table that :meth:`summary` prints, as text.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Of one sample, as for :meth:`summary`.

        Returns
        -------
        str

        Raises
        ------
        ConfigError
            If the shape is neither given nor known.
        """
        input_shape = input_shape or self.input_shape
        if input_shape is None:
            raise ConfigError(
                "summary() does not know the shape of the input; pass that of one sample, "
                "for example summary((1, 28, 28))"
            )
        with evaluating(self), no_grad():
            steps = self.trace(np.zeros((1, *input_shape)))
        rows = [("layer", "kind", "output shape", "parameters")]
        rows.append(("input", "", str(("N", *input_shape)).replace("'", ""), ""))
        for step in steps:
            count = sum(p.size for p in step.layer.own_parameters().values())
            shape = str(("N", *step.z.shape[1:])).replace("'", "")
            rows.append((step.name, repr(step.layer), shape, f"{count:,}" if count else ""))
        total = sum(p.size for p in self.parameters().values())
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in rows
        ]
        rule = "-" * max(map(len, lines))
        functional = sum(step.layer.functional for step in steps)
        facts = (
            f"{total:,} parameters; K = {functional} functional layers; {self.dtype}, "
            f"backend {self.backend.name}"
        )
        return "\n".join([lines[0], rule, *lines[1:], rule, facts])
