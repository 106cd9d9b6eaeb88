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
# # 10. On the GPU, with CuPy
#
# A graphics card was built to compute the colour of millions of pixels, all at once, by the same
# short program. That is also what a training step does, with the pixels of activation maps. This
# tutorial shows how the same training runs there, and what one has to think about differently.
#
# **You need no GPU to read and run it.** Where there is a card and CuPy, the cells run on the
# card. Where there is none, they run on the processor and say so. What only a card can do, we
# rebuild on a small scale: a queue that works through its orders in the background, and threads
# that are run one after the other.
#
# When you are done, you will be able to
#
# 1. say what a GPU does well, and why a training step suits it,
# 2. write code that runs on NumPy and on CuPy arrays alike,
# 3. time such code without fooling yourself,
# 4. read and write a CUDA kernel, thread by thread, and test it without a card,
# 5. move a training run from one backend to another,
# 6. understand what `python -m minifbi.doctor` says about your card.
#
# You need [notebook 9](09_kernels.ipynb), above all strides and arithmetic intensity. It takes
# about 25 minutes.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from minifbi import get_backend
from minifbi.backends import backend_status

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer repeats; for the tests

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY, ORANGE, GREEN = "#1f77b4", "#c0392b", "#666666", "#d98200", "#2a8c4a"

status = backend_status()
ON_GPU = status["cupy"] == "ok"
backend = get_backend("cupy" if ON_GPU else "numpy")
xp = backend.xp
if ON_GPU:
    print("There is a GPU. The cells below run on it, through CuPy.")
else:
    print("There is no GPU here, or no CuPy. The cells below run on the processor, through NumPy.")
    print("Nothing in this notebook is then a measurement of a GPU.")
print("cupy backend:", status["cupy"].partition(";")[0])

# %% [markdown]
# ## 1. What a GPU is
#
# A processor (CPU) has a few cores, and each of them tries hard to finish *one* thread of work as
# soon as possible: it guesses what comes next, reorders, and keeps much in caches. A GPU takes the
# other road. It has thousands of simple arithmetic units and runs tens of thousands of threads at
# the same time. Each of them is slow. While one waits for memory, others compute, and there are
# always others. So a GPU does not make waiting shorter; it has enough else to do.
#
# | word | meaning |
# |---|---|
# | *host*, *device* | the CPU with its memory, and the GPU with its own; an array lies in one |
# | *kernel* | here: a function that runs on the device, once for each thread |
# | *launch* | the host's order to run a kernel with so many threads |
# | *block* | a group of threads, for example 256, that run on the same part of the GPU |
# | *grid* | all blocks of a launch |
# | *warp* | 32 threads of a block that run together, as a rule the same instruction at a time |
# | *stream* | the queue of orders that the device works through, one after the other |
#
# What does it need? **Many results that can be computed independently of each other**, by the same
# program. Let us see how many there are in one training step of the paper's network. A kernel that
# fills an array can give each element to a thread of its own, so we count the elements that the
# kernels of a step write. To that end we wrap a backend: every method of the contract that computes
# something notes how large its result is, and then does what it always does.

# %%
from minifbi import alexnet, load_dataset
from minifbi.backends import Backend
from minifbi.backends.numpy_backend import NumpyBackend
from minifbi.training import three_step

KERNELS = sorted(set(Backend.__abstractmethods__) - {"asarray", "to_numpy"})
orders, running = [], []  # (name, elements of the result); what is being computed


def noting(name):
    original = getattr(NumpyBackend, name)

    def method(self, *arguments, **options):
        outermost = not running  # not what one kernel asks of another
        running.append(name)
        result = original(self, *arguments, **options)
        running.pop()
        if outermost:
            first = result[0] if isinstance(result, tuple) else result
            orders.append((name, int(np.prod(first.shape))))
        return result

    return method


Noting = type("Noting", (NumpyBackend,), {name: noting(name) for name in KERNELS})

BATCH = 32 if FAST else 128
images, labels = load_dataset("mnist").train.batch(slice(0, BATCH))
three_step(alexnet(backend=Noting(), seed=0), images, labels)

sizes = np.array([size for _, size in orders])
print(f"the contract names {len(KERNELS)} kernels; one FBI step of {BATCH} images calls them")
print(f"{len(orders)} times, for {sizes.sum():,} numbers")
print(f"calls whose result has more than 10,000 numbers: {(sizes > 10_000).mean():.0%}")
share = sizes[sizes > 10_000].sum() / sizes.sum()
print(f"share of the numbers that these compute: {share:.1%}")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
groups = {
    "convolutions": (RED, "o", ("conv",)),
    "dense layers": (BLUE, "s", ("dense",)),
    "all others": (GREY, "^", ("",)),
}
kind = [next(g for g, v in groups.items() if name.startswith(v[2])) for name, _ in orders]
for name, (color, mark, _) in groups.items():
    where = [k for k, group in enumerate(kind) if group == name]
    ax.plot(where, sizes[where], mark, color=color, label=name, ms=5)
ax.axhline(10_000, color="black", lw=1, ls=":")
at_right = ("axes fraction", "data")
ax.annotate(" 10,000", (1, 10_000), xycoords=at_right, va="center", size=9)
ax.set(yscale="log", xlabel="call of a kernel, in order", ylabel="numbers computed")
ax.set_title(f"one FBI step, batch {BATCH}: how much can be done at the same time?", size=10)
fig.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# Nearly all of the numbers are in large arrays, whose elements do not depend on each other: it
# suits. (A small result need not be little work. The weight gradients of the convolutions, the red
# dots below the line, and the sums of Eq. (3), at the very bottom, make few numbers out of very
# many; there, threads must share a sum, and section 5 shows how.) Other calls compute very little,
# such as those of the last dense layer. They cannot fill a GPU, and cost a launch all the same.
# That is why a GPU likes **large batches**: the number of launches stays the same, and each does
# more.
#
# ## 2. One code for two kinds of arrays
#
# [CuPy](https://cupy.dev) is NumPy's interface for arrays in a GPU's memory: `cupy.zeros`,
# `a + b`, `a @ b`, `a.sum(axis=0)`, slices, strides. So a function that asks its arrays for nothing
# but that interface runs on both. One only must not write `np.` where an array may be CuPy's. The
# custom is to call the module `xp`. A backend of minifbi carries it as `backend.xp`.
#
# Here is a term of the paper's Eq. (3), $\|\mathbf a^+ - \mathbf a^-\|_1$ with $\mathbf a^- =
# \mathbf a^+ \odot \mathbf r$, written once:


# %%
def l1_term(xp, a, ratio):
    """Sum of |a - a * ratio|, on whatever kind of array."""
    return xp.abs(a - a * ratio).sum()


rng = np.random.default_rng(0)
a_host = rng.random((4, 5), dtype=np.float32)
r_host = rng.random((4, 5), dtype=np.float32)
a, ratio = backend.asarray(a_host), backend.asarray(r_host)  # to where the backend computes
print("array type:", type(a).__module__.partition(".")[0] + "." + type(a).__name__)
result = l1_term(xp, a, ratio)
print("term:", float(result), "  by NumPy:", float(l1_term(np, a_host, r_host)))
np.testing.assert_allclose(backend.to_numpy(result), l1_term(np, a_host, r_host), rtol=1e-6)

# %% [markdown]
# Most of minifbi's backend for GPUs is inherited from the readable NumPy backend in this way. Four
# rules keep code generic:
#
# 1. **Never mix.** NumPy arrays and CuPy arrays do not add up. Bring data to the device once, with
#    `backend.asarray`, and results back, with `backend.to_numpy`.
# 2. **`xp`, not `np`,** for everything that makes or takes arrays. (Types such as `np.float32` are
#    shared.)
# 3. **Do not look.** `float(x)`, `if x > 0:`, `print(x)` bring a number to the host. That works,
#    but everything stops until it is there (section 3).
# 4. **Random numbers come from the host.** One seed must mean one experiment, whatever the backend;
#    so minifbi draws permutations and dropout masks with NumPy and carries them over.
#
# CuPy enforces rule 1 with an error. Without a card, we can have a taste of it from a class of a
# few lines that is as strict:


# %%
class Elsewhere:
    """An array that pretends to be in another memory: no NumPy array may come near it."""

    def __init__(self, array):
        self.inside = array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use .get()")

    __array_ufunc__ = None  # NumPy's functions and operators do not take it, either

    def __mul__(self, other):
        if isinstance(other, np.ndarray):
            raise TypeError("Unsupported type numpy.ndarray")
        return Elsewhere(self.inside * (other.inside if isinstance(other, Elsewhere) else other))

    def get(self):
        return self.inside.copy()


far = a if ON_GPU else Elsewhere(a_host)
print("times 2 and back:", (far * 2).get()[0, :2], "is", 2 * a_host[0, :2])
for what, attempt in (
    ("device * host", lambda: far * r_host),
    ("np.asarray(device)", lambda: np.asarray(far)),
):
    try:
        attempt()
    except TypeError as error:
        print(f"{what}: {str(error)[:75]}")

# %% [markdown]
# minifbi's own tests use a larger class of this kind, `tests/support/strict_cupy.py`. It knows only
# functions that CuPy has, refuses everything that CuPy refuses, and counts how often something
# looks at a number. So most mistakes are found on machines without a card.
#
# ## 3. The queue
#
# When Python calls NumPy, the result is there when the call returns. On a GPU it is not. The call
# puts an order into the queue, and returns at once, with an array whose numbers do not exist yet.
# That is fine as long as nobody looks: the next order may use the array, since the device works
# through the queue in order. Whoever looks at a number waits until all orders before it are done.
# That is called **synchronisation**.
#
# A queue can be built in twenty lines. A thread in the background plays the device:

# %%
import queue
import threading


class Device:
    """Takes orders and works through them, one after the other, in the background."""

    def __init__(self):
        self.orders = queue.Queue()
        self.log = []  # (when ordered, when begun, when done)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            ordered, kernel = self.orders.get()
            begun = time.perf_counter()
            kernel()
            self.log.append((ordered, begun, time.perf_counter()))
            self.orders.task_done()

    def launch(self, kernel):
        self.orders.put((time.perf_counter(), kernel))  # and that is all: no waiting

    def synchronize(self):
        self.orders.join()


device = Device()


def busy():
    """A kernel that takes 20 ms."""
    time.sleep(0.02)


start = time.perf_counter()
for _ in range(5):
    device.launch(busy)
ordered = time.perf_counter()
device.synchronize()
done = time.perf_counter()
print(f"five orders given in {1e3 * (ordered - start):.1f} ms, ", end="")
print(f"done after {1e3 * (done - start):.0f} ms")

# %% [markdown]
# Now the host may prepare the next step while the device computes this one. This works as long as
# the host looks at nothing. Let us draw two ways to run four "training steps" of three kernels
# each. The host needs 5 ms to prepare a step. In the first, it reads the loss after each step, as
# one likes to do for a progress bar. In the second, it reads all losses at the end.


# %%
def run_steps(look_each_time):
    device, host = Device(), []
    start = time.perf_counter()
    for _ in range(4):
        begin = time.perf_counter()
        time.sleep(0.005)  # Python at work
        for _ in range(3):
            device.launch(lambda: time.sleep(0.004))
        host.append((begin - start, time.perf_counter() - start, BLUE))
        if look_each_time:
            begin = time.perf_counter()
            device.synchronize()
            host.append((begin - start, time.perf_counter() - start, "#cccccc"))
    begin = time.perf_counter()
    device.synchronize()
    if not look_each_time:
        host.append((begin - start, time.perf_counter() - start, "#cccccc"))
    return host, [(begun - start, done - start, ORANGE) for _, begun, done in device.log]


runs = {
    "the host looks at each loss": run_steps(True),
    "the host looks once, at the end": run_steps(False),
}

# %% tags=["hide-input"]
fig, axes = plt.subplots(2, 1, figsize=(9, 3.4), layout="constrained", sharex=True)
for ax, (title, rows) in zip(axes, runs.items(), strict=True):
    ax.spines[["top", "right", "left"]].set_visible(False)
    for row, bars in enumerate(rows):
        for begin, end, color in bars:
            ax.barh(row, 1e3 * (end - begin), 0.7, 1e3 * begin, color=color, ec="white", lw=0.8)
    ax.set_yticks([0, 1], ["host", "device"])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    total = 1e3 * max(end for _, end, _ in rows[1])
    ax.set_title(f"{title}: {total:.0f} ms", size=10)
axes[1].set_xlabel("ms   (blue: Python at work, grey: waiting, orange: kernels)")
plt.show()

# %% [markdown]
# In the first drawing, host and device take turns, and each waits for the other. In the second, the
# device is busy from the first order to the last.
#
# minifbi's trainer therefore never looks at a number during a step. Losses are kept as arrays on
# the device and read together: every 50 steps (before the validation accuracy that the gate
# wants), and at the end of an epoch. All it takes in the code is one question to the backend:

# %%
import inspect

from minifbi.training import Trainer

lines = inspect.getsource(Trainer._update).splitlines()
print("\n".join(line for line in lines if "asynchronous" in line or "_read(" in line))
print(inspect.getsource(Backend.scalars))

# %% [markdown]
# This has a price, and it should be known. If a loss is not a number any more, the run stops up
# to 50 steps later than on a CPU. The message still names the step, and no checkpoint is written
# in between.
#
# ## 4. How to time
#
# If calls return before the work is done, a naive stopwatch measures how long it takes to *order*
# the work:


# %%
def wrong(task):
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def right(task, synchronize, repeats=5):
    """The median of several, after a warm-up, and with nothing left in the queue."""
    task()  # the first call compiles, allocates, loads libraries
    times = []
    for _ in range(repeats):
        synchronize()  # nothing of what came before may run on our clock
        start = time.perf_counter()
        task()
        synchronize()  # and all of ours must be done
        times.append(time.perf_counter() - start)
    return float(np.median(times))


device = Device()
print("the queue in the background, a kernel of 20 ms:")
print(f"  wrong {1e3 * wrong(lambda: device.launch(busy)):8.3f} ms")
print(f"  right {1e3 * right(lambda: device.launch(busy), device.synchronize):8.3f} ms")

side = 512 if FAST else 1024
matrix = backend.asarray(rng.standard_normal((side, side), dtype=np.float32))
print(f"a product of matrices {side} x {side}, backend {backend.name!r}:")
print(f"  wrong {1e3 * wrong(lambda: matrix @ matrix):8.3f} ms")
print(f"  right {1e3 * right(lambda: matrix @ matrix, backend.synchronize):8.3f} ms")
if not ON_GPU:
    print("  (on a CPU both are fair, but for the warm-up: there is no queue)")

# %% [markdown]
# `python -m minifbi.bench --backend cupy` does it the second way. There are more traps: a GPU that
# was idle runs at a lower clock; the first allocation of an array asks the driver, the next ones
# are served from CuPy's *memory pool*; and a peer must be told to use the same precision (PyTorch's
# convolutions round their factors to 10 bits, TF32, unless told otherwise).
#
# ## 5. A kernel, line by line
#
# Where NumPy's interface would be wasteful, minifbi has kernels of its own, in CUDA, a dialect of
# C++. All of them stand in one file, `minifbi/backends/cupy_kernels.cu`. The simplest one lets a
# gradient pass where an activation was positive, the way back through a ReLU:

# %%
import re
from importlib.resources import files

SOURCE = (files("minifbi") / "backends" / "cupy_kernels.cu").read_text("utf-8")


def cuda(name):
    """The source of one kernel, with the comment above it."""
    return re.search(rf"((?://[^\n]*\n)*__global__ void {name}\(.*?\n}}\n)", SOURCE, re.S)[1]


print(re.search(r"#define EACH.*?\n.*?\n", SOURCE)[0])
print(cuda("gate"))

# %% [markdown]
# Read it as the story of **one thread**. `__global__` marks a kernel. `T` is `float` or `double`,
# `I` an integer type. Every thread runs the same lines, and differs from the others in two
# numbers that the device provides: `threadIdx.x`, its number in its block, and `blockIdx.x`, the
# number of its block. `blockDim.x`, the threads in a block, is the same for all. So `blockIdx.x *
# blockDim.x + threadIdx.x` is its number among all threads, and that is the first element it
# computes. `gridDim.x` is the number of blocks. With fewer threads than elements, each thread goes
# on with the element that lies one whole grid further: a **grid-stride loop**.
#
# That is simple enough to be played in Python. A launch runs all threads, here one after the other:


# %%
def launch(kernel, grid, block, *arguments):
    """Run a kernel: all threads of all blocks.  On a GPU they run at the same time."""
    for block_index in range(grid):
        for thread_index in range(block):
            first, stride = block_index * block + thread_index, grid * block
            kernel(first, stride, *arguments)


def gate(first, stride, g, a, out, total):
    for i in range(first, total, stride):  # EACH(i, total)
        out[i] = g[i] if a[i] > 0 else 0


g, a = rng.standard_normal(1000), rng.standard_normal(1000)
for grid, block in ((4, 256), (2, 64), (1, 1)):
    out = np.full(1000, np.nan)
    launch(gate, grid, block, g, a, out, len(g))
    np.testing.assert_array_equal(out, np.where(a > 0, g, 0))
    print(f"{grid} block(s) of {block:3d} threads: all 1000 elements right")

# %% [markdown]
# The result does not depend on the launch. That is worth testing, and the order in which threads
# run must not matter, either: each element is written by one thread alone, and no thread reads
# what another has written.
#
# Where there is a card, the CUDA file itself is compiled, and its kernel launched. CuPy needs no
# more than the text, the name, and the numbers of blocks and threads. (It passes Python's `int`
# as `long long`, which is why the kernels take that.)

# %%
from minifbi.backends.cupy_backend import kernel_source

g32, a32 = g.astype(np.float32), a.astype(np.float32)
if ON_GPU:
    module = xp.RawModule(code=kernel_source("float", "int"), options=("-std=c++14",))
    g_device, a_device = backend.asarray(g32), backend.asarray(a32)
    out = xp.empty(g_device.shape, np.float32)
    module.get_function("gate")((4,), (256,), (g_device, a_device, out, len(g)))
    np.testing.assert_array_equal(backend.to_numpy(out), np.where(a32 > 0, g32, 0))
    print("compiled, run on the GPU, and right")
else:
    print("No GPU: neither compiled nor run. The Python threads above stand for it.")

# %% [markdown]
# ### Windows as columns
#
# The heart of the convolution is `im2col` of notebook 2: every window becomes a column of a
# matrix, and then one matrix product does the work (by cuBLAS, NVIDIA's library). Here is the
# kernel. `SIZES` unpacks the geometry into short names: `C` channels, `N` images, `H`, `W` their
# size, `OH`, `OW` the size of the result, `KH`, `KW` that of a window, then stride and padding.

# %%
print(cuda("im2col"))

# %% [markdown]
# One thread computes one element of the matrix `columns`, number `i`. From `i` it finds out which
# one that is: the matrix has the axes (C, KH, KW, N, OH, OW), and the last one is the fastest. So
# the remainder of `i / OW` is the column `ox`; the quotient is divided by `OH`, and the remainder
# of that is the row `oy`; and so on, like seconds, minutes and hours out of a number of seconds.
# Then it knows which pixel it wants, and fetches it, or 0 outside of the image.
#
# In Python, for one thread:


# %%
def im2col(first, stride, x, columns, C, N, H, W, OH, OW, KH, KW, SH, SW, PH, PW):
    for i in range(first, C * KH * KW * N * OH * OW, stride):  # EACH
        rest, ox = divmod(i, OW)
        rest, oy = divmod(rest, OH)
        rest, n = divmod(rest, N)
        rest, column = divmod(rest, KW)
        c, row = divmod(rest, KH)
        y, z = oy * SH - PH + row, ox * SW - PW + column
        inside = 0 <= y < H and 0 <= z < W
        columns[i] = x[((c * N + n) * H + y) * W + z] if inside else 0


numpy_backend = get_backend("numpy")
for kernel, stride, padding in (((3, 3), (1, 1), (1, 1)), ((2, 3), (2, 1), (0, 2))):
    x = rng.standard_normal((2, 3, 6, 5))  # (N, C, H, W)
    expected, (oh, ow) = numpy_backend._im2col(x, kernel, stride, padding)
    columns = np.full(expected.size, np.nan)
    maps = np.ascontiguousarray(x.transpose(1, 0, 2, 3)).ravel()  # (C, N, H, W) in memory
    launch(im2col, 3, 32, maps, columns, 3, 2, 6, 5, oh, ow, *kernel, *stride, *padding)
    np.testing.assert_array_equal(columns.reshape(expected.shape), expected)
    print(f"windows {kernel}, stride {stride}, padding {padding}: equal to the reference")

# %% [markdown]
# Why (C, N, H, W), the channel first? Because the product of weights (O, C·KH·KW) and columns
# (C·KH·KW, N·OH·OW) leaves its result as (O, N, OH, OW): the next convolution finds its input in
# the order that it wants, and nothing is transposed in between.
#
# ### Neighbours
#
# Is this a *good* kernel? It computes nothing, so by notebook 9 only the bytes count. The 32
# threads of a warp fetch at the same moment. If their addresses lie side by side, the hardware
# makes few fetches out of 32; memory comes in pieces of 32 bytes, 8 numbers of float32. If they
# are scattered, it makes up to 32. Fetching side by side is called **coalesced**. It is notebook
# 9's cache line again, with another moral: on a CPU *one* thread should walk through neighbours,
# on a GPU *neighbouring threads* should.
#
# Let us write down which addresses a warp reads, and how many pieces that makes. For comparison, a
# kernel that gives each thread a *range* of elements, as one would do on a CPU:


# %%
def addresses(strided, warp_step, total, threads):
    """Elements of the result that the 32 threads of a warp compute in their turn `warp_step`."""
    if strided:  # as EACH: neighbours do neighbours, then all jump one grid ahead
        return np.arange(32) + warp_step * threads
    each = total // threads
    return np.arange(32) * each + warp_step  # thread k has elements k * each, k * each + 1, ...


class Reads:
    """Stands for an array, and writes down where it is read."""

    def __init__(self):
        self.places = []

    def __getitem__(self, place):
        self.places.append(place)
        return 0.0


C, N, H, W = 16, 128, 14, 14  # the second convolution of the paper's network
geometry = (C, N, H, W, H, W, 5, 5, 1, 1, 2, 2)
total = C * 25 * N * H * W
threads = total // 12 // 256 * 256  # whole blocks, twelve elements for each thread
patterns = {}
for name, strided in (
    ("neighbouring threads, neighbouring elements", True),
    ("a range each", False),
):
    pieces = []
    for warp_step in range(4):  # the first four turns of one warp
        elements = addresses(strided, warp_step, total, threads)
        reads = Reads()
        for element in elements:
            im2col(int(element), total, reads, {}, *geometry)
        pieces.append((len({place // 8 for place in reads.places}), len(set(elements // 8))))
    patterns[name] = elements
    read, written = np.mean(pieces, axis=0)
    print(f"{name}: a warp reads {read:.0f} pieces of memory and writes {written:.0f}")

# %% tags=["hide-input"]
fig, axes = plt.subplots(2, 1, figsize=(9, 3), layout="constrained")
for ax, (name, elements) in zip(axes, patterns.items(), strict=True):
    shift = elements - elements.min()
    width = 32 * 12
    for piece in range(0, width, 8):
        used = bool(np.any((shift >= piece) & (shift < piece + 8)))
        face = "#f3d9ae" if used else "white"
        ax.add_patch(plt.Rectangle((piece, 0), 8, 1, fc=face, ec=GREY, lw=0.8))
    for place in shift[shift < width]:
        ax.add_patch(plt.Rectangle((place, 0), 1, 1, fc=RED))
    ax.set(xlim=(-0.5, width + 0.5), ylim=(-0.05, 1.05), yticks=[])
    ax.spines[:].set_visible(False)
    hidden = int(np.sum(shift >= width))
    more = f" ({hidden} threads write beyond the drawing)" if hidden else ""
    ax.set_title(f"{name}{more}", size=10)
axes[0].set_xticks([])
axes[1].set_xlabel("place in the result; a box is 32 bytes, red: written by a thread of one warp")
plt.show()

# %% [markdown]
# The grid-stride loop is the right one: that is why `EACH` jumps a whole grid ahead instead of
# going on to the next element.
#
# ### Sums without a race
#
# A sum over a large array is harder. If all threads add to one number, they get into each other's
# way (the race of notebook 9). There are *atomic* additions, which do not, but then the order of
# the additions, and so the rounding, is another one in each run. minifbi wants the same bits for
# the same input. So a kernel leaves `parts` partial sums, one a thread, and a second, small sum
# finishes the work. This is Eq. (3):

# %%
print(cuda("l1_sums"))


def l1_sums(first, stride, x, ratio, sums, total, parts):
    for i in range(first, parts, stride):
        result = 0.0
        for k in range(i, total, parts):
            difference = x[k] - x[k] * ratio[k]
            result += -difference if difference < 0 else difference
        sums[i] = result


x, ratio = rng.standard_normal(5000), rng.standard_normal(5000)
sums = np.full(64, np.nan)
launch(l1_sums, 2, 32, x, ratio, sums, len(x), len(sums))
print("partial sums added up:", sums.sum().round(6), " reference:", l1_term(np, x, ratio).round(6))
np.testing.assert_allclose(sums.sum(), l1_term(np, x, ratio))

# %% [markdown]
# Look at the step of the inner loop: it is `parts`, so in each turn, neighbouring threads read
# neighbours. Coalesced again.
#
# The same question, who writes where, decides how maps are pooled on the way back. Each window
# hands its gradient to its winner, and windows may overlap. Written window by window, two threads
# could add to the same pixel. So the kernel `max_scatter` has a thread for each *pixel*, which
# asks all windows that reach it: are you mine?

# %%
print(cuda("max_scatter"))

# %% [markdown]
# ## 6. The step as a whole
#
# The contract of a backend (`minifbi/backends/base.py`) is small: bring arrays there and back,
# the three linear maps of a convolution, the same for dense layers, pooling with winners, and a
# few fused kernels. Whoever fulfils it can train. The tape, the layers, the loss and the trainer
# do not know where they run. Let us look at one step on each backend that works here. Loss and
# gradients must agree to rounding:

# %%
small_images, small_labels = images[:16], labels[:16]
results = {}
for name in [name for name, state in status.items() if state == "ok"]:
    model = alexnet(backend=name, seed=0)
    losses = three_step(model, small_images, small_labels)
    gradients = {n: p.backend.to_numpy(p.grad) for n, p in model.parameters().items()}
    results[name] = losses.loss.item(), gradients
reference = results["numpy"]
for name, (loss, gradients) in results.items():
    far = max(
        float(np.linalg.norm(gradient - reference[1][n]) / np.linalg.norm(reference[1][n]))
        for n, gradient in gradients.items()
    )
    print(f"{name:6s} loss {loss:.6f}, gradients off by at most {far:.0e} of their size")
    assert abs(loss - reference[0]) < 1e-4 * reference[0]
    assert far < 1e-3
if not ON_GPU:
    print("cupy   not here: nothing is said about it")

# %% [markdown]
# **Data.** Carrying a batch from host to device in each step would take time and would wait.
# MNIST's training images are small as bytes, so all of them go to the device once, and each batch
# is gathered and scaled to floats *there*, by the same permutation as on a CPU. Only that
# permutation travels, once an epoch. The class for this is generic as well, so we can watch it
# with any backend:

# %%
from minifbi.datasets.resident import ResidentSplit

train = load_dataset("mnist").train
resident = ResidentSplit(train, backend)
order = np.random.default_rng(1).permutation(len(train))[:BATCH]
near, near_labels = resident.batch(order)
host, host_labels = train.batch(order)
np.testing.assert_array_equal(near.numpy(), host)
np.testing.assert_array_equal(backend.to_numpy(near_labels), host_labels)
print(f"{train.images.dtype} images: {train.images.nbytes / 1e6:.0f} MB, once")
print(f"the same as floats, batch by batch: {host.nbytes / 1e6:.2f} MB in each step")
print(f"an epoch's permutation: {np.arange(len(train)).nbytes / 1e6:.2f} MB")
print("the batches are equal, bit for bit")

# %% [markdown]
# ## 7. From one backend to another
#
# A checkpoint is a file of plain NumPy arrays, whatever backend it was trained on. So one may
# train on a borrowed GPU at night and explain the network on a laptop in the morning. Let us
# train for one short epoch with one backend, go on with another, and look at the network with a
# third.

# %%
import tempfile
from pathlib import Path

from minifbi import training
from minifbi.datasets import Dataset, Split
from minifbi.training import load_checkpoint

FIRST, SECOND, THIRD = ("cupy", "numba", "numpy") if ON_GPU else ("numba", "numpy", "numba")
mnist = load_dataset("mnist")


def some(split, count):
    return Split.from_arrays(split.images[:count], split.labels[:count])


few = Dataset(
    name="mnist",
    train=some(mnist.train, 1280 if FAST else 6400),
    validation=some(mnist.validation, 500),
    test=some(mnist.test, 500),
    num_classes=10,
    class_names=mnist.class_names,
)
config = training.TrainConfig(model="lenet", epochs=1, batch_size=64, backend=FIRST, fbi_gate=0.5)
quietly = {"dataset": few, "quiet": True, "figures": False}
pixels, _ = few.test.batch(slice(0, 100))
with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / "run"
    first = training.train(config, folder, **quietly)
    print(f"one epoch on {FIRST}: validation accuracy {first['val_accuracy']:.3f}")
    second = training.resume(folder, epochs=2, backend=SECOND, **quietly)
    print(f"one more on {SECOND}: validation accuracy {second['val_accuracy']:.3f}")

    arrays, meta = load_checkpoint(folder / "checkpoint.npz")
    kinds = {type(array).__module__ for group in arrays.values() for array in group.values()}
    print(f"in the file: {', '.join(arrays)}, all of them arrays of {', '.join(kinds)}")
    logits = {}
    for name in (SECOND, THIRD):
        model, _ = training.load_model(folder, backend=name)
        logits[name] = model(pixels).numpy()
gap = np.abs(logits[SECOND] - logits[THIRD]).max()
print(f"logits by {SECOND} and by {THIRD}: apart by at most {gap:.0e}, ", end="")
print(f"of {np.abs(logits[THIRD]).max():.1f}")
assert gap < 1e-3

# %% [markdown]
# The same on the command line:
#
# ```text
# python -m minifbi.train --backend cupy --epochs 10 --out run
# python -m minifbi.train --resume run --backend numba --epochs 12
# python -m minifbi.explain run --backend numpy
# ```
#
# Are the runs *equal*? Permutations and masks are, since they come from one seed. The numbers
# agree to rounding only: another kernel adds in another order. In a long run such differences
# grow, until a unit that was just above 0 is just below. So compare accuracies, not bits.
#
# ## 8. What doctor says
#
# Whether a card can be used depends on four things that must fit together: the card, its driver,
# the CUDA libraries, and CuPy. `python -m minifbi.doctor` asks each of them. Here are the two
# parts of its report that matter now, on the machine on which this notebook ran:

# %%
import subprocess
import sys

doctor = [sys.executable, "-m", "minifbi.doctor"]
report = subprocess.run(doctor, capture_output=True, text=True, check=True).stdout
part = ""
for line in report.splitlines():
    part = part if line.startswith(" ") else line.strip()
    if part in ("Backends", "GPU"):
        print(line)

# %% [markdown]
# What would it say on other machines? A card that is missing can be played, by a module that
# fails as CUDA does:

# %%
from types import SimpleNamespace

from minifbi.backends.cupy_device import check_device, fitting_batch
from minifbi.errors import BackendUnavailableError


class CUDARuntimeError(RuntimeError):
    """As CuPy raises it, with CUDA's number of the error."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def count_devices(error):
    if error is not None:
        raise error
    return 0


for error in (
    CUDARuntimeError(35, "cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
    CUDARuntimeError(999, "cudaErrorUnknown: unknown error"),
    None,
):
    runtime = SimpleNamespace(getDeviceCount=lambda error=error: count_devices(error))
    try:
        check_device(SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    except BackendUnavailableError as told:
        print(f"- {told}")

# %% [markdown]
# And when the memory of the card is too small, the message names a batch that should fit. A
# step's memory grows with its batch, so it can be estimated from what the failed step had got and
# asked for:

# %%
GIB = 2**30
for needed, available in ((12 * GIB, 8 * GIB), (40 * GIB, 8 * GIB)):
    fits = fitting_batch(4096, needed, available)
    print(f"batch 4096 needs {needed // GIB} GiB, {available // GIB} are free: try {fits}")

# %% [markdown]
# ## What you learnt
#
# - A GPU runs very many threads, each of them slow. It wants large arrays with independent
#   elements, and large batches: the launches cost the same, and each does more.
# - Code that asks its arrays for nothing but NumPy's interface, through `xp`, runs on both.
# - Calls are orders in a queue. Looking at a number waits. A training step should look at none.
# - To time: warm up, synchronise, start the clock, run, synchronise, stop.
# - A CUDA kernel is the story of one thread. It can be played and tested in Python. Neighbouring
#   threads should touch neighbouring memory, and each result should be written by one thread alone.
# - Checkpoints do not know backends; runs on two backends agree to rounding.
# - No speed of a GPU was claimed here. If you have a card, `python -m minifbi.bench --backend cupy`
#   measures yours.
#
# ## Exercises
#
# Replace each `...`, and run the cell: the check in its last line says whether it is right, and if
# not, where to look. None of them needs a GPU.

# %%
from checks import tutorial_10 as check

# %% [markdown]
# **Exercise 1: generic code.** Write the softmax of notebook 3, $p_k = e^{z_k} / \sum_j e^{z_j}$
# in each row of `z` (N, K), so that it runs on any `xp`. Subtract each row's maximum first, so
# that large numbers do not overflow. The check runs it on NumPy arrays, and on arrays of a strict
# stand-in.


# %%
def softmax(xp, z):
    # solution
    # student: return ...
    powers = xp.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
    # end solution


check.softmax(softmax)

# %% [markdown]
# **Exercise 2: a stopwatch.** Return the seconds that one run of `task` takes. `clock()` tells
# the time, `synchronize()` waits until the queue is empty. The queue may hold work of somebody
# else when you start, and the first run of `task` also compiles.


# %%
def measure(task, synchronize, clock):
    # solution
    # student: # what has to happen before the clock is read for the first time?
    # student: return ...
    task()
    synchronize()
    start = clock()
    task()
    synchronize()
    return clock() - start
    # end solution


check.measure(measure)

# %% [markdown]
# **Exercise 3: where am I?** A map of shape (C, N, H, W) lies in memory in that order, the last
# axis fastest. Which channel `c`, image `n`, row `y` and column `x` has element number `i`? Use
# `//` and `%`.


# %%
def place_of(i, C, N, H, W):
    # solution
    # student: # begin with x, which changes fastest
    # student: return ...  # c, n, y, x
    x = i % W
    y = i // W % H
    n = i // (W * H) % N
    c = i // (W * H * N)
    return c, n, y, x
    # end solution


check.place_of(place_of)

# %% [markdown]
# **Exercise 4: a kernel of your own.** Average pooling without overlap: `x` holds `planes` maps
# of `H` x `W` pixels, flat; `out`, flat as well, gets the mean of each window of `K` x `K`. (`H`
# and `W` are multiples of `K`.) Write the story of one thread, with a grid-stride loop over the
# elements of `out`. The check launches it with several grids, runs the threads in several orders,
# and watches who writes where.


# %%
def avg_pool(first, stride, x, out, planes, H, W, K):
    # solution
    # student: OH, OW = H // K, W // K
    # student: for i in range(...):
    # student:     # which window is it? Then add up its K x K pixels.
    # student:     out[i] = ...
    OH, OW = H // K, W // K
    for i in range(first, planes * OH * OW, stride):
        ox, oy, plane = i % OW, i // OW % OH, i // (OW * OH)
        total = 0.0
        for row in range(K):
            for column in range(K):
                total += x[(plane * H + oy * K + row) * W + ox * K + column]
        out[i] = total / (K * K)
    # end solution


check.avg_pool(avg_pool)

# %% [markdown]
# **Exercise 5: what helps?** Suppose that a step orders 120 kernels, that the host needs 10 µs
# for each order, and that the device needs 2 µs for each kernel, at batch 32. What makes training
# (images a second) faster?
#
# - `"a"`: kernels that are twice as fast
# - `"b"`: a batch of 64, which takes the device twice as long
# - `"c"`: reading the loss after each step, so that the device can rest

# %%
# solution
# student: answer = ...  # "a", "b" or "c"
answer = "b"
# end solution

check.what_helps(answer)

# %% [markdown]
# **To think about.** Write `max_scatter` as a kernel with one thread for each *window*. When is it
# right? When would it be faster than the one above, and what would you lose?
#
# ## Further reading
#
# - J. Nickolls, I. Buck, M. Garland and K. Skadron, *Scalable Parallel Programming with CUDA*, ACM
#   Queue 6(2), 2008: the model of grids, blocks and threads, by its makers.
# - R. Okuta, Y. Unno, D. Nishino, S. Hido and C. Loomis, *CuPy: A NumPy-Compatible Library for
#   NVIDIA GPU Calculations*, Workshop on Machine Learning Systems at NIPS, 2017.
# - S. Chetlur et al., *cuDNN: Efficient Primitives for Deep Learning*, 2014, arXiv:1410.0759:
#   convolutions as matrix products on a GPU.
# - D. B. Kirk and W. W. Hwu, *Programming Massively Parallel Processors*, Morgan Kaufmann: the
#   textbook.
# - NVIDIA, *CUDA C++ Programming Guide*.
# - `minifbi/backends/cupy_backend.py` and `cupy_kernels.cu`: all of it, in two files; and the page
#   "On an NVIDIA GPU" of the documentation.
#
# Before: [9. Kernels](09_kernels.ipynb). Next: [11. Build your own](11_build_your_own.ipynb).
