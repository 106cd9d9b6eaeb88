"""Python's operators and NumPy's methods on tensors: each is one of the `functions`.

Kept apart from :mod:`minifbi.autograd.tensor` so that the file with the tape holds nothing but
the tape.
"""

import operator
from typing import Any

from minifbi.autograd import functions
from minifbi.autograd.tensor import Tensor

Axis = int | tuple[int, ...] | None


def sqrt(a: Tensor) -> Tensor:
    """Elementwise square root."""
    return functions.power(a, 0.5)


def var(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Variance over `axis`, divided by the count (NumPy's ddof=0); `keepdims` as for the sum."""
    return functions.mean((a - functions.mean(a, axis, True)) ** 2, axis, keepdims)


def min(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Minimum over one `axis` or all, `keepdims` as for the sum; the first of equals wins."""
    return -functions.max(-a, axis, keepdims)


def flatten(a: Tensor, start_dim: int = 0) -> Tensor:
    """Merge all axes from `start_dim` on."""
    return functions.reshape(a, (*a.shape[:start_dim], -1))


def _comparison(compare: Any) -> Any:
    """A plain boolean array: it cannot be differentiated."""
    return lambda a, other: compare(a.data, getattr(other, "data", other))


METHODS: dict[str, Any] = {
    **dict.fromkeys(("abs", "__abs__"), functions.absolute),
    "__neg__": lambda a: functions.multiply(a, -1.0),
    "__pow__": functions.power,
    "__getitem__": functions.take,
    "__bool__": lambda a: bool(a.data),
    "T": property(functions.transpose, doc="All axes reversed."),
}
"""What ``tensor.NAME`` is, beside the functions of that name."""

METHODS |= {f.__name__: f for f in (sqrt, var, min, flatten)}
_SAME = "exp log tanh sigmoid relu clip sum mean max reshape transpose squeeze expand_dims pad"
for _name in (*_SAME.split(), "broadcast_to"):
    METHODS[_name] = getattr(functions, _name)
_SHORT = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}
for _name, _long in (*_SHORT.items(), ("matmul", "matmul")):
    _operator = METHODS[f"__{_name}__"] = getattr(functions, _long)
    METHODS[f"__r{_name}__"] = lambda a, other, f=_operator: f(other, a)
for _name in ("gt", "ge", "lt", "le"):
    METHODS[f"__{_name}__"] = _comparison(getattr(operator, _name))
for _name, _method in METHODS.items():
    setattr(Tensor, _name, _method)
