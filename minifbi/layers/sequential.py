"""A chain of layers with names, and a chain with a shortcut around it."""

from collections.abc import Mapping
from typing import Any

from minifbi.arguments import expect_shape
from minifbi.autograd import Tensor
from minifbi.backends import Array, Backend
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers.base import Gradients, Layer
from minifbi.layers.tape import Step, apply
from minifbi.numerics import finite_input
from minifbi.text import layer_table


class Sequential(Layer):
    """Layers applied one after the other.

    Parameters
    ----------
    *layers : Layer, or one mapping of str to Layer
        Without names, layers are called "0", "1", ... as in PyTorch.

    Attributes
    ----------
    layers : dict of str to Layer
        In the order in which they are applied, by name.
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
        return f"{type(self).__name__}(\n{inside}\n)"

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, key: str | int) -> Layer:
        return list(self.layers.values())[key] if isinstance(key, int) else self.layers[key]

    def named_layers(self) -> list[tuple[str, Layer]]:
        found = []
        for name, layer in self.layers.items():
            if not isinstance(layer, Sequential):
                found.append((name, layer))
                continue
            for inner, part in layer.named_layers():
                found.append((f"{name}.{inner}", part))
        return found

    # ---- Eq. (1), layer by layer -------------------------------------------------------
    def as_input(self, x: Any) -> Tensor:
        """Bring an array to the model's backend and dtype; check that it is finite.

        Parameters
        ----------
        x : Tensor or array, shape (N, ...)
            One sample per row of the first axis.

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
        return finite_input(x, super().as_input(x), self)

    def trace(self, x: Any, name: str = "") -> list[Step]:
        return trace_chain(self.layers, x if isinstance(x, Tensor) else self.as_input(x), name)

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
        return layer_table(self, input_shape or self.input_shape)


class Residual(Sequential):
    """A chain with a shortcut around it: z = chain(x) + shortcut(x) (He et al. 2016).

    The sum shares relevance out by what each side contributes, so the ratio goes to both
    unchanged; where the input branches, the two ratios that come back add up.  A layer inside
    is called ``block.conv1``, one in the shortcut ``block.shortcut``.  By Eq. (2) the a_i^- of a
    layer inside is what this layer hands to its own input.

    Parameters
    ----------
    *layers : Layer, or one mapping of str to Layer
        The chain, as for :class:`Sequential`.
    shortcut : Layer, optional
        The other way, such as a 1 x 1 convolution where the number of channels changes.  If
        left out, x itself is added.

    Examples
    --------
    >>> from minifbi.layers import Dense, ReLU, Residual, Sequential
    >>> block = Residual({"dense1": Dense(4, 4), "relu": ReLU(), "dense2": Dense(4, 4)})
    >>> net = Sequential({"block": block, "out": Dense(4, 2)})
    >>> [name for name in net.parameters() if name.endswith("weight")]
    ['block.dense1.weight', 'block.dense2.weight', 'out.weight']

    Raises
    ------
    ConfigError
        As :class:`Sequential`; or if the chain is empty.
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer], shortcut: Layer | None = None) -> None:
        super().__init__(*layers)
        self.chain, self.shortcut, self.sum = self.layers, shortcut, Sum()
        if not self.layers or "shortcut" in self.layers:
            raise ConfigError(
                f"Residual got {list(self.layers)}; expected at least one, none named 'shortcut'"
            )
        self.aside = {} if shortcut is None else {"shortcut": shortcut}
        self.layers = self.chain | self.aside

    def trace(self, x: Any, name: str = "") -> list[Step]:
        x = x if isinstance(x, Tensor) else self.as_input(x)
        steps = trace_chain(self.chain, x, name)
        aside = trace_chain(self.aside, x, name)
        ends = [part[-1].z if part else x for part in (steps, aside)]
        hint = ", that of the shortcut; give this a layer that makes the chain's shape"
        expect_shape("the chain has an output", ends[0].shape, ends[1].shape, hint)
        z, saved = apply(self.sum, ends[0], (ends[1],), name)
        return [*steps, *aside, Step(name or "residual", self.sum, tuple(ends), z, saved)]


class Sum(Layer):
    """z = x + y, the end of a :class:`Residual`; the ratio goes to both."""

    proportional = True

    def forward(self, backend: Backend, x: Array, *others: Array) -> tuple[Array, Any]:
        return backend.add(x, others[0]), None

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        return grad, grad

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        return ratio

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        return u


def trace_chain(layers: Mapping[str, Layer], x: Tensor, name: str) -> list[Step]:
    """Apply layers one after the other; their names follow that of what holds them, `name`."""
    steps: list[Step] = []
    prefix = f"{name}." if name else ""
    for key, layer in layers.items():
        try:
            steps += layer.trace(x, prefix + key)
        except ShapeError as error:
            if str(error).startswith("layer "):  # a container inside has said it
                raise
            raise ShapeError(f"layer {prefix + key!r}: {error}") from None
        x = steps[-1].z if steps else x
    return steps
