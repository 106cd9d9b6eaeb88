"""What every layer is: four methods over plain arrays, and their entries on the tape.

A layer of minifbi shows, side by side, what the paper's three steps ask of it:

======================  ============================================================
``forward``             Eq. (1): z from x
``backward``            the adjoint of ``forward``: dL/dz becomes dL/dx, dL/dW, dL/db
``relevance``           Eq. (2): the ratio at the output becomes the ratio at the input
``relevance_backward``  the adjoint of ``relevance``
======================  ============================================================

**What the relevance pass carries.**  Eq. (2) divides: a_i^- = a_{i-1}^+ * W_i^T(a_{i+1}^- / a_i^+).
We carry the ratio r_i = a_{i+1}^- / a_i^+ itself.  Since a_i^- = a_{i-1}^+ * (W_i^T r_i), the
ratio at the layer below is W_i^T r_i: nothing is ever divided.
So ``relevance`` of a layer maps the ratio at its output to the ratio at its input, and the
relevance itself is x * ratio, which :func:`minifbi.fbi.relevance_pass` writes down as Eq. (2).

No method changes the layer: what ``forward`` wants to remember it returns as `saved`,
so that one layer may be used twice in a computation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minifbi.autograd import Tensor, record
from minifbi.backends import Array, Backend, get_backend
from minifbi.errors import BackendMismatchError, ConfigError, ShapeError
from minifbi.layers.numerics import watch
from minifbi.layers.parameters import Parameters

Gradients = tuple[Array | None, ...]


@dataclass
class Step:
    """One layer at work: what went in, what came out, what it remembers.

    Attributes
    ----------
    name : str
        The layer's name in its network, for example "conv1".
    layer : Layer
    x : Tensor
        The input.
    z : Tensor
        The output.
    saved : object
        What the layer's ``forward`` remembers for the other three methods.
    """

    name: str
    layer: Layer
    x: Tensor
    z: Tensor
    saved: Any

    def relevance(self, ratio: Tensor) -> Tensor:
        """Carry the ratio from this layer's output to its input, on the tape.

        Parameters
        ----------
        ratio : Tensor, shape of z

        Returns
        -------
        Tensor, shape of x
            The ratio at the input; the relevance there is ``x * ratio``.

        Raises
        ------
        ShapeError
            If the ratio has another shape than z.
        """
        if ratio.shape != self.z.shape:
            raise ShapeError(
                f"layer {self.name!r}: relevance got a ratio of shape {ratio.shape}; it must have "
                f"the shape of the layer's output, {self.z.shape}"
            )
        layer, backend, incoming = self.layer, self.x.backend, ratio.data
        parameters = tuple(layer.own_parameters().values())

        carried = layer.relevance(backend, incoming, self.saved)
        look = watch(self.name, layer, backend)
        if look:
            look.relevance(incoming, carried)

        def backward(g: Array) -> Any:
            shares = layer.relevance_backward(backend, g, incoming, self.saved)
            return look.backward(g, shares, "relevance") if look else shares

        inputs, kind = (ratio, *parameters), type(layer).__name__
        return record(carried, inputs, backward, f"{kind}.relevance")


class Layer(Parameters):
    """Base class of all layers.

    A new layer overrides :meth:`forward`, :meth:`backward`, :meth:`relevance` and
    :meth:`relevance_backward`, and, if it has weights, registers them with
    :meth:`add_parameter` in ``__init__``.

    Attributes
    ----------
    functional : bool
        Whether the layer is one of the K functional layers of Eq. (3), the
        convolution and dense layers, whose input carries a term of the loss.
    proportional : bool
        Whether the layer hands relevance down in proportion to the shares of a sum
        z, that is, whether the paper's form divides by z here: convolution, dense,
        average pooling.  There the stabiliser applies.
    training : bool
        Set by :meth:`train` and :meth:`eval`; only Dropout looks at it.
    """

    functional = False
    proportional = False

    def __init__(self) -> None:
        self.training = True
        self._parameters: dict[str, Tensor] = {}

    # ---- the four methods, over plain arrays ------------------------------------------
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
            Anything; the other three methods get it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def backward(self, backend: Backend, grad: Array, saved: Any, needs_x: bool) -> Gradients:
        """Adjoint of forward: gradients at (x, *parameters).

        `needs_x` is False where nobody will use the gradient at x (the first
        layer of a network in conventional training): None may stand for it.

        Parameters
        ----------
        backend : Backend
        grad : array, shape of z
            dL/dz.
        saved : object
            From :meth:`forward`.
        needs_x : bool

        Returns
        -------
        tuple of array or None
            dL/dx, then the gradient at each parameter, in the shapes of these.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward")

    def relevance(self, backend: Backend, ratio: Array, saved: Any) -> Array:
        """Eq. (2).  Return the ratio at the input for the `ratio` at the output.

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

    def relevance_backward(
        self, backend: Backend, grad: Array, ratio: Array, saved: Any
    ) -> Gradients:
        """Adjoint of relevance: gradients at (ratio, *parameters).

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
        raise NotImplementedError(f"{type(self).__name__} must define relevance_backward")

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
        return self.trace(self.as_input(x))[-1].z

    @property
    def backend(self) -> Backend:
        """Backend of the parameters (numpy for a layer without any)."""
        return next((p.backend for p in self.parameters().values()), get_backend("numpy"))

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the parameters (float32 for a layer without any)."""
        return next((p.dtype for p in self.parameters().values()), np.dtype(np.float32))

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
            array = self.backend.images(x, self.dtype)
            return Tensor(array, backend=self.backend, dtype=self.dtype)
        if not self.parameters():
            return x  # nothing here that it could disagree with
        if x.backend is not self.backend:
            raise BackendMismatchError(
                f"the input lives on backend {x.backend.name!r}, the model on "
                f"{self.backend.name!r}; make it with Tensor(x, backend={self.backend.name!r})"
            )
        if x.dtype != self.dtype:
            raise TypeError(
                f"the input is {x.dtype}, the model {self.dtype}; "
                f"make it with Tensor(x, dtype={str(self.dtype)!r})"
            )
        return x

    def trace(self, x: Tensor, name: str = "", fused: bool = False) -> list[Step]:
        """Apply the layer and keep what the relevance pass needs.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W) or (N, F)
        name : str
            What to call the layer.
        fused : bool
            Whether a network may run several layers as one for speed
            (:mod:`minifbi.layers.fused`); it has fewer steps then.

        Returns
        -------
        list of Step
            One step; a network returns one for each of its layers.

        Raises
        ------
        ShapeError
            If the input does not fit; the message names the layer.
        """
        self.check_input(x.shape)
        backend = x.backend
        parameters = tuple(self.own_parameters().values())
        name = name or type(self).__name__.lower()
        look = watch(name, self, backend)
        if look:
            look.weights()
        z, saved = self.forward(backend, x.data, *(p.data for p in parameters))
        if look:
            look.forward(x.data, z)

        def backward(g: Array) -> Any:
            shares = self.backward(backend, g, saved, needs_x=x.requires_grad)
            return look.backward(g, shares, "forward") if look else shares

        out = record(z, (x, *parameters), backward, type(self).__name__)
        return [Step(name, self, x, out, saved)]


@contextlib.contextmanager
def evaluating(model: Layer) -> Iterator[None]:
    """Evaluation mode for a while; every layer gets back its own mode, frozen ones too."""
    modes = [(part, part.training) for part in (model, *(p for _, p in model.named_layers()))]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def pair(value: int | tuple[int, int], what: str, least: int) -> tuple[int, int]:
    """An int or a pair of ints as a pair, each at least `least`."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or any(
        isinstance(v, bool) or not isinstance(v, (int, np.integer)) or v < least for v in both
    ):
        raise ConfigError(
            f"{what}={value!r}: expected an integer or a pair of integers, each at least {least}"
        )
    return int(both[0]), int(both[1])
