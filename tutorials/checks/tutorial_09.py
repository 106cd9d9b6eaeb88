"""Checks of the exercises in 09_kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

import checks
from checks import Verdict


# ---- exercise 1 --------------------------------------------------------------------------
def intensity(answer: Any) -> Verdict:
    """Arithmetic intensity of a convolution in float32."""

    def flop(n: int, c: int, h: int, w: int, o: int, k: int) -> int:
        return 2 * n * o * h * w * c * k * k

    def reference(n: int, c: int, h: int, w: int, o: int, k: int) -> float:
        return flop(n, c, h, w, o, k) / (4 * (n * c * h * w + o * c * k * k + n * o * h * w))

    return checks.function(
        answer,
        reference,
        [(1, 1, 3, 4, 1, 1), (2, 3, 8, 6, 5, 3), (128, 16, 14, 14, 16, 5)],
        "intensity",
        hint="Operations: how many numbers has the result, and how many products are added up for "
        "each? Bytes: the input, the weights and the result, once each.",
        praise="right. With more channels it grows: more is done with each number that travels.",
        typical=[
            (
                lambda *a: reference(*a) / 2,
                "half of it: a multiply-add counts as two operations.",
            ),
            (lambda *a: reference(*a) * 4, "that is operations a *number*; one has 4 bytes."),
            (
                lambda n, c, h, w, o, k: (
                    flop(n, c, h, w, o, k) / (4 * (n * c * h * w + n * o * h * w))
                ),
                "the weights travel, too.",
            ),
            (
                lambda n, c, h, w, o, k: (
                    flop(n, c, h, w, o, k) / (4 * (n * c * h * w + o * c * k * k))
                ),
                "the result has to be written, too.",
            ),
            (lambda *a: 1 / reference(*a), "upside down: operations over bytes."),
        ],
    )


# ---- exercise 2 --------------------------------------------------------------------------
def strides(answer: Any) -> Verdict:
    """Strides of an array whose axes lie in a given order."""

    def reference(shape: tuple[int, ...], order: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
        stored = np.empty([shape[axis] for axis in order], f"V{itemsize}")
        return stored.transpose(np.argsort(order)).strides

    def in_memory_order(shape: Any, order: Any, itemsize: int) -> Any:
        return tuple(reference(shape, order, itemsize)[axis] for axis in order)

    return checks.function(
        answer,
        lambda *arguments: np.array(reference(*arguments)),
        [
            ((3, 5), (0, 1), 8),
            ((2, 3, 5), (1, 2, 0), 8),
            ((64, 16, 14, 14), (1, 2, 3, 0), 4),
            ((2, 3, 4, 5), (3, 0, 2, 1), 2),
        ],
        "strides",
        hint="The fastest axis has a stride of one element. The next one's is that, times the "
        "number of elements along the fastest axis, and so on.",
        praise="right: compare with `x.transpose(...)` and `.strides` as often as you like.",
        typical=[
            (
                lambda s, o, i: np.array(reference(s, o, i)) // i,
                "that is in elements; strides are in bytes.",
            ),
            (
                lambda s, o, i: np.array(in_memory_order(s, o, i)),
                "the right numbers, but in the order of memory: the first stride must be that of "
                "the first axis of `shape`.",
            ),
            (
                lambda s, o, i: np.array(reference(s, o[::-1], i)),
                "`order` goes from the slowest to the fastest: its *last* axis has neighbours "
                "side by side.",
            ),
            (
                lambda s, o, i: np.array(reference(s, tuple(range(len(s))), i)),
                "that is the usual order; what does `order` say?",
            ),
        ],
    )


# ---- exercise 3 --------------------------------------------------------------------------
class _Watched(np.ndarray):
    """An array that notes the shapes of the matrix products that it takes part in."""

    seen: list[tuple[int, ...]]

    def __array_finalize__(self, parent: Any) -> None:
        self.seen = getattr(parent, "seen", [])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc is np.matmul:
            self.seen.extend(np.shape(one) for one in inputs)
        plain = [np.asarray(one) for one in inputs]
        if "out" in options:
            options["out"] = tuple(np.asarray(one) for one in options["out"])
        return getattr(ufunc, method)(*plain, **options)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.dot:
            self.seen.extend(np.shape(one) for one in arguments[:2])
        plain = [np.asarray(one) if isinstance(one, np.ndarray) else one for one in arguments]
        return function(*plain, **options)


def blocked(answer: Any) -> Verdict:
    """A matrix product by blocks."""
    rng = np.random.default_rng(3)
    cases = [
        (rng.standard_normal((4, 4)), rng.standard_normal((4, 4)), 2),
        (rng.standard_normal((5, 7)), rng.standard_normal((7, 3)), 2),
        (rng.standard_normal((9, 4)), rng.standard_normal((4, 10)), 4),
        (rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), 8),
    ]

    def last_only(a: Any, b: Any, size: int) -> Any:
        last = (a.shape[1] - 1) // size * size
        return a[:, last:] @ b[last:]

    def whole_only(a: Any, b: Any, size: int) -> Any:
        m, k, n = (extent // size * size for extent in (*a.shape, b.shape[1]))
        product = np.zeros((a.shape[0], b.shape[1]))
        product[:m, :n] = a[:m, :k] @ b[:k, :n]
        return product

    verdict = checks.function(
        answer,
        lambda a, b, size: a @ b,
        cases,
        "blocked",
        hint="A block of the product is the sum, over all blocks k, of a block of a times a block "
        "of b.",
        typical=[
            (
                last_only,
                "only the last k counts: the products of the blocks must be added up (+=).",
            ),
            (
                whole_only,
                "the last, smaller blocks are missing: range(0, n, size) reaches them, and slices "
                "may go beyond the end.",
            ),
        ],
    )
    if not verdict.ok:
        return verdict
    a, b, size = cases[1]
    seen: list[tuple[int, ...]] = []
    watched = [np.array(one).view(_Watched) for one in (a, b)]
    for one in watched:
        one.seen = seen
    _, failed = checks.call(answer, (*watched, size), "blocked")
    if failed is not None:
        return failed
    if any(extent > size for shape in seen for extent in shape):
        worst = max(seen, key=max)
        return Verdict(
            False,
            f"the product is right, but with size={size} it multiplied a block of shape {worst}.",
        )
    return Verdict(True, "right, the smaller blocks at the edges included.")


# ---- exercise 4 --------------------------------------------------------------------------
_LOOPS = {
    "o": "every channel of g adds to the same pixels of x.",
    "r": "stamps overlap: r = 0 with i = 1 and r = 1 with i = 0 write to the same row of x.",
    "q": "stamps overlap: q = 0 with j = 1 and q = 1 with j = 0 write to the same column of x.",
}


def parallel_loops(answer: Any) -> Verdict:
    """Which loops of the stamping transpose may run in parallel."""
    names, safe = set("norqcij"), set("ncij")
    if answer is Ellipsis:
        return Verdict(False, "replace `...` by a set of letters, such as {'n', 'o'}.")
    try:
        chosen = set(answer)
    except TypeError:
        return Verdict(False, f"{answer!r:.40} is no set of letters.")
    if unknown := sorted(map(str, chosen - names)):
        return Verdict(False, f"{unknown[0]!r:.40} is none of the loops n, o, r, q, c, i, j.")
    for name in sorted(chosen - safe):
        return Verdict(False, f"not {name!r}: {_LOOPS[name]}")
    if chosen != safe:
        return Verdict(
            False,
            f"{len(chosen)} found, none of them wrong, but there are more. For each loop, hold all "
            "the other variables fixed, and ask: can two of its turns write to the same x[...]?",
        )
    return Verdict(
        True,
        "right. For i and j it is allowed, and useless: so deep inside, a turn is one or a few "
        "multiply-adds, and handing them to a thread takes far longer. Take the outermost loop.",
    )


# ---- exercise 5 --------------------------------------------------------------------------
def parallel_share(answer: Any) -> Verdict:
    """Amdahl's law, solved for the parallel share."""

    def reference(speedup: float, threads: int) -> float:
        return (1 - 1 / speedup) / (1 - 1 / threads)

    return checks.function(
        answer,
        reference,
        [(2.0, 2), (1.0, 4), (1.8, 2), (5.0, 16)],
        "parallel_share",
        hint="Solve the formula of section 8 for p: first for 1 / speed-up.",
        praise="right. A speed-up of 1.8 with two threads means that 89 % ran in parallel, and "
        "that no number of threads will give more than a factor of 9.",
        typical=[
            (lambda s, t: s / t, "that is the *efficiency*; a speed-up of 1 means p = 0."),
            (
                lambda s, t: (s - 1) / (t - 1),
                "nearly: p is a share of the time on *one* thread, so work with 1 / speed-up.",
            ),
            (lambda s, t: 1 - 1 / s, "that is the share of time saved; the threads matter, too."),
        ],
    )
