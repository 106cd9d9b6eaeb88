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
# # Training a network in three steps
#
# A network is usually trained in two steps: a *forward pass* computes the loss, a *backward pass*
# computes its gradient. Yoo, Kim and Kang (2019) put a third one between them. A *relevance pass*
# walks from the last layer to the first and asks at each layer: how much of the answer came
# through this unit? What it finds becomes part of the loss.
#
# In this tutorial you will
#
# 1. do all three steps by hand, on a net small enough to check with a pencil,
# 2. do the same with minifbi,
# 3. discover what the relevance pass really computes, and prove it in three lines,
# 4. see where relevance is lost,
# 5. check gradients through both passes, and catch a planted bug,
# 6. train the paper's network on handwritten digits,
# 7. look at what it sees in a 7.
#
# You need Python, NumPy, and the chain rule. It takes 15 to 30 minutes.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer images; for the tests

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY = "#1f77b4", "#c0392b", "#666666"


def panels(rows, columns, width, height):
    """A row or grid of plots without the upper and the right edge."""
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


# %% [markdown]
# ## 1. By hand
#
# Our net has three inputs, three hidden units with ReLU, and one output. There are no biases.
# Every weight of the first layer is 2, every weight of the second is 3.
#
# **Step 1, the forward pass.** The paper calls the activations $\mathbf a_i^+$, where
# $\mathbf a_0^+$ is the input:
#
# $$\mathbf a_i^+ = f(\mathbf a_{i-1}^+, \mathbf w_i) \tag{1}$$

# %% tags=["eq-1"]
W1 = 2 * np.ones((3, 3))
W2 = 3 * np.ones((1, 3))

a0 = np.array([1.0, 2.0, 3.0])
a1 = np.maximum(W1 @ a0, 0)
y = W2 @ a1

print("a_0^+ =", a0)
print("a_1^+ =", a1)
print("y     =", y)

# %% [markdown]
# **Step 2, the relevance pass.** The output is 108. Who made it? Start with all 108 at the output
# and hand it down: each unit passes what it has to the units below, in proportion to what they
# contributed. Hidden unit $j$ contributed $w_j a_j$ of the 108, so it gets that share.
#
# The paper writes it as a forward layer with rescaled weights (here $\mathbf a_i^-$ belongs to the
# *input* of layer $i$, and $\mathbf a_3^-$ is what we start with):
#
# $$\mathbf a_i^- = f\Big(\mathbf a_{i-1}^+,\; \sum_j w_{i,j} \frac{a_{i+1,j}^-}{a_{i,j}^+}\Big)
#   = \mathbf a_{i-1}^+ \odot W_i^\top \frac{\mathbf a_{i+1}^-}{\mathbf a_i^+} \tag{2}$$

# %% tags=["eq-2"]
a3_minus = y  # all of the output is to be explained
a2_minus = a1 * (W2.T @ (a3_minus / y))
a1_minus = a0 * (W1.T @ (a2_minus / a1))

print("a_2^- =", a2_minus, "  sum", a2_minus.sum())
print("a_1^- =", a1_minus, "  sum", a1_minus.sum())

# %% [markdown]
# Check it with a pencil. Each hidden unit gets $108 / 3 = 36$. Each of these passes its 36 on in
# the ratio $1 : 2 : 3$ of the inputs, so three times $(6, 12, 18)$ arrives: $(18, 36, 54)$. Nothing
# is lost on the way: both rows sum to 108.
#
# Note the middle of Eq. (2): the division by $\mathbf a_i^+$ undoes the product with
# $\mathbf a_i^+$ one layer further up. All that the pass really has to carry is the **ratio**
# $\mathbf a_{i+1}^- / \mathbf a_i^+$. Here it is 1 at the output and 3 at the hidden units. minifbi
# carries this ratio, so it never divides by anything.

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 4.2))
columns = {0: (a0, a1_minus), 1: (a1, a2_minus), 2: (y, a3_minus)}
place = {
    (c, k): (3.1 * c, 1.25 * ((len(up) - 1) / 2 - k))
    for c, (up, _) in columns.items()
    for k in range(len(up))
}
for c in (0, 1):
    for k in range(3):
        for m in range(len(columns[c + 1][0])):
            (x_from, y_from), (x_to, y_to) = place[c, k], place[c + 1, m]
            ax.plot([x_from, x_to], [y_from, y_to], color="#cccccc", zorder=0)
for (c, k), (px, py) in place.items():
    forward, backward = columns[c]
    ax.scatter(px, py, s=2300, color="white", edgecolor=GREY, zorder=1)
    ax.text(px, py + 0.12, f"{forward[k]:g}", color=BLUE, ha="center", va="center", weight="bold")
    ax.text(px, py - 0.16, f"{backward[k]:g}", color=RED, ha="center", va="center", weight="bold")
for c, text in enumerate(("input", "hidden units", "output")):
    ax.text(3.1 * c, 1.9, text, ha="center", color=GREY)
for c, text in enumerate(("every weight 2", "every weight 3")):
    ax.text(3.1 * c + 1.55, 1.4 - 0.35 * c, text, ha="center", color=GREY, size=9)
ax.text(3.1, -2.05, "forward activation $a^+$ (blue), left to right", ha="center", color=BLUE)
ax.text(3.1, -2.4, "backward activation $a^-$ (red), right to left", ha="center", color=RED)
ax.set(xlim=(-0.7, 6.9), ylim=(-2.55, 2.15))
ax.axis("off")
plt.show()

# %% [markdown]
# **The FBI loss** compares the two at each of the $K$ layers: what went in, and what came back.
#
# $$L_{FBI} = \frac1K \sum_{i=1}^K L_1(\mathbf a_{i-1}^+, \mathbf a_i^-) \tag{3}$$

# %% tags=["eq-3"]
term1 = np.abs(a0 - a1_minus).sum()  # 17 + 34 + 51
term2 = np.abs(a1 - a2_minus).sum()  # 24 + 24 + 24
fbi_by_hand = (term1 + term2) / 2

print("terms", term1, term2, "  L_FBI =", fbi_by_hand)

# %% [markdown]
# ## 2. The same with minifbi
#
# A minifbi net is a chain of layers with names. We give it the weights from above.

# %%
from minifbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.layers import Dense, ReLU, Sequential

net = Sequential(
    {
        "hidden": Dense(3, 3, bias=False, dtype=np.float64),
        "relu": ReLU(),
        "out": Dense(3, 1, bias=False, dtype=np.float64),
    }
)
net.load_state_dict({"hidden.weight": W1, "out.weight": W2})
net.summary((3,))

# %% [markdown]
# **Steps 1 and 2.** `forward_pass` returns one `Step` for each layer. A step knows its input
# `step.x` (this is $\mathbf a_{i-1}^+$) and its output `step.z`. `relevance_pass` walks the steps
# backwards. Everything is done for a batch, so our input gets a first dimension of 1.
#
# `start="logits"` says: explain all outputs. In a classifier the default is `"target"`: explain
# the output of the true class only.

# %%
steps = forward_pass(net, a0[None])  # Eq. (1)
relevances = relevance_pass(steps, start="logits")  # Eq. (2)
terms = fbi_terms(steps, relevances)  # Eq. (3), the summands
loss_fbi = fbi_loss(terms)  # Eq. (3)

inputs = {step.name: step.x for step in steps}
for name, relevance in relevances.items():
    print(
        f"{name:8s} a+ {inputs[name].numpy()[0]}   a- {relevance.numpy()[0]}"
        f"   term {terms[name].item():g}"
    )
print("L_FBI =", loss_fbi.item())

assert np.array_equal(relevances["hidden"].numpy()[0], a1_minus)
assert loss_fbi.item() == fbi_by_hand

# %% [markdown]
# **The objective** mixes the FBI loss with a task loss $L_{TSK}$:
#
# $$L = (1 - \lambda)\, L_{TSK} + \lambda\, L_{FBI} \tag{4}$$
#
# The paper uses cross-entropy and $\lambda = 0.001$. Our net is no classifier, so let its task be
# to answer 100.

# %% tags=["eq-4"]
task_loss = ((steps[-1].z - 100.0) ** 2).sum()
loss = objective(task_loss, loss_fbi, fbi_weight=0.001)
print(f"L = 0.999 * {task_loss.item():g} + 0.001 * {loss_fbi.item():g} = {loss.item():g}")

# %% [markdown]
# **Step 3, the backward pass.** Training looks for the parameters with the smallest $L$,
#
# $$\mathcal Y^* = \arg\min_{\mathcal Y} L, \tag{5}$$
#
# by following the gradient of $L$. Here is the point where the FBI loss differs from a method that
# only *explains* a trained net: $L$ depends on the weights through the forward pass **and** through
# the relevance pass, and the gradient must go through both. In minifbi this needs no special
# machinery. While the passes ran, each operation was written down on a *tape*. The relevance pass
# is on the same tape:

# %%
from minifbi.autograd.tensor import backward_order

for tensor in reversed(backward_order(loss)):
    if tensor.node:
        print(f"{tensor.node.name:20s} {tensor.shape}")

# %% tags=["eq-5"]
net.zero_grad()
loss.backward()
gradient = net.parameters()["hidden.weight"].grad
print(gradient)

# %% [markdown]
# Each row is $47.9545 \cdot (1, 2, 3)$, and that too can be checked with a pencil. The task loss
# contributes $0.999 \cdot 2 \cdot (108 - 100) \cdot 3 = 47.952$ times the input. The FBI loss
# contributes $0.001 \cdot 2.5$ times the input (exercise 1).

# %%
np.testing.assert_allclose(gradient, 47.9545 * np.ones((3, 1)) * a0)

# %% [markdown]
# ## 3. What does the relevance pass compute?
#
# Let us find out by experiment. We take the paper's network: five convolutions, three dense layers,
# ReLU, max-pooling. Its weights are random, and so are its biases. We show it 20 real digits, run
# the relevance pass, and compare $\mathbf a_i^-$ at each layer with something you know well: the
# **gradient** of the explained output with respect to the same activations.
#
# To get that gradient, we cut the net at layer $i$, take its input as a new leaf, and run the rest.

# %%
from minifbi import Tensor, alexnet, load_dataset

mnist = load_dataset("mnist")
images, labels = mnist.train.batch(slice(0, 20), dtype=np.float64)

rng = np.random.default_rng(0)
random_net = alexnet(seed=0, backend="numpy", dtype=np.float64)
state = random_net.state_dict()
for name in state:
    if name.endswith("bias"):
        state[name] = 0.1 * rng.standard_normal(state[name].shape)
random_net.load_state_dict(state)

steps = forward_pass(random_net, images)
relevances = relevance_pass(steps, "target", labels)


def gradient_at_input(steps, i, labels):
    """Gradient of the true classes' logits with respect to the input of layer i."""
    leaf = Tensor(steps[i].x.numpy(), requires_grad=True)
    out = leaf
    for step in steps[i:]:
        out = step.layer(out)
    chosen = out[np.arange(len(labels)), labels]
    chosen.sum().backward()
    return leaf.grad


gradients = {
    step.name: gradient_at_input(steps, i, labels)
    for i, step in enumerate(steps)
    if step.name in relevances
}
inputs = {step.name: step.x.numpy() for step in steps}

# %% [markdown]
# Now draw, for each layer, a dot for every unit that is not 0: across, the product of activation
# and gradient; up, the relevance.

# %% tags=["closed-form"]
fig, axes = panels(2, 4, width=9, height=4.8)
for ax, (name, relevance) in zip(axes.flat, relevances.items(), strict=True):
    product = (inputs[name] * gradients[name]).ravel()
    found = relevance.numpy().ravel()
    shown = np.flatnonzero(inputs[name].ravel())[:: max(1, len(found) // 4000)]
    ax.axline((0, 0), slope=1, color="#dddddd", zorder=0)
    ax.scatter(product[shown], found[shown], s=4, color=BLUE, linewidths=0)
    gap = np.abs(found - product).max() / np.abs(found).max()
    ax.set_title(f"{name}: gap {gap:.1g}", size=10)
    ax.ticklabel_format(style="sci", scilimits=(-2, 2))
fig.supxlabel("activation $a^+$ times gradient", size=10)
fig.supylabel("relevance $a^-$", size=10)
plt.show()

# %% [markdown]
# All dots lie on the diagonal. The *gap* in each title is the largest difference, relative to the
# largest relevance: zero, or at most the rounding of float64. So, in a ReLU net,
#
# $$\mathbf a_i^- = \mathbf a_{i-1}^+ \odot \mathbf g_i , \qquad
#   \mathbf g_i = \frac{\partial \,(\text{explained output})}{\partial \mathbf a_{i-1}^+}.$$
#
# **Proof.** Let $\mathbf r_i$ be the ratio at the output $\mathbf z_i$ of layer $i$, and call the
# explained output $e$.
#
# 1. At the last layer the ratio is 1 at the explained output and 0 elsewhere. That is
#    $\partial e / \partial \mathbf z_K$.
# 2. If $\mathbf r_i = \partial e / \partial \mathbf z_i$, then, since
#    $\mathbf z_i = W_i \mathbf a_{i-1}^+ + \mathbf b_i$, the chain rule gives
#    $W_i^\top \mathbf r_i = \partial e / \partial \mathbf a_{i-1}^+ = \mathbf g_i$; and
#    Eq. (2) says $\mathbf a_i^- = \mathbf a_{i-1}^+ \odot W_i^\top \mathbf r_i$.
# 3. Below stands a ReLU (or a maximum), whose gate is shut for the gradient exactly where the ratio
#    is $0/0 = 0$. So $\mathbf r_{i-1} = \partial e / \partial \mathbf z_{i-1}$: repeat with 2. ∎
#
# This is the best single insight for reading the paper. Put it into Eq. (3):
#
# $$L_{FBI} = \frac1K \sum_i \big\lVert \mathbf a_{i-1}^+ \odot (1 - \mathbf g_i) \big\rVert_1 .$$
#
# **The FBI loss is an $L_1$ penalty on activations, weighted by how far the gradient is from 1.**
# A unit pays nothing if it is silent, or if the answer grows with it at slope 1.

# %%
closed_form = np.mean(
    [np.abs(inputs[name] * (1 - gradients[name])).sum() / len(labels) for name in relevances]
)
by_passes = fbi_loss(fbi_terms(steps, relevances)).item()
print(f"by the closed form {closed_form:.12f}\nby the two passes  {by_passes:.12f}")
np.testing.assert_allclose(by_passes, closed_form)

# %% [markdown]
# ## 4. What biases absorb
#
# In section 1 no relevance was lost. The proof above holds with biases too, but then the sums no
# longer agree. Take
#
# $$f(x_1, x_2) = \mathrm{ReLU}\big(\mathrm{ReLU}(x_1 - 1) - \mathrm{ReLU}(x_2)\big)$$
#
# at $(3, 1)$. The first layer has the bias $(-1, 0)$, the second has none.

# %% tags=["bias"]
with_bias = Sequential(
    {
        "first": Dense(2, 2, dtype=np.float64),
        "relu1": ReLU(),
        "second": Dense(2, 1, bias=False, dtype=np.float64),
        "relu2": ReLU(),
    }
)
with_bias.load_state_dict(
    {
        "first.weight": np.eye(2),
        "first.bias": np.array([-1.0, 0.0]),
        "second.weight": np.array([[1.0, -1.0]]),
    }
)
small_steps = forward_pass(with_bias, np.array([[3.0, 1.0]]))
at_input = relevance_pass(small_steps, "logits")["first"].numpy()[0]
print("output   ", small_steps[-1].z.item())
print("relevance", at_input, " sum", at_input.sum())

# %% [markdown]
# The output is 1, the relevance of the inputs sums to 2. The difference, $-1$, belongs to the bias:
# it took part in $z = 3 - 1$, so a share of the relevance is its own, but it is no unit of the
# layer below, and so it keeps its share. One says that the bias *absorbs* relevance. In numbers:
# each layer keeps $\mathbf b_i \cdot \mathbf r_i$.
#
# In the paper's network this adds up from layer to layer. We take the random net of section 3, with
# its biases and without them, and the first image.

# %%
no_bias_net = alexnet(seed=0, backend="numpy", dtype=np.float64, bias=False)
series = {}
for title, model in (("with biases", random_net), ("without biases", no_bias_net)):
    one = forward_pass(model, images[:1])
    found = relevance_pass(one, "target", labels[:1])
    logit = one[-1].z.numpy()[0, labels[0]]
    series[title] = [*(r.numpy().sum() for r in found.values()), logit]
np.testing.assert_allclose(series["without biases"], series["without biases"][-1])

fig, axes = panels(1, 2, width=9, height=2.9)
for ax, (title, sums) in zip(axes, series.items(), strict=True):
    ax.bar([*relevances, "logit"], sums, color=[*[BLUE] * 8, RED], width=0.65)
    ax.axhline(sums[-1], color=RED, linewidth=0.8, linestyle="--")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.tick_params(axis="x", rotation=45)
    ax.set_title(title)
axes[0].set_ylabel("sum of $a^-$ at the layer's input")
plt.show()

# %% [markdown]
# Without biases every layer hands on all that it got: relevance is *conserved*.
#
# ## 5. Is the gradient right?
#
# A wrong gradient often still trains, only worse. So minifbi brings a checker. It takes a small
# step in a random direction, looks how the loss changes, and compares with what the gradient
# promised. One step tests all numbers of a weight matrix at once. We check $L_{FBI}$ of a small
# net, through both passes.

# %% tags=["gradient-check"]
from minifbi import check_gradients
from minifbi.autograd import cross_entropy


def small_net(middle):
    """Three dense layers; the one in the middle is of class `middle`."""
    options = {"rng": np.random.default_rng(1), "dtype": np.float64}
    return Sequential(
        {
            "dense1": Dense(12, 8, **options),
            "relu1": ReLU(),
            "dense2": middle(8, 6, **options),
            "relu2": ReLU(),
            "dense3": Dense(6, 3, **options),
        }
    )


x = np.random.default_rng(2).random((5, 12))
classes = np.array([0, 1, 2, 0, 1])


def fbi_of(model):
    steps = forward_pass(model, x)
    return fbi_loss(fbi_terms(steps, relevance_pass(steps, "target", classes)))


model = small_net(Dense)
print(check_gradients(lambda: fbi_of(model), model.parameters()))

# %% [markdown]
# Now break it on purpose. The relevance pass of a dense layer uses the weight, $W^\top \mathbf r$,
# so its adjoint must return a gradient for the weight. Ours forgets.

# %%
from minifbi.errors import GradientError


class ForgetfulDense(Dense):
    """A dense layer whose relevance pass pretends not to depend on the weight."""

    def relevance_backward(self, backend, grad, ratio, saved):
        grad_ratio, _, *rest = super().relevance_backward(backend, grad, ratio, saved)
        return (grad_ratio, None, *rest)


model = small_net(ForgetfulDense)
try:
    check_gradients(lambda: fbi_of(model), model.parameters())
except GradientError as error:
    print(error)

# %% [markdown]
# The checker names the culprit: `dense2.weight`. It even tells us which pass is to blame, if we ask
# twice. The task loss never touches the relevance pass, and its gradients are right:

# %%
print(check_gradients(lambda: cross_entropy(model(x), classes), model.parameters()))

# %% [markdown]
# ## 6. Train the paper's network
#
# Now all of it together, on real MNIST. To keep this short we use a small part of the training
# images and train two networks from the same initial weights: one conventionally, one with the FBI
# loss. (`python -m minifbi.train` trains on all 55,000.)
#
# One more thing from the paper. Early in the training the terms of the relevance pass "are not
# stabilized enough". So the FBI loss waits behind a **gate**: it joins when the accuracy on
# validation images first exceeds 70 %.

# %%
from minifbi.datasets import Dataset, Split
from minifbi.training import TrainConfig, Trainer, evaluate

TRAIN, VALIDATION, TEST, EPOCHS = (320, 100, 200, 1) if FAST else (3000, 500, 2000, 2)


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


def train(fbi_weight):
    config = TrainConfig(
        fbi_weight=fbi_weight,
        epochs=EPOCHS,
        batch_size=64,
        gate_interval=5,
        backend="auto",  # compiled kernels where Numba is installed
        seed=0,
    )
    trainer = Trainer(config, digits)
    for _ in range(EPOCHS):
        record = trainer.run_epoch()
        print(
            f"epoch {record['epoch']}: task loss {record['task_loss']:.3f}, "
            f"FBI loss {record['fbi_loss']:.0f}, "
            f"validation accuracy {record['val_accuracy']:.3f}"
        )
    return trainer


conventional = train(fbi_weight=0.0)

# %% [markdown]
# Each training step is one call of `three_step`, and that function (in
# `minifbi/training/three_step.py`) is the paper on one screen: the three steps of section 2. It is
# told by the gate whether the FBI loss takes part.

# %% tags=["gate"]
proposed = train(fbi_weight=0.001)
if proposed.gate.open:
    print("the FBI loss joined at step", proposed.gate.step)

# %% tags=["hide-input"]
fig, axes = panels(1, 2, width=9, height=3.2)
for trainer, color, label in (
    (conventional, BLUE, "conventional"),
    (proposed, RED, "proposed (with FBI loss)"),
):
    history = {name: np.array(values) for name, values in trainer.history.items()}
    for ax, name in zip(axes, ("task_loss", "fbi_loss"), strict=True):
        known = np.isfinite(history[name])  # before the gate the FBI loss is only sampled
        ax.plot(history["step"][known], history[name][known], color=color, lw=1.2, label=label)
for ax, title in zip(axes, ("task loss $L_{TSK}$", "FBI loss $L_{FBI}$"), strict=True):
    ax.set(title=title, xlabel="training step", yscale="log" if "TSK" in title else "linear")
    if proposed.gate.open:
        ax.axvline(proposed.gate.step, color=GREY, linestyle="--", linewidth=1)
        ax.annotate(
            "gate opens",
            (proposed.gate.step, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            color=GREY,
            size=9,
        )
axes[1].legend(loc="lower right", frameon=False)
plt.show()

# %%
for name, trainer in (("conventional", conventional), ("proposed", proposed)):
    accuracy, _ = evaluate(trainer.model, digits.test)
    last = trainer.records[-1]
    print(
        f"{name:13s} test accuracy {accuracy:.3f} ({TEST} images)   "
        f"FBI loss in the last epoch {last['fbi_loss']:.0f}"
    )

# %% [markdown]
# Until the gate opens, the two trainings are the same, number by number: same seed, same batches,
# same loss. After it they part. What you see here is one seed and a few thousand images: enough to
# watch the mechanism, not enough to judge the method.
#
# ## 7. What the net sees in a 7
#
# The paper's Figure 2 shows activation maps of the first three convolutions for a 7.
# `plot_activations` draws them (left), and beside each map the relevance at the same place (right).
# Red means that a place speaks for the answer, blue that it speaks against it. Both nets share the
# colour range of the activations, so the two figures can be compared.

# %% tags=["maps"]
from minifbi.activation_maps import activation_maps
from minifbi.plots import plot_activations

seven = int(np.flatnonzero(digits.test.labels == 7)[0])
images_of_7, _ = digits.test.batch(slice(seven, seven + 1))
nets = {"conventional training": conventional.model, "proposed training": proposed.model}

shared = {}
for model in nets.values():
    for layer in activation_maps(model, images_of_7[0], 7).layers:
        shared[layer.name] = max(shared.get(layer.name, 0.0), float(layer.activation.max()))

figures = [
    plot_activations(model, images_of_7[0], 7, title=title, activation_max=shared)
    for title, model in nets.items()
]
figures[0]

# %%
figures[1]

# %% [markdown]
# Look with your own eyes before you read on. Which filters are silent? How much of the activation
# lies on the empty background? And how does the picture on the right differ from the one on the
# left?
#
# Two numbers to go with it, for each convolution: the mean activation, and the share of the
# activation that lies on empty background (for the deeper layers: where the part of the image under
# the map's pixel is empty).

# %%
print(" " * 23 + "".join(f"{name:>16s}" for name in shared))
for title, model in nets.items():
    maps = activation_maps(model, images_of_7[0], 7)
    cells = []
    for layer in maps.layers:
        size = layer.activation.shape[-1]
        block = maps.image.shape[-1] // size
        empty = maps.image[0].reshape(size, block, size, block).max(axis=(1, 3)) == 0
        share = layer.activation[:, empty].sum() / layer.activation.sum()
        cells.append(f"{layer.activation.mean():9.3f}  {share:5.0%}")
    print(f"{title:23s}" + "".join(cells))

# %% [markdown]
# When we ran this, the mean activation was lower after the proposed training at every layer, and
# the share on the background hardly moved: in less than a hundred steps the loss made the whole map
# quieter, rather than more selective. Whether that changes in a longer training is a question for
# `python -m minifbi.train`, with and without `--fbi-weight 0`.
#
# ## What you learnt
#
# - Three-step training puts a relevance pass between the forward and the backward pass, and adds
#   what it finds to the loss: Eq. (1) to (5).
# - The relevance pass hands the answer down in proportion to contributions. It needs to carry only
#   the ratio, and divides by nothing.
# - In a ReLU net, $\mathbf a_i^- = \mathbf a_{i-1}^+ \odot \mathbf g_i$: activation times gradient.
#   The FBI loss is an $L_1$ penalty on activations, weighted by $|1 - \mathbf g_i|$.
# - Without biases relevance is conserved; biases absorb some.
# - The gradient goes through both passes, and a checker can prove a wrong one guilty.
#
# ## Exercises
#
# 1. **The 2.5.** Section 2 claims that in the net made by hand, the gradient of $L_{FBI}$ with
#    respect to row $j$ of the first weight is $2.5 \cdot (1, 2, 3)$. Derive it from the closed form
#    of section 3. What would it be if every weight of the second layer were $\tfrac12$?
# 2. **A net that pays nothing.** Find weights for a net with two dense layers, ReLU between, such
#    that $L_{FBI} = 0$ for every positive input. What does the closed form say that all gradients
#    must be? Why would a classifier rarely end up there?
# 3. **Is it only a penalty on activations?** Replace the FBI loss in Eq. (4) by the plain sum
#    $\frac1K \sum_i \lVert \mathbf a_{i-1}^+ \rVert_1$ (`step.x.abs().sum()`), train as in section
#    6, and compare the figures of section 7. Which differences remain? How many seeds would you
#    need before you believe them?
#
# ## Further reading
#
# - C. H. Yoo, N. Kim and J.-W. Kang, *Relevance Regularization of Convolutional Neural Network for
#   Interpretable Classification*, CVPR Workshops 2019: the paper.
# - S. Bach, A. Binder, G. Montavon, F. Klauschen, K.-R. Müller and W. Samek, *On Pixel-Wise
#   Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*, PLoS ONE
#   10(7), 2015: where Eq. (2) comes from.
