"""How much arithmetic a step is, and how fast this machine multiplies matrices."""

from __future__ import annotations

import time

import numpy as np

from minifbi.autograd import no_grad
from minifbi.layers import Conv2d, Dense, Sequential

STEPS = ("inference", "conventional", "fbi")


def multiply_adds(model: Sequential, input_shape: tuple[int, ...]) -> list[int]:
    """Multiply-adds of the forward pass of one sample, a number a functional layer."""
    with no_grad():
        steps = model.trace(np.zeros((1, *input_shape)))
    counts = []
    for step in steps:
        if isinstance(step.layer, Conv2d):
            pixels = step.z.shape[2] * step.z.shape[3]
            counts.append(pixels * step.layer.weight.size)
        elif isinstance(step.layer, Dense):
            counts.append(step.layer.weight.size)
    return counts


def step_gflop(model: Sequential, input_shape: tuple[int, ...], batch: int, step: str) -> float:
    """Floating-point operations of one step, in 10^9: a multiply-add counts as two.

    With F the forward pass: inference F; conventional 3F, less the input gradient
    of the first layer, that nobody needs; FBI 3F more: one transposed map for the relevance
    pass, one map and one weight gradient for its adjoint (docs/three-steps.md).
    """
    counts = multiply_adds(model, input_shape)
    forward, first = sum(counts), counts[0]
    total = {"inference": forward, "conventional": 3 * forward - first, "fbi": 6 * forward - first}
    return 2e-9 * batch * total[step]


def matrix_product_peak(size: int = 1536, repeats: int = 7) -> float:
    """GFLOP/s of NumPy's float32 matrix product, the best of several."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    best = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return 2e-9 * size**3 / best
