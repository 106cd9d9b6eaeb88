"""The checks of tutorial 9 reject what students typically write, and say why."""

from __future__ import annotations

import numpy as np
import pytest

check = pytest.importorskip("checks.tutorial_09", reason="installed without tutorials")


# ---- exercise 1: intensity ---------------------------------------------------------------
def intensity(n, c, h, w, o, k):
    x, weight, z = np.empty((n, c, h, w), "f4"), np.empty((o, c, k, k), "f4"), n * o * h * w
    return 2 * z * weight[0].size / (x.nbytes + weight.nbytes + 4 * z)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *a: intensity(*a) / 2, "counts as two"),
        (lambda *a: intensity(*a) * 4, "has 4 bytes"),
        (lambda *a: 1 / intensity(*a), "upside down"),
        (
            lambda n, c, h, w, o, k: (
                n * o * c * h * w * k * k / 2 / (n * c * h * w + n * o * h * w)
            ),
            "weights travel",
        ),
        (
            lambda n, c, h, w, o, k: (
                n * o * c * h * w * k * k / 2 / (n * c * h * w + o * c * k * k)
            ),
            "written, too",
        ),
        (lambda *a: intensity(*a) + 1, "that is not it"),
        (lambda *a: None, "None"),
        (lambda *a: ..., "`...`"),
    ],
)
def test_intensity_rejects(answer, says):
    verdict = check.intensity(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_intensity_accepts():
    assert check.intensity(intensity).ok


# ---- exercise 2: strides -----------------------------------------------------------------
def strides(shape, order, itemsize):
    """By filling: another way than the solution's and the check's."""
    return tuple(
        itemsize
        * int(np.prod([shape[later] for later in order[order.index(axis) + 1 :]], initial=1))
        for axis in range(len(shape))
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda s, o, i: tuple(n // i for n in strides(s, o, i)), "in elements"),
        (lambda s, o, i: strides(s, o[::-1], i), "its *last* axis"),
        (lambda s, o, i: strides(s, tuple(range(len(s))), i), "usual order"),
        (lambda s, o, i: tuple(strides(s, o, i)[a] for a in o), "order of memory"),
        (lambda s, o, i: strides(s, o, i)[:-1], "shape"),
        (lambda s, o, i: [0] * len(s), "instead of"),
        (lambda s, o, i: ..., "`...`"),
    ],
)
def test_strides_rejects(answer, says):
    verdict = check.strides(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_strides_accepts():
    assert check.strides(strides).ok
    assert check.strides(lambda *a: list(strides(*a))).ok


# ---- exercise 3: a blocked product -------------------------------------------------------
def blocked(a, b, size, *, product=np.matmul, steps=None, add=True):
    c = np.zeros((a.shape[0], b.shape[1]))
    for i in range(0, a.shape[0], size):
        for j in range(0, b.shape[1], size):
            for k in range(0, a.shape[1], size):
                part = product(a[i : i + size, k : k + size], b[k : k + size, j : j + size])
                if add:
                    c[i : i + size, j : j + size] += part
                else:
                    c[i : i + size, j : j + size] = part
    return c


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, b, size: a @ b, "multiplied a block of shape (5, 7)"),
        (lambda a, b, size: np.dot(a, b), "multiplied a block of shape (5, 7)"),
        (lambda a, b, size: np.concatenate([a[i : i + size] @ b for i in range(0, len(a), size)]),
         "multiplied a block"),
        (lambda a, b, size: blocked(a, b, size, add=False), "added up"),
        (lambda a, b, size: np.zeros((len(a), b.shape[1])), "instead of"),
        (lambda a, b, size: a * b, "instead of"),
        (lambda a, b, size: None, "None"),
        (lambda a, b, size: ..., "`...`"),
    ],
)  # fmt: skip
def test_blocked_rejects(answer, says):
    verdict = check.blocked(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_blocked_without_the_smaller_blocks():
    def whole(a, b, size):
        m, k, n = (extent // size * size for extent in (*a.shape, b.shape[1]))
        product = np.zeros((a.shape[0], b.shape[1]))
        product[:m, :n] = blocked(a[:m, :k], b[:k, :n], size)
        return product

    assert "smaller blocks are missing" in check.blocked(whole).message


@pytest.mark.parametrize("product", [np.matmul, np.dot, lambda a, b: a @ b, lambda a, b: a.dot(b)])
def test_blocked_accepts(product):
    assert check.blocked(lambda a, b, size: blocked(a, b, size, product=product)).ok


def test_blocked_accepts_loops_without_any_product():
    def loops(a, b, size):
        c = np.zeros((a.shape[0], b.shape[1]))
        for i, j in np.ndindex(c.shape):
            c[i, j] = (a[i] * b[:, j]).sum()
        return c

    assert check.blocked(loops).ok


# ---- exercise 4: which loops -------------------------------------------------------------
def may_run_in_parallel():
    """By trying: whether two turns of a loop ever write to one place."""
    sizes = {"n": 2, "o": 2, "r": 3, "q": 3, "c": 2, "i": 2, "j": 2}
    names = list(sizes)
    free = set()
    for name in names:
        others = [other for other in names if other != name]
        clash = False
        for values in np.ndindex(*(sizes[other] for other in others)):
            at = dict(zip(others, values, strict=True))
            # the turns of a loop contain all loops inside of it: compare whole turns
            inner = names[names.index(name) + 1 :]
            if any(at[other] for other in inner):
                continue
            places = []
            for turn in range(sizes[name]):
                at[name] = turn
                written = set()
                for inside in np.ndindex(*(sizes[other] for other in inner)):
                    v = {**at, **dict(zip(inner, inside, strict=True))}
                    written.add((v["n"], v["c"], v["r"] + v["i"], v["q"] + v["j"]))
                places.append(written)
            clash |= any(a & b for k, a in enumerate(places) for b in places[:k])
        if not clash:
            free.add(name)
    return free


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "replace"),
        ({"n"}, "1 found"),
        ({"n", "c"}, "2 found"),
        ({"n", "o"}, "not 'o': every channel"),
        ({"n", "c", "r"}, "not 'r': stamps overlap"),
        ("nq", "not 'q': stamps overlap"),
        (set(), "0 found"),
        ({"samples"}, "none of the loops"),
        (3, "no set"),
    ],
)
def test_loops_rejects(answer, says):
    verdict = check.parallel_loops(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_loops_accepts_what_trying_finds():
    found = may_run_in_parallel()
    assert check.parallel_loops(found).ok
    assert check.parallel_loops(sorted(found)).ok


# ---- exercise 5: Amdahl ------------------------------------------------------------------
def share(speedup, threads):
    """By bisection on the law itself."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if 1 / (1 - middle + middle / threads) < speedup else (low, middle)
        )
    return low


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda s, t: s / t, "efficiency"),
        (lambda s, t: (s - 1) / (t - 1), "1 / speed-up"),
        (lambda s, t: 1 - 1 / s, "time saved"),
        (lambda s, t: 0.25, "that is not it"),
        (lambda s, t: ..., "`...`"),
    ],
)
def test_share_rejects(answer, says):
    verdict = check.parallel_share(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_share_accepts():
    assert check.parallel_share(share).ok
