"""Pooling inside the numba kernels where it meets the rest: other dtypes, shapes, threads."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

pytest.importorskip("numba")

from test_numba_kernels import run_python

from minifbi.backends.base import output_size
from minifbi.backends.numba_backend import NumbaBackend
from minifbi.backends.numba_kernels import memory
from minifbi.backends.numba_kernels.machine import NO_WINNER
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.errors import ShapeError

REFERENCE = NumpyBackend()
BACKEND = NumbaBackend()
WINDOW = ((2, 2), (2, 2), (0, 0))
ONE, NONE = (1, 1), (0, 0)


def whole(rng, shape, dtype):
    """Small whole numbers: every sum of products is exact, in any order."""
    return rng.integers(-3, 4, shape).astype(dtype)


def passes(backend, geometry, dtypes, seed=0):
    """All that a block computes, in integers."""
    batch, channels, outputs, size, kernel, stride, padding, window = geometry
    rng = np.random.default_rng(seed)
    x = whole(rng, (batch, channels, *size), dtypes[0])
    weight = whole(rng, (outputs, channels, *kernel), dtypes[1])
    out_size = output_size(size, kernel, stride, padding)
    a, winners = backend.conv2d_relu_pool(x, weight, None, stride, padding, window)
    g = whole(rng, a.shape, dtypes[2])
    spread = backend.relu_unpool(g, a, winners, window, out_size)
    assert tuple(spread.shape) == (batch, outputs, *out_size)
    return [
        a,
        np.where(a > 0, winners, NO_WINNER),
        backend.conv2d_transpose(spread, weight, stride, padding, size),
        backend.conv2d_weight(x, spread, kernel, stride, padding),
        backend.conv2d_gather(x, weight, stride, padding, a, winners, window),
        backend.bias_gradient(g, a),
    ]


def assert_same_passes(geometry, dtypes, seed=0):
    found, expected = (passes(b, geometry, dtypes, seed) for b in (BACKEND, REFERENCE))
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def geometries(count):
    """Kernels wider than the map, steps that skip, windows that do not tile, odd batches."""
    rng = np.random.default_rng(3)
    while count:
        size, kernel = (tuple(int(n) for n in rng.integers(1, high, 2)) for high in (11, 6))
        stride, padding = (tuple(int(n) for n in rng.integers(low, 4, 2)) for low in (1, 0))
        out_size = output_size(size, kernel, stride, padding)
        if min(out_size) > 0:
            window = tuple(int(rng.integers(1, min(n, 4) + 1)) for n in out_size)
            apart = tuple(n + int(rng.integers(0, 2)) for n in window)
            numbers = (int(rng.choice(some)) for some in ([1, 7, 33], [1, 3, 6], [1, 5, 9, 17]))
            yield (*numbers, size, kernel, stride, padding, (window, apart, NONE))
            count -= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("geometry", list(geometries(24)), ids=str)
def test_exactly_the_reference(geometry, dtype):
    assert_same_passes(geometry, (dtype, dtype, dtype))


UNCOMPILED = """
import numpy as np
from test_numba_pooled import assert_same_passes, geometries
for geometry in geometries(8):
    assert_same_passes(geometry, [np.float32] * 3)
"""


@pytest.mark.parametrize("features", ["+avx2,+avx", "+sse2"])
def test_without_the_compiler_for_smaller_registers(features):
    """In plain NumPy, a vector that reached beyond an array would be cut short, and not fit."""
    done = run_python(UNCOMPILED, NUMBA_DISABLE_JIT="1", NUMBA_CPU_FEATURES=features)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "dtypes",
    [
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.float32, np.float64, np.float32),
        (np.float16, np.float16, np.float16),
    ],
)
def test_half_compiled(dtypes):
    """Where one pass is compiled and the next is left to the reference, they still fit."""
    assert_same_passes((5, 3, 4, (6, 7), (3, 3), ONE, ONE, WINDOW), dtypes)


def test_shapes_that_do_not_fit_are_refused():
    """A kernel checks no bounds, so whoever calls it does."""
    x, weight = np.ones((2, 3, 6, 6)), np.ones((4, 3, 3, 3))
    a, winners = BACKEND.conv2d_relu_pool(x, weight, None, ONE, ONE, WINDOW)
    with pytest.raises(ShapeError, match="do not fit"):
        BACKEND.conv2d_relu_pool(x, weight, None, ONE, ONE, ((7, 2), (7, 2), NONE))
    with pytest.raises(ShapeError, match=r"\(2, 4, 3, 2\)"):
        BACKEND.conv2d_gather(x, weight, ONE, ONE, a, winners[..., :2], WINDOW)
    for size in ((4, 6), (6, 8)):
        with pytest.raises(ShapeError, match="relu_unpool"):
            BACKEND.relu_unpool(a, a, winners, WINDOW, size)
    with pytest.raises(ShapeError, match="relu_unpool"):
        BACKEND.relu_unpool(a[:1], a[:1], winners, WINDOW, (6, 6))
    spread = BACKEND.relu_unpool(a, a, winners, WINDOW, (6, 6))
    with pytest.raises(ShapeError, match="conv2d_transpose"):
        BACKEND.conv2d_transpose(spread, weight[:3], ONE, ONE, (6, 6))
    for other in (x[:1], x[..., :5]):
        with pytest.raises(ShapeError, match="conv2d_weight"):
            BACKEND.conv2d_weight(other, spread, (3, 3), ONE, ONE)
    with pytest.raises(ValueError, match="broadcast"):
        BACKEND.l1_difference(x, np.ones((2, 3, 6, 5)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_stays_in_the_gradient(bad):
    rng = np.random.default_rng(0)
    x, ratio = rng.standard_normal((2, 20, 2, 3, 4))
    x[0, 1, 1, 1], ratio[3, 0, 2, 2], ratio[4] = bad, bad, 1
    with np.errstate(invalid="ignore"):
        both = REFERENCE.l1_difference_backward(x, ratio, np.array(0.5))
    for found, wanted in zip(
        BACKEND.l1_difference_backward(x, ratio, np.array(0.5)), both, strict=True
    ):
        assert not np.isfinite(wanted).all()
        np.testing.assert_array_equal(found, wanted)


class TestMemory:
    """Arrays come and go in other threads, in the middle of the bookkeeping."""

    def test_taken_by_another_in_the_meantime(self, monkeypatch):
        size = memory.WORTH_KEEPING
        taken = []

        class Interrupted(OrderedDict):
            def __delitem__(self, key):
                if not taken:  # between looking and taking, somebody else wants the same
                    taken.append(None)
                    taken[0] = memory.empty((size,), np.uint8)
                super().__delitem__(key)

        kept = memory.empty((size,), np.uint8)
        monkeypatch.setattr(memory, "_unused", Interrupted())
        monkeypatch.setattr(memory, "_kept", 0)
        del kept
        array = memory.empty((size,), np.uint8)
        assert len(taken) == 1
        assert not np.shares_memory(array, taken[0])
        assert memory._kept == 0

    def test_freed_in_the_meantime(self, monkeypatch):
        monkeypatch.setattr(memory, "_unused", OrderedDict())
        monkeypatch.setattr(memory, "_kept", 0)
        array = memory.empty((memory.WORTH_KEEPING,), np.uint8)
        with memory._busy:
            del array
        assert memory._kept == 0
        assert not memory._unused
