"""Python's operators and NumPy's methods on tensors, as one-line calls of `functions`.

Kept apart from :mod:`minifbi.autograd.tensor` so that the file with the tape
holds nothing but the tape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minifbi.autograd import functions
from minifbi.backends import Array

if TYPE_CHECKING:
    from minifbi.autograd.tensor import Tensor

Axis = int | tuple[int, ...] | None


class Operators:
    """Mixed into :class:`~minifbi.autograd.tensor.Tensor`."""

    __slots__ = ()

    def __add__(self: Any, other: Any) -> Tensor:
        return functions.add(self, other)

    def __radd__(self: Any, other: Any) -> Tensor:
        return functions.add(other, self)

    def __sub__(self: Any, other: Any) -> Tensor:
        return functions.subtract(self, other)

    def __rsub__(self: Any, other: Any) -> Tensor:
        return functions.subtract(other, self)

    def __mul__(self: Any, other: Any) -> Tensor:
        return functions.multiply(self, other)

    def __rmul__(self: Any, other: Any) -> Tensor:
        return functions.multiply(other, self)

    def __truediv__(self: Any, other: Any) -> Tensor:
        return functions.divide(self, other)

    def __rtruediv__(self: Any, other: Any) -> Tensor:
        return functions.divide(other, self)

    def __neg__(self: Any) -> Tensor:
        return functions.multiply(self, -1.0)

    def __pow__(self: Any, exponent: float) -> Tensor:
        return functions.power(self, exponent)

    def __matmul__(self: Any, other: Any) -> Tensor:
        return functions.matmul(self, other)

    def __rmatmul__(self: Any, other: Any) -> Tensor:
        return functions.matmul(other, self)

    def __getitem__(self: Any, index: Any) -> Tensor:
        return functions.take(self, index)

    # Comparisons give plain boolean arrays: nothing of them can be differentiated.
    def __gt__(self: Any, other: Any) -> Array:
        return self.data > getattr(other, "data", other)

    def __ge__(self: Any, other: Any) -> Array:
        return self.data >= getattr(other, "data", other)

    def __lt__(self: Any, other: Any) -> Array:
        return self.data < getattr(other, "data", other)

    def __le__(self: Any, other: Any) -> Array:
        return self.data <= getattr(other, "data", other)

    def __bool__(self: Any) -> bool:
        return bool(self.data)

    def exp(self: Any) -> Tensor:
        """Elementwise exponential."""
        return functions.exp(self)

    def log(self: Any) -> Tensor:
        """Elementwise natural logarithm."""
        return functions.log(self)

    def sqrt(self: Any) -> Tensor:
        """Elementwise square root."""
        return functions.power(self, 0.5)

    def tanh(self: Any) -> Tensor:
        """Elementwise hyperbolic tangent."""
        return functions.tanh(self)

    def sigmoid(self: Any) -> Tensor:
        """Elementwise logistic function 1 / (1 + exp(-x))."""
        return functions.sigmoid(self)

    def relu(self: Any) -> Tensor:
        """Elementwise max(x, 0); the derivative at 0 is 0."""
        return functions.relu(self)

    def abs(self: Any) -> Tensor:
        """Elementwise absolute value; the derivative at 0 is 0."""
        return functions.absolute(self)

    __abs__ = abs

    def clip(self: Any, low: float, high: float) -> Tensor:
        """Elementwise clip to [low, high]; no gradient where it clips."""
        return functions.clip(self, low, high)

    def sum(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum over `axis` (all axes by default)."""
        return functions.sum(self, axis, keepdims)

    def mean(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Mean over `axis` (all axes by default)."""
        return functions.mean(self, axis, keepdims)

    def var(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Variance over `axis`, divided by the count (NumPy's ddof=0)."""
        return functions.mean((self - functions.mean(self, axis, True)) ** 2, axis, keepdims)

    def max(self: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Maximum over one axis or all; the gradient goes to the first of equals."""
        return functions.max(self, axis, keepdims)

    def min(self: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Minimum over one axis or all; the gradient goes to the first of equals."""
        return -functions.max(-self, axis, keepdims)

    def reshape(self: Any, *shape: Any) -> Tensor:
        """The same elements in another shape; -1 stands for what is left."""
        listed = len(shape) == 1 and isinstance(shape[0], (tuple, list))
        return functions.reshape(self, tuple(shape[0]) if listed else shape)

    def flatten(self: Any, start_dim: int = 0) -> Tensor:
        """Merge all axes from `start_dim` on."""
        return functions.reshape(self, (*self.shape[:start_dim], -1))

    def transpose(self: Any, *axes: Any) -> Tensor:
        """Reorder the axes; reverse them if none are given."""
        if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
            axes = tuple(axes[0])
        return functions.transpose(self, axes or tuple(range(self.ndim))[::-1])

    @property
    def T(self: Any) -> Tensor:
        """All axes reversed."""
        return self.transpose()

    def squeeze(self: Any, axis: int) -> Tensor:
        """Drop an axis of length 1."""
        return functions.squeeze(self, axis)

    def expand_dims(self: Any, axis: int) -> Tensor:
        """Insert an axis of length 1."""
        return functions.expand_dims(self, axis)

    def pad(self: Any, widths: Any) -> Tensor:
        """Add zeros at the borders: `widths` is one (before, after) pair an axis."""
        return functions.pad(self, widths)

    def broadcast_to(self: Any, shape: tuple[int, ...]) -> Tensor:
        """Repeat along axes of length 1 as NumPy's broadcasting would."""
        return functions.broadcast_to(self, shape)
