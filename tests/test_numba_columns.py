"""Few samples: the plans in which pixels take the samples' place are the reference."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from minifbi.backends.numba_backend import NumbaBackend
from minifbi.backends.numba_kernels import columns, convolutions, direct
from minifbi.backends.numpy_backend import NumpyBackend

BACKEND, REFERENCE = NumbaBackend(), NumpyBackend()
# size, kernel, stride, padding
CASES = [
    ((9, 8), (3, 3), (1, 1), (1, 1)),
    ((7, 10), (5, 2), (2, 1), (0, 2)),
    ((8, 9), (2, 4), (1, 3), (2, 0)),
]
WINDOWS = [None, ((2, 2), (2, 2), (0, 0)), ((2, 1), (3, 2), (0, 0))]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("batch", [1, 2, columns.SAMPLES])
def test_few_samples(case, window, batch):
    rng, (size, kernel, stride, padding) = np.random.default_rng(0), case
    x, u = rng.standard_normal((2, batch, 3, *size))
    weight, bias = rng.standard_normal((5, 3, *kernel)), rng.standard_normal(5)
    found, wanted = [], []
    for backend, results in ((BACKEND, found), (REFERENCE, wanted)):
        z = backend.conv2d(x, weight, stride, padding)
        a, winners = backend.conv2d_relu_pool(x, weight, bias, stride, padding, window)
        g = np.cos(np.arange(a.size).reshape(a.shape))
        s = backend.relu_unpool(g, a, winners, window, z.shape[2:])
        results += [z, a, backend.conv2d_transpose(s, weight, stride, padding, size)]
        results.append(backend.conv2d_weight(x, s, kernel, stride, padding))
        results.append(backend.conv2d_gather(u, weight, stride, padding, a, winners, window))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("batch", [1, columns.SAMPLES])
def test_dense(batch):
    rng = np.random.default_rng(0)
    x, g, weight = (rng.standard_normal(shape) for shape in ((batch, 70), (batch, 9), (9, 70)))
    np.testing.assert_allclose(BACKEND.dense(x, weight), x @ weight.T, rtol=1e-11)
    np.testing.assert_allclose(BACKEND.dense_transpose(g, weight), g @ weight, rtol=1e-11)
    np.testing.assert_allclose(BACKEND.dense_weight(x, g), g.T @ x, rtol=1e-11)


@pytest.mark.parametrize(("batch", "size", "few"), [(4, 9, True), (5, 9, False), (1, 65, False)])
def test_which_plan(batch, size, few):
    """Columns for few samples, but not for large images, whose columns would fill the memory."""
    dtypes = (np.dtype(np.float32),) * 2
    plan = convolutions.forward((batch, 3, size, size), (5, 3, 3, 3), dtypes, (1, 1), (1, 1))
    assert isinstance(plan, columns.Convolution if few else direct.Convolution)
