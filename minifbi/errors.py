"""The errors that minifbi raises on purpose.

All of them are a :class:`MinifbiError`, so that a program can tell a wrong
input from a bug.  Each also derives from the built-in exception that a NumPy or
PyTorch user would expect, so that ``except ValueError`` works.  This module
imports nothing.
"""


class MinifbiError(Exception):
    """Base class; the message names the value, what was expected and what to do."""


class ShapeError(MinifbiError, ValueError):
    """Dimensions that do not fit together."""


class ConfigError(MinifbiError, ValueError):
    """An option outside its allowed values."""


class DataError(MinifbiError, ValueError):
    """A data file or array that is not what it claims to be."""


class BackendUnavailableError(MinifbiError, RuntimeError):
    """A backend that was asked for by name and cannot run here."""


class DeviceError(MinifbiError, RuntimeError):
    """A GPU that stopped working."""


class DeviceMemoryError(DeviceError, MemoryError):
    """More memory than a GPU has."""


class BackendMismatchError(MinifbiError, TypeError):
    """Tensors of two backends in one operation."""


class CheckpointError(MinifbiError, ValueError):
    """A checkpoint that cannot be read, or that belongs to another model."""


class RunFolderError(MinifbiError):
    """A folder that cannot take, or does not hold, a run."""


class CallbackError(MinifbiError, RuntimeError):
    """A callback, or a schedule of one's own, that failed; the message names it."""


class NonFiniteError(MinifbiError, ArithmeticError):
    """NaN or infinity where a finite number is needed."""


class GradientError(MinifbiError, AssertionError):
    """A gradient that disagrees with finite differences."""
