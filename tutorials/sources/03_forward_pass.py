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
# # 3. The forward pass: from a digit to ten scores
#
# A network for handwritten digits is a chain of simple machines. Each takes the numbers that the
# one before has made and makes new ones, until only ten are left, one for each class. Walking
# through the chain from the image to the scores is called the *forward pass*. It is the first of
# the three steps of Yoo, Kim and Kang (2019), and the other two stand on what it leaves behind.
#
# In this tutorial you will
#
# 1. read the paper's Eq. (1), and say what each of its symbols is in a real network,
# 2. count the paper's network with a pencil: shapes, parameters, multiplications,
# 3. write its forward pass in NumPy and hold it equal to minifbi's, layer by layer,
# 4. see ReLU and pooling at work on a digit,
# 5. turn ten scores into probabilities and into one number, the loss,
# 6. look at the network's activation maps, untrained and trained,
# 7. find out what the forward pass must keep for the two steps after it.
#
# You need [notebook 1](01_tensors_and_the_tape.ipynb) (the tape) and
# [notebook 2](02_convolution_three_ways.ipynb) (convolution). It takes about 30 minutes.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer images; for a quick run

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY, ORANGE = "#1f77b4", "#c0392b", "#666666", "#d98200"


def panels(rows, columns, width, height, **options):
    """A row or grid of plots without the upper and the right edge."""
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", **options
    )
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


# %% [markdown]
# ## 1. One equation
#
# The paper writes the forward pass in one line:
#
# $$\mathbf a_i^+ = f(\mathbf a_{i-1}^+, \mathbf w_i) \tag{1}$$
#
# - $i$ numbers the layers, from 1 to $K$.
# - $\mathbf a_0^+$ is the input image. $\mathbf a_i^+$ is what layer $i$ hands on, its *forward
#   activations*. The plus sign stands for "forward"; from the next notebook on there will be a
#   minus as well.
# - $\mathbf w_i$ are the *weights* of layer $i$, the numbers that training changes.
# - $f$ is what the layer does. In the paper it is a convolution or a *dense* layer (also called
#   fully connected: each output is a weighted sum of all inputs). These are the *functional*
#   layers; the paper counts only them.
#
# Here is the smallest example worth looking at: two dense layers, two inputs, three *hidden* units
# (units that are neither input nor output), one output. Between the two layers stands a *ReLU*
# (rectified linear unit), which replaces negative numbers by 0. Take a pencil before you run it.

# %% tags=["eq-1"]
W1 = np.array([[1.0, 1.0], [2.0, -1.0], [-1.0, 1.0]])  # 3 units, 2 inputs each
W2 = np.array([[2.0, 1.0, 5.0]])  # 1 unit, 3 inputs


def dense(a, W):
    return W @ a


def relu(z):
    return np.maximum(z, 0)


a0 = np.array([2.0, 1.0])
z1 = dense(a0, W1)
a1 = relu(z1)
y = dense(a1, W2)
print("a_0^+ =", a0)
print("z_1   =", z1, "  before the ReLU")
print("a_1^+ =", a1)
print("y     =", y)

# %% [markdown]
# Two names to keep apart: $\mathbf z_i$ is the weighted sum, which may be negative, and $\mathbf
# a_i^+$ is what is left of it after the ReLU: the activation, which never is. A unit whose
# activation is 0 is called *silent*. (You will meet this net again in notebooks
# [4](04_relevance.ipynb) and [5](05_the_fbi_loss.ipynb).)
#
# **Why the ReLU?** Leave it out, and the two layers collapse into one. A matrix times a matrix is a
# matrix, however many there are:

# %%
without_relu = W2 @ (W1 @ a0)
one_layer = (W2 @ W1) @ a0
print("two layers without ReLU:", without_relu, "  one layer:", one_layer, "  with ReLU:", y)

# %% [markdown]
# ## 2. The paper's network, with a pencil
#
# The paper uses "an AlexNet model with minor modification in kernel and channel sizes". It tells us
# that there are five convolutions, and that the first three have 16, 16 and 32 kernels (a layer's
# *filters*: each makes one channel of the result). The rest is minifbi's choice:
#
# | layer | kernel | padding | makes | then |
# |---|---|---|---|---|
# | conv1 | 5 x 5 | 2 | 16 channels | ReLU, pool |
# | conv2 | 5 x 5 | 2 | 16 channels | ReLU, pool |
# | conv3 | 3 x 3 | 1 | 32 channels | ReLU |
# | conv4 | 3 x 3 | 1 | 32 channels | ReLU |
# | conv5 | 3 x 3 | 1 | 32 channels | ReLU, pool |
# | dense6 | | | 128 units | ReLU |
# | dense7 | | | 128 units | ReLU |
# | dense8 | | | 10 scores | |
#
# So $K = 8$. *Pool* is maximum pooling with windows of 2 x 2: of each four neighbours in a channel
# only the largest goes on, so that maps become half as high and half as wide (rounded down).
# Between pool and dense6 the maps are *flattened*, that is, written as one long row.
#
# An MNIST image has the shape $(1, 28, 28)$: channels, rows, columns. Follow it through the table.
# From notebook 2 we know the number of places of a window, $\lfloor (H + 2p - k)/s \rfloor + 1$,
# here with stride $s = 1$. For conv1 that is $28 + 4 - 5 + 1 = 28$: with this padding the size
# stays.
#
# The *parameters* are all numbers that training may change, the weights and the *biases*. A bias is
# a number that is added to each output: a convolution has one for each filter, a dense layer one
# for each unit. So conv1 has $16 \cdot (1 \cdot 5 \cdot 5 + 1) = 416$ parameters. And it takes $28
# \cdot 28 \cdot 16$ sums of $5 \cdot 5$ products each: that many *multiply-adds*.
#
# Now it is your turn: fill in the row of conv2, then that of dense6. The program does the same:

# %% tags=["count-the-network"]
LAYERS = [  # name, kind, what it needs to know
    ("conv1", "conv", (16, 5, 2)),  # filters, kernel, padding
    ("pool1", "pool", 2),
    ("conv2", "conv", (16, 5, 2)),
    ("pool2", "pool", 2),
    ("conv3", "conv", (32, 3, 1)),
    ("conv4", "conv", (32, 3, 1)),
    ("conv5", "conv", (32, 3, 1)),
    ("pool5", "pool", 2),
    ("dense6", "dense", 128),
    ("dense7", "dense", 128),
    ("dense8", "dense", 10),
]


def count(layers, shape):
    """For each layer: the shape of its result, its parameters, its multiply-adds for one image."""
    rows = []
    for name, kind, options in layers:
        parameters = work = 0
        if kind == "conv":
            filters, kernel, padding = options
            channels, height, width = shape
            window = channels * kernel * kernel  # numbers under the kernel
            size = (height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1)
            shape = (filters, *size)
            parameters, work = filters * (window + 1), int(np.prod(shape)) * window
        elif kind == "pool":
            channels, height, width = shape
            shape = (channels, height // options, width // options)
        else:
            inputs = int(np.prod(shape))  # all numbers of the layer below
            shape = (options,)
            parameters, work = options * (inputs + 1), options * inputs
        rows.append((name, shape, parameters, work))
    return rows


table = count(LAYERS, (1, 28, 28))
print(f"{'layer':8s}{'result':>14s}{'parameters':>12s}{'multiply-adds':>15s}")
for name, shape, parameters, work in table:
    numbers = f"{parameters:12,}{work:15,}" if parameters else ""
    print(f"{name:8s}{shape!s:>14s}{numbers}")
total = {"parameters": sum(row[2] for row in table), "work": sum(row[3] for row in table)}
print(f"{'together':22s}{total['parameters']:12,}{total['work']:15,}")

# %% tags=["hide-input"]
fig, axes = panels(1, 3, 9, 2.9, sharey=True)
names = [row[0] for row in table if row[2]]
columns = {
    "numbers handed on": ([int(np.prod(row[1])) for row in table if row[2]], BLUE),
    "parameters": ([row[2] for row in table if row[2]], ORANGE),
    "multiply-adds": ([row[3] for row in table if row[2]], RED),
}
for ax, (title, (values, color)) in zip(axes, columns.items(), strict=True):
    ax.barh(names, values, color=color)
    for k, value in enumerate(values):
        share = value / sum(values)
        ax.text(value, k, f" {share:.0%}" if share >= 0.01 else " < 1%", va="center", size=8.5)
    ax.set(title=title, xlim=(0, 1.25 * max(values)))
    ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 3))
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# The three pictures have different shapes, and that holds for most networks of this kind. Near the
# image the maps are large. The convolutions do nearly all of the work. And nearly half of the
# parameters sit in the first dense layer, which does almost no work: a kernel is used at every
# place of the map, a dense weight once.
#
# Let us ask minifbi. `alexnet()` builds the network with random weights (He et al. 2015: normal
# numbers, scaled so that activations neither fade nor explode from layer to layer) and biases 0.

# %%
from minifbi import alexnet

net = alexnet(seed=0, backend="numpy", dtype=np.float64)
net.summary()
assert sum(p.size for p in net.parameters().values()) == total["parameters"]

# %% [markdown]
# ## 3. The whole forward pass in NumPy
#
# Four small functions are all that it takes. They work on a *batch*, so a first axis counts the
# images: $(N, C, H, W)$. The convolution cuts out all windows and multiplies, as in notebook 2
# (`einsum` says over which axes to sum: channel `c` and the kernel's `i`, `j`). For pooling, each
# axis of the maps is split into pairs, and the maximum is taken over the axes of the pairs.


# %% tags=["forward-by-hand"]
def convolution(x, w, b, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    z = np.einsum("nchwij,ocij->nohw", windows, w, optimize=True)
    return z + b[:, None, None]


def pool(a):
    n, channels, height, width = a.shape
    a = a[:, :, : height // 2 * 2, : width // 2 * 2]  # an odd row or column at the end is left out
    return a.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def forward(x, state):
    """All layers of the paper's network; returns the result of each, by its name."""
    results, a = {}, x
    for name, kind, options in LAYERS:
        if kind == "pool":
            a = results[name] = pool(a)
            continue
        w, b = state[f"{name}.weight"], state[f"{name}.bias"]
        if kind == "conv":
            z = convolution(a, w, b, padding=options[2])
        else:
            z = a.reshape(len(a), -1) @ w.T + b  # flattened; a row for each image
        results[name] = z
        if name != "dense8":  # the scores may be negative
            a = results[f"relu_{name}"] = relu(z)
    return results


# %% [markdown]
# Real digits, please. Then we compare with `forward_pass`, minifbi's step 1. It returns a list with
# one `Step` for each layer. A step has a `name`, its input `x` and its output `z` (both tensors,
# see notebook 1), and a few things that it remembers for later.

# %%
from minifbi import forward_pass, load_dataset

mnist = load_dataset("mnist")
images, labels = mnist.test.batch(slice(0, 200), dtype=np.float64)
ours = forward(images[:8], net.state_dict())
steps = forward_pass(net, images[:8])
for step in steps:
    if step.name in ours:
        gap = np.abs(step.z.numpy() - ours[step.name]).max()
        print(f"{step.name:12s} {step.z.shape!s:16s} largest difference {gap:.0e}")
        np.testing.assert_allclose(step.z.numpy(), ours[step.name], atol=1e-12)
print("scores of the first image:", steps[-1].z.numpy()[0].round(2))

# %% [markdown]
# Each line is a picture of what happened: 8 images; 1 channel becomes 16, then 32; the maps shrink
# from 28 to 3 pixels; at the end, 10 numbers for each image.
#
# How does this fit Eq. (1)? The activation $\mathbf a_i^+$ of a functional layer is what arrives at
# the *next* functional layer: after ReLU, and after pooling where there is one. So in minifbi
# $\mathbf a_{i-1}^+$ is always `step.x` of layer $i$. For conv1 it is the image itself.

# %%
functional = [step for step in steps if step.layer.functional]
for i, step in enumerate(functional, start=1):
    print(f"layer {i}: {step.name:7s} a_{i - 1}^+ has shape {step.x.shape[1:]}")
print("K =", len(functional))

# %% [markdown]
# ## 4. ReLU and pooling at work
#
# The edge kernel of notebook 2 answers to vertical edges: positive where the ink begins, going from
# left to right, negative where it ends. Let it run over a digit, then apply ReLU, then pool.

# %%
edges = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])[None, None]
digit = images[:1]
z = convolution(digit, edges, np.zeros(1), padding=1)
a = relu(z)
pooled = pool(a)
for title, value in (("before the ReLU", z), ("after it", a), ("pooled", pooled)):
    print(f"{title:16s} {value[0, 0].shape}  {(value != 0).mean():4.0%} of the numbers are not 0")

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
limit = np.abs(z).max()
r, q = (int(v) // 2 for v in np.unravel_index(a[0, 0].argmax(), a.shape[2:]))
shown = [
    (digit, f"a {labels[0]}", {"cmap": "gray_r"}),
    (z, "$z$: blue +, red -", {"cmap": "RdBu", "vmin": -limit, "vmax": limit}),
    (a, "after ReLU", {"cmap": "Blues", "vmax": limit}),
    (pooled, "after pooling", {"cmap": "Blues", "vmax": limit}),
]
for ax, (values, title, options) in zip(axes, shown, strict=True):
    ax.imshow(values[0, 0], **options)
    ax.set(xticks=[], yticks=[], title=title)
axes[2].add_patch(plt.Rectangle((2 * q - 0.5, 2 * r - 0.5), 2, 2, fill=False, ec=ORANGE, lw=2))
axes[3].add_patch(plt.Rectangle((q - 0.5, r - 0.5), 1, 1, fill=False, ec=ORANGE, lw=2))
plt.show()

# %%
window = a[0, 0, 2 * r : 2 * r + 2, 2 * q : 2 * q + 2]
print("the orange window:\n", window.round(2))
print("its maximum:", window.max().round(2), "  in the pooled map:", pooled[0, 0, r, q].round(2))

# %% [markdown]
# The **ReLU** makes a decision: this filter now answers to ink that *begins*, and keeps silent
# where it ends. (Another filter, with the signs turned around, may take care of the ends.)
#
# The **pooling** makes a decision too. In each window one number wins, and only it goes on. What is
# gained? The next layer has a quarter of the work, it sees further with the same kernel, and it
# cares less about the exact place. Watch it: shift the digit by one pixel and compare the maps, by
# the *cosine* of the two maps, written as vectors (1: the same up to a positive factor; 0:
# nothing in common; negative: one is high where the other is low).


# %%
def cosine(u, v):
    return float((u * v).sum() / np.linalg.norm(u) / np.linalg.norm(v))


def moved(image, columns):
    """The digit, moved to the right; the ink of these images stays clear of the edge."""
    return np.roll(image, columns, axis=-1)


print("shift   image   edges   after ReLU   pooled   pooled twice")
for shift in (0, 1, 2, 3):
    x_moved = moved(digit, shift)
    z_moved = convolution(x_moved, edges, np.zeros(1), padding=1)
    a_moved = relu(z_moved)
    print(
        f"{shift:5d} {cosine(digit, x_moved):7.2f} {cosine(z, z_moved):7.2f} "
        f"{cosine(a, a_moved):12.2f} {cosine(pooled, pool(a_moved)):8.2f} "
        f"{cosine(pool(pooled), pool(pool(a_moved))):14.2f}"
    )

# %% [markdown]
# After one pixel of shift, the edge maps have already parted, while the maps that were pooled twice
# still resemble each other. Nobody trained this into the network: it comes with the layers.
#
# ## 5. From scores to one number
#
# The last layer makes ten scores, the *logits*. They can be any numbers; the largest is the answer.
# To train, we need to say *how* good the answer is, with one number that can be differentiated.
#
# **Softmax** turns scores $z_1, \dots, z_{10}$ into probabilities: positive numbers with the sum 1,
#
# $$p_c = \frac{e^{z_c}}{\sum_d e^{z_d}} .$$
#
# Only *differences* of scores count: add the same number to all of them, and numerator and
# denominator grow by the same factor. This saves us from a trap.

# %% tags=["softmax"]
scores = np.array([2.0, 1.0, -1.0])


def softmax_naive(z):
    return np.exp(z) / np.exp(z).sum()


def softmax(z):
    z = z - z.max(axis=-1, keepdims=True)  # the largest exponent is now 0: nothing overflows
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


with np.errstate(all="ignore"):
    for shift in (0.0, 5.0, 1000.0):
        naive, safe = softmax_naive(scores + shift), softmax(scores + shift)
        print(f"scores + {shift:<6g} naive {naive.round(4)}   safe {safe.round(4)}")

# %% [markdown]
# $e^{1000}$ is larger than any floating-point number, and infinity divided by infinity is no number
# (`nan`). Subtracting the largest score first gives the same probabilities, always.
#
# **Cross-entropy** looks at the probability of the true class $t$ only, and takes
#
# $$L_{TSK} = -\log p_t ,$$
#
# averaged over the images of the batch. (The paper calls it $L_{TSK}$, the loss of the *task*.) It
# is 0 for a network that is sure and right. It is $\log 10 \approx 2.3$ for one that gives each of
# ten classes the same chance. And it grows without bound for one that is sure and wrong.

# %% tags=["hide-input"]
fig, axes = panels(1, 2, 9, 2.9, width_ratios=(1, 1.15))
p = np.linspace(0.004, 1, 400)
axes[0].plot(p, -np.log(p), color=BLUE)
axes[0].plot(0.1, np.log(10), "o", color=RED)
axes[0].annotate("ten classes, no idea", (0.1, np.log(10)), (0.2, 2.6), color=RED)
axes[0].set(xlabel="probability of the true class", title="cross-entropy", ylim=(0, None))
classes = np.arange(3)
for k, (factor, color) in enumerate(((0.5, "#9ecae1"), (1, BLUE), (3, "#08306b"))):
    bars = axes[1].bar(
        classes + 0.26 * (k - 1), softmax(factor * scores), 0.24, color=color, label=f"{factor:g} x"
    )
    axes[1].bar_label(bars, fmt="%.2f", size=8, color=GREY)
axes[1].set(xticks=classes, xticklabels=[f"score {s:g}" for s in scores], title="softmax")
axes[1].legend(frameon=False, title="scores times", loc="upper right")
plt.show()

# %% [markdown]
# (Right: multiplying the scores makes the network surer of the same answer.) minifbi computes
# $\log p_t$ in one go, without ever forming a $p_t$ that could round to 0. What does the untrained
# network pay on real digits?

# %% tags=["cross-entropy"]
from minifbi.autograd import Tensor, cross_entropy

untrained = forward(images, net.state_dict())["dense8"]
probability = softmax(untrained)[np.arange(len(labels)), labels]
by_hand = -np.log(probability).mean()
by_minifbi = cross_entropy(Tensor(untrained), labels).item()
print(f"by hand {by_hand:.10f}\nminifbi {by_minifbi:.10f}\nlog 10  {np.log(10):.10f}")
print(f"right answers: {(untrained.argmax(axis=1) == labels).mean():.0%}")
np.testing.assert_allclose(by_hand, by_minifbi)

# %% [markdown]
# Not better than guessing, and no wonder. (Somewhat above $\log 10$, since it does have opinions,
# only that they have nothing to do with the digits.)
#
# Softmax and cross-entropy belong together for one more reason: their common gradient could not be
# simpler. With respect to the scores of one image it is
#
# $$\frac{\partial L_{TSK}}{\partial z_c} = p_c - [c = t],$$
#
# the probabilities, minus 1 at the true class ($[c = t]$ is 1 if $c = t$ and 0 otherwise). The true
# score is pushed up by what it lacks to 1, each other score down by what it has. The tape of
# notebook 1 agrees:

# %%
leaf = Tensor(scores[None], requires_grad=True)
cross_entropy(leaf, [1]).backward()
print("probabilities        ", softmax(scores).round(4))
print("gradient, true class 1", leaf.grad[0].round(4))
np.testing.assert_allclose(leaf.grad[0], softmax(scores) - [0, 1, 0])

# %% [markdown]
# ## 6. Untrained and trained
#
# Now we train the network for a moment, on a few thousand digits and for the task alone. *How* that
# is done is the subject of [notebook 6](06_three_step_training.ipynb); here we only want a network
# that has learnt something, to compare it with the one it was before. (If this is your first run,
# minifbi compiles its kernels first, which takes longer than the training.)

# %%
from minifbi.datasets import Dataset, Split
from minifbi.training import TrainConfig, Trainer, evaluate

TRAIN, TEST, EPOCHS, BATCH = (960, 200, 3, 32) if FAST else (4000, 2000, 3, 64)


def part(split, count):
    return Split.from_arrays(split.images[:count], split.labels[:count])


digits = Dataset(
    "mnist",
    part(mnist.train, TRAIN),
    part(mnist.validation, 200),
    part(mnist.test, TEST),
    mnist.num_classes,
    mnist.class_names,
)
trainer = Trainer(TrainConfig(fbi_weight=0.0, epochs=EPOCHS, batch_size=BATCH, seed=0), digits)
before = {name: array.copy() for name, array in trainer.model.state_dict().items()}
accuracy, loss = evaluate(trainer.model, digits.test)
print(f"untrained: test accuracy {accuracy:.3f}, cross-entropy {loss:.3f}")
for _ in range(EPOCHS):
    trainer.run_epoch()
accuracy, loss = evaluate(trainer.model, digits.test)
print(f"trained:   test accuracy {accuracy:.3f}, cross-entropy {loss:.3f}")

# %% [markdown]
# An *activation map* is one channel of a layer's result, drawn as an image: where does this filter
# find its pattern? Here are all maps of the first three convolutions for a 7, after the ReLU, from
# the network as it was born and as it is now. Both share one range of colours in each layer,
# and the colours rise with the square root, so that faint activations can be seen. (The
# paper's Fig. 2 shows such maps, of two networks that were trained differently.)

# %% tags=["maps"]
from minifbi.activation_maps import activation_maps

models = {"untrained": alexnet(seed=0), "trained": trainer.model}
for name, array in models["untrained"].state_dict().items():
    assert np.array_equal(array, before[name])  # the same network as before the training

place = int(np.flatnonzero(mnist.test.labels == 7)[0])
seven = mnist.test.batch(slice(place, place + 1))[0][0]  # (1, 28, 28)
maps = {title: activation_maps(model, seven, 7).layers for title, model in models.items()}
for title, layers in maps.items():
    print(title, {layer.name: layer.activation.shape for layer in layers})


# %% tags=["hide-input"]
from matplotlib.colors import PowerNorm


def mosaic(filters, columns=8, gap=1):
    """All maps of a layer in one picture, with lines between (not a number: nothing is drawn)."""
    _, height, width = filters.shape
    framed = np.full((len(filters), height + gap, width + gap), np.nan)
    framed[:, :height, :width] = filters
    rows = framed.reshape(-1, columns, height + gap, width + gap).transpose(0, 2, 1, 3)
    return rows.reshape(-1, columns * (width + gap))[:-gap, :-gap]


fig, grid = plt.subplots(3, 2, figsize=(9, 5.6), layout="constrained", height_ratios=(1, 1, 1.9))
fig.get_layout_engine().set(wspace=0.05, hspace=0.03)
for axes, layers in zip(grid, zip(*maps.values(), strict=True), strict=True):
    top = max(layer.activation.max() for layer in layers)
    for ax, title, layer in zip(axes, maps, layers, strict=True):
        norm = PowerNorm(0.5, vmin=0, vmax=top)  # the square root, to see what is faint
        shown = ax.imshow(mosaic(layer.activation), cmap="magma", norm=norm)
        ax.set_title(f"{layer.name}, {title}", size=10)
        ax.axis("off")
    fig.colorbar(shown, ax=axes, aspect=12, pad=0.02)
plt.show()

# %% [markdown]
# Look before you read on. Which of these maps still show a 7? Which filters are silent, which
# answer to the empty background?
#
# It may surprise you how similar the two columns are in conv1. A random filter is a filter too: it
# answers to *some* edge or stroke. Let us put numbers to what we see: how far have the weights
# moved (the length of the change, relative to the length of the weights before)? How many of the
# maps' numbers are 0, over many digits?

# %%
after = trainer.model.state_dict()
some, some_labels = digits.test.batch(slice(0, 200))
results = {
    title: forward(some, state) for title, state in (("untrained", before), ("trained", after))
}
print(f"{'':8s}weights moved   zeros, untrained   zeros, trained")
for name in (n for n, kind, _ in LAYERS if kind == "conv"):
    key = f"{name}.weight"
    change = np.linalg.norm(after[key] - before[key]) / np.linalg.norm(before[key])
    zeros = [(results[title][f"relu_{name}"] == 0).mean() for title in results]
    print(f"{name:8s}{change:13.2f} {zeros[0]:18.2f} {zeros[1]:16.2f}")
print("filters of conv1 with a positive bias:", (after["conv1.bias"] > 0).sum(), "of 16")

# %% [markdown]
# One thing is worth noting for later. The biases began at 0, so a filter that saw nothing but paper
# said nothing. Training moves the biases, too, and a filter with a positive bias answers to *empty
# paper*: fewer zeros in conv1. Such activations in the background are what the authors of the paper
# were unhappy about.
#
# No convolution has changed beyond recognition, and yet the net answers so much better than before.
# Where did that come from? Here is an experiment that asks each layer. Take the activations of the
# training images at that layer, and average them for each class: ten *class means*. Then name each
# test image after the nearest mean. This is about the simplest classifier there is; the better it
# does, the more the layer has already sorted the digits.


# %% tags=["class-means"]
def sorted_by_class(results, labels, test_results, test_labels):
    """Accuracy of the nearest class mean, at the image and at each layer's activations."""
    accuracies = {}
    for name, values in results.items():
        values, test = values.reshape(len(values), -1), test_results[name].reshape(TESTS, -1)
        means = np.stack([values[labels == c].mean(axis=0) for c in range(10)])
        distances = (means**2).sum(axis=1) - 2 * test @ means.T  # + |test|^2, the same for all
        accuracies[name] = (distances.argmin(axis=1) == test_labels).mean()
    return accuracies


LEARN, TESTS = (300, 200) if FAST else (1000, 500)
known, known_labels = digits.train.batch(slice(0, min(LEARN, TRAIN)))
new, new_labels = digits.test.batch(slice(0, TESTS))
places = ["image", *(f"relu_{name}" for name in names if name != "dense8"), "dense8"]
curves = {}
for title, state in (("untrained", before), ("trained", after)):
    found = [{"image": x, **forward(x, state)} for x in (known, new)]
    found = [{place: one[place] for place in places} for one in found]
    curves[title] = sorted_by_class(found[0], known_labels, found[1], new_labels)

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 3.1), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
for (title, curve), color, marker in zip(curves.items(), (ORANGE, BLUE), "so", strict=True):
    ax.plot([p.removeprefix("relu_") for p in curve], curve.values(), color=color, marker=marker)
    ax.annotate(title, (8, curve["dense8"]), (8.15, curve["dense8"]), color=color, va="center")
ax.set(
    ylabel="accuracy", ylim=(0, 1.03), xlim=(-0.3, 9.2), title="nearest class mean at each layer"
)
plt.show()
for title, curve in curves.items():
    print(f"{title:10s} image {curve['image']:.2f}, conv5 {curve['relu_conv5']:.2f}, ", end="")
    print(f"scores {curve['dense8']:.2f}")

# %% [markdown]
# At the image both start from the same place. The first convolutions do no harm, trained or not: a
# random filter keeps much of what it sees. But the deeper layers of the untrained network mix up
# what was still in order, and at its scores little is left. Training teaches them to keep the
# classes apart, and the longer it lasts, the better they do. So a map that *looks* like noise to us
# may be very useful to the layer above it, and one that looks like a tidy 7 may not be. Remember
# this whenever somebody, the paper included, argues with pictures of activation maps.
#
# **Move the digit.** One more look at the trained net, and now you can play with it. Drag the
# slider: the 7 moves from left to right. The picture shows the strongest filter of conv1 and of
# conv5, and the probabilities. Below it, three of the frames stand side by side, in case the slider
# does not work where you read this.

# %% tags=["hide-input"]
import base64
import io

from IPython.display import HTML


def frame(axes, shift):
    """Draw the digit moved by `shift` pixels, two activation maps, the probabilities."""
    image = moved(seven, shift)
    found = forward(image[None], after)
    for ax, values, title in (
        (axes[0], image[0], f"moved by {shift:+d}"),
        (axes[1], found["relu_conv1"][0, strongest["relu_conv1"]], "conv1"),
        (axes[2], found["relu_conv5"][0, strongest["relu_conv5"]], "conv5"),
    ):
        top = 1 if ax is axes[0] else tops[title]
        ax.imshow(values, cmap="gray_r" if ax is axes[0] else "magma", vmin=0, vmax=top)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, size=10)
    p = softmax(found["dense8"][0])
    axes[3].bar(range(10), p, color=[RED if c == 7 else GREY for c in range(10)])
    axes[3].set(ylim=(0, 1.05), xticks=range(10), xlabel="class")
    axes[3].set_title("probability", size=10)
    axes[3].spines[["top", "right"]].set_visible(False)


def png(fig):
    """A figure as text that a page can hold."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=80)
    plt.close(fig)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def slider(name, pictures, labels, start):
    """An HTML page's own slider over pictures; needs nothing but a browser."""
    listed = "".join(
        f'<img src="{p}" alt="{label}" style="display:{"block" if k == start else "none"};'
        f'max-width:100%" class="{name}">'
        for k, (p, label) in enumerate(zip(pictures, labels, strict=True))
    )
    script = (
        f"document.querySelectorAll('img.{name}').forEach((p, k) => "
        "p.style.display = k == this.value ? 'block' : 'none')"
    )
    return HTML(
        f'<input type="range" min="0" max="{len(pictures) - 1}" value="{start}" '
        f'aria-label="{labels[0]} to {labels[-1]}" style="width:min(100%, 30em)" '
        f'oninput="{script}">{listed}'
    )


shifts = [-6, 0, 6] if FAST else list(range(-6, 7))
first = forward(seven[None], after)
strongest = {
    name: int(first[name][0].sum(axis=(1, 2)).argmax()) for name in ("relu_conv1", "relu_conv5")
}
tops = {n.removeprefix("relu_"): 1.2 * first[n][0, k].max() for n, k in strongest.items()}
pictures = []
for shift in shifts:
    fig, axes = plt.subplots(1, 4, figsize=(9, 2.3), layout="constrained")
    frame(axes, shift)
    pictures.append(png(fig))
slider("moving", pictures, [f"moved by {s:+d}" for s in shifts], len(shifts) // 2)

# %% tags=["hide-input"]
fig, rows = plt.subplots(3, 4, figsize=(9, 6.2), layout="constrained")
for axes, shift in zip(rows, (-6, 0, 6), strict=True):
    frame(axes, shift)
plt.show()

# %% [markdown]
# The maps of the convolutions move along with the digit: the same kernel looks everywhere. The
# probabilities have no reason to stay. The dense layers have weights of their own for each place,
# and they were trained on digits that stand in the middle.
#
# ## 7. What the forward pass must keep
#
# For an answer we need only the last ten numbers. Everything else could be forgotten on the way.
# But two more passes are to come, and both walk through the layers from the last to the first:
#
# | layer | the backward pass needs | the relevance pass needs |
# |---|---|---|
# | convolution, dense | its input $\mathbf a_{i-1}^+$ and its weights | the same two |
# | ReLU | where the input was positive (the *gate*) | the same |
# | pooling | who won in each window | the same |
# | flatten | the shape of its input | the same |
#
# That is a pleasant surprise, and the reason why the relevance pass is cheap to have: **it needs
# nothing that was not kept anyway.** In minifbi each step holds these things in `step.saved`:


# %% tags=["saved"]
def remembered(step):
    """What a step remembers, one thing or several, as a tuple."""
    return step.saved if isinstance(step.saved, tuple) else (step.saved,)


for step in steps[:3] + steps[-4:]:
    words = [
        f"{v.dtype} {v.shape}" if isinstance(v, np.ndarray) else str(v) for v in remembered(step)
    ]
    print(f"{step.name:12s} {', '.join(words)}")

# %% [markdown]
# (For conv1: the images, the weights, and whether there is a bias. `bool` arrays are gates, `uint8`
# arrays say which place of the window won.) How much memory is that? The activations grow with the
# batch; for training in float32 with the usual batch of 128:

# %% tags=["memory"]
batch = mnist.train.batch(slice(0, 128))[0]
model = alexnet(seed=0)
kept, seen = {}, {id(p.data) for p in model.parameters().values()}  # weights do not count here
for step in forward_pass(model, batch):
    arrays = [step.z.data, *(v for v in remembered(step) if isinstance(v, np.ndarray))]
    own = [a for a in arrays if id(a) not in seen and a.shape[:1] == batch.shape[:1]]
    seen |= {id(a) for a in own}
    kept[step.name] = sum(a.nbytes for a in own) / 1e6
weights = sum(p.data.nbytes for p in model.parameters().values()) / 1e6
print(f"kept for 128 images: {sum(kept.values()):.1f} MB; the weights: {weights:.2f} MB")
largest = sorted(kept, key=kept.get, reverse=True)[:4]
print("the largest:", ", ".join(f"{name} {kept[name]:.1f} MB" for name in largest))

# %% [markdown]
# The activations take far more memory than the weights, and more than half of it is for conv1 and
# its ReLU alone, where the maps are largest. Training is a matter of keeping things. (With compiled
# kernels minifbi keeps less. It then trains a rewritten network, `minifbi.fusion.fuse(net)`, in
# which convolution, ReLU and pooling are one block: the same numbers, but what stands between the
# three is never kept. Under `no_grad()`, where nothing will ever walk back, no tape is written.)
#
# **Gates make it linear.** One last experiment, and it is the bridge to the next notebook. Once all
# gates and all winners are known, each layer only multiplies by fixed numbers and adds. So with
# these gates and winners held fixed, the network is a linear function of the pixels. If moreover
# all biases are 0, as they are in our untrained network, a score must be exactly the sum over all
# pixels of (pixel) times (slope of the score with respect to that pixel):

# %% tags=["linear"]
x = Tensor(images[:1], requires_grad=True)
score = net(x)[0, 7]
score.backward()
print(f"score of class 7          {score.item():.12f}")
print(f"sum of pixel times slope  {(x.numpy() * x.grad).sum():.12f}")
np.testing.assert_allclose((x.numpy() * x.grad).sum(), score.item())

# %% [markdown]
# So the score can be *shared out* among the pixels, without a remainder. Is that a good way to say
# which pixels made the answer? That is what [notebook 4](04_relevance.ipynb) is about.
#
# ## What you learnt
#
# - Eq. (1) is a loop: each functional layer (convolution or dense) makes its activations from those
#   of the layer below. ReLU, pooling and flattening stand between.
# - $\mathbf a_{i-1}^+$ is what arrives at layer $i$: `step.x`. The paper's network has $K = 8$.
# - Convolutions do the work, the first dense layer has the most parameters, the maps near the image
#   take the memory.
# - ReLU lets a filter answer to one thing and not to its opposite; pooling makes the place less
#   important. Both decide something, and the decisions have to be remembered.
# - Softmax sees differences of scores only. With cross-entropy its gradient is $p_c - [c = t]$.
# - What a map looks like to us, and what it is worth to the next layer, are two questions.
# - The relevance pass needs nothing that the backward pass does not need, too.
#
# ## Exercises
#
# Replace each `...`, run the cell, and read what the check says.

# %%
from checks import tutorial_03 as check

# %% [markdown]
# **Exercise 1: count.** The same network for colour images of 32 x 32 pixels (3 channels). Which
# shape has the result of pool5, how many parameters has conv1, and how many has dense6?

# %% tags=["exercise"]
# solution
# student: pool5_shape = ...  # three numbers
# student: conv1_parameters = ...  # one number
# student: dense6_parameters = ...  # one number
pool5_shape = (32, 4, 4)
conv1_parameters = 16 * (3 * 5 * 5 + 1)
dense6_parameters = 128 * (32 * 4 * 4 + 1)
# end solution

check.count(pool5_shape, conv1_parameters, dense6_parameters)

# %% [markdown]
# **Exercise 2: pooling that remembers.** Write maximum pooling for one map, with windows of `size`
# x `size` whose places are `stride` apart (they may overlap). Return the maxima *and* the winners:
# for each window, the number of the pixel that won, where the pixels of the whole map are numbered
# row by row from 0. If several are equal, the first in reading order wins.


# %% tags=["exercise"]
def max_pool(a, size, stride):
    """Maxima and winners, two arrays of shape (rows, columns).

    a: one map (H, W).
    """
    # solution
    # student: # how many places are there? then two loops over them
    # student: return ...  # maxima, winners
    height, width = a.shape
    rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
    maxima, winners = np.zeros((rows, columns)), np.zeros((rows, columns), dtype=int)
    for r in range(rows):
        for q in range(columns):
            window = a[r * stride : r * stride + size, q * stride : q * stride + size]
            i, j = divmod(int(window.argmax()), size)  # argmax gives the first of equals
            maxima[r, q] = window[i, j]
            winners[r, q] = (r * stride + i) * width + (q * stride + j)
    return maxima, winners
    # end solution


check.max_pool(max_pool)

# %% [markdown]
# **Exercise 3: the loss and its gradient.** Write cross-entropy for a batch: the mean over the
# images, and its gradient with respect to the scores. It must survive scores of 1000.


# %% tags=["exercise"]
def loss_and_gradient(scores, labels):
    """The mean cross-entropy (one number), and its gradient, of the shape of `scores`.

    scores: (N, classes).  labels: the true classes (N,).
    """
    # solution
    # student: # log p = z - log(sum of e^z), and only differences of scores count
    # student: return ...  # loss, gradient
    n = len(scores)
    z = scores - scores.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[np.arange(n), labels] -= 1
    return -log_p[np.arange(n), labels].mean(), gradient / n
    # end solution


check.loss_and_gradient(loss_and_gradient)

# %% [markdown]
# **Exercise 4: what may go?** A colleague wants to save memory. After the forward pass of a
# convolution, its ReLU and its pooling, which of these can be thrown away, although both the
# relevance pass and the backward pass are still to come?
#
# - `"input"`: the input of the convolution.
# - `"z"`: the numbers before the ReLU, if it is written down where they are positive.
# - `"winners"`: who won in each window, if the pooled maps are kept.

# %% tags=["exercise"]
# solution
# student: answer = ...
answer = "z"
# end solution

check.what_may_go(answer)

# %% [markdown]
# **Exercise 5: to think about.** In section 6 the class means got worse in the deeper layers of the
# untrained network. Would a linear classifier, trained on the activations of the untrained conv5,
# do worse than one trained on the pixels? Think of what ReLU may lose for good, and what it only
# folds up. (You can try it: a classifier is a `Dense` layer.)
#
# ## Further reading
#
# - A. Krizhevsky, I. Sutskever and G. E. Hinton, *ImageNet Classification with Deep Convolutional
#   Neural Networks*, NIPS 2012: AlexNet, whose small relative we used.
# - Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, *Gradient-Based Learning Applied to Document
#   Recognition*, Proceedings of the IEEE 86(11), 1998: convolutional networks, and MNIST.
# - X. Glorot, A. Bordes and Y. Bengio, *Deep Sparse Rectifier Neural Networks*, AISTATS 2011: why
#   the ReLU.
# - K. He, X. Zhang, S. Ren and J. Sun, *Delving Deep into Rectifiers*, ICCV 2015: the initial
#   weights.
# - G. Alain and Y. Bengio, *Understanding intermediate layers using linear classifier probes*,
#   2016, arXiv:1610.01644: asking each layer what it knows, with a better classifier than ours.
# - `minifbi/layers/`: conv.py, relu.py, pooling.py and dense.py, each with its forward pass on top.
#
# Before: [2. Convolution three ways](02_convolution_three_ways.ipynb). Next:
# [4. Relevance](04_relevance.ipynb).
