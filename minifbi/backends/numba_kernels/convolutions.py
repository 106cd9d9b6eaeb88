"""The closed trio, and convolution with max-pooling: which plan is for which arrays.

Each function checks that its arrays belong together, since a kernel checks no bounds, and
gives the plan; None where the reference must do it, for arrays that are empty or of other
types.
"""

from __future__ import annotations

from typing import Any

from minifbi.backends.base import Pair, output_size
from minifbi.backends.numba_kernels import columns, direct
from minifbi.backends.numba_kernels.launch import FLOATS, DType, Shape, planned
from minifbi.errors import ShapeError

Plan = Any
DTypes = tuple[DType, DType]


def _compiled(dtypes: DTypes, *lengths: int) -> bool:
    """Whether the kernels take such arrays: one floating dtype, and not empty."""
    return dtypes[0] in FLOATS and dtypes[0] == dtypes[1] and min(lengths) > 0


def _few(batch: int, size: Pair) -> bool:
    """Whether the batch is so small that its pixels should be columns."""
    return batch <= columns.SAMPLES < batch * size[0] * size[1] <= columns.PIXELS


@planned
def forward(
    x_shape: Shape, weight_shape: Shape, dtypes: DTypes, stride: Pair, padding: Pair
) -> Plan | None:
    """Plan of ``conv2d``, with bias and ReLU if asked."""
    if not _compiled(dtypes, *x_shape, *weight_shape):
        return None
    size = output_size(x_shape[2:], weight_shape[2:], stride, padding)
    if x_shape[1] != weight_shape[1] or min(size) < 1:
        raise ShapeError(f"conv2d: an input of shape {x_shape} and a weight of {weight_shape}")
    plans = columns if _few(x_shape[0], size) else direct
    return plans.forward_plan(x_shape, weight_shape, dtypes[0], stride, padding)


@planned
def transpose(
    g_shape: Shape,
    weight_shape: Shape,
    dtypes: DTypes,
    stride: Pair,
    padding: Pair,
    size: Pair,
    window: tuple[int, ...] | None = None,
) -> Plan | None:
    """Plan of ``conv2d_transpose``; `window` is that of an Unpooled g."""
    if not _compiled(dtypes, *g_shape, weight_shape[1], *size):
        return None
    if g_shape[1] != weight_shape[0]:
        raise ShapeError(f"conv2d_transpose: a g of shape {g_shape}, a weight of {weight_shape}")
    if window is None and _few(g_shape[0], g_shape[2:]):
        return columns.transpose_plan(g_shape, weight_shape, dtypes[0], stride, padding, size)
    return direct.transpose_plan(g_shape, weight_shape, dtypes[0], stride, padding, size, window)


@planned
def weight_gradient(
    x_shape: Shape,
    g_shape: Shape,
    dtypes: DTypes,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    window: tuple[int, ...] | None = None,
) -> Plan | None:
    """Plan of ``conv2d_weight``; `window` is that of an Unpooled g."""
    if not _compiled(dtypes, *x_shape, *g_shape):
        return None
    size = output_size(x_shape[2:], kernel, stride, padding)
    if g_shape[0] != x_shape[0] or g_shape[2:] != size:
        raise ShapeError(
            f"conv2d_weight: an x of shape {x_shape} and a g of {g_shape}, with kernel {kernel}, "
            f"stride {stride}, padding {padding}"
        )
    if window is None and _few(x_shape[0], size):
        return columns.weight_plan(x_shape, g_shape, dtypes[0], kernel, stride, padding)
    return direct.weight_plan(x_shape, g_shape, dtypes[0], kernel, stride, padding, window)


@planned
def pooled(
    x_shape: Shape,
    weight_shape: Shape,
    dtypes: DTypes,
    stride: Pair,
    padding: Pair,
    kernel: Pair,
    pool_stride: Pair,
) -> Plan | None:
    """Plan of convolution and max-pooling by windows that do not overlap."""
    if forward(x_shape, weight_shape, dtypes, stride, padding) is None:
        return None
    size = output_size(x_shape[2:], weight_shape[2:], stride, padding)
    if min(output_size(size, kernel, pool_stride, (0, 0))) < 1:
        raise ShapeError(f"conv2d_relu_pool: windows of {kernel} do not fit into maps of {size}")
    plans = columns if _few(x_shape[0], size) else direct
    return plans.pooled_plan(x_shape, weight_shape, dtypes[0], stride, padding, kernel, pool_stride)
