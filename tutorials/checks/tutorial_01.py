"""Checks of the exercises in 01_tensors_and_the_tape."""

from __future__ import annotations

from typing import Any

import numpy as np

import checks
from checks import Verdict

NAME = "backward_order_of"


# ---- exercise 1 --------------------------------------------------------------------------
def slopes_of_quotient(answer: Any) -> Verdict:
    """The two slopes of a / b."""

    def reference(a: float, b: float) -> tuple[float, float]:
        return 1 / b, -a / b**2

    typical = [
        (lambda a, b: (1 / b, a / b**2), "almost: if b grows, does the quotient grow or shrink?"),
        (
            lambda a, b: (1 / b, 1 / a),
            "the slope for a is right. For b: try a = 1, where the quotient is 1 / b.",
        ),
        (
            lambda a, b: (1 / b, -1 / b**2),
            "the slope for b is right for a = 1 only. What if a is twice as large?",
        ),
        (
            lambda a, b: (b, a),
            "these are the slopes of the product a * b. What if a is nudged in a / b?",
        ),
        (lambda a, b: (-a / b**2, 1 / b), "two right numbers in the wrong order: a comes first."),
    ]
    return checks.function(
        answer,
        reference,
        [(1.0, 2.0), (6.0, 3.0), (-5.0, 4.0), (2.5, -0.5)],
        "slopes_of_quotient",
        hint="Nudge a, or b, by 0.001 and look how the quotient moves.",
        praise="right. With these two numbers, `Number` could divide.",
        typical=typical,
        rtol=1e-6,
    )


# ---- exercise 2 --------------------------------------------------------------------------
Tape = dict[str, list[str]]


def tapes() -> list[tuple[str, Tape]]:
    """Results and tapes, from simple to hard."""
    found: list[tuple[str, Tape]] = [
        ("y", {"y": ["x"], "x": []}),
        ("z", {"z": ["h", "y"], "y": ["h", "h"], "h": ["x", "x"], "x": []}),
        ("z", {"z": ["y", "h"], "y": ["h", "h"], "h": ["x", "x"], "x": []}),
        ("d", {"d": ["a", "c"], "c": ["b"], "b": ["a"], "a": []}),
        # "other" was computed too, but the result was not made from it
        ("z", {"z": ["x"], "other": ["x"], "x": []}),
    ]
    rng = np.random.default_rng(0)
    for count in (5, 8, 12, 12, 12, 12):
        names = [f"n{i}" for i in range(count)]
        tape: Tape = {"n0": []}
        for i in range(1, count):
            sources = rng.integers(0, i, size=int(rng.integers(1, 3)))
            tape[names[i]] = [names[i - 1], *(names[int(k)] for k in sources)]
            rng.shuffle(tape[names[i]])
        found.append((names[-1], {name: tape[name] for name in rng.permutation(names).tolist()}))
    return found


def behind(result: str, tape: Tape) -> set[str]:
    """All names that a result was made from, and its own."""
    found: set[str] = set()
    waiting = [result]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += tape[name]
    return found


def wrong_with(order: Any, result: str, tape: Tape) -> str:
    """What is wrong with an order, or the empty string."""
    if not isinstance(order, (list, tuple)):
        return f"returns {type(order).__name__}, expected a list of names"
    names = behind(result, tape)
    if strange := [name for name in order if name not in names]:
        return f"lists {strange[0]!r}, from which {result!r} was not made"
    if len(set(order)) < len(order):
        twice = next(name for name in order if list(order).count(name) > 1)
        return f"lists {twice!r} more than once: it would pass its gradient on twice"
    if missing := sorted(names - set(order)):
        return f"does not list {missing[0]!r}"
    for name in order:
        for source in tape[name]:
            if order.index(source) < order.index(name):
                return (
                    f"lists {source!r} before {name!r}, but {name!r} was made from {source!r}: "
                    f"{source!r} would pass its gradient on before it has heard from {name!r}"
                )
    return ""


def backward_order_of(answer: Any) -> Verdict:
    """An order in which each name comes after all that were made from it."""
    for result, tape in tapes():
        order, verdict = checks.call(
            answer, (result, {name: list(sources) for name, sources in tape.items()}), NAME
        )
        if verdict is not None:
            return verdict
        if wrong := wrong_with(order, result, tape):
            return Verdict(False, f"for the result {result!r} of {tape} your function {wrong}.")
    return Verdict(True, "right, on all tapes that we tried: users always come first.")


# ---- exercise 3 --------------------------------------------------------------------------
def unbroadcast(answer: Any) -> Verdict:
    """The transpose of NumPy's broadcasting."""

    def reference(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        extra = gradient.ndim - len(shape)
        gradient = gradient.sum(axis=tuple(range(extra)))
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
        return gradient.sum(axis=axes, keepdims=True)

    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(-9, 10, size=shape).astype(float)

    cases = [
        (numbers(2, 3), (2, 3)),
        (numbers(4, 3), (3,)),
        (numbers(4, 3), (1, 3)),
        (numbers(4, 3), (4, 1)),
        (numbers(3, 3), (3,)),
        (numbers(2, 4, 3), (4, 1)),
        (numbers(2, 4, 3), (1, 4, 1)),
        (numbers(5, 2), (1, 1)),
        (numbers(2, 3), ()),
    ]
    for gradient, shape in cases:
        got, verdict = checks.call(answer, (gradient, shape), "unbroadcast")
        if verdict is not None:
            return verdict
        expected = reference(gradient, shape)
        if checks.equal(got, expected, 1e-9, 1e-12):
            continue
        what = f"unbroadcast of a gradient of shape {gradient.shape} to {shape}"
        mean = expected * expected.size / gradient.size
        hint = "Each copy of the small array took part: what do slopes do over several paths?"
        if checks.equal(got, mean, 1e-9, 1e-12):
            return Verdict(False, f"{what} is a mean. {hint}")
        if np.shape(got) != shape:
            return Verdict(
                False,
                f"{what} has shape {np.shape(got)}, expected {shape}. Axes that are missing in "
                "front vanish; axes of length 1 stay, with length 1 (keepdims).",
            )
        return checks.values(got, expected, what, hint=hint)
    return Verdict(True, "right. minifbi's own is `minifbi.autograd.functions.unbroadcast`.")


# ---- exercise 4 --------------------------------------------------------------------------
def culprit(answer: Any) -> Verdict:
    """The operation with the wrong backward."""
    innocent = "its gradient is right: check_gradients(lambda: {0}(v).sum(), ...) says ok."
    return checks.choice(
        answer,
        "swish",
        {
            "cube": innocent.format("cube"),
            "swish": "right. Can you also say what its slope should be?",
            "gaussian": innocent.format("gaussian"),
        },
    )
