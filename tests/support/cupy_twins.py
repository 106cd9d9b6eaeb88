"""The kernels of ``cupy_kernels.cu`` in NumPy: what each must compute, by the reference backend.

They get flat device memory and the numbers that the kernel gets, and write into its results.
"""

from __future__ import annotations

import numpy as np

from minifbi.backends import get_backend

REFERENCE = get_backend("numpy")


def _geometry(sizes):
    c, n, h, w, oh, ow, kh, kw, sh, sw, ph, pw = sizes
    return (c, n, h, w), (c, n, oh, ow), ((kh, kw), (sh, sw), (ph, pw))


def _first(flat, shape):
    """Memory (C, N, H, W) as the reference's (N, C, H, W)."""
    return flat.reshape(shape).transpose(1, 0, 2, 3)


def _write(out, value, shape):
    out.reshape(shape)[...] = value.transpose(1, 0, 2, 3)


def im2col(x, columns, *sizes):
    shape, _, window = _geometry(sizes)
    columns[...] = REFERENCE._im2col(_first(x, shape), *window)[0]


def col2im(columns, x, *sizes):
    shape, (c, n, oh, ow), (kernel, stride, padding) = _geometry(sizes)
    parts = (c, *kernel, n, oh, ow)
    _write(x, REFERENCE._col2im(columns, parts, stride, padding, shape[2:]), shape)


def max_pool(x, bias, out, winners, has_bias, rectified, *sizes):
    shape, small, window = _geometry(sizes)
    values = _first(x, shape)
    if has_bias:
        values = values + bias[:, None, None]
    if rectified:
        values = np.maximum(values, 0)
    maxima, places = REFERENCE.max_pool2d(values, *window)
    _write(out, maxima, small)
    _write(winners, places, small)


def max_scatter(g, a, winners, out, gated, *sizes):
    shape, small, window = _geometry(sizes)
    values = _first(g, small)
    if gated:
        values = np.where(_first(a, small) > 0, values, 0)
    found = REFERENCE.max_pool2d_scatter(values, _first(winners, small), *window, shape[2:])
    _write(out, found, shape)


def max_gather(x, a, winners, out, gated, *sizes):
    shape, small, window = _geometry(sizes)
    found = REFERENCE.max_pool2d_gather(_first(x, shape), _first(winners, small), *window)
    _write(out, np.where(_first(a, small) > 0, found, 0) if gated else found, small)


def avg_pool(x, out, *sizes):
    shape, small, window = _geometry(sizes)
    _write(out, REFERENCE.avg_pool2d(_first(x, shape), *window), small)


def avg_unpool(g, x, *sizes):
    shape, small, window = _geometry(sizes)
    _write(x, REFERENCE.avg_pool2d_transpose(_first(g, small), *window, shape[2:]), shape)


def bias_relu(z, bias, has_bias, each, total):
    rows = z.reshape(-1, each)
    if has_bias:
        rows += bias[:, None]
    np.maximum(rows, 0, out=rows)


def gate(g, a, out, total):
    out[...] = np.where(a > 0, g, 0)


def open_sums(g, a, sums, channels, each, parts):
    open_ = np.where(a > 0, g, 0).reshape(channels, each)
    for part in range(parts):
        sums[:, part] = open_[:, part::parts].sum(axis=1)


def l1_sums(x, ratio, sums, total, parts):
    padded = np.zeros(-(-total // parts) * parts, x.dtype)
    padded[:total] = np.abs(x - x * ratio).reshape(-1)
    sums[...] = padded.reshape(-1, parts).sum(axis=0)


def l1_gradients(x, ratio, scale, grad_x, grad_ratio, total):
    grad_x[...], grad_ratio[...] = REFERENCE.l1_difference_backward(x, ratio, scale)


def adam(p, g, mean, square, out, beta1, beta2, size, correction, eps, total):
    mean *= beta1
    mean += (1 - beta1) * g
    square *= beta2
    square += (1 - beta2) * g * g
    out[...] = p - size * mean / ((square / correction) ** 0.5 + eps)


def run(module, name, grid, block, arguments):
    """What :data:`strict_cupy.executor` is where nothing else is asked for."""
    with np.errstate(all="ignore"):  # a GPU warns of nothing
        globals()[name](*arguments)
