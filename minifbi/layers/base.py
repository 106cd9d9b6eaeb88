"""What every layer is: its methods over plain arrays, and how they enter the tape.

A layer of minifbi shows, side by side, what the paper's three steps ask of it:

======================  ============================================================
``forward``             Eq. (1): z from x
``backward``            the adjoint of ``forward``: dL/dz becomes dL/dx, dL/dW, dL/db
``relevance``           Eq. (2): the ratio at the output becomes the ratio at the input
======================  ============================================================

**What the relevance pass carries.**  Eq. (2) divides: a_i^- = a_{i-1}^+ * W_i^T(a_{i+1}^- / a_i^+).
We carry the ratio r_i = a_{i+1}^- / a_i^+ itself.  Since a_i^- = a_{i-1}^+ * (W_i^T r_i), the
ratio at the layer below is W_i^T r_i: nothing is ever divided.
So ``relevance`` maps the ratio at the layer's output to the ratio at its input, and the
relevance itself is x * ratio, which :func:`minifbi.fbi.relevance_pass` writes down as Eq. (2).

**How the relevance pass is differentiated.**  With its choices kept (which units are active,
which won a pooling), a layer is a linear map, J.  ``relevance`` is its transpose, c = J^T r.  The
adjoint of a transpose is the map itself: dL/dr = J dL/dc, which is ``jvp``.  Where J has weights,
:class:`~minifbi.layers.linear.Linear` adds their gradient, once for all such layers.

No method changes the layer: what ``forward`` wants to remember it returns as `saved`,
so that one layer may be used twice in a computation.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minifbi.autograd import Tensor, record
from minifbi.backends import Array, Backend
from minifbi.errors import BackendMismatchError, ShapeError
from minifbi.layers.state import State
from minifbi.numerics import Watch, checking

_data = operator.attrgetter("data")
Gradients = tuple[Array | None, ...]


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
    """

    name: str
    layer: Layer
    inputs: tuple[Tensor, ...]
    z: Tensor
    saved: Any

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
            raise ShapeError(
                f"layer {self.name!r}: relevance got a ratio of shape {ratio.shape}; it must have "
                f"the shape of the layer's output, {self.z.shape}"
            )
        parameters = tuple(self.layer.own_parameters.values())
        return carry_back(self.layer, ratio, self.saved, parameters, self.name)


class Layer(State):
    """Base class of all layers.

    A new layer overrides :meth:`forward`, :meth:`backward`, :meth:`relevance` and :meth:`jvp`,
    and, if it has weights, registers them with :meth:`add_parameter` in ``__init__`` and
    overrides :meth:`relevance_backward` too, unless it is a
    :class:`~minifbi.layers.linear.Linear`, which has one.

    Attributes
    ----------
    functional : bool
        Whether the layer is one of the K functional layers of Eq. (3), the
        convolution and dense layers, whose input carries a term of the loss.
    proportional : bool
        Whether the layer hands relevance down in proportion to the shares of a sum
        z, that is, whether the paper's form divides by z here: convolution, dense,
        average pooling, sums.  There a rule's stabiliser applies.
    training : bool
        Set by :meth:`train` and :meth:`eval`; only Dropout looks at it.
    """

    functional = False
    proportional = False

    # ---- over plain arrays -----------------------------------------------------------
    def forward(self, backend: Backend, x: Array, *parameters: Array) -> tuple[Array, Any]:
        """Eq. (1).  Return the output and what the other methods need (`saved`).

        Parameters
        ----------
        backend : Backend
            Whose kernels to call.
        x : array, shape (N, C, H, W) or (N, F)
            The input, a_{i-1}^+.
        *parameters : array
            The layer's own parameters, in the order of registration.

        Returns
        -------
        z : array, shape (N, ...)
            The output.
        saved : object
            Anything; the other methods get it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        """Adjoint of forward: gradients at (x, *parameters).

        Parameters
        ----------
        backend : Backend
        grad : array, shape of z
            dL/dz.
        saved : object
            From :meth:`forward`.
        needs_x : bool
            False where the gradient at x is not used, as at the first layer in conventional
            training.  The method may then return None for it.

        Returns
        -------
        tuple of array or None
            dL/dx, then the gradient at each parameter, in the shapes of these.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward")

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        """Eq. (2).  Return the ratio at the input for the `ratio` at the output: J^T ratio.

        Parameters
        ----------
        backend : Backend
        ratio : array, shape of z
            a_{i+1}^- / a_i^+, at the output.
        saved : object
            From :meth:`forward`.

        Returns
        -------
        array, shape of x
            The ratio c at the input; the relevance there is x * c.
        """
        raise NotImplementedError(f"{type(self).__name__} must define relevance")

    def jvp(self, backend: Backend, u: Array, saved: Any) -> Array:
        """The Jacobian-vector product J u: forward once more, linear, its choices kept.

        Parameters
        ----------
        backend : Backend
        u : array, shape of x
            The direction in which the input changes.
        saved : object
            From :meth:`forward`: which units were active, which won.

        Returns
        -------
        array, shape of z
        """
        raise NotImplementedError(f"{type(self).__name__} must define jvp or relevance_backward")

    def relevance_backward(
        self, backend: Backend, grad: Array, ratio: Array, saved: Any
    ) -> Gradients:
        """Adjoint of relevance: gradients at (ratio, *parameters).

        relevance is c = J^T ratio, so dL/dratio = J dL/dc.

        Parameters
        ----------
        backend : Backend
        grad : array, shape of x
            dL/dc, for the result c of :meth:`relevance`.
        ratio : array, shape of z
            What :meth:`relevance` got.
        saved : object
            From :meth:`forward`.

        Returns
        -------
        tuple of array or None
            dL/dratio, then what each parameter gets from this pass.
        """
        return (self.jvp(backend, grad, saved),)

    def check_input(self, shape: tuple[int, ...]) -> None:
        """Raise ShapeError if an input of this shape does not fit.

        Parameters
        ----------
        shape : tuple of int
            Of the input, the batch first.

        Raises
        ------
        ShapeError
            If it does not fit; the message names every dimension.
        """

    # ---- on the tape -----------------------------------------------------------------
    def __call__(self, x: Any) -> Tensor:
        """Apply the layer to a Tensor or an array: Eq. (1)."""
        x = self.as_input(x)
        steps = self.trace(x)
        return steps[-1].z if steps else x

    def as_input(self, x: Any) -> Tensor:
        """Bring an array to this layer's backend and dtype; check that a Tensor has them.

        Parameters
        ----------
        x : Tensor or array, shape (N, ...)

        Returns
        -------
        Tensor, same shape

        Raises
        ------
        BackendMismatchError, TypeError
            If x is a Tensor of another backend or dtype.
        """
        if not isinstance(x, Tensor):
            backend, dtype = self.backend, self.dtype
            return Tensor(backend.images(x, dtype), backend=backend, dtype=dtype)
        first = self.first_parameter
        if first is None:
            return x  # nothing here that it could disagree with
        backend, dtype = first.backend, first.dtype
        if x.backend is not backend:
            raise BackendMismatchError(
                f"the input lives on backend {x.backend.name!r}, the model on "
                f"{backend.name!r}; make it with Tensor(x, backend={backend.name!r})"
            )
        if x.dtype != dtype:
            raise TypeError(
                f"the input is {x.dtype}, the model {dtype}; "
                f"make it with Tensor(x, dtype={str(dtype)!r})"
            )
        return x

    def trace(self, x: Any, name: str = "") -> list[Step]:
        """Apply the layer and keep what the relevance pass needs.

        Parameters
        ----------
        x : Tensor or array, shape (N, C, H, W) or (N, F)
            The input, a_{i-1}^+.
        name : str
            The name of the step, for messages and tables; the class in lower case if empty.

        Returns
        -------
        list of Step
            One step; a container returns those of the layers inside it.

        Raises
        ------
        ShapeError
            If the input does not fit; the message names the layer.
        """
        if not isinstance(x, Tensor):
            x = self.as_input(x)
        self.check_input(x.data.shape)
        name = name or type(self).__name__.lower()
        z, saved = apply(self, x, tuple(self.own_parameters.values()), name)
        return [Step(name, self, (x,), z, saved)]


def apply(
    layer: Layer, x: Tensor, parameters: tuple[Tensor, ...], name: str = ""
) -> tuple[Tensor, Any]:
    """Eq. (1) on the tape: ``layer.forward``, whose adjoint is ``layer.backward``.

    Parameters
    ----------
    layer : Layer
    x : Tensor, shape (N, ...)
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
    layer: Layer, ratio: Tensor, saved: Any, parameters: tuple[Tensor, ...], name: str = ""
) -> Tensor:
    """Eq. (2) on the tape: ``layer.relevance``, whose adjoint is ``layer.relevance_backward``.

    Parameters
    ----------
    layer : Layer
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


@contextlib.contextmanager
def evaluating(model: Layer) -> Iterator[None]:
    """Evaluation mode inside a ``with``; every layer gets back its own mode, frozen ones too."""
    modes = [(part, part.training) for part in (model, *(p for _, p in model.named_layers()))]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
