"""Slow and plain: what the layers should compute, in loops that read like the definitions."""

from __future__ import annotations

import itertools

import numpy as np


def positions(size, kernel, stride, padding):
    """Output place (i, j), and the rows and columns of the padded input under its window."""
    height, width = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    for i, j in itertools.product(range(height), range(width)):
        rows = slice(i * stride[0], i * stride[0] + kernel[0])
        columns = slice(j * stride[1], j * stride[1] + kernel[1])
        yield (i, j), rows, columns


def output_shape(size, kernel, stride, padding):
    """Height and width of the output: one more than the last place."""
    *_, (last, _, _) = positions(size, kernel, stride, padding)
    return last[0] + 1, last[1] + 1


def with_border(x, padding, value):
    """x (N, C, H, W) inside a border of `value`."""
    n, c, h, w = x.shape
    (ph, pw) = padding
    out = np.full((n, c, h + 2 * ph, w + 2 * pw), value, x.dtype)
    out[:, :, ph : ph + h, pw : pw + w] = x
    return out


def conv2d(x, weight, bias, stride, padding):
    """Cross-correlation with zero padding."""
    kernel = weight.shape[2:]
    padded = with_border(x, padding, 0.0)
    z = np.zeros((x.shape[0], weight.shape[0], *output_shape(x.shape[2:], kernel, stride, padding)))
    for (i, j), rows, columns in positions(x.shape[2:], kernel, stride, padding):
        for o in range(weight.shape[0]):
            z[:, o, i, j] = (padded[:, :, rows, columns] * weight[o]).sum(axis=(1, 2, 3))
            z[:, o, i, j] += 0.0 if bias is None else bias[o]
    return z


def max_pool2d(x, kernel, stride, padding):
    """Maximum of each window, and the (row, column) in x that it came from: first of equals."""
    n, c, h, w = x.shape
    shape = (n, c, *output_shape((h, w), kernel, stride, padding))
    z, source = np.zeros(shape), np.zeros((*shape, 2), int)
    for (i, j), rows, columns in positions((h, w), kernel, stride, padding):
        for sample, channel in itertools.product(range(n), range(c)):
            best = None
            for row, column in itertools.product(
                range(rows.start - padding[0], rows.stop - padding[0]),
                range(columns.start - padding[1], columns.stop - padding[1]),
            ):
                if not (0 <= row < h and 0 <= column < w):
                    continue  # padding never wins
                value = x[sample, channel, row, column]
                if best is None or value > best:
                    best = value
                    z[sample, channel, i, j] = value
                    source[sample, channel, i, j] = row, column
    return z, source


def avg_pool2d(x, kernel, stride, padding):
    """Mean of each window; the zeros of the padding count."""
    padded = with_border(x, padding, 0.0)
    z = np.zeros((*x.shape[:2], *output_shape(x.shape[2:], kernel, stride, padding)))
    for (i, j), rows, columns in positions(x.shape[2:], kernel, stride, padding):
        z[:, :, i, j] = padded[:, :, rows, columns].sum(axis=(2, 3)) / (kernel[0] * kernel[1])
    return z


def matrix_of(linear, shape):
    """The matrix M of a linear map of one sample: column k is the image of unit vector k."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return linear(units).reshape(len(units), -1).T


def max_pool_matrix(x, kernel, stride, padding):
    """The matrix that picks the winners of one sample x (C, H, W)."""
    c, h, w = x.shape
    _, source = max_pool2d(x[None], kernel, stride, padding)
    places = source[0]  # (C, OH, OW, 2)
    channel = np.arange(c)[:, None, None]
    columns = (channel * h + places[..., 0]) * w + places[..., 1]
    matrix = np.zeros((columns.size, x.size))
    matrix[np.arange(columns.size), columns.ravel()] = 1
    return matrix
