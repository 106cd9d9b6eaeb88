"""The operations: each computes its result and says how its gradient flows back.

Every function has the same three lines: the result, the backward as a closure
over what it needs, and ``record``.  ``g`` is the gradient at the result, and
backward returns one gradient for each input.  The closures hold *arrays* and not the
tensors' ``data``: an optimiser may give a tensor other data before backward runs.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minifbi.autograd.tensor import Tensor, record
from minifbi.backends import Array
from minifbi.backends.placement import check_same_backend
from minifbi.errors import ShapeError


def _tensors(*values: Any) -> tuple[Tensor, ...]:
    """Make tensors of plain numbers and arrays, on the backend and dtype of those that are."""
    like = next((value for value in values if isinstance(value, Tensor)), None)
    if like is None:
        raise TypeError(f"expected at least one Tensor among {len(values)} values, got none")
    options: dict[str, Any] = {"backend": like.backend, "dtype": like.dtype}
    tensors = tuple(v if isinstance(v, Tensor) else Tensor(v, **options) for v in values)
    check_same_backend(tensors, "an operation")  # before their arrays meet
    return tensors


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Transpose of broadcasting: sum `g` over the axes along which `shape` was repeated."""
    padded = (1,) * (g.ndim - len(shape)) + shape
    repeated = tuple(i for i, n in enumerate(padded) if n != g.shape[i])
    return (g.sum(axis=repeated, keepdims=True) if repeated else g).reshape(shape)


def _normal_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    axes = axis if isinstance(axis, (tuple, list)) else range(ndim) if axis is None else (axis,)
    if any(not -ndim <= a < ndim for a in axes):
        raise ShapeError(f"axis {axis} does not exist in a tensor of {ndim} dimensions")
    return tuple(a % ndim for a in axes)


def _shares(at_a: Array, at_b: Array, a: Tensor, b: Tensor) -> tuple[Array, Array]:
    """Gradients at two inputs that were broadcast, in the shapes of these."""
    return unbroadcast(at_a, a.shape), unbroadcast(at_b, b.shape)


# ---- elementwise -------------------------------------------------------------------------
def add(a: Any, b: Any) -> Tensor:
    """a + b, broadcast."""
    a, b = _tensors(a, b)
    return record(a.data + b.data, (a, b), lambda g: _shares(g, g, a, b), "add")


def subtract(a: Any, b: Any) -> Tensor:
    """a - b, broadcast."""
    a, b = _tensors(a, b)
    return record(a.data - b.data, (a, b), lambda g: _shares(g, -g, a, b), "subtract")


def multiply(a: Any, b: Any) -> Tensor:
    """a * b, elementwise, broadcast."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.backend is b.backend):
        a, b = _tensors(a, b)
    x, y = a.data, b.data

    def backward(g: Array) -> Sequence[Array | None]:
        return (
            unbroadcast(g * y, x.shape) if a.requires_grad else None,
            unbroadcast(g * x, y.shape) if b.requires_grad else None,
        )

    product = a.backend.multiply(x, y) if x.shape == y.shape else x * y
    return record(product, (a, b), backward, "multiply")


def divide(a: Any, b: Any) -> Tensor:
    """a / b, elementwise, broadcast."""
    a, b = _tensors(a, b)
    divisor = b.data
    quotient = a.data / divisor

    def backward(g: Array) -> Sequence[Array | None]:
        share = g / divisor
        return _shares(share, -share * quotient, a, b)

    return record(quotient, (a, b), backward, "divide")


def power(a: Tensor, exponent: float) -> Tensor:
    """a ** exponent for a fixed number `exponent`."""
    if isinstance(exponent, Tensor):
        raise TypeError("a ** b takes a plain number b; write (b * a.log()).exp() for a tensor b")
    exponent = float(exponent)  # NumPy's own float64 would turn float32 arrays into float64
    lower = exponent - 1 if exponent else 0.0  # 0 * x ** -1 would be NaN at 0
    x = a.data
    return record(x**exponent, (a,), lambda g: (g * exponent * x**lower,), "power")


def exp(a: Tensor) -> Tensor:
    """Elementwise exponential."""
    value = a.backend.xp.exp(a.data)
    return record(value, (a,), lambda g: (g * value,), "exp")


def log(a: Tensor) -> Tensor:
    """Elementwise natural logarithm."""
    x = a.data
    return record(a.backend.xp.log(x), (a,), lambda g: (g / x,), "log")


def tanh(a: Tensor) -> Tensor:
    """Elementwise hyperbolic tangent."""
    value = a.backend.xp.tanh(a.data)
    return record(value, (a,), lambda g: (g * (1 - value * value),), "tanh")


def sigmoid(a: Tensor) -> Tensor:
    """Elementwise 1 / (1 + exp(-a)), by tanh so that nothing overflows."""
    value = 0.5 * (1 + a.backend.xp.tanh(0.5 * a.data))
    return record(value, (a,), lambda g: (g * value * (1 - value),), "sigmoid")


def relu(a: Tensor) -> Tensor:
    """Elementwise max(a, 0); NaN stays NaN; the derivative at 0 is 0."""
    x = a.data
    return record(a.backend.xp.maximum(x, 0), (a,), lambda g: (g * (x > 0),), "relu")


def absolute(a: Tensor) -> Tensor:
    """Elementwise |a|; the derivative at 0 is 0."""
    x, xp = a.data, a.backend.xp
    return record(xp.abs(x), (a,), lambda g: (g * xp.sign(x),), "absolute")


def clip(a: Tensor, low: float, high: float) -> Tensor:
    """Elementwise clip to [`low`, `high`]; no gradient where it clips."""
    return minimum(maximum(a, low), high)


def where(condition: Array, a: Any, b: Any) -> Tensor:
    """a where `condition` (a boolean array) holds, else b; broadcast.

    Parameters
    ----------
    condition : array of bool
        Where to take a; what is not True takes b.
    a, b : Tensor or number
        At least one a Tensor; condition, a and b are broadcast to one shape.

    Returns
    -------
    Tensor, the broadcast shape

    Raises
    ------
    TypeError
        If `condition` is a Tensor, or neither a nor b is.
    """
    if isinstance(condition, Tensor):
        raise TypeError("where needs a boolean array, not a Tensor; a comparison such as a > 0 is")
    a, b = _tensors(a, b)
    xp = a.backend.xp
    condition = a.backend.asarray(condition)

    def backward(g: Array) -> Sequence[Array]:
        return _shares(xp.where(condition, g, 0), xp.where(condition, 0, g), a, b)

    return record(xp.where(condition, a.data, b.data), (a, b), backward, "where")


def maximum(a: Any, b: Any) -> Tensor:
    """Elementwise larger of two; the gradient goes to `a` where they are equal; NaN stays.

    Parameters
    ----------
    a, b : Tensor or number
        At least one a Tensor; broadcast to one shape.

    Returns
    -------
    Tensor, the broadcast shape
    """
    a, b = _tensors(a, b)
    return where((a.data >= b.data) | (a.data != a.data), a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """Elementwise smaller of two; the gradient goes to `a` where they are equal; NaN stays.

    Parameters
    ----------
    a, b : Tensor or number
        At least one a Tensor; broadcast to one shape.

    Returns
    -------
    Tensor, the broadcast shape
    """
    a, b = _tensors(a, b)
    return where((a.data <= b.data) | (a.data != a.data), a, b)


# ---- matrices ----------------------------------------------------------------------------
def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product as NumPy's ``@``: stacks of matrices broadcast, vectors are allowed."""
    a, b = _tensors(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul needs vectors or matrices, got shapes {a.shape} and {b.shape}")
    inner = b.shape[-2:][0]
    if a.shape[-1] != inner:
        raise ShapeError(
            f"matmul of {a.shape} and {b.shape}: the last dimension of the first "
            f"({a.shape[-1]}) must equal the {'second last' if b.ndim > 1 else 'only'} "
            f"of the second ({inner})"
        )
    if b.ndim == 1:  # a vector on the right is a matrix of one column, on the left one of one row
        return squeeze(matmul(a, expand_dims(b, 1)), -1)
    if a.ndim == 1:
        return squeeze(matmul(expand_dims(a, 0), b), -2)
    x, y = a.data, b.data

    def backward(g: Array) -> Sequence[Array]:
        return _shares(g @ y.swapaxes(-1, -2), x.swapaxes(-1, -2) @ g, a, b)

    return record(x @ y, (a, b), backward, "matmul")


# ---- reductions --------------------------------------------------------------------------
def sum(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (all axes by default); with `keepdims` these stay, with length 1."""
    axes = _normal_axes(axis, a.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    total, xp = a.data.sum(axis=axes, keepdims=keepdims), a.backend.xp
    return record(total, (a,), lambda g: (xp.broadcast_to(g.reshape(kept), a.shape),), "sum")


def mean(a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean over `axis`, `keepdims` as for the sum; over no elements it is a ShapeError."""
    count = math.prod(a.shape[i] for i in _normal_axes(axis, a.ndim))
    if count == 0:
        raise ShapeError(f"mean over no elements: shape {a.shape}, axis {axis}")
    return multiply(sum(a, axis, keepdims), 1.0 / count)


def max(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Maximum over one `axis` or all, `keepdims` as for the sum; the first of equals wins."""
    if axis is None:
        value = max(reshape(a, -1), 0)
        return reshape(value, (1,) * a.ndim) if keepdims else value
    xp = a.backend.xp
    places = xp.arange(a.shape[axis]).reshape(-1, *(1,) * (a.ndim - 1 - axis % a.ndim))
    winners = places == xp.expand_dims(a.data.argmax(axis=axis), axis)
    return sum(where(winners, a, 0.0), axis, keepdims)


# ---- shapes ------------------------------------------------------------------------------
def reshape(a: Tensor, *shape: Any) -> Tensor:
    """The same elements in another `shape`; -1 stands for what is left."""
    return record(a.data.reshape(*shape), (a,), lambda g: (g.reshape(a.shape),), "reshape")


def transpose(a: Tensor, *axes: Any) -> Tensor:
    """The axes in the order `axes`; reversed if none are given."""
    if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
        axes = tuple(axes[0])
    axes = axes or tuple(range(a.ndim))[::-1]
    back = tuple(int(i) for i in np.argsort([i % a.ndim for i in axes]))
    return record(a.data.transpose(axes), (a,), lambda g: (g.transpose(back),), "transpose")


def squeeze(a: Tensor, axis: int) -> Tensor:
    """Drop `axis`, which must have length 1."""
    return reshape(a, a.data.squeeze(axis).shape)


def expand_dims(a: Tensor, axis: int) -> Tensor:
    """Insert an axis of length 1 at the place `axis`."""
    return reshape(a, a.backend.xp.expand_dims(a.data, axis).shape)


def broadcast_to(a: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat along axes of length 1 to the given `shape`, as NumPy's broadcasting does."""
    value = a.backend.xp.broadcast_to(a.data, shape)
    return record(value, (a,), lambda g: (unbroadcast(g, a.shape),), "broadcast_to")


def pad(a: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Zeros around the borders: `widths` holds one (before, after) pair per axis."""
    inner = tuple(slice(low, low + n) for (low, _), n in zip(widths, a.shape, strict=True))
    return record(a.backend.xp.pad(a.data, widths), (a,), lambda g: (g[inner],), "pad")


def take(a: Tensor, index: Any) -> Tensor:
    """a[index] with NumPy's indexing; an element taken twice gets both gradients."""
    if isinstance(index, Tensor):
        raise TypeError("index a tensor with integers, slices or integer arrays, not with a Tensor")
    xp = a.backend.xp

    def backward(g: Array) -> Sequence[Array]:
        out = xp.zeros_like(a.data)
        xp.add.at(out, index, g)
        return (out,)

    return record(xp.asarray(a.data[index]), (a,), backward, "take")


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join along an existing axis.

    Parameters
    ----------
    tensors : sequence of Tensor
        Of one shape, but for the length of `axis`.
    axis : int
        Along which they are joined.

    Returns
    -------
    Tensor
        With the shape of the first, but along `axis` the sum of all lengths.
    """
    tensors = _tensors(*tensors)
    xp = tensors[0].backend.xp
    ends = np.cumsum([t.shape[axis] for t in tensors])[:-1].tolist()
    joined = xp.concatenate([t.data for t in tensors], axis=axis)
    return record(joined, tensors, lambda g: xp.split(g, ends, axis=axis), "concatenate")


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join along a new axis.

    Parameters
    ----------
    tensors : sequence of Tensor
        All of one shape.
    axis : int
        Where the new axis stands in the result's shape.

    Returns
    -------
    Tensor
        One dimension more, of length ``len(tensors)``.
    """
    return concatenate([expand_dims(t, axis) for t in _tensors(*tensors)], axis)
