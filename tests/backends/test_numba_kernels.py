"""The numba backend against the readable reference, over many shapes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from minifbi.backends.base import output_size  # noqa: E402
from minifbi.backends.numba_backend import NumbaBackend, batch_last  # noqa: E402
from minifbi.backends.numpy_backend import NumpyBackend  # noqa: E402

REFERENCE = NumpyBackend()
BACKEND = NumbaBackend()
DTYPES = (np.float32, np.float64)

# batch, input channels, output channels, size, kernel, stride, padding
SHAPES = [
    (1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0)),
    (3, 1, 16, (12, 12), (5, 5), (1, 1), (2, 2)),
    (33, 1, 8, (7, 9), (5, 5), (1, 1), (2, 2)),
    (17, 3, 5, (9, 8), (3, 3), (2, 2), (1, 1)),
    (16, 5, 17, (7, 7), (3, 3), (1, 1), (1, 1)),
    (70, 17, 9, (5, 6), (3, 3), (1, 1), (1, 1)),
    (130, 4, 8, (4, 4), (2, 2), (1, 1), (0, 0)),
    (3, 2, 33, (9, 11), (1, 4), (1, 3), (0, 2)),
    (17, 5, 3, (11, 7), (4, 2), (3, 2), (2, 1)),
    (33, 3, 3, (6, 6), (5, 1), (2, 3), (2, 0)),
    (2, 4, 5, (10, 13), (3, 7), (3, 1), (0, 2)),
    (5, 1, 3, (8, 20), (2, 11), (1, 2), (1, 2)),  # a kernel wider than a tile
    (5, 6, 3, (4, 4), (2, 2), (3, 3), (0, 0)),  # a stride that skips pixels
    (5, 6, 3, (3, 3), (1, 1), (1, 1), (2, 2)),  # outputs that see nothing but padding
    (2, 17, 20, (32, 32), (3, 3), (1, 1), (1, 1)),  # several bands of rows
    (1, 70, 4, (24, 40), (3, 3), (1, 1), (1, 1)),
]


def random_shapes(count):
    rng = np.random.default_rng(0)
    shapes = []
    while len(shapes) < count:
        kernel = tuple(int(k) for k in rng.integers(1, 6, 2))
        stride = tuple(int(s) for s in rng.integers(1, 4, 2))
        padding = tuple(int(p) for p in rng.integers(0, 3, 2))
        size = tuple(int(s) for s in rng.integers(1, 13, 2))
        if min(output_size(size, kernel, stride, padding)) > 0:
            batch, channels = int(rng.choice([1, 3, 16, 17, 33])), int(rng.choice([1, 3, 5, 17]))
            outputs = int(rng.choice([1, 3, 8, 17]))
            shapes.append((batch, channels, outputs, size, kernel, stride, padding))
    return shapes


def make(shape, dtype, seed=0):
    """x, weight, and a g for the convolution's output."""
    batch, channels, outputs, size, kernel, stride, padding = shape
    rng = np.random.default_rng(seed)
    out_size = output_size(size, kernel, stride, padding)
    return (
        rng.standard_normal((batch, channels, *size)).astype(dtype),
        rng.standard_normal((outputs, channels, *kernel)).astype(dtype),
        rng.standard_normal((batch, outputs, *out_size)).astype(dtype),
    )


def assert_close(got, wanted):
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    tolerance = 1e-5 if wanted.dtype == np.float32 else 1e-12
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES + random_shapes(40), ids=str)
def test_trio_is_the_reference(shape, dtype):
    _, _, _, size, kernel, stride, padding = shape
    x, weight, g = make(shape, dtype)
    assert_close(
        BACKEND.conv2d(x, weight, stride, padding), REFERENCE.conv2d(x, weight, stride, padding)
    )
    assert_close(
        BACKEND.conv2d_transpose(g, weight, stride, padding, size),
        REFERENCE.conv2d_transpose(g, weight, stride, padding, size),
    )
    assert_close(
        BACKEND.conv2d_weight(x, g, kernel, stride, padding),
        REFERENCE.conv2d_weight(x, g, kernel, stride, padding),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_trio_is_one_trilinear_form(shape):
    _, _, _, size, kernel, stride, padding = shape
    x, weight, g = make(shape, np.float64)
    forward = np.vdot(BACKEND.conv2d(x, weight, stride, padding), g)
    assert forward == pytest.approx(
        np.vdot(x, BACKEND.conv2d_transpose(g, weight, stride, padding, size))
    )
    assert forward == pytest.approx(
        np.vdot(weight, BACKEND.conv2d_weight(x, g, kernel, stride, padding))
    )


POOLS = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 2), (1, 3), (1, 0)),
    ((1, 1), (2, 2), (0, 0)),
    ((5, 4), (2, 1), (2, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3, 16, 17, 33])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_pooling_is_the_reference(pool, batch, dtype):
    kernel, stride, padding = pool
    size = (9, 8)
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 4, (batch, 3, *size)).astype(dtype)  # many equals
    y, winners = BACKEND.max_pool2d(x, kernel, stride, padding)
    wanted, wanted_winners = REFERENCE.max_pool2d(x, kernel, stride, padding)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(winners, wanted_winners)
    assert y.dtype == wanted.dtype
    assert winners.dtype == wanted_winners.dtype

    g = rng.standard_normal(y.shape).astype(dtype)
    assert_close(
        BACKEND.max_pool2d_scatter(g, winners, kernel, stride, padding, size),
        REFERENCE.max_pool2d_scatter(g, wanted_winners, kernel, stride, padding, size),
    )
    assert_close(
        BACKEND.max_pool2d_gather(x, winners, kernel, stride, padding),
        REFERENCE.max_pool2d_gather(x, wanted_winners, kernel, stride, padding),
    )
    assert_close(
        BACKEND.avg_pool2d(x, kernel, stride, padding),
        REFERENCE.avg_pool2d(x, kernel, stride, padding),
    )
    assert_close(
        BACKEND.avg_pool2d_transpose(g, kernel, stride, padding, size),
        REFERENCE.avg_pool2d_transpose(g, kernel, stride, padding, size),
    )


def test_nan_wins_and_the_first_of_several():
    x = np.zeros((3, 1, 2, 4), dtype=np.float32)
    x[0, 0, 1, 0] = np.nan
    x[1, 0, 0, 1] = x[1, 0, 1, 1] = np.nan
    x[1, 0, 0, 0] = np.inf
    y, winners = BACKEND.max_pool2d(x, (2, 2), (2, 2), (0, 0))
    wanted, wanted_winners = REFERENCE.max_pool2d(x, (2, 2), (2, 2), (0, 0))
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(winners, wanted_winners)
    assert winners[:, 0, 0, 0].tolist() == [2, 1, 0]


def test_padding_never_wins():
    x = np.full((2, 1, 3, 3), -np.inf, dtype=np.float32)
    _, winners = BACKEND.max_pool2d(x, (2, 2), (2, 2), (1, 1))
    assert winners[0, 0].tolist() == [[3, 2], [1, 0]]


def test_infinities_do_not_leak_through_the_maps_of_the_winners():
    x = np.array([[1.0, np.inf], [3.0, np.nan]], dtype=np.float32)[None, None]
    winners = np.full((1, 1, 1, 1), 2, dtype=np.uint8)
    picked = BACKEND.max_pool2d_gather(x, winners, (2, 2), (2, 2), (0, 0))
    assert picked.tolist() == [[[[3.0]]]]
    g = np.full((1, 1, 1, 1), np.inf, dtype=np.float32)
    spread = BACKEND.max_pool2d_scatter(g, winners, (2, 2), (2, 2), (0, 0), (2, 2))
    assert spread.tolist() == [[[[0.0, 0.0], [np.inf, 0.0]]]]


def test_large_windows_count_their_places_in_two_bytes():
    x = np.random.default_rng(0).standard_normal((2, 1, 17, 18))
    y, winners = BACKEND.max_pool2d(x, (17, 17), (1, 1), (0, 0))
    wanted, wanted_winners = REFERENCE.max_pool2d(x, (17, 17), (1, 1), (0, 0))
    assert winners.dtype == wanted_winners.dtype == np.uint16
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(winners, wanted_winners)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_spreads_no_further_than_its_windows(dtype):
    x, weight, _ = make(SHAPES[4], dtype)
    x[3, 2, 0, 0] = np.nan
    got = BACKEND.conv2d(x, weight, (1, 1), (1, 1))
    wanted = REFERENCE.conv2d(x, weight, (1, 1), (1, 1))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))


def test_any_memory_layout():
    shape = SHAPES[4]
    _, _, _, size, kernel, stride, padding = shape
    x, weight, g = make(shape, np.float32)
    wanted = REFERENCE.conv2d(x, weight, stride, padding)

    doubled = np.repeat(x, 2, axis=3)[:, :, :, ::2]  # not contiguous
    flipped = x[::-1, :, ::-1].copy()[::-1, :, ::-1]  # negative strides
    frozen = x.copy()
    frozen.flags.writeable = False
    raw = np.zeros(x.nbytes + 1, dtype=np.uint8)
    odd = raw[1:].view(np.float32).reshape(x.shape)  # not even aligned
    odd[:] = x
    for variant in (doubled, flipped, frozen, odd, np.asfortranarray(x)):
        assert_close(BACKEND.conv2d(variant, weight, stride, padding), wanted)
        assert_close(
            BACKEND.conv2d_weight(variant, g, kernel, stride, padding),
            REFERENCE.conv2d_weight(x, g, kernel, stride, padding),
        )
        assert_close(
            BACKEND.avg_pool2d(variant, (2, 2), (2, 2), (0, 0)),
            REFERENCE.avg_pool2d(x, (2, 2), (2, 2), (0, 0)),
        )
    wide = np.asfortranarray(weight)
    wide.flags.writeable = False
    assert_close(
        BACKEND.conv2d_transpose(g, wide, stride, padding, size),
        REFERENCE.conv2d_transpose(g, weight, stride, padding, size),
    )


def test_results_keep_the_batch_last():
    x, weight, _ = make(SHAPES[4], np.float32)
    y = BACKEND.conv2d(x, weight, (1, 1), (1, 1))
    assert np.shares_memory(batch_last(y), y)  # no copy on the way into the next kernel
    pooled, winners = BACKEND.max_pool2d(y, (2, 2), (2, 2), (0, 0))
    assert np.shares_memory(batch_last(pooled), pooled)
    assert np.shares_memory(batch_last(winners), winners)


def test_other_dtypes_and_empty_batches_go_to_the_reference():
    x, weight, g = make(SHAPES[4], np.float64)
    whole = np.round(4 * x).astype(np.int64), np.round(4 * weight).astype(np.int64)
    np.testing.assert_array_equal(
        BACKEND.conv2d(*whole, (1, 1), (1, 1)), REFERENCE.conv2d(*whole, (1, 1), (1, 1))
    )
    empty = BACKEND.conv2d(x[:0], weight, (1, 1), (1, 1))
    assert empty.shape == (0, *g.shape[1:])
    assert not BACKEND.conv2d_weight(x[:0], g[:0], (3, 3), (1, 1), (1, 1)).any()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[5], SHAPES[14]], ids=str)
def test_bit_for_bit_the_same_on_any_number_of_threads(shape):
    _, _, _, size, kernel, stride, padding = shape
    x, weight, g = make(shape, np.float32)

    def compute():
        return [
            BACKEND.conv2d(x, weight, stride, padding).tobytes(),
            BACKEND.conv2d_transpose(g, weight, stride, padding, size).tobytes(),
            BACKEND.conv2d_weight(x, g, kernel, stride, padding).tobytes(),
        ]

    threads = numba.get_num_threads()
    many = [compute() for _ in range(3)]
    try:
        numba.set_num_threads(1)
        one = compute()
    finally:
        numba.set_num_threads(threads)
    assert many == [one] * 3


UNCOMPILED = """
import numpy as np
from test_numba_kernels import SHAPES, test_trio_is_the_reference, test_pooling_is_the_reference
for shape in SHAPES[:4] + SHAPES[7:9]:
    test_trio_is_the_reference(shape, np.float64)
test_pooling_is_the_reference(((3, 3), (2, 2), (1, 1)), 3, np.float32)
"""


def run_python(code, **environment):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_compiler():
    done = run_python(UNCOMPILED, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr


def test_without_a_place_for_the_cache(monkeypatch):
    def unwritable(*args, **kwargs):
        if kwargs.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(*args, **kwargs)

    from minifbi.backends.numba_kernels.jit import jit

    real = numba.njit
    monkeypatch.setattr(numba, "njit", unwritable)

    @jit(parallel=True)
    def double(x):
        for i in numba.prange(len(x)):
            x[i] *= 2

    x = np.arange(5.0)
    double(x)
    assert x.tolist() == [0, 2, 4, 6, 8]


class TestMemory:
    """Memory of large arrays is used again, but never while anyone can still see it."""

    def test_used_again_after_the_last_view(self):
        from minifbi.backends.numba_kernels import memory

        shape = (3, 7, 11, 4099)
        first = memory.empty(shape, np.float32)
        address = first.ctypes.data
        assert address % 64 == 0
        assert first.flags.c_contiguous
        view = first[1:].transpose(1, 0, 2, 3)
        del first
        view[:] = 5
        other = memory.empty(shape, np.float32)
        assert other.ctypes.data != address
        other[:] = 7
        assert (view == 5).all()
        del view
        again = memory.empty(shape, np.float32)
        assert again.ctypes.data == address

    def test_small_arrays_are_left_to_the_allocator(self):
        from minifbi.backends.numba_kernels import memory

        small = memory.empty((3,), np.float64)
        assert small.shape == (3,)
        assert memory.empty((0, 4), np.float32).size == 0

    def test_no_more_is_kept_than_the_limit(self, monkeypatch):
        from minifbi.backends.numba_kernels import memory

        monkeypatch.setattr(memory, "LIMIT", 8 << 20)
        arrays = [memory.empty((n << 18,), np.float32) for n in (2, 3, 4, 5, 6)]
        del arrays
        assert memory._kept <= 8 << 20
        held = sum(a.nbytes for kept in memory._unused.values() for a, _ in kept)
        assert held == memory._kept
