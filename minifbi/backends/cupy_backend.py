"""On an NVIDIA GPU: the same kernels through CuPy.

Most of it is the numpy backend's own code, which asks nothing of its arrays but NumPy's
interface, and CuPy's arrays have that.  What is written here again is what would be slow: where
the reference makes an array of every window, or one after the other several passes over a map,
one kernel of ``cupy_kernels.cu`` does it in one go.  The matrix products are cuBLAS's.

Arrays keep the logical shape (N, C, H, W), but in memory the *channel* comes first:
(C, N, H, W).  That is the order in which weights (O, C*kh*kw) times windows
(C*kh*kw, N*OH*OW) leave their result, so that no map of a network is ever transposed.

Nothing here waits for the GPU, but ``to_numpy``, ``scalars`` and ``synchronize``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.backends.base import Array, Pair, Window, output_size
from minifbi.backends.numpy_backend import NumpyBackend

C_TYPES = {"f": "float", "d": "double"}
THREADS, BLOCKS = 256, 8192  # of a launch; the kernels loop where an array has more elements
NARROW = 2**31 - 2 * THREADS * BLOCKS  # up to here an int counts, one turn of the loop included
SUMS = 2**16  # threads that share a sum over a large array; CuPy adds up what they found


def kernel_source(real: str, index: str) -> str:
    """CUDA source of all kernels.

    Parameters
    ----------
    real : {"float", "double"}
    index : {"int", "long long"}
        Type of the indices: "long long" for arrays of 2^31 elements or more.
    """
    text = Path(__file__).with_name("cupy_kernels.cu").read_text(encoding="utf-8")
    return f"typedef {real} T;\ntypedef {index} I;\n{text}"


class CupyBackend(NumpyBackend):
    """The kernels of :class:`NumpyBackend`, on a GPU.

    Parameters
    ----------
    cupy : module
        CuPy, which only :func:`minifbi.backends.get_backend` imports.
    """

    name = "cupy"
    asynchronous = True
    fuses = True

    def __init__(self, cupy: Any) -> None:
        self.xp = cupy
        self._kernels: dict[tuple[str, str, bool], Any] = {}
        self._modules: dict[tuple[str, bool], Any] = {}
        self._kept: tuple[Array, tuple[Any, ...], Array] | None = None

    # ---- moving arrays ---------------------------------------------------------------
    def to_numpy(self, array: Array) -> Any:
        return self.xp.asnumpy(array)

    def images(self, array: Any, dtype: Any) -> Array:
        images = self.asarray(array, dtype)
        return self._batch_first(self._maps(images)) if images.ndim == 4 else images

    def scalars(self, arrays: Sequence[Array]) -> list[float]:
        return self.to_numpy(self.xp.stack(list(arrays))).tolist() if arrays else []

    def synchronize(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def free_memory(self) -> int:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    # ---- running kernels -------------------------------------------------------------
    def _maps(self, x: Array) -> Array:
        """x (N, C, H, W) as a contiguous (C, N, H, W): copied only where it is not so already."""
        return self.xp.ascontiguousarray(x.transpose(1, 0, 2, 3))

    def _batch_first(self, maps: Array) -> Array:
        """(C, N, H, W) in memory as the (N, C, H, W) that everyone else sees."""
        return maps.transpose(1, 0, 2, 3)

    def _stored(self, *arrays: Array) -> list[Array]:
        """Arrays of one shape as they lie in memory: element k of one belongs to that of all."""
        if arrays[0].ndim == 4:
            return [self._maps(array) for array in arrays]
        return [self.xp.ascontiguousarray(array) for array in arrays]

    def _as_given(self, stored: Array) -> Array:
        return self._batch_first(stored) if stored.ndim == 4 else stored

    def _kernel(self, name: str, code: str, wide: bool) -> Any:
        """A kernel, compiled when it is first wanted (CuPy keeps it on disk)."""
        if (code, wide) not in self._modules:
            source = kernel_source(C_TYPES[code], "long long" if wide else "int")
            self._modules[code, wide] = self.xp.RawModule(code=source, options=("-std=c++14",))
        kernel = self._modules[code, wide].get_function(name)
        self._kernels[name, code, wide] = kernel
        return kernel

    def _run(self, name: str, total: int, *arguments: Any) -> None:
        """Queue a kernel with a thread for each of `total` elements.

        Arrays must be contiguous, since a kernel gets a pointer; numbers must be plain
        int and float, which CuPy passes as long long and double.
        """
        if total == 0:
            return
        sizes = [array.size for array in arguments if not isinstance(array, (int, float))]
        wide = max(total, *sizes) > NARROW
        code = arguments[0].dtype.char
        kernel = self._kernels.get((name, code, wide)) or self._kernel(name, code, wide)
        kernel((min(-(-total // THREADS), BLOCKS),), (THREADS,), arguments)

    def _empty(self, shape: tuple[int, ...], like: Array) -> Array:
        return self.xp.empty(shape, dtype=like.dtype)

    # ---- the closed trio: the reference's matrix products over these two ----------------
    def _im2col(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Pair]:
        geometry = (tuple(kernel), tuple(stride), tuple(padding))
        kept, self._kept = self._kept, None
        n, c, h, w = x.shape
        oh, ow = output_size((h, w), kernel, stride, padding)
        if kept is not None and kept[0] is x and kept[1] == geometry:
            return kept[2], (oh, ow)
        columns = self._empty((c * kernel[0] * kernel[1], n * oh * ow), x)
        sizes = (c, n, h, w, oh, ow, *kernel, *stride, *padding)
        self._run("im2col", columns.size, self._maps(x), columns, *sizes)
        return columns, (oh, ow)

    def _col2im(
        self, columns: Array, shape: tuple[int, ...], stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        c, kh, kw, n, oh, ow = shape
        out = self._empty((c, n, *size), columns)
        sizes = (c, n, *size, oh, ow, kh, kw, *stride, *padding)
        self._run("col2im", out.size, self.xp.ascontiguousarray(columns), out, *sizes)
        return self._batch_first(out)

    # ---- pooling ---------------------------------------------------------------------
    def _sizes(self, n: int, c: int, size: Pair, window: Window) -> tuple[int, ...]:
        """What the kernels want to know about windows."""
        kernel, stride, padding = window
        return (c, n, *size, *output_size(size, *window), *kernel, *stride, *padding)

    def _max_pool(
        self, x: Array, bias: Array | None, rectified: bool, window: Window
    ) -> tuple[Array, Array]:
        n, c, *size = x.shape
        sizes = self._sizes(n, c, tuple(size), window)
        out = self._empty((c, n, *sizes[4:6]), x)
        winners = self.xp.empty(out.shape, dtype=np.uint32)
        maps = self._maps(x)
        shift = maps if bias is None else self.xp.ascontiguousarray(bias)
        flags = (int(bias is not None), int(rectified))
        self._run("max_pool", out.size, maps, shift, out, winners, *flags, *sizes)
        return self._batch_first(out), self._batch_first(winners)

    def _scatter(
        self, g: Array, a: Array | None, winners: Array, window: Window, size: Pair
    ) -> Array:
        n, c = g.shape[:2]
        maps, out = self._maps(g), self._empty((c, n, *size), g)
        gates = maps if a is None else self._maps(a)
        self._run(
            "max_scatter",
            out.size,
            *(maps, gates, self._maps(winners), out, int(a is not None)),
            *self._sizes(n, c, size, window),
        )
        return self._batch_first(out)

    def _gather(self, x: Array, a: Array | None, winners: Array, window: Window) -> Array:
        n, c, *size = x.shape
        maps, out = self._maps(x), self._empty((c, n, *winners.shape[2:]), x)
        gates = maps if a is None else self._maps(a)
        self._run(
            "max_gather",
            out.size,
            *(maps, gates, self._maps(winners), out, int(a is not None)),
            *self._sizes(n, c, tuple(size), window),
        )
        return self._batch_first(out)

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        return self._max_pool(x, None, False, (kernel, stride, padding))

    def max_pool2d_scatter(
        self, g: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        return self._scatter(g, None, winners, (kernel, stride, padding), size)

    def max_pool2d_gather(
        self, x: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> Array:
        return self._gather(x, None, winners, (kernel, stride, padding))

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        n, c, *size = x.shape
        sizes = self._sizes(n, c, tuple(size), (kernel, stride, padding))
        out = self._empty((c, n, *sizes[4:6]), x)
        self._run("avg_pool", out.size, self._maps(x), out, *sizes)
        return self._batch_first(out)

    def avg_pool2d_transpose(
        self, g: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        n, c = g.shape[:2]
        out = self._empty((c, n, *size), g)
        sizes = self._sizes(n, c, size, (kernel, stride, padding))
        self._run("avg_unpool", out.size, self._maps(g), out, *sizes)
        return self._batch_first(out)

    # ---- fused kernels ---------------------------------------------------------------
    def conv2d_relu_pool(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        window: Window | None,
    ) -> tuple[Array, Array | None]:
        z = self.conv2d(x, weight, stride, padding)
        if window:
            return self._max_pool(z, bias, True, window)
        maps = self._maps(z)  # as the product left it, and ours alone: changed in place
        shift = maps if bias is None else self.xp.ascontiguousarray(bias)
        each = maps.size // max(len(maps), 1)
        self._run("bias_relu", maps.size, maps, shift, int(bias is not None), each, maps.size)
        return self._batch_first(maps), None

    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        return self._scatter(g, a, winners, window, size) if window else self._gate(g, a)

    def _gate(self, g: Array, a: Array) -> Array:
        g, a = self._stored(g, a)
        out = self._empty(g.shape, g)
        self._run("gate", out.size, g, a, out, out.size)
        return self._as_given(out)

    def bias_gradient(self, g: Array, a: Array) -> Array:
        g, a = self._stored(g, a)
        channels = len(g)
        each = g.size // max(channels, 1)
        parts = min(each, max(SUMS // max(channels, 1), 1))
        sums = self._empty((channels, parts), g)
        self._run("open_sums", sums.size, g, a, sums, channels, each, parts)
        return sums.sum(axis=1)

    def conv2d_gather(
        self,
        u: Array,
        weight: Array,
        stride: Pair,
        padding: Pair,
        a: Array,
        winners: Array | None,
        window: Window | None,
    ) -> Array:
        kernel = weight.shape[2:]
        columns, _ = self._im2col(u, kernel, stride, padding)
        # conv2d takes these, and so does the weight gradient, which comes next and reads the
        # same windows of u: the largest array of the step is written once
        kept = (u, (tuple(kernel), tuple(stride), tuple(padding)), columns)
        self._kept = kept
        z = self.conv2d(u, weight, stride, padding)
        self._kept = kept
        return self._gather(z, a, winners, window) if window else self._gate(z, a)

    def l1_difference(self, x: Array, ratio: Array) -> Array:
        x, ratio = self._stored(x, ratio)
        sums = self._empty((min(x.size, SUMS),), x)
        self._run("l1_sums", sums.size, x, ratio, sums, x.size, sums.size)
        return sums.sum()

    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        x, ratio = self._stored(x, ratio)
        grad_x, grad_ratio = self._empty(x.shape, x), self._empty(x.shape, x)
        scale = self.xp.asarray(scale, dtype=x.dtype)
        self._run("l1_gradients", x.size, x, ratio, scale, grad_x, grad_ratio, x.size)
        return self._as_given(grad_x), self._as_given(grad_ratio)

    def add(self, a: Array, b: Array) -> Array:
        a, b = self._stored(a, b)
        return self._as_given(a + b)

    def multiply(self, a: Array, b: Array) -> Array:
        if a.ndim == 0:
            return self.xp.asarray(a * b)
        a, b = self._stored(a, b)
        return self._as_given(a * b)

    def adam(
        self,
        p: Array,
        grad: Array,
        mean: Array,
        square: Array,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        t: int,
    ) -> Array:
        p, grad = self.xp.ascontiguousarray(p), self.xp.ascontiguousarray(grad)
        b1, b2 = betas
        numbers = (float(b1), float(b2), lr / (1 - b1**t), 1 - b2**t, float(eps))
        out = self._empty(p.shape, p)
        self._run("adam", out.size, p, grad, mean, square, out, *numbers, out.size)
        return out
