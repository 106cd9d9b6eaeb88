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
# # 4. Relevance: who made the answer?
#
# A network looks at a handwritten 7 and says "7", with a score of, say, 14. Which pixels made these
# 14? *Layer-wise relevance propagation* (Bach et al. 2015) answers by handing the score down, layer
# by layer, until it lies on the pixels. The FBI loss of Yoo, Kim and Kang (2019) puts this pass
# into the training, so it pays to know it well before the next notebook.
#
# You will
#
# 1. share out one unit, then a whole net, with a pencil,
# 2. see that a convolution shares out in just the same way,
# 3. follow the relevance of real digits through a trained CNN,
# 4. do the bookkeeping: where relevance is kept, and what biases absorb,
# 5. discover what the paper's rule *really* computes, prove it, and see where the proof ends,
# 6. change the rule, and look at the heatmaps.
#
# You need the forward pass ([notebook 3](03_forward_pass.ipynb)), and what a gradient is. It takes
# about 30 minutes.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer images; for a quick run

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY = "#1f77b4", "#c0392b", "#666666"


def panels(rows, columns, width, height, **options):
    """A row or grid of plots without the upper and the right edge."""
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", **options
    )
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


# %% [markdown]
# ## 1. One unit
#
# A unit $j$ has inputs $x_i$, weights $W_{ji}$ (to unit $j$, from input $i$), and the output
#
# $$z_j = \sum_i W_{ji}\, x_i .$$
#
# Each summand $c_{ji} = W_{ji}\,x_i$ is the *contribution* of input $i$. Suppose that the unit has
# been given an amount $R_j$ of the answer, its *relevance*, and must pass it on to its inputs. The
# fairest idea is the simplest one: each input gets the share that it contributed,
#
# $$R_i = \frac{c_{ji}}{z_j}\, R_j .$$

# %%
x = np.array([3.0, 2.0, 4.0])
w = np.array([2.0, -1.0, 0.5])
R = 12.0  # what this unit has to share out

contributions = w * x
z = contributions.sum()
shares = contributions / z * R

print("contributions", contributions, "  sum", z)
print("shares       ", shares, "  sum", shares.sum())

# %% [markdown]
# Two things to note. The second input spoke *against* the output, so its relevance is negative. And
# nothing is lost: the shares sum to 12, since the fractions $c_{ji}/z_j$ sum to 1.
#
# Only one number of the unit is needed to do it: $r_j = R_j / z_j$, here 2. Every contribution is
# multiplied by this **ratio**. It says how much relevance one unit of output is worth. Remember it:
# the ratio is the hero of this notebook.
#
# ## 2. A whole net
#
# In a layer, each input collects from all outputs that it contributed to:
#
# $$R_i = \sum_j \frac{c_{ji}}{z_j} R_j = x_i \sum_j W_{ji}\, r_j , \qquad
#   \text{for all inputs at once:} \quad \mathbf R = \mathbf x \odot W^\top \mathbf r .$$
#
# ($\odot$ multiplies element by element, and $W^\top$ is the transposed matrix.) Here is a net with
# two inputs, three hidden units with ReLU, and one output. There are no biases yet.

# %%
W1 = np.array([[1.0, 1.0], [2.0, -1.0], [-1.0, 1.0]])
W2 = np.array([[2.0, 1.0, 5.0]])

a0 = np.array([2.0, 1.0])
z1 = W1 @ a0
a1 = np.maximum(z1, 0)
y = W2 @ a1

print("hidden, before the ReLU", z1)
print("hidden, after the ReLU ", a1)
print("output                 ", y)

# %% [markdown]
# The third hidden unit is silent: $0$ goes forward from it. So it contributed nothing, and nothing
# comes back to it; for its ratio, $0/0$, we agree on 0. (The ReLU itself makes and takes nothing.
# Relevance goes through it unchanged.)
#
# Before you run the next cell, take a pencil: what do the hidden units get of the 9, and what do
# the two inputs?

# %% tags=["relevance-by-hand"]
r2 = np.array([1.0])  # the output explains itself: R = z, so the ratio is 1
R1 = a1 * (W2.T @ r2)  # relevance of the hidden units
r1 = np.divide(R1, a1, out=np.zeros_like(a1), where=a1 > 0)  # their ratio, with 0/0 = 0
R0 = a0 * (W1.T @ r1)  # relevance of the inputs

print("relevance of the hidden units", R1, "  sum", R1.sum())
print("their ratios                 ", r1)
print("relevance of the inputs      ", R0, "  sum", R0.sum())

# %% [markdown]
# In the figure, each edge carries its message $c_{ji}\, r_j$ from right to left: red for, blue
# against, the wider the more.

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 3.7), layout="constrained")
place = {("in", i): (0.0, 1.1 - 2.2 * i) for i in range(2)}
place |= {("hid", j): (3.4, 1.5 - 1.5 * j) for j in range(3)}
place |= {("out", 0): (6.8, 0.75)}
edges = [(("in", i), ("hid", j), W1[j, i] * a0[i] * r1[j]) for i in range(2) for j in range(3)]
edges += [(("hid", j), ("out", 0), W2[0, j] * a1[j]) for j in range(3)]
for low, high, message in edges:
    (x_low, y_low), (x_high, y_high) = place[low], place[high]
    color = RED if message > 0 else BLUE if message < 0 else "#cccccc"
    ax.plot([x_low, x_high], [y_low, y_high], color=color, lw=0.8 + 0.7 * abs(message), zorder=0)
    if message:
        t = 0.24 if low[0] == "in" else 0.5
        spot = (x_low + t * (x_high - x_low), y_low + t * (y_high - y_low))
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"}
        ax.text(*spot, f"{message:g}", color=color, ha="center", va="center", size=9, bbox=box)
values = {("in", i): (a0[i], R0[i]) for i in range(2)}
values |= {("hid", j): (a1[j], R1[j]) for j in range(3)} | {("out", 0): (y[0], y[0])}
for unit, (forward, relevance) in values.items():
    ax.scatter(*place[unit], s=2100, color="white", edgecolor=GREY, zorder=1)
    px, py = place[unit]
    ax.text(px, py + 0.13, f"{forward:g}", color=GREY, ha="center", va="center")
    ax.text(px, py - 0.18, f"{relevance:g}", color="black", ha="center", va="center", weight="bold")
ax.text(0.0, 2.2, "inputs", ha="center", color=GREY)
ax.text(3.4, 2.2, "hidden units", ha="center", color=GREY)
ax.text(6.8, 2.2, "output", ha="center", color=GREY)
ax.set(xlim=(-0.8, 7.6), ylim=(-2.1, 2.45))
ax.set_title("in each circle: activation (grey), relevance (bold)", size=10)
ax.axis("off")
plt.show()

# %% [markdown]
# The paper writes the same rule like this. Count layers with $i$; the *forward activation*
# $\mathbf a_{i-1}^+$ is the input of layer $i$ (our $\mathbf x$), and the *backward activation*
# $\mathbf a_i^-$ is the relevance at that same place (our $\mathbf R$), so the two have the same
# shape:
#
# $$\mathbf a_i^- = f\Big(\mathbf a_{i-1}^+,\; \sum_j w_{i,j} \frac{a_{i+1,j}^-}{a_{i,j}^+}\Big)
#   = \mathbf a_{i-1}^+ \odot W_i^\top \frac{\mathbf a_{i+1}^-}{\mathbf a_i^+} . \tag{2}$$
#
# The fraction at the end is the ratio. Now look at what Eq. (2) does with it from layer to layer:
# it divides by $\mathbf a_i^+$, and one line earlier it had multiplied by $\mathbf a_i^+$. The two
# cancel. So we can carry the ratio itself and never divide at all:
#
# $$\mathbf r_{i-1} = \mathbf 1[\mathbf a_{i-1}^+ > 0] \odot W_i^\top \mathbf r_i , \qquad
#   \mathbf a_i^- = \mathbf a_{i-1}^+ \odot W_i^\top \mathbf r_i ,$$
#
# where $\mathbf 1[\cdot]$ is 1 where the condition holds, and 0 elsewhere: our agreement on $0/0$.
# That makes the whole relevance pass of a dense net a loop of three lines:


# %%
def relevance_by_hand(x, weights):
    """Forward and relevance pass of dense layers with ReLU between; one sample, no biases."""
    inputs = [x]
    for W in weights[:-1]:
        inputs.append(np.maximum(W @ inputs[-1], 0))
    ratio, relevances = np.ones(len(weights[-1])), []
    for W, a in zip(reversed(weights), reversed(inputs), strict=True):
        carried = W.T @ ratio
        relevances.insert(0, a * carried)  # Eq. (2)
        ratio = (a > 0) * carried  # for the layer below
    return relevances


print(relevance_by_hand(a0, [W1, W2]))

# %% [markdown]
# And with minifbi, whose passes work on batches: `forward_pass` returns one `Step` for each layer,
# with its input `step.x` and its output `step.z`; `relevance_pass` walks them backwards.
# (`start="logits"` means: explain all outputs. For classifiers we shall use `"target"`, one class.)

# %%
from minifbi import forward_pass, relevance_pass
from minifbi.layers import Dense, ReLU, Sequential

toy = Sequential(
    {
        "hidden": Dense(2, 3, dtype=np.float64),
        "relu": ReLU(),
        "out": Dense(3, 1, bias=False, dtype=np.float64),
    }
)
toy.load_state_dict({"hidden.weight": W1, "hidden.bias": np.zeros(3), "out.weight": W2})
steps = forward_pass(toy, a0[None])
for name, relevance in relevance_pass(steps, start="logits").items():
    print(f"{name:7s}", relevance.numpy()[0])

# %% [markdown]
# ## 3. From dense to convolution
#
# A convolution is a dense layer in disguise: each output sees only a small patch, and all outputs
# share their weights. The sentence "each input gets its share" does not change. Written as loops,
# for one input channel and one filter:


# %%
from minifbi import load_dataset
from minifbi.layers import Conv2d


def conv_relevance(x, kernel, ratio):
    """Relevance of the inputs of a convolution without padding, for the ratio at its outputs."""
    relevance = np.zeros_like(x)
    for p in range(ratio.shape[0]):
        for q in range(ratio.shape[1]):  # each output unit ...
            for k in range(kernel.shape[0]):
                for m in range(kernel.shape[1]):  # ... gives each pixel of its patch a share
                    contribution = kernel[k, m] * x[p + k, q + m]
                    relevance[p + k, q + m] += contribution * ratio[p, q]
    return relevance


mnist = load_dataset("mnist")
digit = mnist.test.batch(slice(0, 1), dtype=np.float64)[0]  # a 7: shape (1, 1, 28, 28)
rng = np.random.default_rng(0)
conv = Conv2d(1, 1, kernel_size=5, bias=False, dtype=np.float64)
conv.load_state_dict({"weight": rng.standard_normal((1, 1, 5, 5))})
(step,) = conv.trace(conv.as_input(digit))
ratio = rng.standard_normal(step.z.shape)

slow = conv_relevance(digit[0, 0], conv.weight.numpy()[0, 0], ratio[0, 0])
fast = digit * conv.backend.conv2d_transpose(ratio, conv.weight.numpy(), (1, 1), (0, 0), (28, 28))
print("largest difference:", np.abs(slow - fast[0, 0]).max())
np.testing.assert_allclose(slow, fast[0, 0], atol=1e-12)

# %% [markdown]
# The four loops are the *transposed convolution*, one of the two partners of the convolution from
# [notebook 2](02_convolution_three_ways.ipynb). So Eq. (2) is $\mathbf x \odot W^\top \mathbf r$
# here too, with another way to write $W^\top$. Below: one output unit, the patch that it sees, and
# the contributions by which it shares.

# %% tags=["hide-input"]
p, q = 5, 12  # the output unit
patch, kernel = digit[0, 0, p : p + 5, q : q + 5], conv.weight.numpy()[0, 0]
fig, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
axes[0].imshow(digit[0, 0], cmap="gray", vmin=0, vmax=1)
axes[0].add_patch(plt.Rectangle((q - 0.5, p - 0.5), 5, 5, fill=False, edgecolor=RED, lw=2))
axes[0].set_title("the patch it sees", size=10)
axes[1].imshow(patch, cmap="gray", vmin=0, vmax=1)
axes[1].set_title("pixels $x$", size=10)
limit = max(np.abs(kernel).max(), np.abs(kernel * patch).max())
for ax, what, title in zip(
    axes[2:], (kernel, kernel * patch), ("weights $W$", "contributions $Wx$"), strict=True
):
    shown = ax.imshow(what, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(title, size=10)
for ax in axes:
    ax.set(xticks=[], yticks=[])
fig.colorbar(shown, ax=axes[3], shrink=0.8)
plt.show()
print(f"contributions of black pixels: {np.abs(kernel * patch)[patch == 0].sum():g}")

# %% [markdown]
# The last line is worth a thought: a black pixel is 0, so it contributes 0 and gets 0. Always.
#
# Layers without weights just hand relevance through:
#
# | layer | what its input gets |
# |---|---|
# | ReLU | the same; at a silent unit 0 |
# | maximum pooling | the winner of each window takes all |
# | average pooling | a layer with equal weights: in proportion to the contributions |
# | flatten | the same numbers in another shape |
#
# ## 4. A trained CNN
#
# Now the paper's network: five convolutions, three dense layers, 10 *logits* (the scores of the 10
# classes, before the softmax). We train it for a moment, conventionally, on a small part of MNIST.
# (If this is your first run, Numba compiles its kernels first, which takes longer than the
# training.)

# %%
from minifbi.datasets import Dataset, Split
from minifbi.training import TrainConfig, Trainer, evaluate

TRAIN, VALIDATION, TEST, EPOCHS = (640, 100, 200, 2) if FAST else (4000, 500, 2000, 3)


def part(split, count):
    return Split.from_arrays(split.images[:count], split.labels[:count])


digits = Dataset(
    "mnist",
    part(mnist.train, TRAIN),
    part(mnist.validation, VALIDATION),
    part(mnist.test, TEST),
    mnist.num_classes,
    mnist.class_names,
)
trainer = Trainer(TrainConfig(fbi_weight=0.0, epochs=EPOCHS, batch_size=64, seed=0), digits)
for _ in range(EPOCHS):
    record = trainer.run_epoch()
    print(f"epoch {record['epoch']}: validation accuracy {record['val_accuracy']:.3f}")
print(f"test accuracy {evaluate(trainer.model, digits.test)[0]:.3f}")

# %% [markdown]
# The rest of this notebook is arithmetic that we want to check to the last digit, so we copy the
# weights into a network of float64 numbers. We take some test images that the network gets right.

# %%
from minifbi import alexnet

net = alexnet(backend="numpy", dtype=np.float64)
net.load_state_dict(trainer.model.state_dict())

many, many_labels = digits.test.batch(slice(0, 60), dtype=np.float64)
right = net(many).numpy().argmax(axis=1) == many_labels
images, labels = many[right][:20], many_labels[right][:20]

steps = forward_pass(net, images)
relevances = relevance_pass(steps, "target", labels)  # the logit of the true class
logits = steps[-1].z.numpy()
print("first image: a", labels[0], " its logit", logits[0, labels[0]].round(3))
for name, relevance in relevances.items():
    print(f"  {name:7s} {relevance.shape[1:]!s:14s} sum {relevance.numpy()[0].sum():.3f}")

# %% [markdown]
# Each layer has relevances of its own: for conv1 they lie on the pixels, for conv2 on the 16 maps
# that conv1 made (after pooling), and so on. Here is their way down, for three digits: read from
# right to left. Maps of one layer are summed over the channels; red speaks for the class, blue
# against it, each map with its own range.

# %% tags=["hide-input", "relevance-maps"]
chosen = [int(np.flatnonzero(labels == c)[0]) for c in np.unique(labels)[:3]]
convs = [name for name in relevances if name.startswith("conv")]
fig, axes = plt.subplots(3, len(convs) + 1, figsize=(9, 4.9), layout="constrained")
for row, n in zip(axes, chosen, strict=True):
    row[0].imshow(images[n, 0], cmap="gray")
    row[0].set_ylabel(f"a {labels[n]}: logit {logits[n, labels[n]]:.1f}", size=9)
    for ax, name in zip(row[1:], convs, strict=True):
        summed = relevances[name].numpy()[n].sum(axis=0)
        limit = np.abs(summed).max()
        ax.imshow(summed, cmap="RdBu_r", vmin=-limit, vmax=limit)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for ax, title in zip(axes[0], ["image", *(f"input of {name}" for name in convs)], strict=True):
    ax.set_title(title, size=9)
plt.show()

# %% [markdown]
# ## 5. The bookkeeping
#
# In section 2, the hidden units and the inputs had 9 each, as much as the output. In the trained
# net, the sums differ a little from the logit. Why? Sum Eq. (2) over all inputs $i$ of a layer, now
# with a bias, $z_j = \sum_i W_{ji} x_i + b_j$:
#
# $$\sum_i R_i = \sum_i x_i \sum_j W_{ji}\, r_j = \sum_j r_j \sum_i W_{ji}\, x_i
#   = \sum_j r_j\,(z_j - b_j) = \sum_j R_j \;-\; \sum_j b_j\, r_j .$$
#
# So without biases relevance is **conserved**: every layer hands down all that it got. With biases
# each layer keeps $\sum_j b_j r_j$. The bias took part in making $z_j$, a share of the relevance is
# its own, and there is nobody below to pass it on to. One says that the bias *absorbs* it. Give our
# net of section 2 the biases $(1, -1, 0)$:

# %% tags=["bias-toy"]
b1 = np.array([1.0, -1.0, 0.0])
toy.load_state_dict({"hidden.weight": W1, "hidden.bias": b1, "out.weight": W2})
steps_b = forward_pass(toy, a0[None])
inputs_get = relevance_pass(steps_b, "logits")["hidden"].numpy()[0]
print("output           ", steps_b[-1].z.item())
print("the inputs get   ", inputs_get, "  sum", inputs_get.sum())
print("the biases absorb", b1 * r1, "  sum", (b1 * r1).sum())

# %% [markdown]
# The output grew to 10, but the inputs still get the old $(8, 1)$. The first bias pushed its unit
# up, and absorbs 2. The second pulled its unit down and absorbs $-1$: it *adds* relevance to what
# goes down. That is why the relevance of the inputs may sum to more than the output. None of this
# is an error in the pass. It is part of the answer: some of the score was there before the input
# was.
#
# For the CNN, `conservation_report` keeps this book at each layer. First the trained net, then the
# same net with its biases shifted by random numbers (of standard deviation 0.2).

# %% tags=["conservation"]
from minifbi.explain import conservation_report

print(conservation_report(net, images, labels).table(image=0), "\n")

shifted = alexnet(backend="numpy", dtype=np.float64)
state, noise = net.state_dict(), np.random.default_rng(1)
for name in state:
    if name.endswith("bias"):
        state[name] = state[name] + 0.2 * noise.standard_normal(state[name].shape)
shifted.load_state_dict(state)

# %% tags=["hide-input"]
fig, axes = panels(1, 2, 9, 3.1, sharey=True)
for ax, model, title in zip(axes, (net, shifted), ("as trained", "biases shifted"), strict=True):
    layers = conservation_report(model, images, labels).layers
    keepers = [layer for layer in layers if layer.bias.any()]
    way = np.stack([layers[0].above, *(layer.below for layer in keepers)])  # (places, images)
    ax.plot(["logit", *(layer.name for layer in keepers)], way / way[0], color=BLUE, lw=0.8)
    ax.axhline(1, color=GREY, lw=0.8, ls="--")
    ax.tick_params(axis="x", rotation=60)
    ax.set_title(f"{title}: {len(images)} images", size=10)
axes[0].set_ylabel("relevance below the layer,\nas a part of the logit")
plt.show()

# %% [markdown]
# The biases start the training at zero, and in our short training they stay small, so they absorb
# little. That is a fact about this net and not a law: on the right they take and give, differently
# for each image. Whenever relevance "does not sum up", ask the biases first.
#
# ## 6. What does it really compute?
#
# We know how the pass works. What does its result *mean*? Let us be experimenters. At the input of
# each layer we have the relevance $\mathbf a_i^-$, and two quantities that might explain it: the
# activation $\mathbf a_{i-1}^+$ itself, and the *gradient* $\mathbf g_i$, which says how much the
# explained logit changes if the activation changes a little,
#
# $$\mathbf g_i = \frac{\partial\, \text{logit}}{\partial\, \mathbf a_{i-1}^+} .$$
#
# To measure the gradient without any relevance in it, we cut the net at layer $i$, take its input
# as a new leaf, run the rest of the net, and let the tape of
# [notebook 1](01_tensors_and_the_tape.ipynb) work back.

# %% tags=["closed-form-experiment"]
from minifbi import Tensor


def gradient_at_input(steps, i, labels):
    """Gradient of the true classes' logits with respect to the input of layer i."""
    leaf = Tensor(steps[i].x.numpy(), requires_grad=True)
    out = leaf
    for step in steps[i:]:
        out = step.layer(out)
    out[np.arange(len(labels)), labels].sum().backward()
    return leaf.grad


inputs = {step.name: step.x.numpy() for step in steps}
gradients = {
    step.name: gradient_at_input(steps, i, labels)
    for i, step in enumerate(steps)
    if step.name in relevances
}

# %% [markdown]
# Three hypotheses for conv3: relevance goes with the activation; with the gradient; with their
# product. Each dot is one unit of one image.

# %% tags=["hide-input"]
name = "conv3"
candidates = {
    "activation $a^+$": inputs[name],
    "gradient $g$": gradients[name],
    "product $a^+ g$": inputs[name] * gradients[name],
}
fig, axes = panels(1, 3, 9, 3.1, sharey=True)
found = relevances[name].numpy().ravel()
some = np.flatnonzero(inputs[name].ravel())[::4]
for ax, (title, values) in zip(axes, candidates.items(), strict=True):
    ax.scatter(values.ravel()[some], found[some], s=3, color=BLUE, linewidths=0)
    correlation = np.corrcoef(values.ravel(), found)[0, 1]
    ax.set(xlabel=title)
    ax.set_title(f"correlation {correlation:.3f}", size=10)
axes[0].set_ylabel("relevance $a^-$")
fig.suptitle(f"input of {name}", size=10)
plt.show()

# %% [markdown]
# The third is not just a good correlation, it is a line. Is it so at every layer, and how exactly?

# %% tags=["closed-form-check"]
print("layer    largest |relevance|   largest |relevance - activation x gradient|")
for name, relevance in relevances.items():
    found, product = relevance.numpy(), inputs[name] * gradients[name]
    print(f"{name:7s}  {np.abs(found).max():19.4f}   {np.abs(found - product).max():12.1e}")
    np.testing.assert_allclose(found, product, atol=1e-10)

# %% [markdown]
# Equal at every layer, and with the biases in place: the two passes even make the same
# multiplications, so nothing is left to rounding. So
#
# $$\boxed{\;\mathbf a_i^- = \mathbf a_{i-1}^+ \odot \mathbf g_i\;}$$
#
# **Proof.** Let $e$ be the explained logit, and let $\mathbf z_i$ be the output of layer $i$,
# before its ReLU. The claim is that the ratio is a gradient: $\mathbf r_i = \partial e/\partial
# \mathbf z_i$.
#
# 1. *At the top.* The pass starts with the ratio 1 at the explained logit and 0 at the others. That
#    is $\partial e / \partial \mathbf z_K$, with $K$ the last layer.
# 2. *Through the weights.* From $\mathbf z_i = W_i \mathbf a_{i-1}^+ + \mathbf b_i$ and the chain
#    rule, $\mathbf g_i = W_i^\top\, \partial e/\partial \mathbf z_i = W_i^\top \mathbf r_i$.
#    Compare Eq. (2): $\mathbf a_i^- = \mathbf a_{i-1}^+ \odot W_i^\top \mathbf r_i = \mathbf
#    a_{i-1}^+ \odot \mathbf g_i$. The bias is gone from the derivative, and it gets no relevance:
#    both passes forget it.
# 3. *Through the ReLU.* The ratio below is $\mathbf r_{i-1} = \mathbf 1[\mathbf a_{i-1}^+ > 0]
#    \odot W_i^\top \mathbf r_i$. The derivative of the ReLU is the same gate, so $\partial
#    e/\partial \mathbf z_{i-1} = \mathbf 1[\mathbf a_{i-1}^+ > 0] \odot \mathbf g_i = \mathbf
#    r_{i-1}$. (Maximum pooling: the winner takes all of the relevance, and all of the gradient.)
#    Repeat with 2. ∎
#
# Where did the proof need the ReLU? In step 3. Relevance passes an activation function $a = f(z)$
# unchanged, so its ratio is multiplied by $a/z = f(z)/z$. The gradient is multiplied by $f'(z)$.
# For the ReLU these two are equal at every $z$. For $\tanh$ they are not:

# %% tags=["hide-input"]
t = np.linspace(-3, 3, 400)  # an even number of points: none of them is 0
fig, axes = panels(1, 2, 9, 2.7, sharey=True)
curves = {
    "ReLU": (np.maximum(t, 0) / t, (t > 0) * 1.0),
    "tanh": (np.tanh(t) / t, 1 - np.tanh(t) ** 2),
}
for ax, (title, (quotient, slope)) in zip(axes, curves.items(), strict=True):
    ax.plot(t, quotient, color=RED, lw=4, alpha=0.45, label="$f(z)/z$: relevance")
    ax.plot(t, slope, color=BLUE, lw=1.4, label="$f'(z)$: gradient")
    ax.set(xlabel="$z$", title=title)
axes[0].legend(frameon=False, loc="center left", bbox_to_anchor=(0.02, 0.6))
plt.show()

# %% [markdown]
# So with $\tanh$ the box above should fail. An experiment can prove a proof wrong, so let us run
# it: the little net of section 2, once with each activation function.

# %%
for title, f, slope in (
    ("ReLU", lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    ("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
):
    hidden = f(z1)
    relevance = a0 * (W1.T @ (hidden * W2[0] / z1))  # the ratio R / z, written out
    product = a0 * (W1.T @ (slope(z1) * W2[0]))
    output = W2 @ hidden
    print(f"{title}: relevance {relevance.round(3)}, sum {relevance.sum():.3f}")
    print(f"      input x gradient {product.round(3)}, output {output.item():.3f}")

# %% [markdown]
# With $\tanh$, relevance still sums to the output, but it is no longer input times gradient. The
# box is a theorem about networks of ReLU (and other $f$ with $f(z) = z f'(z)$). The paper's network
# is one.
#
# What this tells about the heatmaps of section 4:
#
# - "LRP" with this rule is not a new source of information. It is the gradient, weighted by the
#   pixels.
# - A gradient looks only at the immediate neighbourhood of the image. In a deep net it changes
#   abruptly from one image to the next, and heatmaps made of it look noisy.
# - A black pixel gets 0, because it *is* 0, and not because it would not matter.
#
# And what it tells about the FBI loss is the key to [notebook 5](05_the_fbi_loss.ipynb).
#
# ## 7. Other rules
#
# Eq. (2) is called **LRP-0**. Its fraction can be changed, and the literature has done so in many
# ways. With $c_{ji} = W_{ji} x_i$, with $y^+ = \max(y, 0)$ and $y^- = \min(y, 0)$ for the positive
# and the negative part of a number, and with the sums $C_j^\pm = \sum_i c_{ji}^\pm$:
#
# | rule | share of $R_j$ that goes to input $i$ | idea |
# |---|---|---|
# | `zero` (LRP-0) | $c_{ji} / z_j$ | by contribution |
# | `epsilon` | $c_{ji} / (z_j + \varepsilon \operatorname{sign} z_j)$ | absorb if $z_j$ is small |
# | `gamma`, if $z_j > 0$ | $(c_{ji} + \gamma c_{ji}^+) / (z_j + \gamma C_j^+)$ | favour $c^+$ |
# | `alpha-beta` | $\alpha\, c_{ji}^+ / C_j^+ - \beta\, c_{ji}^- / C_j^-$ | signs apart |
# | `z-plus` | $c_{ji}^+ / C_j^+$ | only what is for it |
# | `w-square` | $W_{ji}^2 / \sum_i W_{ji}^2$ | by the weights alone |
# | `flat` | $1 / \text{(number of inputs)}$ | to all alike |
# | `z-box` | by how much the pixel beats the worst pixel in $[0, 1]$ | for the first layer |
#
# In `alpha-beta`, $\alpha - \beta = 1$, so that the shares sum to 1. (Biases, where a rule knows
# them, join the sums below the fraction.) One unit with four inputs shows the characters. Its
# contributions are $6, -5, 1$ and $0$: much that cancels, and a large negative weight that met a
# black pixel. Its output is 2.

# %% tags=["rules-one-unit"]
one = Sequential({"unit": Dense(4, 1, bias=False, dtype=np.float64)})
one.load_state_dict({"unit.weight": np.array([[10.0, -5.0, 5.0, -15.0]])})
four = np.array([[0.6, 1.0, 0.2, 0.0]])
one_step = forward_pass(one, four)
rules = ("zero", "epsilon:1", "gamma:0.5", "alpha-beta:2,1", "z-plus", "w-square", "flat", "z-box")
shares = {rule: relevance_pass(one_step, "logits", rule=rule)["unit"].numpy()[0] for rule in rules}

# %% tags=["hide-input"]
fig, axes = panels(2, 4, 9, 4.2, sharex=True)
for ax, (rule, values) in zip(axes.flat, shares.items(), strict=True):
    ax.bar(["6", "-5", "1", "0"], values, color=[RED if v > 0 else BLUE for v in values], width=0.6)
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_ylim(-6.2, 7.2)
    ax.set_title(f"{rule}: sum {values.sum():.2g}", size=9.5)
fig.supxlabel("contribution of the input", size=10)
fig.supylabel("its relevance", size=10)
plt.show()

# %% [markdown]
# LRP-0 hands down 6, −5 and 1 to explain a 2. Such cancelling pairs, layer upon layer, are the
# noise in the maps of section 4. Each other rule tames it in its way, and each way has its price:
# `epsilon` absorbs a part; `gamma`, `alpha-beta` and `z-plus` lower or silence what spoke against;
# `w-square`, `flat` and `z-box` give relevance to a black pixel. (For `z-box` this has a reason: a
# white pixel at that weight would have ruined the output, so that it was black spoke *for* it.)
#
# On real digits. The last two are *composites*, which give each kind of layer its own rule:
# `epsilon` in the dense layers, `gamma` or `z-plus` in the convolutions, `z-box` or `flat` at the
# pixels.

# %% tags=["rules-heatmaps"]
from minifbi.explain import get_explainer
from minifbi.plots import plot_heatmaps

METHODS = (
    "lrp-0",
    "lrp-epsilon:0.25",
    "lrp-gamma",
    "lrp-alpha-beta",
    "lrp-z-plus",
    "lrp-epsilon-gamma-box",
    "lrp-epsilon-plus-flat",
)
second = np.argsort(logits, axis=1)[np.arange(len(labels)), -2]  # the runner-up of each image
rows = [(chosen[0], labels), (chosen[2], labels), (chosen[2], second)]
examples = images[[n for n, _ in rows]]
asked = np.array([classes[n] for n, classes in rows])
maps = {method: get_explainer(method)(net, examples, asked) for method in METHODS}
questions = [f"a {labels[n]}: why {classes[n]}?" for n, classes in rows]
plot_heatmaps(maps, examples, rows=questions, per_line=8)

# %% [markdown]
# (Each map has its own range, written below it. The last row asks why the network thought of its
# second choice.)
#
# Some of these maps are smoother and look more convincing. Are they better? A pretty heatmap may
# show the digit rather than what the network did with it. Compare the last two rows: the same
# image, two classes. A method that answers the question "why *this* class?" must give different
# maps. Over all images:

# %% tags=["class-sensitivity"]
print(f"{'method':23s} pixels / logit   negative part   correlation of two classes")
for method in METHODS:
    explainer = get_explainer(method)
    for_true, for_second = explainer(net, images, labels), explainer(net, images, second)
    reached = for_true.sum(axis=(1, 2, 3)) / logits[np.arange(len(labels)), labels]
    negative = np.maximum(-for_true, 0).sum() / np.abs(for_true).sum()
    pairs = zip(for_true, for_second, strict=True)
    correlation = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
    print(f"{method:23s} {reached.mean():14.2f} {negative:15.2f} {correlation:28.2f}")

# %% [markdown]
# The columns: how much of the logit arrives at the pixels, on average; how much of the map is
# negative; and how similar the maps of two different classes are (1: the same picture).
#
# Read the last column beside the pictures. Where it is close to 1, the map says where the network
# looks, and hardly why it chose this class. Which is the better explanation depends on the
# question, and no rule wins everywhere. [Notebook 8](08_is_it_more_interpretable.ipynb) takes up
# how to measure that.
#
# Why, then, does the paper use LRP-0? It does not say. But LRP-0 is the one rule for which
# relevance is activation times gradient, so the loss made of it has a form that one can read
# ([notebook 5](05_the_fbi_loss.ipynb)), and it is the cheapest. minifbi lets you train with any of
# the others: `--fbi-rule`.

# %% [markdown]
# ## What you learnt
#
# - Relevance propagation hands a score down: each input gets the share that it contributed, Eq.
#   (2). All that has to travel is the ratio of relevance to activation, and nothing is divided.
# - For a convolution, "sum over all outputs that saw me" is the transposed convolution.
# - Without biases relevance is conserved. A bias absorbs $b_j r_j$, which may be negative.
# - In a net of ReLU, LRP-0 is activation times gradient, exactly. With $\tanh$ it is not.
# - Other rules edit the fraction. They give calmer maps, pay for it in different coins, and answer
#   different questions.
#
# ## Exercises
#
# Replace each `...`, run the cell, and read what the check says.
#
# **1. Eq. (2), as it stands.** Write the relevance of a dense layer *with* the division, for a
# batch. Mind the bias, and units whose output is 0.

# %% tags=["exercise"]
from checks import tutorial_04 as check


def dense_relevance(x, W, b, R):
    """Relevance at the inputs of a dense layer.

    x: inputs (N, in).  W: weights (out, in).  b: biases (out,).
    R: relevance of the outputs (N, out).
    Returns (N, in).  0 / 0 is 0.
    """
    # solution
    # student: # the outputs z, (N, out)
    # student: # their ratio R / z, (N, out)
    # student: return ...
    z = x @ W.T + b
    ratio = np.divide(R, z, out=np.zeros_like(R), where=z != 0)
    return x * (ratio @ W)
    # end solution


check.dense_relevance(dense_relevance)

# %% [markdown]
# **2. Who keeps what?** Find out how much relevance the biases of each layer absorb, with the
# formula of section 5 and not by subtracting sums. `step.relevance(ratio)` carries a ratio from the
# output of a step to its input. Some layers have no bias: `getattr(step.layer, "bias", None)`. The
# bias of a convolution acts at every place of its map.


# %% tags=["exercise"]
def absorbed(steps, ratio):
    """What the biases absorb of each image's relevance: a dict of arrays (N,), by the step's name.

    steps: the forward pass.  ratio: the ratio at the logits, a Tensor (N, F).
    """
    found = {}
    for step in reversed(steps):
        bias = getattr(step.layer, "bias", None)
        if bias is not None:
            # solution
            # student: found[step.name] = ...  # ratio.numpy() has the shape of the step's output
            r = ratio.numpy()
            per_unit = r.sum(axis=(2, 3)) if r.ndim == 4 else r  # (N, out)
            found[step.name] = per_unit @ bias.numpy()
            # end solution
        ratio = step.relevance(ratio)
    return found


check.absorbed(absorbed)

# %% [markdown]
# **3. A rule of your own hands.** Write the ratio that LRP-epsilon passes on from a dense layer:
# $\sum_j W_{ji}\, R_j / (z_j + \varepsilon \operatorname{sign} z_j)$, with $\operatorname{sign} 0 =
# +1$. The relevance arrives as $R_j = z_j r_j$, with the ratio $r_j$.


# %% tags=["exercise", "exercise-epsilon"]
def epsilon_ratio(z, W, ratio, epsilon):
    """The ratio at the inputs by LRP-epsilon.

    z: outputs of the layer (N, out).  W: weights (out, in).  ratio: at the outputs (N, out).
    Returns (N, in).
    """
    # solution
    # student: return ...
    sign = np.where(z >= 0, 1.0, -1.0)
    return (z * ratio / (z + epsilon * sign)) @ W
    # end solution


check.epsilon_ratio(epsilon_ratio)

# %% [markdown]
# **4. Black and white.** Somebody shows an LRP-0 heatmap of an MNIST digit. All relevance lies on
# the ink, none on the background, and the speaker concludes that the network looks at the digit and
# not at the background. What do you answer?
#
# - `"a"`: Right, that is what the heatmap shows.
# - `"b"`: With LRP-0 it could not be otherwise, whatever the network does.
# - `"c"`: Wrong, the background has relevance too, but it is too small to be seen.

# %% tags=["exercise"]
# solution
# student: answer = ...
answer = "b"
# end solution

check.black_pixels(answer)

# %% [markdown]
# **5. To think about.** The gradient at conv2 has as many numbers as the activation. In
# [notebook 3](03_forward_pass.ipynb) you looked at activation maps, here at maps of activation
# times gradient. What does each show that the other cannot? Which would you show a physician, and
# with which sentence of warning?
#
# ## Further reading
#
# - S. Bach, A. Binder, G. Montavon, F. Klauschen, K.-R. Müller and W. Samek, *On Pixel-Wise
#   Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*, PLoS ONE
#   10(7), 2015: where relevance propagation comes from.
# - A. Shrikumar, P. Greenside, A. Shcherbina and A. Kundaje, *Not Just a Black Box: Learning
#   Important Features Through Propagating Activation Differences*, 2016: LRP-0 in ReLU nets is
#   gradient times input.
# - M. Ancona, E. Ceolini, C. Öztireli and M. Gross, *Towards better understanding of gradient-based
#   attribution methods for Deep Neural Networks*, ICLR 2018: the same for other activation
#   functions.
# - G. Montavon, A. Binder, S. Lapuschkin, W. Samek and K.-R. Müller, *Layer-Wise Relevance
#   Propagation: An Overview*, in *Explainable AI*, LNCS 11700, 2019: the rules and where to use
#   which.
# - L. Sixt, M. Granz and T. Landgraf, *When Explanations Lie: Why Many Modified BP Attributions
#   Fail*, ICML 2020: on maps that hardly depend on the class.
#
# Before: [3. The forward pass](03_forward_pass.ipynb). Next:
# [5. The FBI loss](05_the_fbi_loss.ipynb).
