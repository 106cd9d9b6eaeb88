"""Whether the tape is being written."""

from contextlib import AbstractContextManager

from minifbi.switch import Switch

_switch = Switch("recording", on=True)
recording = _switch.is_on


def no_grad() -> AbstractContextManager[None]:
    """Compute without writing a tape: for evaluation, where no gradient is wanted.

    Examples
    --------
    >>> from minifbi.autograd import Tensor
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     (w * w).requires_grad
    False
    """
    return _switch.set(False)


def enable_grad() -> AbstractContextManager[None]:
    """Write the tape again, inside a :func:`no_grad` block."""
    return _switch.set(True)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded here and now.

    Returns
    -------
    bool
    """
    return recording()
