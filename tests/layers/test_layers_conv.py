"""Conv2d and Dense: the closed trio against loops and explicit matrices, on every backend."""

from __future__ import annotations

import itertools

import numpy as np
import plain
import pytest

from minifbi.autograd import Tensor, check_gradients
from minifbi.backends import get_backend
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Conv2d, Dense

# kernel, stride, padding, size, bias: kernels 1 to 5, strides, paddings, sizes that do not tile
CONVS = [
    ((1, 1), (1, 1), (0, 0), (4, 5), True),
    ((2, 2), (1, 1), (0, 0), (5, 4), True),
    ((3, 3), (1, 1), (1, 1), (6, 7), True),
    ((3, 3), (1, 1), (0, 0), (3, 3), False),
    ((4, 4), (1, 1), (2, 2), (5, 5), True),
    ((5, 5), (1, 1), (2, 2), (7, 6), True),
    ((5, 5), (1, 1), (2, 2), (3, 3), False),  # the kernel is larger than the image
    ((2, 3), (1, 1), (0, 1), (5, 6), True),
    ((3, 1), (1, 1), (1, 0), (5, 4), False),
    ((1, 5), (1, 1), (0, 2), (3, 8), True),
    ((2, 2), (2, 2), (0, 0), (7, 6), True),
    ((3, 3), (2, 2), (1, 1), (7, 8), True),
    ((5, 5), (2, 2), (2, 2), (9, 8), False),
    ((5, 5), (3, 3), (0, 0), (9, 10), True),
    ((2, 3), (2, 1), (1, 0), (6, 5), True),
    ((3, 2), (1, 3), (2, 1), (4, 7), True),
    ((1, 1), (2, 2), (0, 0), (5, 4), False),  # some pixels are never read
    ((2, 2), (3, 3), (0, 0), (8, 7), True),
    ((3, 3), (1, 1), (4, 5), (2, 3), True),  # windows that hold padding only
]
IDS = [f"k{k[0]}x{k[1]}-s{s[0]}{s[1]}-p{p[0]}{p[1]}" for k, s, p, _, _ in CONVS]
CHANNELS = 3, 4
conv_cases = pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "bias"), CONVS, ids=IDS
)


def make(kernel, stride, padding, bias, backend, dtype=np.float64, channels=CHANNELS):
    layer = Conv2d(
        *channels, kernel, stride, padding, bias=bias, rng=1, backend=backend, dtype=dtype
    )
    if bias:
        values = np.random.default_rng(2).standard_normal(channels[1])
        layer.bias.data = layer.bias.backend.asarray(values.astype(dtype))
    return layer


def arrays_of(layer):
    weight = layer.weight.numpy()
    return weight, None if layer.bias is None else layer.bias.numpy()


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def tensor(array, backend, dtype=np.float64):
    return Tensor(array.astype(dtype), True, backend)


@conv_cases
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_conv_forward(kernel, stride, padding, size, bias, dtype, backend):
    layer = make(kernel, stride, padding, bias, backend, dtype)
    x = random(2, CHANNELS[0], *size)
    out = layer(tensor(x, backend, dtype))
    expected = plain.conv2d(x, *arrays_of(layer), stride, padding)
    assert out.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(out.numpy(), expected, rtol=tolerance, atol=tolerance)


@conv_cases
def test_conv_backward(kernel, stride, padding, size, bias, backend):
    layer = make(kernel, stride, padding, bias, backend)
    x = tensor(random(2, CHANNELS[0], *size), backend)
    weights = random(*layer(x).shape, seed=3)
    checked = {"x": x, **layer.parameters()}
    assert ("bias" in checked) == bias
    check_gradients(lambda: (layer(x) * weights).sum(), checked)


@conv_cases
def test_conv_relevance_is_the_transposed_matrix(kernel, stride, padding, size, bias, backend):
    layer = make(kernel, stride, padding, bias, backend)
    x = tensor(random(2, CHANNELS[0], *size), backend)
    step = layer.trace(x)[0]
    ratio = random(*step.z.shape, seed=3)
    weight, _ = arrays_of(layer)
    matrix = plain.matrix_of(
        lambda units: plain.conv2d(units, weight, None, stride, padding), x.shape[1:]
    )
    expected = (ratio.reshape(2, -1) @ matrix).reshape(x.shape)  # rows of M^T r
    ours = step.relevance(tensor(ratio, backend)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)


@conv_cases
def test_conv_relevance_backward(kernel, stride, padding, size, bias, backend):
    layer = make(kernel, stride, padding, bias, backend)
    x = tensor(random(2, CHANNELS[0], *size), backend)
    ratio = tensor(random(*layer(x).shape, seed=3), backend)
    weights = random(*x.shape, seed=4)

    def loss():  # x * relevance: x takes part as in Eq. (2)
        return (layer.trace(x)[0].relevance(ratio) * x * weights).sum()

    report = check_gradients(loss, {"x": x, "ratio": ratio, **layer.parameters()})
    assert report.errors.get("bias", 0) == 0  # no relevance, no gradient


@conv_cases
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_trio_is_adjoint(kernel, stride, padding, size, bias, dtype, backend):
    """<conv(x, W), g> = <x, conv_T(g, W)> = <W, conv_W(x, g)>."""
    b = get_backend(backend)
    x, weight = random(3, CHANNELS[0], *size), random(*CHANNELS[::-1], *kernel, seed=1)
    g = random(3, CHANNELS[1], *plain.output_shape(size, kernel, stride, padding), seed=2)
    x, weight, g = (b.asarray(a.astype(dtype)) for a in (x, weight, g))
    z = b.conv2d(x, weight, stride, padding)
    back = b.conv2d_transpose(g, weight, stride, padding, size)
    grad_weight = b.conv2d_weight(x, g, kernel, stride, padding)
    assert (z.dtype, back.dtype, grad_weight.dtype) == (dtype, dtype, dtype)
    assert (z.shape, back.shape, grad_weight.shape) == (g.shape, x.shape, weight.shape)
    scale = float(np.linalg.norm(b.to_numpy(z)) * np.linalg.norm(b.to_numpy(g)))
    forward, transposed, by_weight = (
        float((b.to_numpy(p).astype(np.float64) * b.to_numpy(q)).sum())
        for p, q in ((z, g), (x, back), (weight, grad_weight))
    )
    tolerance = scale * (1e-13 if dtype == np.float64 else 1e-6)
    assert transposed == pytest.approx(forward, abs=tolerance)
    assert by_weight == pytest.approx(forward, abs=tolerance)


@pytest.mark.parametrize("batch", [1, 7, 33])
@pytest.mark.parametrize("channels", [(1, 1), (1, 17), (18, 3)])
def test_batches_and_channels_of_any_size(batch, channels, backend):
    """Sizes that no blocking of a fast kernel divides."""
    layer = make((3, 3), (1, 1), (1, 1), True, backend, channels=channels)
    x = tensor(random(batch, channels[0], 5, 6), backend)
    step = layer.trace(x)[0]
    weight, bias = arrays_of(layer)
    expected = plain.conv2d(x.numpy(), weight, bias, (1, 1), (1, 1))
    np.testing.assert_allclose(step.z.numpy(), expected, rtol=1e-11, atol=1e-12)

    # stride 1 and same padding: the transpose is a convolution with the flipped, swapped kernel
    ratio = random(*step.z.shape, seed=3)
    flipped = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    expected = plain.conv2d(ratio, flipped, None, (1, 1), (1, 1))
    ours = step.relevance(tensor(ratio, backend)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)

    # the weight gradient, entry by entry
    step.z.backward(ratio)
    padded = plain.with_border(x.numpy(), (1, 1), 0.0)
    for i, j in itertools.product(range(3), range(3)):
        window = padded[:, :, i : i + 5, j : j + 6]
        expected = np.einsum("nohw,nchw->oc", ratio, window)
        np.testing.assert_allclose(
            layer.weight.backend.to_numpy(layer.weight.grad)[:, :, i, j], expected, rtol=1e-10
        )
    np.testing.assert_allclose(
        layer.bias.backend.to_numpy(layer.bias.grad), ratio.sum(axis=(0, 2, 3)), rtol=1e-10
    )


# ---- Dense -----------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch", "features"), [(1, (1, 1)), (3, (5, 4)), (2, (4, 7))])
def test_dense(batch, features, bias, backend):
    layer = Dense(*features, bias=bias, rng=1, backend=backend, dtype=np.float64)
    if bias:
        layer.bias.data = layer.bias.data + 0.5
    x = tensor(random(batch, features[0]), backend)
    ratio = tensor(random(batch, features[1], seed=1), backend)
    weight = layer.weight.numpy()
    step = layer.trace(x)[0]
    for n in range(batch):
        expected = [sum(weight[o] * x.numpy()[n]) + 0.5 * bias for o in range(features[1])]
        np.testing.assert_allclose(step.z.numpy()[n], expected, rtol=1e-12)
        expected = [sum(weight[:, i] * ratio.numpy()[n]) for i in range(features[0])]
        np.testing.assert_allclose(step.relevance(ratio).numpy()[n], expected, rtol=1e-12)

    weights, back = random(batch, features[1], seed=2), random(batch, features[0], seed=3)
    check_gradients(lambda: (layer(x) * weights).sum(), {"x": x, **layer.parameters()})
    report = check_gradients(
        lambda: (layer.trace(x)[0].relevance(ratio) * x * back).sum(),
        {"x": x, "ratio": ratio, **layer.parameters()},
    )
    assert report.errors.get("bias", 0) == 0


def test_the_first_layer_computes_no_gradient_that_nobody_wants(backend):
    images = Tensor(random(2, 3, 4, 4), False, backend)
    conv = make((3, 3), (1, 1), (1, 1), True, backend)
    z, saved = conv.forward(
        get_backend(backend), images.data, *(p.data for p in conv.parameters().values())
    )
    assert conv.backward(get_backend(backend), z, saved, needs_x=False)[0] is None
    conv(images).sum().backward()
    assert images.grad is None
    assert conv.weight.grad is not None


# ---- what is refused -------------------------------------------------------------------------
def test_shape_errors_name_every_dimension(backend):
    conv = Conv2d(3, 4, (5, 2), backend=backend, dtype=np.float64)
    for shape, message in (
        ((2, 1, 8, 9), r"\(2, 1, 8, 9\).*\(N, 3, H, W\).*\(4, 3, 5, 2\)"),
        ((3, 8, 9), r"\(3, 8, 9\).*\(N, 3, H, W\)"),
        ((2, 3, 4, 9), r"\(2, 3, 4, 9\).*\(5, 2\).*\(0, 0\).*5 x 2"),
    ):
        with pytest.raises(ShapeError, match=message):
            conv(Tensor(np.zeros(shape), backend=backend))
    dense = Dense(6, 4, backend=backend, dtype=np.float64)
    with pytest.raises(ShapeError, match=r"\(2, 5\).*\(N, 6\).*\(4, 6\)"):
        dense(Tensor(np.zeros((2, 5)), backend=backend))
    with pytest.raises(ShapeError, match=r"\(2, 6, 1, 1\).*Flatten"):
        dense(Tensor(np.zeros((2, 6, 1, 1)), backend=backend))


@pytest.mark.parametrize("wrong", [0, -1, (3,), (1, 2, 3), 2.5, True, "3", None, (2, 0), (2, 2.0)])
def test_windows_that_make_no_sense(wrong):
    with pytest.raises(ConfigError, match="kernel_size="):
        Conv2d(1, 1, wrong)
    with pytest.raises(ConfigError, match="stride="):
        Conv2d(1, 1, 3, stride=wrong)
    if wrong not in (0, (2, 0)):  # no padding is fine
        with pytest.raises(ConfigError, match="padding="):
            Conv2d(1, 1, 3, padding=wrong)


def test_no_channels():
    with pytest.raises(ConfigError, match="in_channels=0"):
        Conv2d(0, 4, 3)
    with pytest.raises(ConfigError, match="out_channels=-1"):
        Conv2d(1, -1, 3)
    with pytest.raises(ConfigError, match="in_features=0"):
        Dense(0, 2)


def test_repr_tells_the_options():
    assert repr(Conv2d(1, 2, 3, padding=(1, 0), bias=False)) == (
        "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 0), bias=False)"
    )
    assert repr(Dense(3, 2)) == "Dense(3, 2, bias=True)"
