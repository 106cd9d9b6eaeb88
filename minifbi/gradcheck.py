"""Is a gradient right?  Ask finite differences, along random directions, in float64.

For a loss f(p) and a direction d of unit length, the central difference
(f(p + h d) - f(p - h d)) / 2h, here in its five-point form, must equal
<grad f, d>.  One random direction tests all entries of a parameter at once: a wrong
gradient agrees with probability zero.  A kink within reach of the step (a ReLU that switches, a
maximum that changes hands, an absolute value that changes sign) shows in the fourth
difference of the five points.  The checker then takes another direction, and
a smaller step, and says so if none was smooth.

The checker knows nothing of the tape: it calls the loss, moves ``p.data`` and reads ``p.grad``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minifbi.errors import ConfigError, GradientError


@dataclass
class GradientReport:
    """What :func:`check_gradients` found.

    Attributes
    ----------
    errors : dict of str to float
        Largest relative error for each parameter, over its smooth directions.
    kinks : dict of str to int
        Directions that were set aside because the loss has a kink there.
    untested : list of str
        Parameters all of whose directions crossed a kink.
    tolerance : float
    """

    tolerance: float
    errors: dict[str, float] = field(default_factory=dict)
    kinks: dict[str, int] = field(default_factory=dict)
    untested: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Names of the parameters whose gradient is wrong."""
        return [name for name, error in self.errors.items() if not error <= self.tolerance]

    @property
    def ok(self) -> bool:
        """Whether every parameter was tested and none is wrong."""
        return not self.wrong and not self.untested

    def __str__(self) -> str:
        lines = []
        for name, error in self.errors.items():
            verdict = "WRONG" if name in self.wrong else "ok"
            kinks = f", {self.kinks[name]} kinks avoided" if self.kinks[name] else ""
            lines.append(f"{verdict:>6}  {name}: relative error {error:.1e}{kinks}")
        for name in self.untested:
            lines.append(f"     ?  {name}: every direction crossed a kink, nothing was tested")
        return "\n".join(lines)


def check_gradients(
    loss: Callable[[], Any],
    parameters: Mapping[str, Any],
    *,
    directions: int = 4,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    seed: int = 0,
    raises: bool = True,
) -> GradientReport:
    """Compare ``backward()`` with directional differences, parameter by parameter.

    Parameters
    ----------
    loss : callable
        Computes the loss, a Tensor of one element, from the current values of
        the parameters.  It must be deterministic: fix the dropout.
    parameters : mapping of str to Tensor
        What to check, by name: for example ``model.parameters()``, or an input.
        All float64 and with ``requires_grad``.  Their values are put back
        afterwards, and so are their gradients.
    directions : int
        Random directions for each parameter.
    step : float
        Length of the first step along a unit direction.
    tolerance : float
        Allowed relative error |difference - <grad, d>| / scale, where scale is the
        larger of the two magnitudes, but at least the rounding of the loss.
    seed : int
        For the directions.
    raises : bool
        Whether a wrong gradient raises; otherwise the report says it.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        If a gradient is wrong or could not be tested; it names the parameters.
    ConfigError
        If there is nothing to check, or a parameter is not float64.

    Examples
    --------
    >>> from minifbi import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> check_gradients(lambda: (w * w).sum(), {"w": w}).ok
    True
    """
    if not parameters:
        raise ConfigError("check_gradients needs at least one parameter, got an empty mapping")
    for name, p in parameters.items():
        if p.dtype != np.float64 or not p.requires_grad:
            raise ConfigError(
                f"parameter {name!r} is {p.dtype} with requires_grad={p.requires_grad}; "
                f"differences need float64, and the gradient requires_grad=True"
            )
    saved, gradients = {name: p.grad for name, p in parameters.items()}, {}
    try:
        for p in parameters.values():
            p.grad = None
        loss().backward()
        for name, p in parameters.items():
            gradients[name] = np.zeros(p.shape) if p.grad is None else p.backend.to_numpy(p.grad)
    finally:
        for name, p in parameters.items():
            p.grad = saved[name]

    rng = np.random.default_rng(seed)
    report = GradientReport(tolerance)
    for name, p in parameters.items():
        report.kinks[name] = 0
        found: list[float] = []
        for _ in range(directions):
            h = step
            for _attempt in range(8):
                d = rng.standard_normal(p.shape)
                d /= max(float(np.linalg.norm(d)), 1e-300)
                error = _directional_error(loss, p, d, gradients[name], h)
                if error is not None:
                    found.append(error)
                    break
                report.kinks[name] += 1
                h /= 2  # a shorter step crosses fewer kinks
        if found:
            report.errors[name] = float(np.max(found))  # NaN stays NaN, unlike in Python's max
        else:
            report.untested.append(name)
    if raises and not report.ok:
        raise GradientError("gradients disagree with directional differences:\n" + str(report))
    return report


def _directional_error(
    loss: Callable[[], Any], p: Any, d: np.ndarray, gradient: np.ndarray, h: float
) -> float | None:
    """Relative error along `d` at step `h`, or None if the loss has a kink there."""
    center = p.data
    values = {}
    try:
        for k in (-2, -1, 0, 1, 2):
            p.data = center + p.backend.asarray(k * h * d)
            values[k] = loss().item()
    finally:
        p.data = center
    rounding = 64 * np.finfo(np.float64).eps * max(map(abs, values.values())) / h
    # Five points of a smooth function lie on a cubic up to O(h^4): the fourth difference is
    # rounding noise.  A kink of slope change D anywhere among them leaves about D * h.
    fourth = values[-2] - 4 * values[-1] + 6 * values[0] - 4 * values[1] + values[2]
    analytic = float((gradient * d).sum())
    # the five-point rule: its error is of the order h^4, the plain difference's h^2
    difference = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)
    scale = max(abs(analytic), abs(difference))
    if abs(fourth) / h > max(1e-7 * scale, 8 * rounding):
        return None
    return abs(difference - analytic) / max(scale, 1e6 * rounding, 1e-12)
