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
# # 5. The FBI loss: what it asks for, and its gradient
#
# The forward pass says how strongly each unit is active. The relevance pass of
# [notebook 4](04_relevance.ipynb) says how much of the answer came through it. The
# *forward-backward interacted-activation* (FBI) loss of Yoo, Kim and Kang (2019) compares the two,
# at every layer, and training makes them more alike.
#
# You will
#
# 1. compute the loss with a pencil, Eq. (3),
# 2. look at each layer's term in a trained CNN,
# 3. find out what the loss asks a unit to do, and draw where its gradient pushes,
# 4. mix it with the task loss, Eq. (4), and see why $\lambda = 0.001$ is not small,
# 5. let it push a real network,
# 6. derive the gradient through the relevance pass, write it in NumPy, and have it checked.
#
# You need [notebook 4](04_relevance.ipynb), most of all that relevance is activation times
# gradient. It takes about 30 minutes.

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
# ## 1. With a pencil
#
# Notation, as before: layer $i$ of $K$ layers with weights has the input $\mathbf a_{i-1}^+$ (the
# forward activation), and at the same place the relevance $\mathbf a_i^-$ (the backward
# activation). The two have the same shape, so they can be subtracted. The FBI loss is the mean over
# the layers of the distance
#
# $$L_{FBI} = \frac1K \sum_{i=1}^K L_1(\mathbf a_{i-1}^+, \mathbf a_i^-), \qquad
#   L_1(\mathbf a, \mathbf b) = \sum_u |a_u - b_u| , \tag{3}$$
#
# where $u$ counts the units. (The paper does not say whether to add or to average over the units.
# minifbi adds over the units of an image and averages over the images; section 4 shows how much
# hangs on it.)
#
# The net of [notebook 4](04_relevance.ipynb) had the input $(2, 1)$ with the relevance $(8, 1)$,
# and hidden units $(3, 3, 0)$ with the relevance $(6, 3, 0)$. What is its $L_{FBI}$?

# %% tags=["fbi-by-hand"]
a0, a1_minus = np.array([2.0, 1.0]), np.array([8.0, 1.0])
a1, a2_minus = np.array([3.0, 3.0, 0.0]), np.array([6.0, 3.0, 0.0])

term1 = np.abs(a0 - a1_minus).sum()
term2 = np.abs(a1 - a2_minus).sum()
print("terms", term1, term2, "  L_FBI", (term1 + term2) / 2)

# %% tags=["hide-input"]
fig, axes = panels(1, 2, 8, 2.6, sharey=True)
for ax, plus, minus, title in (
    (axes[0], a0, a1_minus, f"layer 1: term {term1:g}"),
    (axes[1], a1, a2_minus, f"layer 2: term {term2:g}"),
):
    at = np.arange(len(plus))
    ax.bar(at - 0.2, plus, 0.36, color=BLUE, label="forward $a^+$")
    ax.bar(at + 0.2, minus, 0.36, color=RED, label="backward $a^-$")
    for u, (p, m) in enumerate(zip(plus, minus, strict=True)):
        ax.text(u, max(p, m) + 0.2, f"pays {abs(p - m):g}", ha="center", color=GREY, size=9)
    ax.set(xticks=at, xticklabels=[f"unit {u + 1}" for u in at], ylim=(0, 9.5), title=title)
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# The same with minifbi: two passes, then one function for the summands and one for their mean.

# %%
from minifbi import fbi_loss, fbi_terms, forward_pass, relevance_pass
from minifbi.layers import Dense, ReLU, Sequential

W1 = np.array([[1.0, 1.0], [2.0, -1.0], [-1.0, 1.0]])
W2 = np.array([[2.0, 1.0, 5.0]])
toy = Sequential(
    {
        "hidden": Dense(2, 3, bias=False, dtype=np.float64),
        "relu": ReLU(),
        "out": Dense(3, 1, bias=False, dtype=np.float64),
    }
)
toy.load_state_dict({"hidden.weight": W1, "out.weight": W2})

steps = forward_pass(toy, a0[None])  # Eq. (1); a batch of one
relevances = relevance_pass(steps, start="logits")  # Eq. (2)
terms = fbi_terms(steps, relevances)  # Eq. (3), the summands
print({name: term.item() for name, term in terms.items()}, "  L_FBI", fbi_loss(terms).item())

# %% [markdown]
# ## 2. Each layer's term
#
# Now the paper's network, trained for a moment in the conventional way. What would it have to pay?
# (The first run also compiles the kernels.)

# %%
from minifbi import alexnet, load_dataset
from minifbi.datasets import Dataset, Split
from minifbi.training import TrainConfig, Trainer, evaluate

mnist = load_dataset("mnist")
TRAIN, VALIDATION, TEST, EPOCHS = (640, 100, 200, 2) if FAST else (4000, 500, 1000, 3)


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
trained = trainer.model.state_dict()
print(f"test accuracy {evaluate(trainer.model, digits.test)[0]:.3f}")

# %% tags=["fbi-terms"]
net = alexnet(backend="numpy", dtype=np.float64)
net.load_state_dict(trained)
images, labels = digits.test.batch(slice(0, 10 if FAST else 30), dtype=np.float64)

steps = forward_pass(net, images)
relevances = relevance_pass(steps, "target", labels)  # explain the true class
terms = fbi_terms(steps, relevances)
plus = {step.name: step.x.numpy() for step in steps if step.name in terms}
minus = {name: relevance.numpy() for name, relevance in relevances.items()}

print("layer     units   sum |a+|   sum |a-|      term")
for name, term in terms.items():
    sums = [np.abs(maps[name]).sum() / len(images) for maps in (plus, minus)]
    print(f"{name:7s} {plus[name][0].size:7d} {sums[0]:10.1f} {sums[1]:10.1f} {term.item():9.1f}")
print(f"L_FBI = mean of the {len(terms)} terms = {fbi_loss(terms).item():.1f}")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 2.9), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
at = np.arange(len(terms))
for shift, values, color, label in (
    (-0.27, [np.abs(plus[n]).sum() / len(images) for n in terms], BLUE, "sum of $|a^+|$"),
    (0, [np.abs(minus[n]).sum() / len(images) for n in terms], RED, "sum of $|a^-|$"),
    (0.27, [t.item() for t in terms.values()], GREY, "term: sum of $|a^+ - a^-|$"),
):
    ax.bar(at + shift, values, 0.25, color=color, label=label)
ax.set(xticks=at, xticklabels=list(terms), ylabel="for each image")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Two observations. The activation is much larger than the relevance, at every layer: there are
# hundreds of active units and only one logit to be shared among them. And so the terms are nearly
# as large as the activations: this net pays almost the full $L_1$ norm of its activations. The wide
# convolutions dominate.
#
# ## 3. What the loss asks for
#
# [Notebook 4](04_relevance.ipynb) proved that in a net of ReLU
# $\mathbf a_i^- = \mathbf a_{i-1}^+ \odot \mathbf g_i$, where
# $\mathbf g_i = \partial\,\text{logit} / \partial\, \mathbf a_{i-1}^+$ is the gradient of the
# explained logit. Put it into Eq. (3), and the loss becomes readable. No activation is negative
# here, so
#
# $$L_{FBI} = \frac1K \sum_{i=1}^K \sum_u a_u\, |1 - g_u| . $$
#
# **Each unit pays its activation $a_u$, at the price $|1 - g_u|$.** There are two ways to pay
# nothing: be silent ($a_u = 0$), or be such that one more unit of activation makes one more unit of
# the answer ($g_u = 1$). Let us check the formula before we trust it.

# %% tags=["fbi-closed-form"]
gradients = {n: np.divide(minus[n], a, out=np.zeros_like(a), where=a > 0) for n, a in plus.items()}
by_price = np.mean([(plus[n] * np.abs(1 - gradients[n])).sum() / len(images) for n in terms])
print(f"by the price {by_price:.10f}, by the two passes {fbi_loss(terms).item():.10f}")
np.testing.assert_allclose(by_price, fbi_loss(terms).item())

# %% [markdown]
# If $a$ and $g$ of a unit could move freely, the gradient of $a\,|1-g|$ would push $a$ down at the
# rate $|1 - g|$, and $g$ towards 1 at the rate $a$. Left: this push at each place of the plane
# (white: nothing to pay). The black dots are active units of our net, at the input of conv3. Right:
# where the gradients of all layers are, each unit weighted by its activation.

# %% tags=["hide-input", "fbi-push"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(1.15, 1))
a_grid, g_grid = np.meshgrid(np.linspace(0, 3, 200), np.linspace(-1, 2.2, 200))
shown = axes[0].pcolormesh(
    a_grid, g_grid, a_grid * np.abs(1 - g_grid), cmap="Reds", vmax=6, rasterized=True
)
a_few, g_few = np.meshgrid(np.linspace(0.15, 2.85, 9), np.linspace(-0.85, 2.05, 9))
arrows = -np.abs(1 - g_few), a_few * np.sign(1 - g_few)
axes[0].quiver(a_few, g_few, *arrows, color=BLUE, angles="xy", width=0.006, scale=38)
active = plus["conv3"] > 0
pick = np.random.default_rng(0).choice(active.sum(), 400, replace=False)
axes[0].scatter(plus["conv3"][active][pick], gradients["conv3"][active][pick], s=4, color="black")
axes[0].set(xlabel="activation $a$", ylabel="gradient $g$", xlim=(0, 3), ylim=(-1, 2.2))
axes[0].set_title("what a unit pays, and where it is pushed", size=10)
fig.colorbar(shown, ax=axes[0], label="$a\\,|1-g|$")
for i, name in enumerate(terms):
    a, g = plus[name].ravel(), gradients[name].ravel()
    spread = np.sqrt((a * (g - np.average(g, weights=a)) ** 2).sum() / a.sum())
    axes[1].errorbar(np.average(g, weights=a), i, xerr=spread, fmt="o", color=BLUE, capsize=3)
axes[1].axvline(1, color=RED, lw=1)
axes[1].text(0.98, 0.02, "price 0", color=RED, ha="right", transform=axes[1].get_xaxis_transform())
axes[1].set(
    yticks=range(len(terms)), yticklabels=list(terms), xlim=(-0.6, 1.2), xlabel="gradient $g$"
)
axes[1].invert_yaxis()
axes[1].set_title("mean and spread of $g$", size=10)
axes[1].spines[["top", "right"]].set_visible(False)
plt.show()
for name in terms:
    share = terms[name].item() * len(images) / plus[name].sum()
    print(f"{name}: the mean price is {share:.3f}")

# %% [markdown]
# All gradients crowd around 0, far from 1, so the price is close to 1 everywhere. That is why
# section 2 looked as it did. At the beginning of the training the FBI loss is nearly a plain $L_1$
# penalty on activations, a tool much older than the paper (Glorot, Bordes and Bengio 2011). Keep
# this in mind for [notebook 8](08_is_it_more_interpretable.ipynb): whoever claims something for the
# FBI loss should compare it with that penalty.
#
# **But it is not the same.** A chain of two weights shows it: $x = 1$, one hidden unit $a =
# \max(w_1 x, 0)$, and the output $y = w_2 a$. The task: answer 3. Every pair with $w_1 w_2 = 3$
# solves it, and the task loss $(y - 3)^2$ does not care which. With $a > 0$ the gradients are $g =
# w_1 w_2$ at the input and $w_2$ at the hidden unit, so
#
# $$L_{FBI} = \tfrac12\big(\,|1 - w_1 w_2| + w_1\,|1 - w_2|\,\big), \qquad L_{L1} = w_1 .$$
#
# On the curve of solutions, the first summand is always 2, and the second is $|w_1 - 3|$. So the
# FBI loss wants $w_1 = 3$ and $w_2 = 1$: a unit in whose coin the answer is paid one to one. The
# $L_1$ penalty wants $w_1 \to 0$ and $w_2 \to \infty$: a whisper, and a very large ear. Descent
# from several starts (a star short of the end is still on its way when we stop):

# %% tags=["fbi-two-weights"]
from minifbi import Tensor


def descend(penalty, starts, weight=0.1, rate=0.02):
    """Gradient descent on (1 - weight) (y - 3)^2 + weight * penalty, from each start (w1, w2)."""
    w1, w2 = (Tensor(np.array(values), requires_grad=True) for values in zip(*starts, strict=True))
    path = [(w1.data, w2.data)]
    for _ in range(1500 if FAST else 5000):
        w1.grad = w2.grad = None
        loss = (w1 * w2 - 3.0) ** 2 * (1 - weight) + penalty(w1, w2) * weight
        loss.sum().backward()
        w1.data, w2.data = w1.data - rate * w1.grad, w2.data - rate * w2.grad
        path.append((w1.data, w2.data))
    return np.array(path)  # (step, w1 or w2, start)


penalties = {
    "FBI loss": lambda w1, w2: ((1.0 - w1 * w2).abs() + w1.abs() * (1.0 - w2).abs()) * 0.5,
    "L1 penalty": lambda w1, w2: w1.abs(),
}
starts = [(0.7, 0.3), (0.5, 3.5), (2.0, 2.5), (4.3, 0.4), (3.8, 1.8)]
paths = {title: descend(penalty, starts) for title, penalty in penalties.items()}
for title, found in paths.items():
    ends = ", ".join(f"({w1:.2f}, {w2:.2f})" for w1, w2 in found[-1].T)
    print(f"{title:10s} ends at (w1, w2) = {ends}")

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.7), layout="constrained", sharey=True)
u, v = np.meshgrid(np.linspace(0.05, 4.6, 250), np.linspace(0.05, 4.6, 250))
for ax, (title, found) in zip(axes, paths.items(), strict=True):
    cost = penalties[title](Tensor(u), Tensor(v)).numpy()
    shown = ax.contourf(u, v, cost, levels=np.linspace(0, 6, 25), cmap="Reds", extend="max")
    ax.plot(u[0], 3 / u[0], color=GREY, ls="--", lw=1.2)
    ax.plot(found[:, 0], found[:, 1], color=BLUE, lw=1.3)
    ax.plot(*found[0], "o", color=BLUE, ms=4)
    ax.plot(*found[-1], "*", color="black", ms=9)
    ax.set(xlabel="$w_1$", xlim=(0.05, 4.6), ylim=(0.05, 4.6), title=title)
axes[0].set_ylabel("$w_2$")
fig.colorbar(shown, ax=axes, label="penalty")
fig.suptitle("from the dots to the stars; dashed: all solutions of the task", size=10)
plt.show()

# %% [markdown]
# ## 4. The objective
#
# $$L = (1 - \lambda)\, L_{TSK} + \lambda\, L_{FBI} \tag{4}$$
#
# $L_{TSK}$ is the task loss, here the cross-entropy. The paper uses $\lambda = 0.001$, which looks
# harmless. But the two losses have very different sizes. What moves the weights is the gradient, so
# compare the lengths of the two gradients, over all weights, and the angle between them. Once with
# the sum over units, once with their mean (`reduction="mean"`).

# %% tags=["fbi-lambda"]
from minifbi.autograd import cross_entropy


def gradient_of(make_loss):
    """All weights' gradients of a loss, as one long vector."""
    net.zero_grad()
    make_loss().backward()
    parameters = net.parameters().values()  # L_FBI does not depend on the last bias: None
    zeros = np.zeros_like
    return np.concatenate(
        [(zeros(p.data) if p.grad is None else p.grad).ravel() for p in parameters]
    )


def fbi(reduction="sum"):
    steps = forward_pass(net, images)
    return fbi_loss(fbi_terms(steps, relevance_pass(steps, "target", labels), reduction))


task_gradient = gradient_of(lambda: cross_entropy(net(images), labels))
lengths = {r: np.linalg.norm(gradient_of(lambda r=r: fbi(r))) for r in ("sum", "mean")}
fbi_gradient = gradient_of(fbi)
cosine = task_gradient @ fbi_gradient / np.linalg.norm(task_gradient) / np.linalg.norm(fbi_gradient)
print(f"length of the task gradient              {np.linalg.norm(task_gradient):10.4f}")
for reduction, size in lengths.items():
    print(
        f"length of the FBI gradient, {reduction:13s}{size:10.4f}, times 0.001: {size / 1000:.4g}"
    )
print(f"cosine of the angle between the two      {cosine:10.4f}")

# %% [markdown]
# With the sum, 0.001 times the FBI gradient is no small thing beside the task's gradient. With the
# mean, the same $\lambda$ would hardly be felt. This is why minifbi takes the sum, and why a
# $\lambda$ from one program tells nothing about another. (A cosine of 1 would mean that both losses
# push in the same direction, $-1$ in opposite ones, 0 that they do not interfere, to first order.)
#
# ## 5. Let it push
#
# Three copies of the trained net go on training: on the task alone, on Eq. (4) with the paper's
# $\lambda$, and on the FBI loss alone ($\lambda = 1$), to see what it wants if nobody contradicts.

# %% tags=["fbi-training"]
from minifbi.optim import Adam
from minifbi.training import three_step

STEPS, EVERY = (8, 4) if FAST else (36, 6)
BATCH = 64


def push(weight):
    """Train on with lambda = weight; return the net, and its history on a batch of test images."""
    model = alexnet()
    model.load_state_dict(trained)
    optimizer = Adam(model.parameters(), lr=0.001)
    history = []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            steps = forward_pass(model, images)
            found = fbi_terms(steps, relevance_pass(steps, "target", labels))
            right = (steps[-1].z.numpy().argmax(axis=1) == labels).mean()
            activity = sum(s.x.numpy().sum() for s in steps if s.name in found) / len(images)
            history.append((step, fbi_loss(found).item(), activity, right))
        begin = step * BATCH % (TRAIN - BATCH)
        batch = digits.train.batch(slice(begin, begin + BATCH))
        three_step(model, *batch, weight=weight, active=weight > 0)
        optimizer.step()
    return model, np.array(history).T


pushed = {
    title: push(weight)
    for title, weight in (("task alone", 0.0), ("λ = 0.001", 0.001), ("FBI alone", 1.0))
}

# %% tags=["hide-input"]
fig, axes = panels(1, 3, 9, 3.0)
for (title, (_, history)), color in zip(pushed.items(), (GREY, BLUE, RED), strict=True):
    for ax, values in zip(axes, history[1:], strict=True):
        ax.plot(history[0], values, color=color, label=title, marker=".", ms=4)
for ax, title in zip(axes, ("$L_{FBI}$", "sum of all activations", "accuracy"), strict=True):
    ax.set(xlabel="step", ylim=(0, None))
    ax.set_title(f"{title}, {len(images)} test images", size=9.5)
axes[2].set_ylim(0, 1.05)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# The loss falls by making the net quieter, as a price near 1 foretold. Did it also raise the
# gradients towards 1? The mean price, $\sum a\,|1-g| / \sum a$, tells: 1 is the price of a unit
# that does not matter for the logit.

# %% tags=["fbi-prices"]
print(f"{'mean price':12s}" + "".join(f"{name:>8s}" for name in terms))
for title, (model, _) in pushed.items():
    steps = forward_pass(model, images)
    found = fbi_terms(steps, relevance_pass(steps, "target", labels))
    sums = {s.name: s.x.numpy().sum() / len(images) for s in steps if s.name in found}
    prices = (f"{found[n].item() / sums[n]:8.3f}" if sums[n] else "  silent" for n in found)
    print(f"{title:12s}" + "".join(prices))

# %% [markdown]
# With Eq. (4) the prices move by hundredths, and the activations fall by much more: the loss takes
# the cheaper of the two ways. On its own it goes that way to the end. The last layers fall silent,
# so nothing leads to the logit any more: every $g$ is 0, every active unit pays the full price, and
# the net answers every image alike. What is left shrinks on, except the first term, since nobody
# can silence the image. So the task loss must hold against the FBI loss. And it can do so better
# once it has something to defend, which is a reason for the *gate* of
# [notebook 6](06_three_step_training.ipynb): the FBI loss joins only when the network has learnt to
# classify.
#
# ## 6. The gradient through both passes
#
# To follow the gradient of $L_{FBI}$, we need it. The loss depends on every weight **twice**: in
# the forward pass, and again in the relevance pass. An *adjoint* is a pass that carries gradients
# backwards through another pass. The adjoint of the forward pass is the ordinary backpropagation.
# Here we derive the adjoint of the relevance pass.
#
# Take one layer. The ratio $\mathbf r$ arrives from above (at the output), and
#
# $$\mathbf c = W^\top \mathbf r , \qquad \mathbf a^- = \mathbf x \odot \mathbf c ,$$
#
# where $\mathbf x = \mathbf a_{i-1}^+$ is the layer's input. Suppose that we know $\mathbf v =
# \partial L / \partial \mathbf a^-$. Change everything a little, by $d\mathbf x$, $d\mathbf r$,
# $dW$, and see how much $L$ changes. With $\langle \cdot, \cdot \rangle$ for the sum of products,
#
# $$dL = \langle \mathbf v, d\mathbf a^- \rangle
#   = \langle \mathbf v \odot \mathbf c,\, d\mathbf x \rangle
#   + \langle \underbrace{\mathbf v \odot \mathbf x}_{\mathbf u},\, d\mathbf c \rangle .$$
#
# $\mathbf u$ is the gradient at $\mathbf c$. Now $d\mathbf c = W^\top d\mathbf r + dW^\top \mathbf
# r$, and moving each matrix to the other side of the product,
#
# $$\langle \mathbf u, W^\top d\mathbf r \rangle = \langle W \mathbf u,\, d\mathbf r \rangle ,
#   \qquad \langle \mathbf u, dW^\top \mathbf r \rangle
#   = \langle \mathbf r\, \mathbf u^\top,\, dW \rangle .$$
#
# What stands beside $d\mathbf x$, $d\mathbf r$ and $dW$ are the three gradients:
#
# $$\frac{\partial L}{\partial \mathbf x} \mathrel{+}= \mathbf v \odot \mathbf c, \qquad
#   \frac{\partial L}{\partial \mathbf r} = W \mathbf u , \qquad
#   \frac{\partial L}{\partial W} \mathrel{+}= \mathbf r\, \mathbf u^\top .$$
#
# ($\mathrel{+}=$ because the forward pass uses $\mathbf x$ and $W$ too, and adds its own share.)
# Look at the one in the middle. The relevance pass went *down* with $W^\top$, so its adjoint goes
# *up* with $W$: it is a forward pass again, from the image to the logits. At a ReLU, $\mathbf r =
# \mathbf 1[\mathbf a^+ > 0] \odot \mathbf c$, so the gradient passes the same gate. (The gate
# itself is constant between its jumps, so it gets no gradient.) The order of the whole computation:

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
row = {"forward": 3.0, "terms": 2.0, "relevance": 1.0}
labels_at = {
    "forward": ["$a_0^+$", "$a_1^+$", "$a_2^+$", "logits"],
    "relevance": ["$c_1$", "$c_2$", "$c_3$", "$r_3$ (start)"],
}
for lane, texts in labels_at.items():
    for k, text in enumerate(texts):
        ax.text(2.6 * k, row[lane], text, ha="center", va="center", size=11)
for k in range(3):
    ax.text(2.6 * k, 2.0, f"$|a_{k}^+ - a_{k}^+ c_{k + 1}|$", ha="center", va="center", size=10)
    for y_from, sign in ((row["forward"], -1), (row["relevance"], 1)):
        ax.annotate(
            "",
            (2.6 * k, 2.0 - sign * 0.22),
            (2.6 * k, y_from + sign * 0.22),
            arrowprops={"arrowstyle": "-|>", "color": "#bbbbbb"},
        )


def lane(y_at, color, direction, text, above):
    """Arrows between the columns, in one direction, and what they are."""
    for k in range(3):
        ends = [(2.6 * k + 0.5, y_at), (2.6 * k + 2.0, y_at)]
        ax.annotate(
            "", *ends[::-direction], arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6}
        )
        ax.text(2.6 * k + 1.25, y_at + above, text[k], color=color, ha="center", size=9)


lane(3.08, BLUE, 1, ["$W_1$, ReLU", "$W_2$, ReLU", "$W_3$"], 0.1)
lane(1.08, RED, -1, ["gate, $W_1^T$", "gate, $W_2^T$", "$W_3^T$"], 0.1)
lane(0.92, "#2e7d32", 1, ["$W_1$, gate", "$W_2$, gate", "(not needed)"], -0.26)
lane(2.92, "#7b3fa0", -1, ["gate, $W_1^T$", "gate, $W_2^T$", "$W_3^T$"], -0.26)
ax.text(7.8, 2.0, "$L_{TSK}$", ha="center", va="center", size=10)
ax.annotate("", (7.8, 2.22), (7.8, 2.78), arrowprops={"arrowstyle": "-|>", "color": "#bbbbbb"})
for y_at, color, text in (
    (3.65, BLUE, "step 1: forward pass → (grey: what the losses look at)"),
    (0.1, RED, "step 2: relevance pass ←"),
    (-0.2, "#2e7d32", "step 3a: adjoint of the relevance pass →"),
    (
        -0.5,
        "#7b3fa0",
        "step 3b: adjoint of the forward pass ← (starts at the task loss, collects from the terms)",
    ),
):
    ax.text(-0.6, y_at, text, color=color, size=10)
ax.set(xlim=(-0.7, 8.9), ylim=(-0.65, 3.9))
ax.axis("off")
plt.show()

# %% [markdown]
# Four lanes, and every one uses the weights: $W$ or $W^\top$ to carry something, and both adjoints
# leave a gradient for $W$. Now write it down, for dense layers without biases. A batch has one
# sample in each row, so $W^\top \mathbf r$ becomes `r @ W`, and $W \mathbf u$ becomes `u @ W.T`.


# %% tags=["fbi-gradient-by-hand"]
def fbi_and_gradients(x, weights):
    """L_FBI of dense layers with ReLU between (all logits explained), and its gradients."""
    n, K = len(x), len(weights)
    a, c, r = [x], [None] * K, [None] * K
    for W in weights[:-1]:  # step 1: forward pass
        a.append(np.maximum(a[-1] @ W.T, 0))
    gates = [level > 0 for level in a]

    r[-1] = np.ones((n, len(weights[-1])))  # step 2: relevance pass
    for i in reversed(range(K)):
        c[i] = r[i] @ weights[i]
        if i > 0:
            r[i - 1] = gates[i] * c[i]
    differences = [a[i] - a[i] * c[i] for i in range(K)]
    loss = sum(np.abs(d).sum() for d in differences) / (K * n)

    signs = [np.sign(d) / (K * n) for d in differences]  # dL / d(difference)
    grad_a = [s * (1 - k) for s, k in zip(signs, c, strict=True)]  # at a_i, directly
    grad_W = [np.zeros_like(W) for W in weights]
    arriving = np.zeros_like(x)  # step 3a: adjoint of the relevance pass, first layer to last
    for i in range(K):
        u = -signs[i] * a[i] + arriving  # at c_i: from the term, and from the ratio below
        grad_W[i] += r[i].T @ u
        if i < K - 1:
            arriving = gates[i + 1] * (u @ weights[i].T)

    for i in reversed(range(K - 1)):  # step 3b: adjoint of the forward pass, last layer to first
        grad_z = gates[i + 1] * grad_a[i + 1]
        grad_W[i] += grad_z.T @ a[i]
        grad_a[i] = grad_a[i] + grad_z @ weights[i]
    return loss, grad_W


rng = np.random.default_rng(0)
x = rng.random((6, 8))
weights = [rng.standard_normal(s) / np.sqrt(s[1]) for s in ((7, 8), (5, 7), (3, 5))]
loss, by_hand = fbi_and_gradients(x, weights)
print(f"L_FBI = {loss:.6f}")

# %% [markdown]
# Is it right? Never trust a gradient that has only been derived. minifbi's checker changes the
# weights a little in a random direction and compares the change of the loss with what the gradient
# promised. `check_gradients` wants a loss on the tape, so we record our function there: its value,
# its inputs, and a function that returns the gradients.

# %% tags=["fbi-gradient-check"]
from minifbi import check_gradients
from minifbi.autograd import record

parameters = {f"W{i + 1}": Tensor(W, requires_grad=True) for i, W in enumerate(weights)}


def recorded(function=fbi_and_gradients):
    """The value of `function` as a tensor whose entry on the tape has our own gradients."""
    tensors = tuple(parameters.values())
    value, gradients = function(x, [p.numpy() for p in tensors])
    return record(np.asarray(value), tensors, lambda g: [g * G for G in gradients], "by hand")


print(check_gradients(recorded, parameters))

# %% [markdown]
# (Where a step would cross a kink, a ReLU that switches or an absolute value that changes its sign,
# the checker says so and takes another direction: the loss has no gradient exactly there.) Next,
# the same against minifbi's own tape, which writes the four lanes by itself:

# %%
dense = Sequential(
    {
        "dense1": Dense(8, 7, bias=False, dtype=np.float64),
        "relu1": ReLU(),
        "dense2": Dense(7, 5, bias=False, dtype=np.float64),
        "relu2": ReLU(),
        "dense3": Dense(5, 3, bias=False, dtype=np.float64),
    }
)
dense.load_state_dict({f"dense{i + 1}.weight": W for i, W in enumerate(weights)})
tape_steps = forward_pass(dense, x)
fbi_loss(fbi_terms(tape_steps, relevance_pass(tape_steps, "logits"))).backward()
for name, parameter in dense.parameters().items():
    gap = np.abs(parameter.grad - by_hand[int(name[5]) - 1]).max()
    print(f"{name}: largest difference {gap:.1e}")
    assert gap < 1e-12

# %% [markdown]
# **For a convolution** nothing has to be derived again. We only used that $W^\top$ is the partner
# of $W$, $\langle \mathbf u, W^\top \mathbf r \rangle = \langle W \mathbf u, \mathbf r
# \rangle$. Write $\operatorname{conv}(x, W)$ for the convolution, $\operatorname{conv}_T(r,
# W)$ for the transposed convolution, and $\operatorname{conv}_W(x, g)$ for the weight gradient (all
# three are in [notebook 2](02_convolution_three_ways.ipynb)). Then
# $\mathbf c = \operatorname{conv}_T(\mathbf r, W)$ and
#
# $$\frac{\partial L}{\partial \mathbf r} = \operatorname{conv}(\mathbf u, W), \qquad
#   \frac{\partial L}{\partial W} \mathrel{+}= \operatorname{conv}_W(\mathbf u, \mathbf r) .$$
#
# No fourth operation is needed: the trio is closed. Here is a layer that says it in these words. It
# takes minifbi's convolution and replaces the adjoint of its relevance pass by ours. (minifbi's own
# stands in `minifbi/layers/linear.py`, once for convolutions and dense layers: the layer's forward
# pass for $\mathbf u$, and the weight gradient of that pass.) Then the check, on a small CNN with
# biases and pooling, through the loss of Eq. (4). (Its images are random, not digits: on a black
# background and with biases of 0, every $z$ is exactly 0, right on the kink of the ReLU.)

# %% tags=["adjoint-check"]
from minifbi import objective
from minifbi.layers import Conv2d, Flatten, MaxPool2d


class OwnConv(Conv2d):
    """A convolution with the adjoint of the relevance pass as derived above."""

    def relevance_backward(self, backend, grad, ratio, saved):
        _, weight, _ = saved
        u, window = grad, (self.stride, self.padding)
        grad_ratio = backend.conv2d(u, weight, *window)
        grad_weight = backend.conv2d_weight(u, ratio, self.kernel_size, *window)
        return grad_ratio, grad_weight, None  # the ratio, the weight, the bias


def small_cnn(kind):
    rng = np.random.default_rng(3)
    options = {"rng": rng, "dtype": np.float64}
    model = Sequential(
        {
            "conv1": kind(1, 3, 3, padding=1, **options),
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),
            "conv2": kind(3, 4, 3, padding=1, **options),
            "relu2": ReLU(),
            "flatten": Flatten(),
            "dense3": Dense(4 * 4 * 4, 10, **options),
        }
    )
    state = model.state_dict()
    state |= {n: 0.1 * rng.standard_normal(p.shape) for n, p in state.items() if "bias" in n}
    model.load_state_dict(state)
    return model


few = np.random.default_rng(4).random((4, 1, 8, 8))
few_labels = np.array([0, 1, 2, 3])


def eq4(model, fbi_weight=0.5):
    steps = forward_pass(model, few)
    task = cross_entropy(steps[-1].z, few_labels)
    fbi = fbi_loss(fbi_terms(steps, relevance_pass(steps, "target", few_labels)))
    return objective(task, fbi, fbi_weight)


cnn = small_cnn(OwnConv)
print(check_gradients(lambda: eq4(cnn), cnn.parameters()))

# %% [markdown]
# **What if one forgets it?** A program that treats $\mathbf a^-$ as a constant still trains. But
# not on $L_{FBI}$. We cut the relevance off the tape with `detach()` and compare the gradients of
# the trained net.


# %% tags=["half-gradient"]
def half(model):
    """L_FBI with the same value, but blind for the relevance pass."""
    steps = forward_pass(model, images)
    relevances = relevance_pass(steps, "target", labels)
    cut = {name: relevance.detach() for name, relevance in relevances.items()}
    return fbi_loss(fbi_terms(steps, cut))


true, blind = gradient_of(fbi), gradient_of(lambda: half(net))
print(f"values: {fbi().item():.6f} and {half(net).item():.6f}")
begin = 0
for name, parameter in net.parameters().items():
    both = true[begin : begin + parameter.size], blind[begin : begin + parameter.size]
    begin += parameter.size
    if name.endswith("weight"):
        error = np.linalg.norm(both[1] - both[0]) / np.linalg.norm(both[0])
        print(f"{name:14s} relative error of the blind gradient {error:.3f}")

# %% [markdown]
# The loss is the same number, and its gradient is not. In the convolutions of this net the error is
# small, for the reason that you know from section 3: where the price is close to 1, the FBI loss is
# close to a plain penalty on activations, and that needs no relevance pass. It is large near the
# logits, where the loss could do something that a penalty on activations does not: move $\mathbf g$
# towards 1. The weights of the last layer make no activation at all that is compared, so of their
# gradient everything is lost. The checker sees it at once:

# %%
from minifbi.errors import GradientError


def blind_eq3():
    steps = forward_pass(cnn, few)
    relevances = relevance_pass(steps, "target", few_labels)
    return fbi_loss(fbi_terms(steps, {n: a.detach() for n, a in relevances.items()}))


try:
    check_gradients(blind_eq3, cnn.parameters())
except GradientError as error:
    print(error)

# %% [markdown]
# ## What you learnt
#
# - The FBI loss is the distance between forward and backward activations, at every layer, Eq. (3).
# - In a net of ReLU each unit pays $a_u\,|1 - g_u|$: be silent, or be worth exactly one.
# - In a trained net the gradients are near 0, so the price is near 1, and the loss is close to an
#   $L_1$ penalty on activations. But where the two differ, they lead to different nets.
# - The size of $\lambda$ means nothing without the reduction: compare the lengths of gradients.
# - The adjoint of the relevance pass is a forward pass with the same weights: $W\mathbf u$, and
#   $\mathbf r\,\mathbf u^\top$ for the weight. The trio of convolutions is closed under it.
# - A gradient is believed when it has been checked.
#
# ## Exercises
#
# **1. By the price.** Write Eq. (3) with the closed form of section 3. All activations are at least
# 0.

# %% tags=["exercise"]
from checks import tutorial_05 as check


def fbi_by_price(activations, gradients):
    """L_FBI from the inputs of the layers and the gradients of the explained logit there.

    activations, gradients: lists of K arrays, each (N, ...): the first index is the image.
    Returns a number: summed over units, averaged over images, then over the K layers.
    """
    # solution
    # student: return ...
    n, K = len(activations[0]), len(activations)
    pairs = zip(activations, gradients, strict=True)
    return sum((a * np.abs(1 - g)).sum() for a, g in pairs) / (n * K)
    # end solution


check.fbi_by_price(fbi_by_price)

# %% [markdown]
# **2. A net that pays nothing.** Find weights for a net of two dense layers, three inputs, four
# hidden units with ReLU and two outputs, without biases, such that $L_{FBI} = 0$ for *every*
# positive input, if all outputs are explained. (What must all $g$ be? At the hidden units $\mathbf
# g = W_2^\top (1, 1)^\top$.)

# %% tags=["exercise"]
# solution
# student: pay_1 = ...  # shape (4, 3)
# student: pay_2 = ...  # shape (2, 4)
pay_1 = np.full((4, 3), 1 / 4)
pay_2 = np.full((2, 4), 1 / 2)
# end solution

check.pays_nothing(pay_1, pay_2)

# %% [markdown]
# **3. An adjoint.** Average pooling over windows of $2 \times 2$ gives each output the mean of four
# inputs. Its relevance pass sends the ratio back the same way: each of the four inputs gets a
# quarter of its window's ratio. Write the adjoint of that relevance pass: from $\mathbf u$, the
# gradient at the ratio of the inputs, to the gradient at the ratio of the outputs.


# %% tags=["exercise", "exercise-pooling"]
def pool_relevance(ratio):
    """The relevance pass of 2 x 2 average pooling: ratio (N, C, H, W) to (N, C, 2H, 2W)."""
    return ratio.repeat(2, axis=2).repeat(2, axis=3) / 4


def pool_relevance_adjoint(u):
    """The adjoint of pool_relevance: u (N, C, 2H, 2W) to (N, C, H, W)."""
    # solution
    # student: return ...
    n, channels, height, width = u.shape
    return u.reshape(n, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
    # end solution


check.pool_relevance_adjoint(pool_relevance_adjoint)

# %% [markdown]
# **4. The stabiliser.** With LRP-epsilon the ratio is damped before it goes through the weights,
# $\hat r = r\, z / (z + \varepsilon \operatorname{sign} z) = r\,|z| / (|z| + \varepsilon)$. So the
# loss depends on $z$ in a new way. Given $v = \partial L / \partial \hat r$, return $\partial L /
# \partial r$ and $\partial L / \partial z$.


# %% tags=["exercise", "exercise-stabiliser"]
def damping_adjoint(v, r, z, epsilon):
    """Gradients at r and z, for the gradient v at r |z| / (|z| + epsilon); all of one shape."""
    # solution
    # student: grad_r = ...
    # student: grad_z = ...
    # student: return grad_r, grad_z
    size = np.abs(z)
    grad_r = v * size / (size + epsilon)
    grad_z = v * r * epsilon * np.sign(z) / (size + epsilon) ** 2
    return grad_r, grad_z
    # end solution


check.damping_adjoint(damping_adjoint)

# %% [markdown]
# **5. To think about.** The first term, $i = 1$, compares the image with its relevance. No training
# can change the image. What can this term change, and what does it ask for? Would you keep it?
#
# ## Further reading
#
# - C. H. Yoo, N. Kim and J.-W. Kang, *Relevance Regularization of Convolutional Neural Network for
#   Interpretable Classification*, CVPR Workshops 2019: the paper; Section 3.1 has Eq. (1) to (5).
# - X. Glorot, A. Bordes and Y. Bengio, *Deep Sparse Rectifier Neural Networks*, AISTATS 2011: the
#   $L_1$ penalty on activations.
# - H. Drucker and Y. LeCun, *Improving generalization performance using double backpropagation*,
#   IEEE Transactions on Neural Networks 3(6), 1992: a loss on a gradient, and the gradient of that
#   loss.
# - A. S. Ross, M. C. Hughes and F. Doshi-Velez, *Right for the Right Reasons*, IJCAI 2017: the same
#   idea with knowledge of what should not matter.
# - A. Griewank and A. Walther, *Evaluating Derivatives*, SIAM 2008: adjoints, and why they cost so
#   little.
#
# Before: [4. Relevance](04_relevance.ipynb). Next:
# [6. Three-step training](06_three_step_training.ipynb).
