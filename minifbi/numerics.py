"""Which layer was the first to make a NaN or an infinity, and in which pass.

A NaN spreads: once one layer has made one, all layers after it hold nothing else, and the loss
only says that something went wrong somewhere.  Inside :func:`check_numerics` each layer looks at
what it has just computed, so that the first fault is the one that is reported.  Nothing that is
computed changes, to the last bit.  Outside, a layer asks once a pass whether to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from minifbi.backends import Array, Backend
from minifbi.errors import NonFiniteError
from minifbi.switch import Switch

T = TypeVar("T")

_switch = Switch("check_numerics", on=False)
#: Whether layers look at their numbers here and now: ``checking()``.
checking = _switch.is_on

_TRY = "try a smaller learning rate, inputs in [0, 1], or float64"


def check_numerics(on: bool = True) -> AbstractContextManager[None]:
    """Inside this block, the first layer that computes a NaN or an infinity raises and says so.

    Checked are the weights and the output of each layer in the forward pass, the ratio at its
    input in the relevance pass, and its gradients in the backward pass.  For the last it counts
    where the other two were recorded: their ``backward()`` may be called after the block.

    A network that was rewritten for speed (:func:`minifbi.fusion.fuse`) reports a block of
    convolution, ReLU and pooling under the name of its convolution; minus infinity before the
    ReLU is 0 after it, and is not seen.

    Parameters
    ----------
    on : bool
        False: as if the block were not there.

    Returns
    -------
    context manager
        For a ``with`` statement.

    Raises
    ------
    NonFiniteError
        On entering a layer, in the block's body: it names the pass, the layer, and what of it
        is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from minifbi.layers import Dense, Sequential
    >>> net = Sequential({"hidden": Dense(2, 3), "out": Dense(3, 1)})
    >>> net["out"].weight.data[0, 1] = np.nan
    >>> try:
    ...     with check_numerics():
    ...         net(np.ones((1, 2)))
    ... except NonFiniteError as error:
    ...     print(str(error).split(": nan")[0])
    forward pass, layer 'out' (Dense): 1 of 3 numbers of its weight is NaN or infinite, the first \
at (0, 1)
    """
    return _switch.set(on)


@dataclass(frozen=True)
class Watch:
    """Looks at the numbers of one layer.

    Attributes
    ----------
    name : str
        The layer's name in its network.
    layer : Layer
        Whose weights are looked at.
    backend : Backend
        Where its arrays live.
    """

    name: str
    layer: Any
    backend: Backend

    def weights(self) -> None:
        """Raise if the weights are not finite."""
        for key, p in self.layer.own_parameters.items():
            if not self._finite(p.data):
                self._fail(
                    "forward",
                    f"its {key}",
                    p.data,
                    "",
                    "it came from a file, your own code, or an update that was too large: go back "
                    "to finite weights, or try a smaller learning rate",
                )

    def forward(self, x: Array, z: Array) -> None:
        """Raise if the output for the input `x` is not finite."""
        if not self._finite(z):
            if not self._finite(x):
                self._fail("forward", "its input", x, "", "clean what goes in first")
            self._fail("forward", "its output", z, "its input and its weights are finite", _TRY)

    def relevance(self, ratio: Array, result: Array) -> None:
        """Raise if the ratio at the input, made from that at the output, is not finite."""
        if not self._finite(result):
            if not self._finite(ratio):
                self._fail("relevance", "the ratio at its output", ratio, "", _TRY)
            self._fail(
                "relevance", "the ratio at its input", result, "that at its output is finite", _TRY
            )

    def term(self, value: Array) -> None:
        """Raise if the layer's term of Eq. (3) is not finite."""
        if not self._finite(value):
            self._fail("relevance", "its term of the FBI loss, Eq. (3)", value, "", _TRY)

    def backward(self, grad: Array, shares: Sequence[Array | None], of: str) -> Sequence[Any]:
        """Hand the gradients on; raise if one is not finite.

        Parameters
        ----------
        grad : array
            What arrived at the result of the pass.
        shares : sequence of array or None
            The gradients at what went in, then at the parameters.
        of : {"forward", "relevance"}
            The pass whose adjoint this is.
        """
        into = "its input" if of == "forward" else "the ratio at its output"
        stage = "backward" if of == "forward" else "backward (adjoint of the relevance pass)"
        for what, share in zip((into, *self.layer.own_parameters), shares, strict=False):
            if share is None or self._finite(share):
                continue
            if not self._finite(grad):
                self._fail(stage, "the gradient that reached it", grad, "", _TRY)
            what = what if what == into else f"its {what}"
            self._fail(
                stage,
                f"the gradient of {what}",
                share,
                "the gradient that reached it is finite",
                _TRY,
            )
        return shares

    def _finite(self, array: Array) -> bool:
        return bool(self.backend.scalars([self.backend.xp.isfinite(array).all()])[0])

    def _fail(self, stage: str, what: str, array: Array, known: str, advice: str) -> None:
        values = np.asarray(self.backend.to_numpy(array))
        wrong = ~np.isfinite(values)
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        count, noun = int(wrong.sum()), "number" if values.size == 1 else "numbers"
        stage, _, adjoint = stage.partition(" ")
        raise NonFiniteError(
            f"{stage} pass{f' {adjoint}' if adjoint else ''}, layer {self.name!r} "
            f"({type(self.layer).__name__}): {count:,} of {values.size:,} {noun} of {what} "
            f"{'is' if count == 1 else 'are'} NaN or infinite, the first at {first}: "
            f"{values[first]}{f', while {known}' if known else ''}; {advice}"
        )


def finite_input(given: Any, x: Any, model: Any) -> Any:
    """Hand images on; raise if they hold a NaN or an infinity, and name the first layer.

    Parameters
    ----------
    given : Tensor or array, shape (N, ...)
        The images as the caller passed them.
    x : Tensor, same shape
        The same, on the model's backend.  What is on a GPU already is not looked at.
    model : Layer
        The network that gets them.

    Returns
    -------
    Tensor
        x.

    Raises
    ------
    NonFiniteError
        If a number is NaN or infinite.
    """
    values = x.data
    if x.backend.asynchronous:
        if given is x or x.backend.holds(given):
            return x
        with np.errstate(over="ignore"):
            values = np.asarray(given, dtype=x.dtype)  # before it went to the device
    if bad := values.size - np.count_nonzero(np.isfinite(values)):
        first = "".join(f" of layer {name!r}" for name, _ in model.named_layers()[:1])
        raise NonFiniteError(
            f"the input{first} holds {bad} values that are NaN or infinite out of {values.size}; "
            f"a net cannot learn from them: clean the data first"
        )
    return x


# ---- in training ---------------------------------------------------------------------------
def checked(check: bool, where: str, computation: Callable[[], T]) -> T:
    """Carry out a computation; with `check`, name `where` it was and the first layer at fault.

    Raises
    ------
    NonFiniteError
        If a layer computed a NaN or an infinity.
    """
    if not check:
        return computation()
    try:
        with check_numerics():
            return computation()
    except NonFiniteError as error:
        raise NonFiniteError(f"{where}: {error}") from None


def check_parameters(model: Any, check: bool, step: int, lr: float) -> None:
    """Raise NonFiniteError if a parameter is not finite after update number `step`."""
    parameters = model.parameters()
    finite = [p.backend.xp.isfinite(p.data).all() for p in parameters.values()]
    for name, whole in zip(parameters, model.backend.scalars(finite), strict=True):
        if not whole:
            raise NonFiniteError(
                f"parameter {name} is not finite any more after step {step}; "
                f"try a smaller learning rate than {lr:g}{hint(check)}"
            )


def hint(check: bool) -> str:
    """How to learn more, for the end of a message."""
    return "" if check else "; --check-numerics names the first layer at fault"
