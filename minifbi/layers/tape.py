"""How a layer at work enters the tape: Eq. (1) and Eq. (2), each with its adjoint.

The two functions are the only places where the engine records a layer.  Layers, rules and
containers use them; a rule may hand them other weights than the layer's own.
"""

import operator
from dataclasses import dataclass
from typing import Any

from minifbi.arguments import expect_shape
from minifbi.autograd import Tensor, record
from minifbi.backends import Array
from minifbi.numerics import Watch, checking

Tensors = tuple[Tensor, ...]
_data = operator.attrgetter("data")


@dataclass(slots=True, eq=False)
class Step:
    """One layer at work: what went in, what came out, what it remembers.

    Attributes
    ----------
    name : str
        The layer's name in its network, for example "conv1".
    layer : Layer
        Which layer; one that is used twice has two steps.
    inputs : tuple of Tensor
        What went in: one Tensor, or what a sum adds.
    z : Tensor
        The output.
    saved : object
        What the layer's ``forward`` remembers for the other methods.
    parameters : tuple of Tensor
        With which the layer computed: its own, or what it made of them, as BatchNorm2d does.
    """

    name: str
    layer: Any
    inputs: Tensors
    z: Tensor
    saved: Any
    parameters: Tensors = ()

    @property
    def x(self) -> Tensor:
        """The (first) input, a_{i-1}^+."""
        return self.inputs[0]

    def relevance(self, ratio: Tensor) -> Tensor:
        """Carry the ratio from this layer's output to its input, on the tape.

        Parameters
        ----------
        ratio : Tensor, shape of z
            a_{i+1}^- / a_i^+, at the output.

        Returns
        -------
        Tensor, shape of x
            The ratio at the input; the relevance there is ``x * ratio``.

        Raises
        ------
        ShapeError
            If the ratio has another shape than z.
        """
        if ratio.data.shape != self.z.data.shape:
            got, hint = f"layer {self.name!r}: relevance got a ratio", ": the shape of the output"
            expect_shape(got, ratio.shape, self.z.shape, hint)
        return carry_back(self.layer, ratio, self.saved, self.parameters, self.name)


def apply(layer: Any, x: Tensor, parameters: Tensors, name: str = "") -> tuple[Tensor, Any]:
    """Eq. (1) on the tape: ``layer.forward``, whose adjoint is ``layer.backward``.

    Parameters
    ----------
    layer : Layer
        Whose ``forward`` is called.
    x : Tensor, shape (N, ...)
        The input, a_{i-1}^+.
    parameters : tuple of Tensor
        The layer's own, or others in their place: a relevance rule may ask for the positive
        weights only.
    name : str
        The layer's name, for messages; without one, :func:`minifbi.check_numerics` does not
        look at this layer.

    Returns
    -------
    z : Tensor
        The output.
    saved : object
        What the layer remembers.
    """
    backend, needs_x = x.backend, x.requires_grad
    look = Watch(name, layer, backend) if name and checking() else None
    if look:
        look.weights()
    z, saved = layer.forward(backend, x.data, *map(_data, parameters))
    if look:
        look.forward(x.data, z)

    def backward(g: Array) -> Any:
        shares = layer.backward(backend, g, saved, needs_x)
        return look.backward(g, shares, "forward") if look else shares

    return record(z, (x, *parameters), backward, type(layer).__name__), saved


def carry_back(
    layer: Any, ratio: Tensor, saved: Any, parameters: Tensors, name: str = ""
) -> Tensor:
    """Eq. (2) on the tape: ``layer.relevance``, whose adjoint is ``layer.relevance_backward``.

    Parameters
    ----------
    layer : Layer
        Whose ``relevance`` is called.
    ratio : Tensor, shape of the output
        a_{i+1}^- / a_i^+, at the output.
    saved : object
        What the forward pass remembered, from :func:`apply`.
    parameters : tuple of Tensor
        Those with which the forward pass was computed.
    name : str
        The layer's name, for messages.

    Returns
    -------
    Tensor, shape of the input
    """
    backend, incoming = ratio.backend, ratio.data
    look = Watch(name, layer, backend) if name and checking() else None
    carried = layer.relevance(backend, incoming, saved)
    if look:
        look.relevance(incoming, carried)

    def backward(g: Array) -> Any:
        shares = layer.relevance_backward(backend, g, incoming, saved)
        return look.backward(g, shares, "relevance") if look else shares

    return record(carried, (ratio, *parameters), backward, f"{type(layer).__name__}.relevance")
