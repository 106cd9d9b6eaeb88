"""A tensor that remembers how it was made.

Each operation on tensors computes its result at once and, where a gradient may
be asked for later, writes a :class:`Node` for it: which tensors went in, and
how a gradient at the result becomes gradients at the inputs.  The nodes of one
computation form the *tape*.  ``loss.backward()`` walks the tape from the loss
back to the leaves.

The relevance pass of the paper is a computation like any other.  It is written
on the same tape as the forward pass, so that one ``backward()`` differentiates
through both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from minifbi.arguments import expect_shape
from minifbi.autograd.recording import recording
from minifbi.backends import Array, Backend, get_backend
from minifbi.backends.placement import check_same_backend
from minifbi.errors import ShapeError

BackwardFunction = Callable[[Array], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Node:
    """One entry of the tape.

    Attributes
    ----------
    inputs : tuple of Tensor
        What went into the operation.
    backward : callable
        Takes the gradient at the result, an array of the result's shape, and
        returns one array (or None) for each input, of that input's shape.
    name : str
        The operation, for error messages and drawings.
    """

    inputs: tuple[Tensor, ...]
    backward: BackwardFunction
    name: str


class Tensor:
    """An array, the gradient of some loss with respect to it, and its place on the tape.

    Parameters
    ----------
    data : array_like
        Numbers.  Floating arrays keep their dtype (float32 or float64; a byte order that is
        not the machine's is converted); integers, booleans and Python numbers become
        float64 unless `dtype` is given.
    requires_grad : bool
        Whether ``backward()`` should fill :attr:`grad`.
    backend : str or Backend
        Where the array lives and how its kernels run (default "numpy").
    dtype : dtype, optional
        float32 or float64.

    Attributes
    ----------
    data : array
        The array itself.  It is not copied where it need not be.
    grad : array or None
        The gradient, of the shape and dtype of `data`; ``backward()`` *adds* to
        it, so that gradients of several losses accumulate.
    requires_grad : bool
        Whether a gradient is wanted here or at something that this was made from.
    backend : Backend
        Where the array lives.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> x = Tensor([3.0, 4.0], requires_grad=True)
    >>> loss = (x * x).sum()
    >>> loss.backward()
    >>> x.grad
    array([6., 8.])
    """

    __slots__ = ("__weakref__", "backend", "data", "grad", "node", "requires_grad")

    # NumPy must leave `array * tensor` to Tensor.__rmul__ instead of looping over it.
    __array_ufunc__ = None

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        backend: str | Backend = "numpy",
        dtype: Any = None,
    ) -> None:
        self.backend = get_backend(backend)
        self.data: Array = self.backend.floats(data, dtype)
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.node: Node | None = None

    # minifbi.autograd.operators attaches Python's operators and NumPy's methods: they are made
    # of functions, which are made of tensors
    if TYPE_CHECKING:
        __add__ = __sub__ = __mul__ = __truediv__ = __pow__ = cast(Any, None)
        __radd__ = __rsub__ = __rmul__ = __neg__ = __getitem__ = cast(Any, None)

        def __getattr__(self, name: str) -> Any: ...

    # ---- what it looks like ----------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return np.dtype(self.data.dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self.data.ndim)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.data.size)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        made_by = f", made by {self.node.name}" if self.node else ""
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({self.data!r}{grad}{made_by})"

    def item(self) -> float:
        """The number in a tensor of one element."""
        return float(self.data.item())

    def numpy(self) -> Any:
        """The numbers as a NumPy array, wherever they live."""
        return self.backend.to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For ``np.asarray(tensor)`` and plotting: the numbers, off the tape."""
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def detach(self) -> Tensor:
        """The same numbers, off the tape: no gradient flows through the result."""
        return Tensor(self.data, backend=self.backend)

    # ---- gradients -------------------------------------------------------------------
    def zero_grad(self) -> None:
        """Forget the accumulated gradient."""
        self.grad = None

    def backward(self, grad: Any = None) -> None:
        """Add the gradient of this tensor to ``.grad`` of every leaf that it was made from.

        Parameters
        ----------
        grad : array_like, optional
            Gradient of the final loss with respect to this tensor, of its
            shape.  May be left out for a tensor of one element, where it is 1.

        Raises
        ------
        ShapeError
            If `grad` is missing for a tensor of several elements, or has
            another shape.
        RuntimeError
            If nothing was recorded: no input required a gradient, or the tensor
            was made under ``no_grad()``.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() on a tensor that has no tape behind it: no input had "
                "requires_grad=True, or it was computed under no_grad()"
            )
        if grad is None and self.size != 1:
            raise ShapeError(
                f"backward() without an argument needs a tensor of one element, this one has "
                f"shape {self.shape}; sum it, or pass the gradient with respect to it"
            )
        xp = self.backend.xp
        seed = xp.ones_like(self.data) if grad is None else self.backend.asarray(grad, self.dtype)
        expect_shape("backward() got a gradient", tuple(seed.shape), self.shape)

        # Gradients on their way, by tensor.  A tensor that is used twice collects
        # from both uses, so it may pass its gradient on only when every use has
        # reported: that is what the order below guarantees.
        pending: dict[int, Any] = {id(self): seed}
        for tensor in backward_order(self):
            gradient = pending.pop(id(tensor), None)
            if gradient is None:
                continue
            if tensor.node is None:  # a leaf: nothing lies behind it
                # a copy: `gradient` may be a read-only view, or shared with another leaf
                total = gradient if tensor.grad is None else tensor.grad + gradient
                tensor.grad = tensor.backend.xp.array(total, tensor.data.dtype)
                continue
            shares = tensor.node.backward(gradient)
            for source, share in zip(tensor.node.inputs, shares, strict=True):
                if share is None or not source.requires_grad:
                    continue
                if share.shape != source.data.shape:
                    what = f"the backward of {tensor.node.name!r} returned a gradient"
                    expect_shape(what, tuple(share.shape), source.shape, ", the shape of the input")
                known = pending.get(id(source))
                # never `known += share`: an operation may hand one array to two inputs
                pending[id(source)] = share if known is None else source.backend.add(known, share)


def backward_order(result: Tensor) -> list[Tensor]:
    """All tensors behind `result`, each one after every tensor that it went into.

    This is a topological order, found by a depth-first walk and reversed.  It
    matters: take ``y = x * x; z = y + x``.  If ``y`` passed its gradient on to
    ``x`` and ``x`` reported before the direct share from ``z`` arrived, a part
    of the gradient would be lost.  The walk keeps its own stack, since a deep
    network would overflow Python's.
    """
    order, seen = [], set()
    stack = [(result, False)]
    while stack:
        tensor, listed = stack.pop()
        if listed:  # everything behind it
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))  # come back when its inputs are done
            for source in reversed(tensor.node.inputs if tensor.node else ()):
                if source.requires_grad:
                    stack.append((source, False))
    return order[::-1]


def record(data: Array, inputs: Sequence[Tensor], backward: BackwardFunction, name: str) -> Tensor:
    """Make the result of an operation, with its entry on the tape if one is needed.

    Parameters
    ----------
    data : array, any shape
        The result, on the backend of the inputs.
    inputs : sequence of Tensor
        What it was computed from; all on one backend.
    backward : callable
        See :class:`Node`.
    name : str
        The operation's name.

    Returns
    -------
    Tensor

    Raises
    ------
    BackendMismatchError
        If the inputs live on different backends.
    """
    backend, taped = inputs[0].backend, False
    for tensor in inputs:
        taped = taped or tensor.requires_grad
        if tensor.backend is not backend:
            check_same_backend(inputs, name)
    taped = taped and recording()
    result = Tensor.__new__(Tensor)
    if not data.ndim:
        data = backend.xp.asarray(data)  # NumPy gives scalars, not arrays of no dimension
    result.data, result.backend, result.grad, result.requires_grad = data, backend, None, taped
    result.node = Node(tuple(inputs), backward, name) if taped else None
    return result
