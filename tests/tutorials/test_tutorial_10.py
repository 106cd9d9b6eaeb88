"""Tutorial 10: its checks, and the notebook itself on the stand-in for a card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

check = pytest.importorskip("checks.tutorial_10", reason="installed without tutorials")

STAND_IN = Path(__file__).parents[1] / "support" / "stand_in"


# ---- exercise 1: generic code ------------------------------------------------------------
def softmax(xp, z):
    shifted = z - xp.expand_dims(xp.max(z, axis=1), 1)
    powers = xp.exp(shifted)
    return powers * (1 / powers.sum(axis=1).reshape(-1, 1))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda xp, z: softmax(xp, z.T).T, "each *row*"),
        (lambda xp, z: np.exp(z - z.max()) / np.exp(z - z.max()).sum(), "by itself"),
        (lambda xp, z: xp.exp(z), "numerators"),
        (lambda xp, z: xp.exp(z) / xp.exp(z).sum(axis=1, keepdims=True), "nan"),
        (lambda xp, z: softmax(np, z), "not generic: a function of NumPy"),
        (lambda xp, z: softmax(xp, z) * np.ones(z.shape), "not generic: an array of NumPy"),
        (lambda xp, z: softmax(xp, z) if float(z.sum()) > -9e9 else z, "a number was looked at"),
        (lambda xp, z: softmax(xp, z) if z.max() > -9e9 else z, "stand-in TypeError"),
        (lambda xp, z: softmax(xp, xp.nan_to_num(z)), "no attribute 'nan_to_num'"),
        (lambda xp, z: [list(row) for row in softmax(xp, z)], "returned list"),
        (lambda xp, z: None, "softmax(numpy, [[0., 1.]]) returned None"),
        (lambda xp, z: ..., "`...`"),
    ],
)
def test_softmax_rejects(answer, says):
    verdict = check.softmax(answer)
    assert not verdict.ok
    assert says in verdict.message


@pytest.mark.parametrize(
    "answer",
    [
        softmax,
        lambda xp, z: xp.exp(z - z.max(axis=1, keepdims=True))
        / xp.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True),
        lambda xp, z: xp.stack([softmax(xp, row.reshape(1, -1))[0] for row in z]),
        lambda xp, z: (softmax(xp, z).T)[:, :].T.astype(np.float64),
    ],
)  # fmt: skip
def test_softmax_accepts(answer):
    assert check.softmax(answer).ok


# ---- exercise 2: a stopwatch -------------------------------------------------------------
def ends_at_once(task, synchronize, clock):
    task()
    synchronize()
    start = clock()
    task()
    return clock() - start


def no_warm_up(task, synchronize, clock):
    synchronize()
    start = clock()
    task()
    synchronize()
    return clock() - start


def begins_at_once(task, synchronize, clock):
    task()
    start = clock()
    task()
    synchronize()
    return clock() - start


def two_runs(task, synchronize, clock):
    task()
    synchronize()
    start = clock()
    task()
    task()
    synchronize()
    return clock() - start


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (ends_at_once, "time to *order*"),
        (no_warm_up, "The first run compiles"),
        (begins_at_once, "work in the queue before"),
        (two_runs, "How many runs"),
        (lambda task, s, clock: -no_warm_up(task, s, clock), "later minus earlier"),
        (lambda task, s, clock: clock(), "never ran"),
        (lambda task, s, clock: [task(), s()], "expected a number"),
        (lambda task, s, clock: None, "None"),
    ],
)
def test_measure_rejects(answer, says):
    verdict = check.measure(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_measure_accepts():
    def several(task, synchronize, clock):
        task()
        times = []
        for _ in range(3):
            synchronize()
            times.append(-clock())
            task()
            synchronize()
            times[-1] += clock()
        return np.median(times)

    assert check.measure(several).ok


# ---- exercise 3: from a number to indices ------------------------------------------------
def place_of(i, C, N, H, W):
    places = list(np.ndindex(C, N, H, W))
    return places[i]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda i, C, N, H, W: [place_of(i, N, C, H, W)[k] for k in (1, 0, 2, 3)], "(N, C, H, W)"),
        (lambda i, C, N, H, W: [place_of(i, C, N, W, H)[k] for k in (0, 1, 3, 2)], "exchanged"),
        (lambda i, C, N, H, W: place_of(i, W, H, N, C)[::-1], "wrong way round"),
        (lambda i, C, N, H, W: (*place_of(i, C, N, H, W)[:2], i // W, i % W), "*all* maps"),
        (lambda i, C, N, H, W: place_of(i, C, N, H, W)[1:], "4 values"),
        (lambda i, C, N, H, W: (1, 1, 1, 1), "that is not it"),
        (lambda i, C, N, H, W: ..., "`...`"),
    ],
)
def test_place_rejects(answer, says):
    verdict = check.place_of(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_place_accepts():
    assert check.place_of(place_of).ok


# ---- exercise 4: a kernel ----------------------------------------------------------------
def pool(first, stride, x, out, planes, H, W, K, *, scale=1.0, pixels=None, begin=None, every=None):
    """By divmod, with what may go wrong as options."""
    elements = range(first if begin is None else begin, planes * (H // K) * (W // K),
                     every or stride)  # fmt: skip
    for i in elements:
        rest, column = divmod(i, W // K)
        plane, row = divmod(rest, H // K)
        corner = plane * H * W + row * K * W + column * K
        inside = [corner + r * W + c for r in range(K) for c in range(K)][:pixels]
        out[i] = scale * sum(x[place] for place in inside) / K**2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *a: pool(*a, begin=0, every=1), "threads. Thread `first`"),
        (lambda *a: pool(*a, every=a[1] + 1), "never written"),
        (lambda f, s, x, o, *a: pool(f, s, x, o, *a) if f < 1 else None, "never written"),
        (lambda *a: pool(*a, scale=a[-1] ** 2), "those are sums"),
        (lambda *a: pool(*a, pixels=1), "only one pixel"),
        (lambda f, s, x, o, p, H, W, K: pool(f, s, x, o, p + 1, H, W, K), "outside of memory"),
        (lambda f, s, x, o, *a: o.__setitem__(slice(None), 0), "one element"),
        (lambda f, s, x, o, *a: x.__setitem__(0, 0), "only read"),
        (lambda f, s, x, o, *a: x[10**9], "x[1000000000] is outside"),
        (lambda *a: None, "no thread wrote"),
        (lambda *a: range(...), "still is a `...`"),
        (lambda *a: ..., "`...`"),
    ],
)
def test_avg_pool_rejects(answer, says):
    verdict = check.avg_pool(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_avg_pool_accepts():
    assert check.avg_pool(pool).ok


# ---- exercise 5 --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "says"),
    [(..., "replace"), ("a", "Who waits"), ("c", "rests already"), ("d", "none of the answers")],
)
def test_what_helps_rejects(answer, says):
    verdict = check.what_helps(answer)
    assert not verdict.ok
    assert says in verdict.message


def test_what_helps_accepts():
    assert check.what_helps("b").ok


# ---- the notebook where there is a device -------------------------------------------------
@pytest.mark.slow
def test_runs_on_a_device(tmp_path, monkeypatch):
    """On a card if there is one, else on the stand-in: the cells for a GPU are run, too."""
    build = pytest.importorskip("build", reason="installed without tutorials")
    from conftest import GPU

    paths = [build.TUTORIALS] if GPU else [STAND_IN, build.TUTORIALS.parent, build.TUTORIALS]
    monkeypatch.setenv("MINIFBI_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, paths)), prepend=":")
    notebook = build.make(build.HERE / "10_on_the_gpu.py", solutions=True)
    build.execute(notebook, tmp_path)
    shown = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "There is a GPU." in shown
    assert "compiled, run on the GPU, and right" in shown
    assert "one epoch on cupy" in shown
    assert "No GPU" not in shown
