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
which won a pooling), a layer is a linear map J, and perhaps a bias.  ``relevance`` is its
transpose, c = J^T r.  The adjoint of a transpose is the map itself: dL/dr = J dL/dc, which is
``jvp``.  Where J has weights, :class:`~minifbi.layers.linear.Linear` adds their gradient, once for
all such layers.

No method changes the layer: what ``forward`` wants to remember it returns as `saved`,
so that one layer may be used twice in a computation.
"""

from typing import Any

from minifbi.autograd import Tensor
from minifbi.backends import Array, Backend
from minifbi.backends.placement import check_input_place
from minifbi.layers.state import State
from minifbi.layers.tape import Step, apply

Gradients = tuple[Array | None, ...]


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
    shown : tuple of str
        The attributes that ``repr`` shows, such as ``("kernel_size", "stride")``.
    training : bool
        Set by :meth:`train` and :meth:`eval`; Dropout and BatchNorm2d look at it.
    """

    functional = False
    proportional = False
    shown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)
        return f"{type(self).__name__}({shown})"

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
            Whose kernels to call.
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
            Whose kernels to call.
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
            Whose kernels to call.
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
            Whose kernels to call.
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
        if self.own_parameters:
            raise NotImplementedError(
                f"{type(self).__name__} has parameters, and what they get from the relevance pass "
                f"does not follow from jvp: define relevance_backward, or derive it from Linear"
            )
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
            One sample per row of the first axis.

        Returns
        -------
        Tensor, same shape

        Raises
        ------
        BackendMismatchError, TypeError
            If x is a Tensor of another backend or dtype.
        """
        backend, dtype = self.backend, self.dtype
        if not isinstance(x, Tensor):
            return Tensor(backend.images(x, dtype), backend=backend, dtype=dtype)
        if self.first_parameter is not None:  # else nothing here that it could disagree with
            check_input_place(x, backend, dtype)
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
        parameters = tuple(self.own_parameters.values())
        z, saved = apply(self, x, parameters, name)
        return [Step(name, self, (x,), z, saved, parameters)]
