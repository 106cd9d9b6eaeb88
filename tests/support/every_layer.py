"""Every kind of layer that the package has, in random geometries, for tests that hold for all.

`KINDS` is read from the package.  A new kind that has no entry in `GEOMETRIES` fails
``test_numerics.py::test_every_layer_is_here``.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minifbi.layers
from minifbi.backends import get_backend, output_size
from minifbi.fusion import ConvBlock
from minifbi.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.layers.sequential import Sum


def _subclasses(kind: type) -> set[type]:
    return {kind}.union(*(_subclasses(k) for k in kind.__subclasses__()))


def kinds() -> list[type[Layer]]:
    """All layers of the package that compute something, by name."""
    for module in pkgutil.iter_modules(minifbi.layers.__path__, "minifbi.layers."):
        importlib.import_module(module.name)
    return sorted(
        (
            kind
            for kind in _subclasses(Layer) - {Layer, Sum}  # a sum has two inputs, see Residual
            if kind.__module__.startswith("minifbi.") and {"forward", "trace"} & vars(kind).keys()
        ),
        key=lambda kind: kind.__name__,
    )


@dataclass
class Case:
    """A layer that can be built on any backend, and the shape of one sample for it."""

    build: Callable[[str, Any], Layer]
    shape: tuple[int, ...]

    def layer(
        self,
        backend: str,
        dtype: Any,
        weights: np.random.Generator | None = None,
        fill: str = "integers",
    ) -> Layer:
        """The layer; with `weights`, its parameters are small integers, the biases to scale."""
        layer = self.build(backend, dtype)
        for name, p in layer.parameters().items() if weights is not None else ():
            values = weights.integers(-3, 4, p.shape).astype(np.float64)
            if name.endswith("bias"):  # beside numbers of another scale it would be rounded away
                values = np.ldexp(values, power_of(fill, dtype))
            p.data = get_backend(backend).asarray(values.astype(dtype))
        return layer


def _pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _fitting(draw: Any, kernel: Any, padding: Any, most: int = 7) -> tuple[int, int]:
    """A map that the window fits on."""
    return tuple(
        draw(st.integers(max(1, k - 2 * p), most)) for k, p in zip(kernel, padding, strict=True)
    )


def _conv(draw: Any, bias: bool) -> tuple[Callable[..., Conv2d], tuple[int, ...], tuple[int, int]]:
    kernel, stride, padding = draw(_pairs(1, 4)), draw(_pairs(1, 3)), draw(_pairs(0, 2))
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    size = _fitting(draw, kernel, padding)

    def build(backend: str, dtype: Any) -> Conv2d:
        return Conv2d(
            channels, filters, kernel, stride, padding, bias, rng=1, backend=backend, dtype=dtype
        )

    return build, (channels, *size), output_size(size, kernel, stride, padding)


def conv(draw: Any, bias: bool) -> Case:
    return Case(*_conv(draw, bias)[:2])


def block(draw: Any, bias: bool) -> Case:
    """Convolution, ReLU and, now and then, pooling: overlapping, apart, or with a border."""
    build, shape, size = _conv(draw, bias)
    pool = None
    if draw(st.booleans()):
        kernel = tuple(draw(st.integers(1, min(3, n))) for n in size)
        pool = (kernel, draw(_pairs(1, 3)), tuple(draw(st.integers(0, k // 2)) for k in kernel))
    return Case(
        lambda b, d: ConvBlock(build(b, d), ("pool", MaxPool2d(*pool)) if pool else None), shape
    )


def dense(draw: Any, bias: bool) -> Case:
    features, units = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    return Case(lambda b, d: Dense(features, units, bias, rng=1, backend=b, dtype=d), (features,))


def pooling(kind: type[Layer]) -> Callable[[Any, bool], Case]:
    def case(draw: Any, bias: bool) -> Case:
        kernel, stride = draw(_pairs(1, 4)), draw(_pairs(1, 3))
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        shape = (draw(st.integers(1, 3)), *_fitting(draw, kernel, padding))
        return Case(lambda b, d: kind(kernel, stride, padding), shape)

    return case


def without_weights(build: Callable[[], Layer]) -> Callable[[Any, bool], Case]:
    def case(draw: Any, bias: bool) -> Case:
        return Case(lambda b, d: build(), (draw(st.integers(1, 3)), *draw(_pairs(1, 6))))

    return case


class _Frozen(BatchNorm2d):
    """In evaluation mode whatever happens: each sample by itself, and nothing is rounded."""

    def train(self, mode: bool = True) -> BatchNorm2d:
        return super().train(False)


def batchnorm(draw: Any, bias: bool) -> Case:
    """Its affine map; the statistics of a batch are for test_batchnorm.py."""
    channels = draw(st.integers(1, 3))
    build = functools.partial(_Frozen, channels, eps=0)
    return Case(lambda b, d: build(backend=b, dtype=d).eval(), (channels, *draw(_pairs(1, 6))))


def chain(draw: Any, bias: bool) -> Case:
    """Every kind once, the outer two in a chain inside a chain."""
    size = draw(_pairs(4, 7))
    features = 3 * math.prod((n // 2 - 1) for n in size)

    def build(backend: str, dtype: Any) -> Sequential:
        options = {"bias": bias, "rng": 1, "backend": backend, "dtype": dtype}
        return Sequential(
            Sequential(Conv2d(1, 3, 3, padding=1, **options), ReLU(), MaxPool2d(2)),
            AvgPool2d(2, 1),
            Sequential(Flatten(), Dense(features, 4, **options)),
        )

    return Case(build, (1, *size))


def residual(draw: Any, bias: bool) -> Case:
    """A chain with a shortcut, with a convolution in it or without."""
    size, aside, channels = draw(_pairs(3, 6)), draw(st.booleans()), draw(st.integers(1, 3))
    filters = draw(st.integers(1, 3)) if aside else channels

    def build(backend: str, dtype: Any) -> Residual:
        options = {"bias": bias, "rng": 1, "backend": backend, "dtype": dtype}
        return Residual(
            Conv2d(channels, 2, 3, padding=1, **options),
            ReLU(),
            Conv2d(2, filters, 1, **options),
            shortcut=Conv2d(channels, filters, 1, **options) if aside else None,
        )

    return Case(build, (channels, *size))


GEOMETRIES: dict[str, Callable[[Any, bool], Case]] = {
    "AvgPool2d": pooling(AvgPool2d),
    "BatchNorm2d": batchnorm,
    "Conv2d": conv,
    "ConvBlock": block,
    "Dense": dense,
    "Dropout": without_weights(lambda: Dropout(0.5, rng=3)),
    "Flatten": without_weights(Flatten),
    "GlobalAvgPool2d": without_weights(GlobalAvgPool2d),
    "LeakyReLU": without_weights(lambda: LeakyReLU(0.25)),
    "MaxPool2d": pooling(MaxPool2d),
    "ReLU": without_weights(ReLU),
    "Residual": residual,
    "Sequential": chain,
}
KINDS = [kind.__name__ for kind in kinds()]


@st.composite
def cases(draw: Any, kind: str, bias: bool | None = None) -> Case:
    """A layer of a kind."""
    return GEOMETRIES[kind](draw, draw(st.booleans()) if bias is None else bias)


# ---- arrays of every sort --------------------------------------------------------------------
def _unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    out = raw[1:].view(x.dtype).reshape(x.shape) if x.size else x
    out[...] = x
    return out


def _frozen(x: np.ndarray) -> np.ndarray:
    out = x.copy()
    out.flags.writeable = False
    return out


def _batch_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda x: x.copy(),
    "Fortran": np.asfortranarray,
    "batch last": _batch_last,
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=-1)[::2, ..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1],
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape) if (x == x[:1]).all() else x.copy(),
    "unaligned": _unaligned,
    "read only": _frozen,
}
FILLS = ("integers", "zeros", "constant", "huge", "tiny", "denormal", "mixed")


def power_of(fill: str, dtype: Any) -> int:
    """The power of two of a filling."""
    info = np.finfo(dtype)
    return {
        "huge": info.maxexp - 26,
        "tiny": info.minexp + 8,
        "denormal": info.minexp - info.nmant,  # the smallest number that there is
    }.get(fill, 0)


def numbers(rng: np.random.Generator, fill: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Small integers times powers of two: all that layers make of them is exact.

    Sums of products of such numbers need no rounding, so that backends, memory orders and batch
    sizes must agree to the last bit, and conservation must hold to the last bit too.
    """
    values = rng.integers(-4, 5, shape).astype(np.float64)
    if fill == "zeros":
        values[...] = 0
    elif fill == "constant":
        values[...] = 3
    elif fill == "mixed" and len(values):  # one sample at another scale
        values[0] *= 2.0**-9
    return np.ldexp(values, power_of(fill, dtype)).astype(dtype)
