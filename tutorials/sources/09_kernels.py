# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9. Kernels: from Python loops to machine speed
#
# A *kernel* is the small piece of code in which a program spends its time. (The window of weights
# of a convolution is called a kernel too. In this notebook we say "weights" for that.) Training
# the paper's network means running a dozen kernels, over and over. This tutorial takes one of
# them, a convolution, and makes it faster step by step, until little is left to gain. At each
# step you will see *why* it got faster, and that it still computes the same numbers.
#
# When you are done, you will be able to
#
# 1. say why the first call of a compiled function is slow, and avoid waiting for it twice,
# 2. turn slow loops into a kernel that keeps a processor busy: no tests inside, a better order in
#    memory, vectors, a tile of sums in registers, several threads,
# 3. find out which layer and which pass of a training step costs how much,
# 4. measure what a machine can do at best, and judge a kernel by it, with a *roofline* plot,
# 5. tell which loops may run in parallel and which may not.
#
# You need [notebook 2](02_convolution_three_ways.ipynb) (the convolution, its transpose and its
# weight gradient) and, for section 6, the three passes of notebooks [4](04_relevance.ipynb) to
# [6](06_three_step_training.ipynb). It takes about 30 minutes.
#
# All times below are measured when the notebook runs, on the machine that runs it. Yours will give
# other numbers. A shared machine gives other numbers each time, which is why we repeat each
# measurement and keep the shortest time: whatever disturbs a measurement makes it longer.

# %%
import os
import time

import matplotlib.pyplot as plt
import numba
import numpy as np
from llvmlite.binding import get_host_cpu_name
from minifbi import get_backend

numba_backend = get_backend("numba")  # before any kernel runs: it says how idle threads wait
FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer repeats; for the tests
THREADS = numba.get_num_threads()

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY, ORANGE, GREEN = "#1f77b4", "#c0392b", "#666666", "#d98200", "#2a8c4a"


def shortest(function, seconds=0.02 if FAST else 0.4):
    """Seconds that a call of `function` takes, the shortest of many."""
    times = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


print(f"processor type {get_host_cpu_name()!r}, Numba uses {THREADS} thread(s)")


# %% [markdown]
# ## 1. The first call
#
# Python looks at each operation when it comes to it: which types have these two objects, which
# function adds such types, where does the result go? For adding two numbers, that is far more
# work than the addition. A *compiler* does the looking up once, before anything runs, and leaves
# only the additions. Numba is a compiler for a part of Python. It works at the first call,
# because only then it knows the types of the arguments:
# %%
@numba.njit
def total(values):
    result = values.dtype.type(0)
    for value in values:
        result += value
    return result


values = np.ones(100_000)
for kind in ("float64", "float64", "float32"):
    argument = values.astype(kind)
    start = time.perf_counter()
    total(argument)
    seconds = time.perf_counter() - start
    print(f"{kind}: {seconds * 1e3:8.2f} ms   versions compiled so far: {len(total.signatures)}")

# %% [markdown]
# The first call is slow since it compiles; the second runs what was compiled. A new type of
# argument means a new version, and another compilation. `njit` stands for "just in time", with
# `n` for "no Python": if Numba cannot compile all of a function, it says so and does not run it
# slowly.
#
# **Never time a first call.** The commonest mistake in benchmarks is to measure the compiler.
#
# With `cache=True` Numba keeps the machine code in a file. The next *process* finds it there and
# does not compile. To see that, we write a small module, load it, call its function, and load it
# once more, as a new process would:

# %%
import importlib
import sys
import tempfile
from pathlib import Path

text = """
import numba

@numba.njit(cache=True)
def total(values):
    result = 0.0
    for value in values:
        result += value
    return result
"""
with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "cached_total.py").write_text(text)
    sys.path.insert(0, folder)
    module = importlib.import_module("cached_total")
    for _ in range(2):
        start = time.perf_counter()
        module.total(values)
        seconds = time.perf_counter() - start
        found = sum(module.total.stats.cache_hits.values())
        print(f"first call: {seconds * 1e3:7.2f} ms, " + ("from the file" if found else "compiled"))
        module = importlib.reload(module)
    sys.path.remove(folder)

# %% [markdown]
# minifbi's kernels are cached in this way, so only the very first training step after the
# installation waits, half a minute or so. `get_backend("numba").warm()` says whether
# that is behind you.
#
# There is one trap. What a compiled function finds *outside* of itself is looked up when it is
# compiled, and is a constant from then on:

# %%
scale = 2.0


@numba.njit
def scaled(x):
    return scale * x


before = scaled(10.0)
scale = 3.0
print(f"scale was 2: {before},  scale is 3: {scaled(10.0)}")

# %% [markdown]
# So everything that may change belongs into the arguments.
#
# ## 2. The task
#
# Our example is the second convolution of the paper's network, for a batch of 64 images: 16
# channels of 14 x 14 pixels in, 16 out, weights of 5 x 5, and a border of 2 zeros (the *padding*).
# To judge speed, we count. A *multiply-add* is one product that is added to a sum, and each number
# of the result takes one for each channel and each weight of its window. It counts as 2
# *floating-point operations*, FLOP for short; $10^9$ of them are a GFLOP, and GFLOP/s is speed.

# %%
rng = np.random.default_rng(0)
x = rng.standard_normal((64, 16, 14, 14)).astype(np.float32)
w = rng.standard_normal((16, 16, 5, 5)).astype(np.float32)

numpy_backend = get_backend("numpy")
expected = numpy_backend.conv2d(x, w, (1, 1), (2, 2))
FLOP = 2 * expected.size * w[0].size
print(f"result {expected.shape}, {FLOP / 1e9:.2f} GFLOP")

ladder = {}  # name of a way to compute it: GFLOP/s


def race(name, function, flop=FLOP, target=expected):
    """Check the result, then time it."""
    np.testing.assert_allclose(function(), target, rtol=1e-4, atol=1e-4)
    ladder[name] = flop / shortest(function) / 1e9
    first = next(iter(ladder.values()))
    print(f"{name:28s} {ladder[name]:10.4f} GFLOP/s {ladder[name] / first:12,.0f} x")


# %% [markdown]
# We start where notebook 2 did, with plain loops in Python and with the matrix product (`im2col`).
# The loops get one image and two output channels; otherwise we would wait.


# %%
def loops(x, w):
    """x (N, C, H + 4, W + 4), already with its border of zeros; w (O, C, 5, 5)."""
    samples, channels, height, width = x.shape
    kernels, _, kh, kw = w.shape
    z = np.empty((samples, kernels, height - kh + 1, width - kw + 1), x.dtype)
    for n in range(samples):
        for o in range(kernels):
            for r in range(z.shape[2]):
                for q in range(z.shape[3]):
                    result = x.dtype.type(0)
                    for c in range(channels):
                        for i in range(kh):
                            for j in range(kw):
                                result += x[n, c, r + i, q + j] * w[o, c, i, j]
                    z[n, o, r, q] = result
    return z


def with_border(x):
    return np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))


bordered = with_border(x)
race("Python loops", lambda: loops(bordered[:1], w[:2]), FLOP // 512, expected[:1, :2])
race("im2col, matrix product", lambda: numpy_backend.conv2d(x, w, (1, 1), (2, 2)))

# %% [markdown]
# Note two things that these loops do better than the compiled ones of notebook 2. The border of
# zeros is there in memory, so the innermost loop has no `if`. And the sum is kept in a variable
# of its own; only when it is complete, it goes to `z`.
#
# ## 3. Compiled, and why that is not enough
#
# The same loops, given to Numba without changing a letter:

# %%
compiled = numba.njit(loops)
race("loops, compiled", lambda: compiled(bordered, w))

# %% [markdown]
# Much faster than Python, and yet far from what this processor can do. How far? The peak can be
# measured. The following cell does nothing but multiply-adds, on numbers that are in the processor
# already; you may come back to *how* it does so after section 5.

# %%
from minifbi.backends.numba_kernels.machine import REGISTERS, ROWS, VECTOR_BYTES, VECTORS, lanes_of
from minifbi.backends.numba_kernels.simd import tile_step, tile_store, tile_zeros

LANES = lanes_of(np.float32)


@numba.njit(parallel=True)
def multiply_adds(a, b, out, count):
    for thread in numba.prange(len(out)):
        tile = tile_zeros(a, ROWS, VECTORS)
        for _ in range(count):
            tile = tile_step(tile, a, 0, b, 0, ROWS, VECTORS)
        tile_store(tile, out[thread], 0, VECTORS * LANES, ROWS, VECTORS)


TILE = ROWS * VECTORS * LANES  # multiply-adds of one step
ones = np.ones(TILE, np.float32)


def peak(threads, count=300_000):
    """GFLOP/s of multiply-adds that wait for nothing."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    out = np.zeros((threads, TILE), np.float32)
    multiply_adds(ones, ones, out, 1)  # compiles
    seconds = shortest(lambda: multiply_adds(ones, ones, out, count))
    numba.set_num_threads(before)
    assert out.max() == out.min() == count  # each sum is 1 * 1, added up `count` times
    return 2 * count * TILE * threads / seconds / 1e9


PEAK = {threads: peak(threads) for threads in sorted({1, THREADS})}
for threads, value in PEAK.items():
    print(f"peak with {threads} thread(s): {value:6.0f} GFLOP/s")
print(f"loops, compiled: {ladder['loops, compiled'] / PEAK[1]:.1%} of the peak of one thread")

# %% [markdown]
# The rest of the way is about the following fact. A processor core does not multiply numbers, but
# *vectors* of numbers. A vector register holds several numbers side by side, in *lanes*, and one
# instruction multiplies and adds all lanes at once.

# %%
print(f"a vector register here: {VECTOR_BYTES} bytes = {LANES} lanes of float32")
print(f"registers of that kind: {REGISTERS}")

# %% [markdown]
# Did the compiler use them? The machine code knows. On an Intel or AMD processor, the name of an
# instruction ends in `ss` if it computes with one number ("scalar single"), and in `ps` if it
# computes with a whole vector ("packed single").

# %%
import re


def instructions(function):
    """How many arithmetic instructions of each kind stand in a function's machine code."""
    code = next(iter(function.inspect_asm().values()))
    found = re.findall(r"\b(v?(?:mul|add|fmadd\d*)([sp]s))\b", code)
    if not found:
        return "none known: this is not an Intel or AMD processor"
    kinds = [kind for _, kind in found]
    return f"{kinds.count('ss')} on one number, {kinds.count('ps')} on vectors"


print("loops, compiled:", instructions(compiled))

# %% [markdown]
# The innermost loop adds one product after the other to *one* sum. The compiler may not change the
# order, since floating-point numbers add up to slightly different results in another order, and we
# did not allow that. So each addition waits for the one before it, and each uses one lane.
#
# If we want vectors, many sums must grow *at the same time*. There are plenty of independent
# sums: a batch has 64 images, and all of them do the same with the same weights. All we need is
# that what belongs into one vector lies side by side in memory.
#
# ## 4. Memory order and strides
#
# Memory is one long row of numbers. An array of several dimensions is a rule that says where in
# that row each element is: for each axis, its **stride** is the distance, in bytes, from an element
# to the next one along that axis. The element $(n, c, r, q)$ lies
#
# $$n\,s_0 + c\,s_1 + r\,s_2 + q\,s_3$$
#
# bytes after the first. Transposing an array moves nothing; it only exchanges strides. That is why
# it costs nothing, and why afterwards reading "along a row" may mean leaping through memory.

# %%
print("(N, C, H, W) as NumPy makes it:  shape", x.shape, " strides", x.strides)
turned = x.transpose(1, 2, 3, 0)
print("transposed to (C, H, W, N):      shape", turned.shape, " strides", turned.strides)
batch_last = np.ascontiguousarray(turned)
print("and copied into that order:      shape", batch_last.shape, " strides", batch_last.strides)

# %% tags=["hide-input"]
fig, axes = plt.subplots(2, 1, figsize=(9, 2.6), layout="constrained")
shades = (BLUE, ORANGE)
for ax, order, title in (
    (axes[0], "NP", "batch first: all pixels of one image, then the next image"),
    (axes[1], "PN", "batch last: one pixel of all images, then the next pixel"),
):
    for place in range(12):
        n, p = (place // 6, place % 6) if order == "NP" else (place % 2, place // 2)
        ax.add_patch(plt.Rectangle((place, 0), 1, 1, fc=shades[n] + "66", ec=GREY))
        ax.text(place + 0.5, 0.5, f"image {n}\npixel {p}", ha="center", va="center", size=8)
    ax.set(xlim=(-0.1, 12.1), ylim=(-0.05, 1.05))
    ax.set_title(title, size=10)
    ax.axis("off")
plt.show()

# %% [markdown]
# Does it matter? A processor never fetches one number from memory. It fetches a *cache line*, on
# most machines 64 bytes, 16 numbers of float32, and keeps it in a small fast memory, the **cache**.
# Who walks straight through memory uses all 16. Who leaps uses one of them and pays for all. Let us
# add up numbers that lie $s$ apart, always equally many of them:


# %%
@numba.njit(fastmath={"reassoc"})  # any order will do: so no addition waits for the one before
def sum_apart(row, step, count):
    result = row.dtype.type(0)
    for k in range(count):
        result += row[k * step]
    return result


COUNT = 1 << (16 if FAST else 19)
steps = (1, 2, 4, 8, 16, 32, 64)
row = np.ones(COUNT * max(steps), np.float32)
sum_apart(row, 1, 10)
nanoseconds = []
for step in steps:
    # a new part of the row each time would be fairer still; a long row comes close to it
    seconds = shortest(lambda step=step: sum_apart(row, step, COUNT))
    nanoseconds.append(seconds / COUNT * 1e9)
    print(f"{step:3d} apart: {nanoseconds[-1]:6.2f} ns a number")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
ax.plot(steps, nanoseconds, "o-", color=BLUE)
ax.axvline(16, color=GREY, lw=1, ls=":")
ax.text(16.5, 0, "from here on, each number\nis in a cache line of its own", va="bottom", size=9)
ax.set(xscale="log", xticks=steps, xlabel="distance from one number to the next, in numbers")
ax.set_xticklabels([str(step) for step in steps])
ax.minorticks_off()
ax.set(ylim=(0, None), ylabel="ns a number")
plt.show()


# %% [markdown]
# So order matters. (Often the curve goes on rising beyond a cache line. Memory comes in *pages*,
# and finding a page takes time, too; and the processor guesses what will be read next and fetches
# it ahead, which works best for the shortest steps.)
#
# Now for the convolution: keep the batch **last** in memory, (C, H, W, N), and let the innermost
# loop run over the images. All of its reads and writes are side by side, and each image has its own
# sum.


# %%
@numba.njit
def conv_batch_last(x, w):
    """x (C, H + 4, W + 4, N); w (O, C, 5, 5).  Returns (O, H, W, N)."""
    channels, height, width, samples = x.shape
    kernels, _, kh, kw = w.shape
    z = np.zeros((kernels, height - kh + 1, width - kw + 1, samples), x.dtype)
    for o in range(kernels):
        for r in range(z.shape[1]):
            for q in range(z.shape[2]):
                for c in range(channels):
                    for i in range(kh):
                        for j in range(kw):
                            weight = w[o, c, i, j]
                            for n in range(samples):
                                z[o, r, q, n] += weight * x[c, r + i, q + j, n]
    return z


def batch_first(z):
    return z.transpose(3, 0, 1, 2)  # only strides change: nothing is copied


bordered_last = np.ascontiguousarray(bordered.transpose(1, 2, 3, 0))
race("batch last", lambda: batch_first(conv_batch_last(bordered_last, w)))
print("batch last:", instructions(conv_batch_last))

# %% [markdown]
# Numba's compiler did the rest: it saw that neighbouring turns of the innermost loop touch
# neighbouring numbers, and wrote vector instructions.
#
# ## 5. A tile of sums in registers
#
# What keeps this kernel busy now? For each multiply-add of a vector it *loads* a vector of `x`,
# loads a vector of `z`, and *stores* `z` again. Three trips to the cache for one piece of
# arithmetic: the arithmetic waits.
#
# The cure has a name, **register tiling** (or blocking), and it is behind every fast matrix
# product. Take a small *tile* of the result, for example 8 output channels x 2 vectors of images,
# that is 16 vectors of sums. A processor with 32 vector registers can hold all of them in
# registers until they are complete. Each step loads 2 vectors of `x` and 8 weights, and uses each
# of them several times:
#
# ```text
#                   x0    x1            2 vector loads (one pixel of 2 x 16 images)
#             w0 |  +=    +=
#             w1 |  +=    +=            8 weights, each spread over a vector
#             .. |  ..    ..
#             w7 |  +=    +=            16 multiply-adds of vectors
# ```
#
# That is 10 loads for 16 multiply-adds, and no store. The saving comes from *reuse*: of $R$ rows
# and $V$ columns, a step loads $R + V$ and computes $R \times V$.
# %%
print(f"tile for this processor: {ROWS} channels x {VECTORS} vectors of {LANES} images")
print(f"loads for each multiply-add of a vector: {(ROWS + VECTORS) / (ROWS * VECTORS):.2f}")

# %% [markdown]
# A compiler does not find tiles by itself, so minifbi spells them out, in
# `minifbi/backends/numba_kernels/simd.py`. We borrow three operations from there. What they do is
# said best by their twins in plain NumPy, which minifbi uses when somebody wants to step through a
# kernel with a debugger; there a tile is an array (rows, vectors, lanes):

# %%
import inspect

from minifbi.backends.numba_kernels import simd_python

for function in (simd_python.tile_zeros, simd_python.tile_step, simd_python.tile_store):
    print(inspect.getsource(function))

# %% [markdown]
# `tile_step` takes $V$ vectors that start at `x[xi]` and $R$ weights that start at `w[wi]`. So for
# each place of the window, the weights of 8 channels must lie side by side. We copy them into that
# order first: (O / 8, C, 5, 5, 8). They are few, and each is used a thousand times.


# %%
def pack(w):
    kernels, channels, kh, kw = w.shape
    groups = w.reshape(kernels // ROWS, ROWS, channels, kh, kw)
    return np.ascontiguousarray(groups.transpose(0, 2, 3, 4, 1)).ravel()


@numba.njit
def conv_tile_row(x, packed, z, kernel, o, r):
    """Row r of the result, for the ROWS channels from o on."""
    channels, height, width, samples = x.shape
    kh, kw = kernel
    flat_x, flat_z = x.reshape(-1), z.reshape(-1)
    plane, columns = z.shape[1] * z.shape[2] * samples, z.shape[2]
    for q in range(columns):
        for n in range(0, samples, VECTORS * LANES):
            tile = tile_zeros(flat_x, ROWS, VECTORS)
            wi = o * channels * kh * kw
            for c in range(channels):
                for i in range(kh):
                    for j in range(kw):
                        xi = ((c * height + r + i) * width + q + j) * samples + n
                        tile = tile_step(tile, flat_x, xi, packed, wi, ROWS, VECTORS)
                        wi += ROWS
            to = o * plane + (r * columns + q) * samples + n
            tile_store(tile, flat_z, to, plane, ROWS, VECTORS)


@numba.njit
def conv_tiles(x, packed, kernel, kernels):
    _, height, width, samples = x.shape
    z = np.empty((kernels, height - kernel[0] + 1, width - kernel[1] + 1, samples), x.dtype)
    for o in range(0, kernels, ROWS):
        for r in range(z.shape[1]):
            conv_tile_row(x, packed, z, kernel, o, r)
    return z


packed = pack(w)
race("tiles in registers", lambda: batch_first(conv_tiles(bordered_last, packed, (5, 5), 16)))
print("tiles in registers:", instructions(conv_tile_row))
print(f"that is {ladder['tiles in registers'] / PEAK[1]:.0%} of the peak of one thread")

# %% [markdown]
# The kernel is short and does not care about the rest of the world: it takes a batch that is a
# multiple of the tile's width, channels that are a multiple of 8, and a stride of 1. What
# minifbi's own kernel adds is mostly care for what is *not* a multiple, a copy of the rows that a
# piece of work reads (so that they stay in the core's own cache), and tables in place of the
# border of zeros.
#
# **Threads.** A machine has several cores, and every row of the result can be computed without
# knowing the others. `prange` hands the turns of a loop to all threads:


# %%
@numba.njit(parallel=True)
def conv_threads(x, packed, kernel, kernels):
    _, height, width, samples = x.shape
    z = np.empty((kernels, height - kernel[0] + 1, width - kernel[1] + 1, samples), x.dtype)
    groups = kernels // ROWS
    for item in numba.prange(groups * z.shape[1]):
        conv_tile_row(x, packed, z, kernel, item % groups * ROWS, item // groups)
    return z


race("... on all threads", lambda: batch_first(conv_threads(bordered_last, packed, (5, 5), 16)))
ours = numba_backend.images(x, np.float32)
race("minifbi's numba backend", lambda: numba_backend.conv2d(ours, w, (1, 1), (2, 2)))

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
colors = [GREY, GREY, ORANGE, BLUE, BLUE, BLUE, RED]
ax.barh(list(ladder), list(ladder.values()), color=colors)
for k, speed in enumerate(ladder.values()):
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    ax.text(speed * 1.15, k, f"{speed:.3g} GFLOP/s", va="center", size=9, bbox=box)
styles = dict(zip(PEAK, ("--", ":"), strict=False))
for threads, value in PEAK.items():
    label = f"peak, {threads} thread{'s' if threads > 1 else ''}"
    ax.axvline(value, color="black", lw=1, ls=styles[threads], label=label, zorder=0)
ax.set(xscale="log", xlabel="GFLOP/s (each mark ten times the one before)")
ax.set_xlim(None, max(*PEAK.values(), *ladder.values()) * 12)
ax.invert_yaxis()
ax.legend(loc="upper right", framealpha=1, edgecolor="white", fontsize=9)
plt.show()

# %% [markdown]
# Each step of the ladder has one reason: no interpreter; independent sums side by side in memory;
# numbers used several times while they are in registers; all cores.
#
# The matrix product of NumPy (a library written by experts over decades) uses tiles and threads,
# too. `im2col` loses its time elsewhere: it first writes 25 copies of the image.
#
# ## 6. Which layers and passes cost what?
#
# Before making anything faster, measure where the time goes; intuition is often wrong. A *profiler*
# is a tool for that. Python brings one (`python -m cProfile`), which lists functions. Our question
# is about *layers* and *passes*, and since the tape asks the same four methods of every layer of
# minifbi, we can build our own. For the time of the measurement, each method is replaced by one
# that looks at the clock before and after.
# %%
from collections import defaultdict
from contextlib import contextmanager

from minifbi import alexnet, load_dataset
from minifbi.benchmark.arithmetic import multiply_adds as count_multiply_adds
from minifbi.fusion import ConvBlock, fuse  # convolution, ReLU and pooling in one
from minifbi.layers import Dense, Flatten, ReLU
from minifbi.optim import Adam
from minifbi.training import three_step

PASSES = ("forward", "relevance", "relevance_backward", "backward")
LOSS = {"l1_difference": "Eq. (3)", "l1_difference_backward": "Eq. (3)", "adam": "Adam"}


@contextmanager
def stopwatch(model):
    """Collects milliseconds by (method, layer's name)."""
    names = {id(layer): name for name, layer in model.named_layers()}
    times, running, originals = defaultdict(float), [], []

    def timed(method, key_of):
        def wrapper(self, *arguments, **options):
            if running:  # called by a method that is being timed already
                return method(self, *arguments, **options)
            running.append(method)
            start = time.perf_counter()
            try:
                return method(self, *arguments, **options)
            finally:
                times[key_of(self)] += 1e3 * (time.perf_counter() - start)
                running.clear()

        return wrapper

    def replace(owner, name, key_of):
        originals.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, timed(owner.__dict__[name], key_of))

    for name in PASSES:
        kinds = (ConvBlock, Dense, ReLU, Flatten)
        owners = {next(c for c in kind.__mro__ if name in c.__dict__) for kind in kinds}
        for owner in owners:  # where the method is written; a block is called as its convolution
            replace(owner, name, lambda self, n=name: (n, names[id(getattr(self, "conv", self))]))
    for name, label in LOSS.items():
        replace(type(numba_backend), name, lambda self, label=label: (label, ""))
    try:
        yield times
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


# %% [markdown]
# The step that we look at is a whole training step of the paper's network with the FBI loss:
# forward pass, relevance pass, the way back through both, and Adam's new weights.
# `relevance_backward` is the way back through the relevance pass, `backward` the one through the
# forward pass. (For convolution and dense layers `relevance_backward` is written once, in
# `minifbi/layers/linear.py`: a forward pass and a weight gradient.) As in training, the network is
# rewritten first: `fuse` makes one block of each convolution with its ReLU and pooling.
# %%
BATCH = 128
images, labels = load_dataset("mnist").train.batch(slice(0, BATCH))
model = alexnet(backend="numba", seed=0)
fast = fuse(model)  # it shares the model's weights
optimizer = Adam(model.parameters(), lr=1e-3)


def training_step():
    three_step(fast, images, labels, weight=0.001)
    optimizer.step()


training_step()  # the first call compiles, or loads what was compiled
records = []
for _ in range(5 if FAST else 60):
    with stopwatch(model) as times:
        start = time.perf_counter()
        training_step()
        times["whole step", ""] = 1e3 * (time.perf_counter() - start)
    records.append(times)
fastest = min(records, key=lambda times: times["whole step", ""])

rows = [name for name, layer in model.named_layers() if name.startswith(("conv", "dense"))]
table = np.array([[fastest[name, row] for name in PASSES] for row in rows])
others = sum(fastest[name, key] for name, key in fastest if name in PASSES and key not in rows)
whole = fastest["whole step", ""]
rest = whole - sum(value for key, value in fastest.items() if key[0] != "whole step")
print(f"{'layers with weights':36s} {table.sum():6.1f} ms  {table.sum() / whole:4.0%}")
print(f"{'ReLU, reshaping':36s} {others:6.1f} ms  {others / whole:4.0%}")
for label in ("Eq. (3)", "Adam"):
    share = fastest[label, ""]
    print(f"{label:36s} {share:6.1f} ms  {share / whole:4.0%}")
print(f"{'Python, the tape, small operations':36s} {rest:6.1f} ms  {rest / whole:4.0%}")
print(f"{'whole step, the fastest of all':36s} {whole:6.1f} ms")

# %% [markdown]
# To judge the layers, we put the arithmetic beside the time. With $F$ for the multiply-adds of a
# layer's forward pass, the relevance pass takes $F$ as well (one transposed convolution), and each
# way back $2F$ (one map and one weight gradient). The one exception is the first layer: on the way
# back through the forward pass nobody asks for the gradient at the image.

# %%
forward_flop = 2 * BATCH * np.array(count_multiply_adds(model, (1, 28, 28)))
flop = forward_flop[:, None] * np.array([1, 1, 2, 2])
flop[0, 3] = forward_flop[0]
speed = flop / (table * 1e6)  # GFLOP/s

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
heads = ["forward", "relevance", "back through\nrelevance", "back through\nforward"]
for ax, numbers, title, style in (
    (axes[0], table, "milliseconds", "{:.2f}"),
    (axes[1], speed, "GFLOP/s", "{:.0f}"),
):
    ax.imshow(numbers, cmap="Blues", aspect="auto", vmin=0, vmax=numbers.max() * 1.4)
    for (i, j), number in np.ndenumerate(numbers):
        ax.text(j, i, style.format(number), ha="center", va="center", size=9)
    ax.set_xticks(range(4), heads, size=8)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.set_title(title, size=10)
plt.show()
print(f"peak of {THREADS} thread(s): {PEAK[THREADS]:.0f} GFLOP/s")
slowest = np.unravel_index(table.argmax(), table.shape)
print(f"the longest: {rows[slowest[0]]}, {PASSES[slowest[1]]}")
for k in np.argsort(speed.max(axis=1))[:3]:
    print(f"low speed throughout: {rows[k]} (at best {speed[k].max():.0f} GFLOP/s)")


# %% [markdown]
# What can be read from such a table?
#
# - Time is where the arithmetic is, with a few exceptions. To make the step faster, look at the
#   left table: halving what takes 2 % of the time saves 1 %. This is *Amdahl's law*, and it will
#   come back in section 8.
# - To know where something *can* be gained, look at the right one. A cell far below the peak is
#   either badly programmed, or has a reason. The first layer has a reason: with one input channel,
#   there is little to reuse. So have the last dense layers: they are so small that the time to call
#   a kernel counts.
# - Some cells are slow for another reason, which we look at next.
#
# ## 7. The roofline
#
# Some kernels hardly compute at all. ReLU reads a number, compares it, and writes a number. How
# fast it is has nothing to do with multiply-adds; it is the *memory* that it waits for. How fast
# is that? The usual measure (McCalpin, 1995) is the speed of $a = b + s\,c$ over long arrays: 2
# operations for 12 bytes that travel. Short arrays stay in the caches, so we measure over several
# lengths.
# %%
@numba.njit
def triad_part(a, b, c, s):
    for k in range(len(a)):
        a[k] = b[k] + s * c[k]


@numba.njit(parallel=True)
def triad(a, b, c, s, repeats):
    for thread in numba.prange(len(a)):  # one row for each thread
        for _ in range(repeats):
            triad_part(a[thread], b[thread], c[thread], s)


def bandwidth(size):
    """GB/s over three arrays of `size` bytes together."""
    count = size // (12 * THREADS)  # numbers in a row
    a, b, c = (np.ones((THREADS, count), np.float32) for _ in range(3))
    s = np.float32(2)
    repeats = max(1, (1 << (23 if FAST else 26)) // size)
    triad(a, b, c, s, 1)
    seconds = shortest(lambda: triad(a, b, c, s, repeats))
    return 12 * a.size * repeats / seconds / 1e9


sizes = [1 << k for k in range(15, 27 if FAST else 30, 2)]
speeds = [bandwidth(size) for size in sizes]
for size, value in zip(sizes, speeds, strict=True):
    print(f"{size / 2**20:8.2f} MiB: {value:7.1f} GB/s")

# %% [markdown]
# Small arrays come from the fast caches beside each core, large ones from farther away. The last
# two lines are for maps that do not fit any longer; of these two we take the better one.
#
# Now both limits go into one picture (Williams, Waterman and Patterson, 2009). A kernel's
# **arithmetic intensity** $I$ says how many operations it performs for each byte that it has to
# read or write:
#
# $$I = \frac{\text{FLOP}}{\text{bytes}}, \qquad
#   \text{speed} \;\le\; \min(\,\text{peak},\; I \times \text{bandwidth}\,).$$
#
# Drawn over $I$, the limit looks like a roof: a slope, where memory decides, and a flat part, where
# arithmetic does. For the bytes we count each input and each result once, as if everything in
# between stayed in the caches.

# %%
NEAR, FAR = max(speeds), max(speeds[-2:])  # the smallest arrays, and the largest
PEAK_ALL = max(PEAK[THREADS], max(ladder.values()))
print(f"ridge of the roof: {PEAK_ALL / FAR:.0f} FLOP a byte from far memory, ", end="")
print(f"{PEAK_ALL / NEAR:.0f} from the fastest cache")

maps = {step.name: step.x for step in fast.trace(images)}
points = {}  # name: (FLOP a byte, GFLOP/s)


def place(name, function, flop, *arrays):
    """Time a kernel; `arrays` are what it reads and writes."""
    function()
    size = sum(array.nbytes for array in arrays)
    points[name] = flop / size, flop / shortest(function) / 1e9


def place_convolution(layer):
    x, weight = maps[layer].data, model[layer].weight.data
    padding = model[layer].padding
    z = numba_backend.conv2d(x, weight, (1, 1), padding)
    work = 2 * z.size * weight[0].size
    kernel, size = weight.shape[2:], x.shape[2:]
    trio = {
        "conv": lambda: numba_backend.conv2d(x, weight, (1, 1), padding),
        "conv_T": lambda: numba_backend.conv2d_transpose(z, weight, (1, 1), padding, size),
        "conv_W": lambda: numba_backend.conv2d_weight(x, z, kernel, (1, 1), padding),
    }
    for name, function in trio.items():
        place(f"{layer} {name}", function, work, x, weight, z)


for layer in ("conv1", "conv2", "conv4"):
    place_convolution(layer)
x6, w6 = maps["dense6"].data, model["dense6"].weight.data
z6 = numba_backend.dense(x6, w6)
place("dense6", lambda: numba_backend.dense(x6, w6), 2 * z6.size * x6.shape[1], x6, w6, z6)

# the kernels of Eq. (3) and of the ReLU, on the largest map of the network
large = np.abs(rng.standard_normal((16, 28, 28, BATCH), dtype=np.float32)).transpose(3, 0, 1, 2)
other = large + 1
term, gate = numba_backend.l1_difference, numba_backend.relu_unpool
no_pooling = (None, None, (28, 28))
place("a term of Eq. (3)", lambda: term(large, other), 4 * large.size, large, other)
place("ReLU's gate", lambda: gate(large, other, *no_pooling), large.size, large, other, large)
weights = np.zeros((128, 1568), np.float32)
mean, square = np.zeros_like(weights), np.zeros_like(weights)
arguments = (weights, weights, mean, square, 1e-3, (0.9, 0.999), 1e-8, 1)
# Adam reads four arrays and writes three
place("Adam", lambda: numba_backend.adam(*arguments), 12 * weights.size, *[weights] * 7)

for name, (intensity, value) in points.items():
    limit = min(PEAK_ALL, intensity * FAR)
    print(
        f"{name:18s} {intensity:7.2f} FLOP/byte {value:7.1f} GFLOP/s, {value / limit:5.0%} ", end=""
    )
    print("of the peak" if intensity * FAR > PEAK_ALL else "of what far memory allows")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
intensities = np.geomspace(0.05, 500, 200)
for value, style, label in ((FAR, "-", "far memory"), (NEAR, "--", "fastest cache")):
    roof = np.minimum(PEAK_ALL, intensities * value)
    ax.plot(intensities, roof, color="black", lw=1.3, ls=style)
    ax.text(0.055, 0.055 * value * 1.25, label, rotation=28, rotation_mode="anchor", size=9)
ax.text(490, PEAK_ALL * 1.12, "peak", ha="right", size=9)
marks = {"conv1": ("o", ORANGE), "conv2": ("s", BLUE), "conv4": ("D", GREEN)}
for layer, (mark, color) in marks.items():
    some = [value for name, value in points.items() if name.startswith(layer)]
    ax.plot(*zip(*some, strict=True), mark, color=color, ms=7, label=f"{layer}: the trio")
for name, mark in (
    ("dense6", "P"),
    ("a term of Eq. (3)", "^"),
    ("ReLU's gate", "v"),
    ("Adam", "*"),
):
    ax.plot(*points[name], mark, color=RED, ms=8, label=name)
ridge = points["conv2 conv"][0]
steps = [name for name in ladder if name not in ("Python loops", "im2col, matrix product")]
ax.plot([ridge] * len(steps), [ladder[name] for name in steps], "_", color=GREY, ms=14, mew=2)
ax.plot([], [], "_", color=GREY, ms=14, mew=2, label="conv2: sections 3 to 5")
ax.set(xscale="log", yscale="log", xlim=(0.05, 500), ylim=(0.5, PEAK_ALL * 3))
ax.set(xlabel="arithmetic intensity, FLOP a byte", ylabel="GFLOP/s")
ax.legend(loc="lower right", fontsize=8, frameon=False, ncols=2)
plt.show()

# %% [markdown]
# Read it like this.
#
# - What stands under the **flat** part of the roof can be made faster by better arithmetic:
#   vectors, tiles, threads. Our ladder (the grey strokes) is a climb straight up, at one
#   intensity.
# - What stands under the **slope** waits for memory. Vectors and tiles do not help. It gets faster
#   only by moving fewer bytes, that is, by moving *to the right*: do more with a number while it is
#   there.
# - A point above the line of far memory found its numbers in a cache.
# - A point well *below* its roof is worth a look.
# - Adam's intensity is low, and would be lower still in NumPy: there it is a dozen operations, one
#   after the other, and each of them is a trip through memory of its own. Compiled into one loop,
#   all of them take a single trip.
#
# Moving to the right is what *fused* kernels are for. minifbi adds the bias, rectifies and pools
# inside of the convolution, before anything is written. The large maps of the first layer are never
# written at all, and the ReLU's gate is applied while the next kernel copies its input. The
# arithmetic is the same, but several passes over memory are gone:

# %%
x1, w1 = maps["conv1"].data, model["conv1"].weight.data
b1 = model["conv1"].bias.data
window = ((2, 2), (2, 2), (0, 0))


def one_by_one():
    z = numba_backend.conv2d(x1, w1, (1, 1), (2, 2))
    z += b1[:, None, None]
    return numba_backend.max_pool2d(np.maximum(z, 0), *window)[0]


def fused():
    return numba_backend.conv2d_relu_pool(x1, w1, b1, (1, 1), (2, 2), window)[0]


np.testing.assert_allclose(one_by_one(), fused(), atol=1e-5)
slow, quick = shortest(one_by_one), shortest(fused)
print(f"first layer, one by one: {slow * 1e3:.2f} ms, fused: {quick * 1e3:.2f} ms, ", end="")
print(f"{slow / quick:.1f} times as fast")

# %% [markdown]
# ## 8. Threads
#
# With $T$ threads, can a step be $T$ times as fast? Only what runs in parallel gets faster. Let
# $p$ be the share of the time, measured on one thread, that can be shared among threads. Then
# (Amdahl, 1967)
#
# $$\text{speed-up} = \frac{1}{(1 - p) + p / T}.$$
#
# With $p = 0.9$, ten threads give a factor of 5.3, and a thousand give 9.9.

# %%
from minifbi.backends import set_threads

tasks = {
    "our convolution": lambda: conv_threads(bordered_last, packed, (5, 5), 16),
    "whole training step": training_step,
}
for name, task in tasks.items():
    seconds = {}
    for threads in sorted({1, THREADS}):
        set_threads(threads)
        seconds[threads] = shortest(task)
    line = ", ".join(f"{t} thread(s) {s * 1e3:.2f} ms" for t, s in seconds.items())
    speedup = seconds[1] / seconds[THREADS]
    print(f"{name:20s} {line}, speed-up {speedup:.2f}")
if THREADS == 1:
    print("Numba has one thread here, so there is nothing to compare.")
elif speedup < 1.2:
    print("Hardly a gain: other programs seem to use the cores at the moment. Try again later.")


# %% [markdown]
# Besides that, threads that are started and waited for cost some ten microseconds each time (a
# kernel with little work is faster on one thread), and all threads share one memory (a kernel under
# the slope of the roof hardly gains).
#
# **What may run in parallel?** Turns of a loop that do not write to the same place. If they do,
# the result depends on who comes first, and it is called a *race*. Reading a number, adding to it
# and writing it back are three things, and another thread may come in between; its addition is
# then lost. Let us count the digits of MNIST's labels in parallel, wrongly:
# %%
@numba.njit(parallel=True)
def count_wrongly(digits):
    counts = np.zeros(10, np.int64)
    for k in numba.prange(len(digits)):
        counts[digits[k]] += 1  # all threads write here
    return counts


@numba.njit(parallel=True)
def count(digits, threads):
    counts = np.zeros((threads, 10), np.int64)
    part = -(-len(digits) // threads)  # rounded up
    for thread in numba.prange(threads):
        for digit in digits[thread * part : (thread + 1) * part]:
            counts[thread, digit] += 1  # this row belongs to this thread alone
    return counts.sum(axis=0)


digits = np.tile(load_dataset("mnist").train.labels, 20 if FAST else 100)
right = count(digits, THREADS)
lost = [len(digits) - int(count_wrongly(digits).sum()) for _ in range(5)]
print(f"of {len(digits):,} digits, the right way counts {right.sum():,}")
print("the wrong way loses, in five attempts:", *(f"{number:,}" for number in lost))
if not any(lost):
    print(
        "Nothing was lost this time. With one thread, or by luck, a race may go well: test it not,"
    )
    print("avoid it.")

# %% [markdown]
# This is why the *transposed* convolution of minifbi does not stamp, as in notebook 2, where many
# pixels of $\mathbf g$ add to the same pixel of the result. It turns the loops around: each pixel
# of the result *gathers* what it gets. And for the weight gradient, to which every image
# contributes, each piece of work has sums of its own, which are added up at the end, in a fixed
# order. So results do not depend on luck, or on the number of threads.
#
# ## 9. Beside PyTorch
#
# Is all of this fast? One should compare with the best there is. minifbi's benchmark runs the same
# network, loss and step in PyTorch, both after it has checked that loss and gradients agree. Each
# contender has a process of its own, and they take turns.
#
# If PyTorch is installed here, the next cell runs a short race. If it is not, it shows the one that
# is kept with minifbi's documentation.

# %%
import importlib.util
import json

from minifbi.benchmark.race import race as torch_race

from checks import tutorial_09 as check

outcome, size = None, 128
kept = Path(check.__file__).resolve().parents[2] / "docs" / "benchmarks.json"
if importlib.util.find_spec("torch") and not FAST:
    outcome = torch_race(["numba"], [size], peers=["torch-eager"], repeats=10)
    print("PyTorch is installed here: measured now, on this machine.")
elif kept.exists():
    outcome = json.loads(kept.read_text("utf-8"))
    machine = outcome["machine"]
    print("Not measured here, but read from the results in minifbi's documentation,")
    print(f"of {machine['date']}, on {machine['cores']} cores ({machine['processor']}),")
    print(f"beside PyTorch {machine['torch']}.")
else:
    print("PyTorch is not installed here, and neither are minifbi's own results: see the page")
    print('"Benchmarks" of its documentation.')

# %% tags=["hide-input"]
if outcome is not None:
    names = {"numba": "minifbi", "torch-eager": "PyTorch", "torch-compile": "PyTorch, compiled"}
    palette = {"minifbi": RED, "PyTorch": BLUE, "PyTorch, compiled": GREY}
    best = {}  # of the two forms of the relevance pass, the faster one
    for result in outcome["results"]:
        who = names["numba" if result["who"] == "minifbi" else result["who"]]
        key = result["step"], who
        if result["batch"] == size and result["median_ms"] < best.get(key, np.inf):
            best[key] = result["median_ms"]
    fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    contenders = [who for who in palette if ("fbi", who) in best]
    for i, who in enumerate(contenders):
        for j, step in enumerate(("inference", "conventional", "fbi")):
            place_at = j + (i - len(contenders) / 2) * 0.27
            ax.barh(place_at, best[step, who], 0.25, color=palette[who], label=who if not j else "")
            ax.text(
                best[step, who] * 1.01 + 0.3,
                place_at,
                f"{best[step, who]:.1f}",
                va="center",
                size=8,
            )
    ax.set_yticks(np.arange(3) - 0.13, ["inference", "conventional step", "FBI step"])
    ax.set(xlabel=f"ms a step, batch {size} (median)")
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize=9)
    plt.show()
    for (step, who), value in best.items():
        if who == "PyTorch":
            print(f"{step:12s} minifbi takes {best[step, 'minifbi'] / value:.2f} of PyTorch's time")


# %% [markdown]
# PyTorch is no slow library. It was made for networks of every kind, and much larger ones; its
# kernels choose among many ways at run time, and its convolutions put *channels* into vectors, of
# which this network has few. A kernel made for one purpose may know more. That is a fair reason to
# write one, and a fair warning: with 256 channels the same comparison can end the other way round.
#
# ## What you learnt
#
# - Numba compiles at the first call, once for each combination of types; `cache=True` keeps the
#   result for the next process. Never time a first call. Globals are frozen.
# - Speed is GFLOP/s, and a processor's peak can be measured. It is reached only with vectors.
# - Vectors need independent sums whose data lie side by side: the *order in memory* decides, and
#   strides describe it.
# - A tile of sums in registers reuses what it loads: $R + V$ loads for $R \times V$ multiply-adds.
# - Profile first. A table of layers and passes, in time and in GFLOP/s, says where time goes and
#   where some can be gained.
# - The roofline tells kernels that compute from kernels that wait for memory. The second kind gains
#   only by moving less: fuse.
# - Parallel turns must not write to the same place. What stays serial limits the gain.
#
# ## Exercises
#
# Replace each `...`, and run the cell: the check in its last line says whether it is right, and if
# not, where to look.
#
# **Exercise 1: intensity.** Write the arithmetic intensity (FLOP a byte) of a convolution of `n`
# images with `c` channels of `h` x `w` pixels, with `o` kernels of `k` x `k`, stride 1, and a
# border such that the result has `h` x `w` pixels again. All is float32 (4 bytes). Count the
# products with the border's zeros, too; input, weights and result travel once each.
# %%
def intensity(n, c, h, w, o, k):
    # solution
    # student: return ...
    flop = 2 * n * o * h * w * c * k * k
    return flop / (4 * (n * c * h * w + o * c * k * k + n * o * h * w))
    # end solution


check.intensity(intensity)


# %% [markdown]
# **Exercise 2: strides.** An array has the given logical `shape`. In memory its axes lie in the
# given `order`, from the slowest to the fastest: for (N, C, H, W) with the batch last, that is
# `(1, 2, 3, 0)`. Without gaps, what are its strides in bytes, if an element has `itemsize` bytes?
# Return a tuple with one stride for each axis of `shape`.
# %%
def strides(shape, order, itemsize):
    # solution
    # student: # begin with [0] * len(shape), and fill in the stride of the fastest axis first
    # student: return ...
    result, distance = [0] * len(shape), itemsize
    for axis in reversed(order):
        result[axis] = distance
        distance *= shape[axis]
    return tuple(result)
    # end solution


check.strides(strides)


# %% [markdown]
# **Exercise 3: a blocked product.** Large matrices do not fit a cache, so fast products work on
# blocks that do. Compute `a @ b` such that `@` is only ever applied to blocks of at most `size`
# rows and `size` columns. Mind the last blocks, which may be smaller.
# %%
def blocked(a, b, size):
    # solution
    # student: # begin with np.zeros((a.shape[0], b.shape[1]), a.dtype); then three loops over
    # student: # blocks: rows of a, columns of b, and what is summed over
    # student: return ...
    product = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(0, a.shape[0], size):
        for j in range(0, b.shape[1], size):
            for k in range(0, a.shape[1], size):
                part = a[i : i + size, k : k + size] @ b[k : k + size, j : j + size]
                product[i : i + size, j : j + size] += part
    return product
    # end solution


check.blocked(blocked)

# %% [markdown]
# **Exercise 4: which loops?** Here is the transposed convolution by stamps. Which of its loops may
# become a `prange`, each taken alone, without a race? Give a set of their variables.
#
# ```python
# for n in range(samples):
#     for o in range(out_channels):          # channels of g
#         for r in range(rows):              # pixels of g
#             for q in range(columns):
#                 for c in range(channels):  # channels of x
#                     for i in range(kh):
#                         for j in range(kw):
#                             x[n, c, r + i, q + j] += g[n, o, r, q] * w[o, c, i, j]
# ```

# %%
# solution
# student: loops_in_parallel = ...  # a set of some of "n", "o", "r", "q", "c", "i", "j"
loops_in_parallel = {"n", "c", "i", "j"}
# end solution

check.parallel_loops(loops_in_parallel)


# %% [markdown]
# **Exercise 5: Amdahl backwards.** Somebody measures a speed-up of `speedup` with `threads`
# threads. Which share $p$ of the time on one thread ran in parallel, if nothing else was in the
# way?
# %%
def parallel_share(speedup, threads):
    # solution
    # student: return ...
    return (1 - 1 / speedup) / (1 - 1 / threads)
    # end solution


check.parallel_share(parallel_share)

# %% [markdown]
# **To think about.** In float16, numbers take half the space. Which kernels of the roofline would
# get faster by that alone, and by how much at most? What else would change?
#
# ## Further reading
#
# - S. Williams, A. Waterman and D. Patterson, *Roofline: An Insightful Visual Performance Model for
#   Multicore Architectures*, Communications of the ACM 52(4), 2009.
# - K. Goto and R. van de Geijn, *Anatomy of High-Performance Matrix Multiplication*, ACM
#   Transactions on Mathematical Software 34(3), 2008: tiles and blocks, level by level.
# - S. K. Lam, A. Pitrou and S. Seibert, *Numba: A LLVM-based Python JIT Compiler*, LLVM-HPC, 2015.
# - J. D. McCalpin, *Memory Bandwidth and Machine Balance in Current High Performance Computers*,
#   IEEE TCCA Newsletter, 1995: the triad.
# - G. M. Amdahl, *Validity of the Single Processor Approach to Achieving Large Scale Computing
#   Capabilities*, AFIPS, 1967.
# - E. Georganas et al., *Anatomy of High-Performance Deep Learning Convolutions on SIMD
#   Architectures*, SC18, 2018.
# - U. Drepper, *What Every Programmer Should Know About Memory*, 2007.
# - `minifbi/backends/numba_kernels/conv.py`: the kernel of section 5 with everything that it
#   needs in real life.
#
# Before: [8. Is it more interpretable?](08_is_it_more_interpretable.ipynb)
# Next: [10. On the GPU](10_on_the_gpu.ipynb).
