"""The CUDA source: it compiles for every architecture, and computes what the reference does."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
from pathlib import Path

import cuda_on_cpu
import cupy_twins
import numpy as np
import pytest
import strict_cupy

from minifbi.backends import get_backend, output_size
from minifbi.backends.cupy_backend import C_TYPES, CupyBackend, kernel_source
from minifbi.optim import adam_step

ARCHITECTURES = (70, 75, 80, 86, 89, 90)
TYPES = list(itertools.product(C_TYPES.values(), ("int", "long long")))

# size, kernel, stride, padding: square and not, overlapping and with gaps, with borders
WINDOWS = [
    ((6, 7), (2, 2), (2, 2), (0, 0)),
    ((7, 6), (3, 2), (2, 1), (1, 1)),
    ((5, 9), (3, 3), (1, 2), (1, 0)),
    ((9, 8), (2, 3), (3, 4), (0, 1)),
    ((4, 4), (4, 4), (1, 1), (2, 2)),
    ((1, 5), (1, 1), (1, 1), (0, 0)),
]


def nvrtc_library() -> ctypes.CDLL:
    """NVRTC from the wheel nvidia-cuda-nvrtc-cu12; it needs neither a driver nor a GPU."""
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc") if _has("nvidia") else None
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the wheel nvidia-cuda-nvrtc-cu12 is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    return ctypes.CDLL(str(folder / "libnvrtc.so.12"))


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def compile_cuda(source: str, architecture: int) -> tuple[int, str, str]:
    """Compile with NVRTC; return its status, its log and the PTX."""
    nvrtc = nvrtc_library()
    program = ctypes.c_void_p()
    made = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"cupy_kernels.cu", 0, None, None
    )
    assert made == 0
    options = [f"--gpu-architecture=compute_{architecture}".encode(), b"-std=c++14"]
    status = nvrtc.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )

    def text(what: str) -> str:
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        return buffer.value.decode()

    log, ptx = text("ProgramLog"), text("PTX") if status == 0 else ""
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log, ptx


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("real", "index"), TYPES)
def test_nvrtc_compiles_every_kernel(real, index, architecture):
    source = kernel_source(real, index)
    status, log, ptx = compile_cuda(source, architecture)
    assert status == 0, log
    assert "cupy_kernels.cu" not in log, log  # no warning about our source
    assert f".target sm_{architecture}" in ptx
    for name in strict_cupy.signatures(source):
        assert f".entry {name}(" in ptx


def test_nvrtc_finds_mistakes():
    status, log, _ = compile_cuda(kernel_source("float", "int").replace("sum += g", "sun += g"), 80)
    assert status != 0
    assert "sun" in log


def test_every_kernel_has_a_twin_and_is_used():
    names = set(strict_cupy.signatures(kernel_source("float", "int")))
    assert len(names) == 13
    assert all(callable(getattr(cupy_twins, name)) for name in names)
    backend = Path(importlib.util.find_spec("minifbi.backends.cupy_backend").origin).read_text()
    assert all(f'"{name}"' in backend for name in names)


# ---- the source itself, run on the CPU --------------------------------------------------
@pytest.fixture(scope="module", params=TYPES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def cuda(request, tmp_path_factory):
    """The cupy backend with its CUDA source compiled as C++; the index type is forced."""
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("no C++ compiler here")
    real, index = request.param
    folder = tmp_path_factory.mktemp("cuda")
    backend = CupyBackend(strict_cupy)
    kernel = backend._kernel
    backend._kernel = lambda name, code, wide: kernel(name, code, index == "long long")
    before = strict_cupy.executor
    strict_cupy.executor = functools.partial(cuda_on_cpu.run, folder)
    yield backend, np.dtype({"float": "f", "double": "d"}[real])
    strict_cupy.executor = before


def agree(cuda, call, *arrays):
    """`call(backend, *arrays)` gives the same on the CUDA source as on the numpy backend."""
    backend, dtype = cuda
    reference = get_backend("numpy")
    own = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    expected = call(reference, *[np.array(a) for a in own])
    found = call(backend, *[backend.asarray(a) for a in own])
    if not isinstance(expected, tuple):
        expected, found = (expected,), (found,)
    scale = 1e-5 if dtype == np.float32 else 1e-12
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            got = backend.to_numpy(one)
            assert got.shape == other.shape
            assert got.dtype.kind == other.dtype.kind
            np.testing.assert_allclose(got, other, rtol=scale, atol=scale * 10)


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), WINDOWS)
def test_convolution_and_its_transposes(cuda, size, kernel, stride, padding):
    x, w = some(3, 2, *size), some(4, 2, *kernel, seed=1)
    g = some(3, 4, *output_size(size, kernel, stride, padding), seed=2)
    geometry = stride, padding
    agree(cuda, lambda b, x, w: b.conv2d(x, w, *geometry), x, w)
    agree(cuda, lambda b, g, w: b.conv2d_transpose(g, w, *geometry, size), g, w)
    agree(cuda, lambda b, x, g: b.conv2d_weight(x, g, kernel, *geometry), x, g)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("special", [False, True])
def test_pooling(cuda, window, special):
    size, kernel, stride, padding = window
    x = np.round(some(3, 2, *size), 1)  # with ties
    if special:
        x[0, 0, 0, :2] = np.nan, np.inf
        x[1, 1] = -np.inf
    out = output_size(size, kernel, stride, padding)
    g = some(3, 2, *out, seed=2)
    winners = get_backend("numpy").max_pool2d(x, kernel, stride, padding)[1].astype(np.uint32)
    agree(cuda, lambda b, x: b.max_pool2d(x, kernel, stride, padding), x)
    shape = kernel, stride, padding
    agree(cuda, lambda b, g, w: b.max_pool2d_scatter(g, w, *shape, size), g, winners)
    agree(cuda, lambda b, x, w: b.max_pool2d_gather(x, w, *shape), x, winners)
    if not special:
        agree(cuda, lambda b, x: b.avg_pool2d(x, *shape), x)
        agree(cuda, lambda b, g: b.avg_pool2d_transpose(g, *shape, size), g)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_fused(cuda, bias, pooled):
    x, w, b = some(3, 2, 9, 8), some(5, 2, 3, 3, seed=1), some(5, seed=3) if bias else None
    window = ((2, 2), (2, 2), (0, 0)) if pooled else None
    size = (9, 8)  # of the map before the pooling
    a, winners = get_backend("numpy").conv2d_relu_pool(x, w, b, (1, 1), (1, 1), window)
    g, u = some(*a.shape, seed=4), some(3, 2, 9, 8, seed=5)
    given = (x, w) if b is None else (x, w, b)

    def forward(backend, x, w, b=None):
        return backend.conv2d_relu_pool(x, w, b, (1, 1), (1, 1), window)[0]

    agree(cuda, forward, *given)
    places = np.zeros(a.shape, np.uint32) if winners is None else winners.astype(np.uint32)
    agree(cuda, lambda k, g, a, w: k.relu_unpool(g, a, w, window, size), g, a, places)
    agree(cuda, lambda k, g, a: k.bias_gradient(g, a), g, a)
    agree(
        cuda,
        lambda k, u, w, a, p: k.conv2d_gather(u, w, (1, 1), (1, 1), a, p, window),
        *(u, w, a, places),
    )


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (7, 11)])
def test_l1_difference(cuda, shape):
    x, ratio = some(*shape), some(*shape, seed=1)
    agree(cuda, lambda b, x, r: b.l1_difference(x, r), x, ratio)
    agree(cuda, lambda b, *given: b.l1_difference_backward(*given), x, ratio, np.array(0.3))


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (7, 11)])
def test_sum_and_product(cuda, shape):
    a, b = some(*shape), some(*shape, seed=1)
    agree(cuda, lambda k, a, b: k.add(a, b), a, b)
    agree(cuda, lambda k, a, b: k.multiply(a, b), a, b)


def test_adam(cuda):
    def three_steps(backend, p, mean, square, *gradients):
        for t, g in enumerate(gradients, 1):
            step = backend.adam or adam_step
            p = step(p, g, mean, square, 0.01, (0.9, 0.999), 1e-8, t)
        return p, mean, square

    zeros = np.zeros((3, 5))
    agree(cuda, three_steps, some(3, 5), zeros, zeros, *(some(3, 5, seed=s) for s in (1, 2, 3)))


def test_more_elements_than_threads(cuda, monkeypatch):
    """The kernels loop: few threads do the work of many."""
    from minifbi.backends import cupy_backend

    monkeypatch.setattr(cupy_backend, "BLOCKS", 2)
    monkeypatch.setattr(cupy_backend, "THREADS", 32)
    monkeypatch.setattr(cupy_backend, "SUMS", 7)
    x, w, ratio = some(3, 2, 9, 8), some(4, 2, 3, 3, seed=1), some(3, 2, 9, 8, seed=2)
    agree(cuda, lambda b, x, w: b.conv2d(x, w, (1, 1), (1, 1)), x, w)
    agree(cuda, lambda b, x, r: b.l1_difference(x, r), x, ratio)
    agree(cuda, lambda b, x, r: b.bias_gradient(x, r), x, ratio)


def test_an_access_outside_would_be_found(cuda):
    backend, dtype = cuda
    small = backend.asarray(np.ones(3, dtype))
    with pytest.raises(AssertionError, match="outside"):
        backend._run("gate", 4, small, small, backend.asarray(np.ones(4, dtype)), 4)
