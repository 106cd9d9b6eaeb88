"""Relevance rules as plain matrices: the formulas of the literature, one sample at a time.

Every layer becomes a matrix, and every rule a few lines over its J x I table of contributions.
Nothing here is shared with the package.
"""

from __future__ import annotations

import numpy as np
import plain

from minifbi.layers import AvgPool2d, Conv2d, Dense, Dropout, Flatten, MaxPool2d, ReLU


def over(a, b):
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


def signed(eps, z):
    return eps * np.where(z >= 0, 1, -1)


def zero(x, w, b, r):
    return epsilon(x, w, b, r, 0.0)


def epsilon(x, w, b, r, eps):
    z = w @ x + b
    return (w * x * over(r, z + signed(eps, z))[:, None]).sum(axis=0)


def gamma(x, w, b, r, g):
    """Contributions of the sign of z count 1 + gamma times, those of the bias alike."""
    c, z = w * x, w @ x + b
    out = np.zeros_like(x)
    for j in range(len(z)):
        favoured = (c[j] > 0) if z[j] >= 0 else (c[j] < 0)
        own = (b[j] > 0) if z[j] >= 0 else (b[j] < 0)
        weighted = c[j] * (1 + g * favoured)
        out += over(weighted, weighted.sum() + b[j] * (1 + g * own)) * r[j]
    return out


def alpha_beta(x, w, b, r, alpha, beta):
    c = w * x
    up, down = np.maximum(c, 0), np.minimum(c, 0)
    for_, against = up.sum(1) + np.maximum(b, 0), down.sum(1) + np.minimum(b, 0)
    out = alpha * over(up, for_[:, None]) - beta * over(down, against[:, None])
    return out.T @ r


def w_square(x, w, b, r):
    return over(w**2, (w**2).sum(1, keepdims=True)).T @ r


def flat(x, w, b, r):
    seen = (w != 0).astype(float)  # the matrix of a convolution is 0 where nothing is seen
    return over(seen, seen.sum(1, keepdims=True)).T @ r


def z_box(x, w, b, r, low, high):
    v = w * x - low * np.maximum(w, 0) - high * np.minimum(w, 0)
    return over(v, v.sum(1, keepdims=True)).T @ r


def matrix(layer, shape):
    """Matrix and bias of a linear layer for one sample of `shape`."""
    if isinstance(layer, Dense):
        w = layer.weight.numpy()
    elif isinstance(layer, AvgPool2d):
        window = layer.kernel_size, layer.stride, layer.padding
        w = plain.matrix_of(lambda u: plain.avg_pool2d(u, *window), shape)
    else:
        own = layer.weight.numpy()
        w = plain.matrix_of(
            lambda u: plain.conv2d(u, own, None, layer.stride, layer.padding), shape
        )
    bias = getattr(layer, "bias", None)
    if bias is None:
        return w, np.zeros(len(w))
    return w, np.repeat(bias.numpy(), len(w) // bias.size)


def relevances(steps, ruled, start):
    """R at the input of every layer with weights, by its name.

    `ruled` maps the index of a step to a function of (x, w, b, R); `start` is R at the logits.
    """
    found, r = {}, start
    for index in reversed(range(len(steps))):
        step = steps[index]
        layer, x = step.layer, step.x.numpy()
        if isinstance(layer, Flatten):
            r = r.reshape(x.shape)
        elif isinstance(layer, MaxPool2d):
            window = layer.kernel_size, layer.stride, layer.padding
            r = np.array(
                [plain.max_pool_matrix(a, *window).T @ q.ravel() for a, q in zip(x, r, strict=True)]
            ).reshape(x.shape)
        elif isinstance(layer, (Conv2d, Dense, AvgPool2d)):
            w, b = matrix(layer, x.shape[1:])
            rule = ruled.get(index, zero)
            r = np.array(
                [rule(a.ravel(), w, b, q.ravel()) for a, q in zip(x, r, strict=True)]
            ).reshape(x.shape)
        else:
            assert isinstance(layer, (ReLU, Dropout))
        if layer.functional:
            found[step.name] = r
    return found
