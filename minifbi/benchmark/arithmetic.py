"""How much arithmetic a step needs, and how fast this machine multiplies matrices."""

from __future__ import annotations

import time

import numpy as np

from minifbi.autograd import no_grad
from minifbi.backends import Backend, get_backend
from minifbi.layers import Conv2d, Dense, Sequential
from minifbi.switch import evaluating

STEPS = ("inference", "conventional", "fbi")


def multiply_adds(model: Sequential, input_shape: tuple[int, ...]) -> list[int]:
    """Multiply-adds of one sample's forward pass, one number per functional layer."""
    with evaluating(model), no_grad():  # running statistics stay as they are
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
    """Floating-point operations of one step, in 10^9; a multiply-add counts as two.

    If the forward pass takes F, inference takes F.  A conventional step takes 3F, minus the
    input gradient of the first layer, which is not needed.  An FBI step takes 3F more: one
    transposed map for the relevance pass, one map and one weight gradient for its adjoint
    (docs/three-steps.md).
    """
    counts = multiply_adds(model, input_shape)
    forward, first = sum(counts), counts[0]
    total = {"inference": forward, "conventional": 3 * forward - first, "fbi": 6 * forward - first}
    return 2e-9 * batch * total[step]


def matrix_product_peak(
    size: int | None = None, repeats: int = 7, backend: str | Backend = "numpy"
) -> float:
    """GFLOP/s of a backend's float32 matrix product, the best of several.

    Parameters
    ----------
    size : int, optional
        Rows and columns; 1536 if left out, and 8192 on a GPU, which small matrices cannot fill.
    repeats : int
        How many products are timed; the fastest counts.
    backend : str or Backend
        Where the product runs.
    """
    backend = get_backend(backend)
    size = size or (8192 if backend.asynchronous else 1536)
    rng = np.random.default_rng(0)
    a, b = (backend.asarray(rng.standard_normal((size, size), dtype=np.float32)) for _ in range(2))
    if backend.asynchronous:
        a @ b  # the first one loads the library
    best = np.inf
    for _ in range(repeats):
        backend.synchronize()
        begin = time.perf_counter()
        a @ b
        backend.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2e-9 * size**3 / best
