"""MaxPool2d and AvgPool2d: values, winners and relevance against loops and explicit matrices."""

from __future__ import annotations

import numpy as np
import plain
import pytest

from minifbi.autograd import Tensor, check_gradients
from minifbi.backends import get_backend
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import AvgPool2d, MaxPool2d

# window, stride, padding, size of the maps
POOLS = {
    "2x2/2": ((2, 2), (2, 2), (0, 0), (6, 4)),
    "2x2/2 does not tile": ((2, 2), (2, 2), (0, 0), (5, 7)),
    "3x3/2": ((3, 3), (2, 2), (0, 0), (7, 9)),
    "3x3/2 does not tile": ((3, 3), (2, 2), (0, 0), (6, 8)),
    "3x3/1": ((3, 3), (1, 1), (0, 0), (5, 6)),
    "2x3": ((2, 3), (2, 3), (0, 0), (6, 6)),
    "2x3 odd": ((2, 3), (2, 3), (0, 0), (7, 5)),
    "3x3/2 padding 1": ((3, 3), (2, 2), (1, 1), (7, 6)),
    "2x2/2 padding 1": ((2, 2), (2, 2), (1, 1), (5, 4)),
    "3x2/(1,2) padding (1,0)": ((3, 2), (1, 2), (1, 0), (4, 5)),
    "1x1/2": ((1, 1), (2, 2), (0, 0), (5, 4)),
    "2x2/3 with gaps": ((2, 2), (3, 3), (0, 0), (8, 7)),
    "whole map": ((4, 5), (1, 1), (0, 0), (4, 5)),
    "more windows than a byte counts": ((17, 16), (1, 1), (0, 0), (18, 17)),
}
pool_cases = pytest.mark.parametrize("case", POOLS)
kinds = pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def setup(case, backend, batch=2, channels=3, dtype=np.float64):
    *window, size = POOLS[case]
    x = Tensor(random(batch, channels, *size).astype(dtype), True, backend)
    return window, x


@pool_cases
@dtypes
def test_max_forward(case, dtype, backend):
    window, x = setup(case, backend, dtype=dtype)
    out = MaxPool2d(*window)(x)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out.numpy(), plain.max_pool2d(x.numpy(), *window)[0])


@pool_cases
@dtypes
def test_avg_forward(case, dtype, backend):
    window, x = setup(case, backend, dtype=dtype)
    out = AvgPool2d(*window)(x)
    assert out.dtype == dtype
    tolerance = 1e-13 if dtype == np.float64 else 2e-6
    expected = plain.avg_pool2d(x.numpy().astype(np.float64), *window)
    np.testing.assert_allclose(out.numpy(), expected, rtol=tolerance, atol=tolerance)


@pool_cases
@kinds
def test_backward(kind, case, backend):
    window, x = setup(case, backend)
    layer = kind(*window)
    weights = random(*layer(x).shape, seed=1)
    check_gradients(lambda: (layer(x) * weights).sum(), {"x": x})


@pool_cases
@kinds
def test_relevance_is_the_transposed_matrix(kind, case, backend):
    window, x = setup(case, backend)
    step = kind(*window).trace(x)[0]
    ratio = random(*step.z.shape, seed=1)
    for sample in range(2):
        if kind is MaxPool2d:
            matrix = plain.max_pool_matrix(x.numpy()[sample], *window)
        else:
            matrix = plain.matrix_of(lambda u: plain.avg_pool2d(u, *window), x.shape[1:])
        z = matrix @ x.numpy()[sample].ravel()
        np.testing.assert_allclose(step.z.numpy()[sample].ravel(), z, rtol=1e-12, atol=1e-14)
        expected = (matrix.T @ ratio[sample].ravel()).reshape(x.shape[1:])
        ours = step.relevance(Tensor(ratio, backend=backend)).numpy()[sample]
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-14)


@pool_cases
@kinds
def test_relevance_backward(kind, case, backend):
    window, x = setup(case, backend)
    layer = kind(*window)
    ratio = Tensor(random(*layer(x).shape, seed=1), True, backend)
    weights = random(*x.shape, seed=2)

    def loss():
        return (layer.trace(x)[0].relevance(ratio) * x * weights).sum()

    check_gradients(loss, {"x": x, "ratio": ratio})


@pool_cases
@dtypes
def test_transposes_are_adjoint(case, dtype, backend):
    """<gather(x), g> = <x, scatter(g)>, and the same for the mean and its transpose."""
    (kernel, stride, padding), tensor = setup(case, backend, dtype=dtype)
    b, x, size = get_backend(backend), tensor.data, tensor.shape[2:]
    maxima, winners = b.max_pool2d(x, kernel, stride, padding)
    g = b.asarray(random(*maxima.shape, seed=1).astype(dtype))
    gathered = b.max_pool2d_gather(x, winners, kernel, stride, padding)
    scattered = b.max_pool2d_scatter(g, winners, kernel, stride, padding, size)
    means = b.avg_pool2d(x, kernel, stride, padding)
    spread = b.avg_pool2d_transpose(g, kernel, stride, padding, size)
    assert {a.dtype for a in (maxima, gathered, scattered, means, spread)} == {np.dtype(dtype)}
    np.testing.assert_array_equal(b.to_numpy(gathered), b.to_numpy(maxima))  # x at its winners
    tolerance = 1e-13 if dtype == np.float64 else 1e-5
    for out, back in ((gathered, scattered), (means, spread)):
        left = (b.to_numpy(out).astype(np.float64) * b.to_numpy(g)).sum()
        right = (b.to_numpy(back).astype(np.float64) * b.to_numpy(x)).sum()
        assert left == pytest.approx(right, abs=tolerance * g.size)


@pytest.mark.parametrize("batch", [1, 5, 35])
@pytest.mark.parametrize("channels", [1, 18])
@kinds
def test_batches_and_channels_of_any_size(kind, batch, channels, backend):
    window, x = setup("3x3/2 padding 1", backend, batch, channels)
    step = kind(*window).trace(x)[0]
    if kind is AvgPool2d:
        expected, spread = plain.avg_pool2d(x.numpy(), *window), None
    else:
        expected, spread = plain.max_pool2d(x.numpy(), *window)
    np.testing.assert_allclose(step.z.numpy(), expected, rtol=1e-12, atol=1e-14)
    ones = Tensor(np.ones(step.z.shape), backend=backend)
    carried = step.relevance(ones).numpy()
    if spread is not None:  # how many windows each input has won
        wins = np.zeros(x.shape)
        n, c = np.indices(step.z.shape)[:2]
        np.add.at(wins, (n, c, spread[..., 0], spread[..., 1]), 1)
        np.testing.assert_array_equal(carried, wins)
    assert (carried * x.numpy()).sum() == pytest.approx(expected.sum(), rel=1e-10)


def winner_of(rows, backend, kernel=2, **options):
    """Where a unit of relevance arrives."""
    x = Tensor(np.array(rows, float)[None, None], backend=backend)
    step = MaxPool2d(kernel, **options).trace(x)[0]
    return step.relevance(Tensor(np.ones(step.z.shape), backend=backend)).numpy()[0, 0].tolist()


def test_first_of_equals_in_reading_order(backend):
    assert winner_of([[1, 2], [5, 6]], backend) == [[0, 0], [0, 1]]
    assert winner_of([[4, 4], [4, 4]], backend) == [[1, 0], [0, 0]]
    assert winner_of([[1, 7], [7, 7]], backend) == [[0, 1], [0, 0]]
    assert winner_of([[1, 2], [7, 7]], backend) == [[0, 0], [1, 0]]
    assert winner_of([[0, -0.0], [0, 0]], backend) == [[1, 0], [0, 0]]
    assert winner_of([[3, 3, 3]], backend, (1, 2), stride=1) == [[1, 1, 0]]


def test_a_winner_of_several_windows_collects_from_each(backend):
    peak = [[0, 0, 0], [0, 9, 0], [0, 0, 0]]
    assert winner_of(peak, backend, 2, stride=1) == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


def test_padding_never_wins(backend):
    rows = [[-5, -4, -3], [-6, -7, -8], [-1, -2, -9]]
    x = Tensor(np.array(rows, float)[None, None], backend=backend)
    out = MaxPool2d(3, 2, 1)(x).numpy()[0, 0]
    assert out.tolist() == [[-4, -3], [-1, -2]]
    assert np.sum(winner_of(rows, backend, 3, stride=2, padding=1)) == 4  # nothing is lost outside
    huge = np.full((1, 1, 2, 2), -np.finfo(np.float64).max)
    step = MaxPool2d(2, padding=1).trace(Tensor(huge, backend=backend))[0]
    assert (step.z.numpy() == huge[0, 0, 0, 0]).all()


@dtypes
def test_nan_stays_nan(dtype, backend):
    rows = np.array([[1, np.nan, 3, 4], [5, 6, 7, 8]], dtype)
    x = Tensor(rows[None, None], backend=backend)
    for kind in (MaxPool2d, AvgPool2d):
        assert np.isnan(kind(2)(x).numpy()[0, 0]).tolist() == [[True, False]]
    step = MaxPool2d(2).trace(x)[0]
    ones = Tensor(np.ones(step.z.shape, dtype), backend=backend)
    assert step.relevance(ones).numpy()[0, 0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    last = Tensor(np.array([[[[9, 8], [7, np.nan]]]], dtype), backend=backend)
    assert np.isnan(MaxPool2d(2)(last).numpy()).all()


@kinds
def test_shape_errors_name_every_dimension(kind, backend):
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\).*\(N, C, H, W\)"):
        kind(2)(Tensor(np.zeros((2, 3, 4)), backend=backend))
    with pytest.raises(ShapeError, match=r"\(1, 1, 2, 4\).*\(5, 3\).*\(1, 0\).*3 x 3"):
        kind((5, 3), padding=(1, 0))(Tensor(np.zeros((1, 1, 2, 4)), backend=backend))


@kinds
def test_options(kind):
    assert kind(3).stride == (3, 3)  # the window's size if left out
    assert kind((2, 3), 1).stride == (1, 1)
    assert repr(kind(2)).endswith("Pool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))")
    for wrong in (0, -2, 1.5, (1,), "2", True):
        with pytest.raises(ConfigError, match="kernel_size="):
            kind(wrong)
        with pytest.raises(ConfigError, match="stride="):
            kind(2, 0)
    with pytest.raises(ConfigError, match=r"\(2, 2\).*more than half.*\(3, 3\)"):
        kind(3, padding=2)
    with pytest.raises(ConfigError, match="padding="):
        kind(3, padding=-1)
