"""Elementwise passes of the relevance pass, each over flat arrays in one go.

NumPy would write every intermediate result to memory and read it back.  A sum is
cut into pieces of a fixed size, so that it is added in the same order whatever the
number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numba

from minifbi.backends.numba_kernels.jit import Kernel, jit

Array = Any
PIECE = 4096


@jit(reorder=True)
def _piece_difference(x: Array, ratio: Array) -> float:
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += abs(x[i] - x[i] * ratio[i])
    return total


@Kernel
def l1_difference(x: Array, ratio: Array, sums: Array) -> None:
    """Sum of |x - x * ratio| over each piece of PIECE numbers, into `sums`."""
    for piece in numba.prange(sums.shape[0]):
        part = slice(piece * PIECE, min((piece + 1) * PIECE, x.shape[0]))
        sums[piece] = _piece_difference(x[part], ratio[part])


@jit
def _piece_difference_backward(
    scale: float, x: Array, ratio: Array, grad_x: Array, grad_ratio: Array
) -> None:
    zero, one = x.dtype.type(0), x.dtype.type(1)  # a plain 1 would make it float64
    for i in range(x.shape[0]):
        difference = x[i] - x[i] * ratio[i]
        # the last is 0, or NaN, which must stay
        sigma = scale if difference > zero else (-scale if difference < zero else difference)
        grad_x[i] = sigma * (one - ratio[i])
        grad_ratio[i] = -sigma * x[i]


@Kernel
def l1_difference_backward(
    scale: float, x: Array, ratio: Array, grad_x: Array, grad_ratio: Array
) -> None:
    """sigma = sign(x - x * ratio) * scale, times 1 - ratio and times -x."""
    for piece in numba.prange((x.shape[0] + PIECE - 1) // PIECE):
        part = slice(piece * PIECE, min((piece + 1) * PIECE, x.shape[0]))
        _piece_difference_backward(scale, x[part], ratio[part], grad_x[part], grad_ratio[part])


@jit(reorder=True)
def _open_sum(g: Array, a: Array) -> float:
    total = g.dtype.type(0)
    zero = g.dtype.type(0)
    for i in range(g.shape[0]):
        value = g[i]
        total += value if a[i] > 0 else zero
    return total


@Kernel
def open_sums(g: Array, a: Array, sums: Array) -> None:
    """For each channel and row of (C, H, W, N), the sum of g where a > 0."""
    channels, rows = sums.shape
    size = g.shape[2] * g.shape[3]
    flat_g, flat_a = g.reshape(-1), a.reshape(-1)
    for item in numba.prange(channels * rows):
        part = slice(item * size, (item + 1) * size)
        sums[item // rows, item % rows] = _open_sum(flat_g[part], flat_a[part])


@jit
def _piece_gate(g: Array, a: Array, out: Array) -> None:
    zero = g.dtype.type(0)
    for i in range(g.shape[0]):
        value = g[i]
        out[i] = value if a[i] > 0 else zero


@Kernel
def gate(g: Array, a: Array, out: Array) -> None:
    """g where a > 0, else 0."""
    for piece in numba.prange((g.shape[0] + PIECE - 1) // PIECE):
        part = slice(piece * PIECE, min((piece + 1) * PIECE, g.shape[0]))
        _piece_gate(g[part], a[part], out[part])


@jit
def _piece_add(a: Array, b: Array, out: Array) -> None:
    for i in range(a.shape[0]):
        out[i] = a[i] + b[i]


@Kernel
def add(a: Array, b: Array, out: Array) -> None:
    """a + b."""
    for piece in numba.prange((a.shape[0] + PIECE - 1) // PIECE):
        part = slice(piece * PIECE, min((piece + 1) * PIECE, a.shape[0]))
        _piece_add(a[part], b[part], out[part])


@jit
def _piece_multiply(a: Array, b: Array, out: Array) -> None:
    for i in range(a.shape[0]):
        out[i] = a[i] * b[i]


@Kernel
def multiply(a: Array, b: Array, out: Array) -> None:
    """a * b."""
    for piece in numba.prange((a.shape[0] + PIECE - 1) // PIECE):
        part = slice(piece * PIECE, min((piece + 1) * PIECE, a.shape[0]))
        _piece_multiply(a[part], b[part], out[part])


@jit
def _piece_adam(
    p: Array, g: Array, mean: Array, square: Array, numbers: tuple[float, ...], out: Array
) -> None:
    real = p.dtype.type
    beta1, rest1, beta2, rest2, size, correction, eps = numbers
    for i in range(p.shape[0]):
        m = mean[i] * real(beta1) + real(rest1) * g[i]
        s = square[i] * real(beta2) + real(rest2) * g[i] * g[i]
        mean[i] = m
        square[i] = s
        out[i] = p[i] - real(size) * m / (math.sqrt(s / real(correction)) + real(eps))


@Kernel
def adam(
    p: Array, g: Array, mean: Array, square: Array, numbers: tuple[float, ...], out: Array
) -> None:
    """Adam's step; `numbers` are b1, 1 - b1, b2, 1 - b2, lr / (1 - b1^t), 1 - b2^t and eps."""
    for piece in numba.prange((p.shape[0] + PIECE - 1) // PIECE):
        part = slice(piece * PIECE, min((piece + 1) * PIECE, p.shape[0]))
        _piece_adam(p[part], g[part], mean[part], square[part], numbers, out[part])


# ---- one number per channel ------------------------------------------------------------------
@jit
def _piece_scale_shift(x: Array, scale: float, shift: float, out: Array) -> None:
    for i in range(x.shape[0]):
        out[i] = x[i] * scale + shift


@Kernel
def scale_shift(x: Array, scale: Array, shift: Array, out: Array) -> None:
    """x (C, size) times `scale` (C,) plus `shift` (C,)."""
    channels, size = x.shape
    pieces = (size + PIECE - 1) // PIECE
    for item in numba.prange(channels * pieces):
        c = item // pieces
        begin = item % pieces * PIECE
        part = slice(begin, min(begin + PIECE, size))
        _piece_scale_shift(x[c, part], scale[c], shift[c], out[c, part])


@jit(reorder=True)
def _piece_sums(g: Array, x: Array) -> tuple[float, float]:
    total, product = g.dtype.type(0), g.dtype.type(0)
    for i in range(g.shape[0]):
        total += g[i]
        product += g[i] * x[i]
    return total, product


@Kernel
def channel_sums(g: Array, x: Array, sums: Array) -> None:
    """Sums of g and of g * x over each piece of a channel of (C, size), into (C, pieces, 2)."""
    channels, pieces, _ = sums.shape
    size = g.shape[1]
    for item in numba.prange(channels * pieces):
        c = item // pieces
        p = item % pieces
        part = slice(p * PIECE, min((p + 1) * PIECE, size))
        sums[c, p, 0], sums[c, p, 1] = _piece_sums(g[c, part], x[c, part])
