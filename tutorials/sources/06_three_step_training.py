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
# # 6. Three-step training
#
# A network is usually trained in two steps: a *forward pass* computes the loss, a *backward pass*
# computes its gradient. Yoo, Kim and Kang (2019) put a third one between them, the *relevance
# pass*, and what it finds becomes part of the loss. You know the pieces from
# [notebook 3](03_forward_pass.ipynb), [notebook 4](04_relevance.ipynb) and
# [notebook 5](05_the_fbi_loss.ipynb). Here they become a training.
#
# You will
#
# 1. do one whole training step with a pencil,
# 2. write the step for the paper's network, hold it equal to minifbi's, and see what it costs,
# 3. understand the *gate*: why the FBI loss has to wait, and what happens if it does not,
# 4. write the loop around the steps, and hold that equal, too, bit by bit,
# 5. watch a real training run live,
# 6. interrupt a run, resume it, and find that nothing was lost,
# 7. read the log of a run and plot it,
# 8. compare FBI training with conventional training, and be honest about noise.
#
# You need notebooks 3 to 5. It takes about 30 minutes.

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
# ## 1. One step with a pencil
#
# Our net has three inputs, three hidden units with ReLU, and one output, no biases. Every weight of
# the first layer is 2, every weight of the second is 3. Its task: answer 100 to the input
# $(1, 2, 3)$.
#
# **Step 1, the forward pass**, Eq. (1). Each hidden unit gets $2 \cdot (1 + 2 + 3) = 12$, and the
# output is $3 \cdot (12 + 12 + 12)$. The task loss is the squared error.

# %%
W1 = 2 * np.ones((3, 3))
W2 = 3 * np.ones((1, 3))

a0 = np.array([1.0, 2.0, 3.0])
a1 = np.maximum(W1 @ a0, 0)
y = W2 @ a1
task = ((y - 100) ** 2).item()
print("a_1^+ =", a1, "  y =", y, "  L_TSK =", task)

# %% [markdown]
# **Step 2, the relevance pass.** From the last layer to the first, it hands the output down,
#
# $$\mathbf a_i^- = \mathbf a_{i-1}^+ \odot W_i^\top \frac{\mathbf a_{i+1}^-}{\mathbf a_i^+} ,
#   \tag{2}$$
#
# and at each layer it collects the distance to the forward activations:
#
# $$L_{FBI} = \frac1K \sum_{i=1}^K L_1(\mathbf a_{i-1}^+, \mathbf a_i^-) . \tag{3}$$
#
# ($\odot$ multiplies element by element.) Each hidden unit contributed 36 of the 108, and gets
# them. Each passes its 36 on in the proportion $1 : 2 : 3$ of the inputs.

# %% tags=["eq-2"]
a3_minus = y  # all of the output is to be explained
a2_minus = a1 * (W2.T @ (a3_minus / y))
a1_minus = a0 * (W1.T @ (a2_minus / a1))
print("a_2^- =", a2_minus, "  sum", a2_minus.sum())
print("a_1^- =", a1_minus, "  sum", a1_minus.sum())

# %% tags=["eq-3"]
term1 = np.abs(a0 - a1_minus).sum()  # 17 + 34 + 51
term2 = np.abs(a1 - a2_minus).sum()  # 24 + 24 + 24
fbi = (term1 + term2) / 2
print("terms", term1, term2, "  L_FBI =", fbi)

# %% [markdown]
# The objective mixes the two losses. The paper takes $\lambda = 0.001$.
#
# $$L = (1 - \lambda)\, L_{TSK} + \lambda\, L_{FBI} \tag{4}$$

# %% tags=["eq-4"]
FBI_WEIGHT = 0.001  # lambda
loss = (1 - FBI_WEIGHT) * task + FBI_WEIGHT * fbi
print("L =", loss)

# %% [markdown]
# **Step 3, the backward pass.** Training looks for the parameters with the smallest $L$,
#
# $$\mathcal Y^* = \arg\min_{\mathcal Y} L , \tag{5}$$
#
# by following the gradient downhill. Take one weight of the first layer, $w_{ji}$, from input $i$
# to hidden unit $j$. Its gradient has three parts:
#
# - *From the task:* the slope of the squared error is $2\,(108 - 100) = 16$, times 3 for the second
#   layer, times $x_i$. That is $48\,x_i$.
# - *From $L_{FBI}$, through the forward pass:* the second term is $\sum_j |h_j - 3 h_j|$ with the
#   hidden activations $h_j$, so it rises by 2 for each unit of $h_j$, and $h_j$ by $x_i$ for each
#   unit of $w_{ji}$. With the $\frac1K$ in front: $\frac12 \cdot 2\,x_i = 1\,x_i$.
# - *From $L_{FBI}$, through the relevance pass:* the first term is $\sum_i |x_i - a_i^-|$, and the
#   weight itself stands in $a_i^- = x_i \sum_j 3\,w_{ji}$. It rises by $3\,x_i$, so $\frac12 \cdot
#   3\,x_i = 1.5\,x_i$.
#
# The last part is what makes three-step training different from all methods that only *explain* a
# trained net: the weight works twice, and it is held responsible twice.

# %% tags=["eq-5"]
gradient = (1 - FBI_WEIGHT) * 48 * a0 + FBI_WEIGHT * (1.0 + 1.5) * a0
print("dL/dW1, each row:", gradient)

# %% [markdown]
# Now minifbi. Both passes are written onto one tape, so a single `backward()` finds all parts.

# %%
from minifbi import Tensor, fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.layers import Dense, ReLU, Sequential

net = Sequential(
    {
        "hidden": Dense(3, 3, bias=False, dtype=np.float64),
        "relu": ReLU(),
        "out": Dense(3, 1, bias=False, dtype=np.float64),
    }
)
net.load_state_dict({"hidden.weight": W1, "out.weight": W2})


def objective_of(net):
    steps = forward_pass(net, a0[None])  # step 1, Eq. (1); a batch of one
    relevances = relevance_pass(steps, start="logits")  # step 2, Eq. (2): explain all outputs
    terms = fbi_terms(steps, relevances)  # the summands of Eq. (3)
    task_loss = ((steps[-1].z - 100.0) ** 2).sum()
    return objective(task_loss, fbi_loss(terms), FBI_WEIGHT)  # Eq. (4)


L = objective_of(net)
L.backward()  # step 3
print("L =", L.item())
print("dL/dW1\n", net.parameters()["hidden.weight"].grad)
np.testing.assert_allclose(L.item(), loss)
np.testing.assert_allclose(net.parameters()["hidden.weight"].grad, np.ones((3, 1)) * gradient)

# %% [markdown]
# And downhill: each parameter moves a little against its gradient. How much should $L$ fall, if it
# were a straight slope? By the step size times the square of the gradient's length.

# %%
RATE = 1e-5
length2 = sum((p.grad**2).sum() for p in net.parameters().values())
for p in net.parameters().values():
    p.data = p.data - RATE * p.grad
print(f"promised: L falls by {RATE * length2:.4f}")
print(f"found:    L fell by  {L.item() - objective_of(net).item():.4f}")

# %% [markdown]
# Not quite the same, since the slope becomes flatter on the way. That is all of training: promise,
# small step, new promise.
#
# ## 2. The step for the paper's network
#
# The same three steps for the CNN and a batch of digits. Below, `three_steps` is written with
# nothing but the layers and the tape. It carries the *ratio* $\mathbf a_{i+1}^- / \mathbf a_i^+$
# down, as notebook 4 explained, and so it never divides. The relevance pass starts at the logit of
# the true class: ratio 1 there, 0 elsewhere.

# %% tags=["step-by-hand"]
from minifbi import alexnet, load_dataset
from minifbi.autograd import cross_entropy


def three_steps(model, x, labels, fbi_weight):
    """Gradients of Eq. (4), left in each parameter's .grad; returns L, L_TSK, L_FBI."""
    # step 1: the forward pass keeps every a^+
    steps, a = [], model.as_input(x)
    for name, layer in model.layers.items():
        steps += layer.trace(a, name)
        a = steps[-1].z
    task = cross_entropy(a, labels)

    # step 2: the relevance pass, from the last layer to the first, collects every a^-
    hot = np.zeros(a.shape)
    hot[np.arange(len(labels)), labels] = 1
    ratio, distances = Tensor(hot, dtype=a.dtype), []
    for step in reversed(steps):
        ratio = step.relevance(ratio)  # to the input of this layer
        if step.layer.functional:  # a convolution or a dense layer
            a_minus = step.x * ratio  # Eq. (2)
            distances.append((step.x - a_minus).abs().sum() * (1 / len(x)))
    fbi = sum(distances[1:], distances[0]) * (1 / len(distances))  # Eq. (3)
    loss = task * (1 - fbi_weight) + fbi * fbi_weight  # Eq. (4)

    # step 3: the backward pass, through both
    model.zero_grad()
    loss.backward()
    return loss.item(), task.item(), fbi.item()


# %% [markdown]
# minifbi's own is `minifbi.training.three_step`, and it fits on one screen, too: open
# `minifbi/training/three_step.py`. We compare the losses and every gradient, in float64.

# %%
from minifbi.training import three_step

mnist = load_dataset("mnist")
x, labels = mnist.train.batch(slice(0, 32), dtype=np.float64)
ours, theirs = (alexnet(seed=0, backend="numpy", dtype=np.float64) for _ in range(2))
loss, task, fbi = three_steps(ours, x, labels, FBI_WEIGHT)
losses = three_step(theirs, x, labels, weight=FBI_WEIGHT)
print(f"ours   : L_TSK {task:.9f}   L_FBI {fbi:.7f}   L {loss:.9f}")
print(
    f"minifbi: L_TSK {losses.task_loss.item():.9f}   L_FBI {losses.penalty.item():.7f}"
    f"   L {losses.loss.item():.9f}"
)
worst = 0.0
for name, p in ours.parameters().items():
    other = theirs.parameters()[name].grad
    worst = max(worst, np.abs(p.grad - other).max() / np.abs(other).max())
print(f"largest relative difference of a gradient: {worst:.0e}")
np.testing.assert_allclose(loss, losses.loss.item())
assert worst < 1e-10

# %% [markdown]
# **From gradients to new weights.** A plain step against the gradient would do, but most people,
# and minifbi by default, use *Adam* (Kingma and Ba 2015). It keeps two running means for each
# parameter: $m$ of the gradient $g$, and $v$ of its square. The step is $\eta\, m / \sqrt v$: about
# the learning rate $\eta$ where the gradient keeps its sign, and less where it wavers. (The
# divisors in the middle row make up for the start, where both means are still near 0; $t$ counts
# the steps.)
#
# $$m \leftarrow 0.9\, m + 0.1\, g, \qquad v \leftarrow 0.999\, v + 0.001\, g^2 ,$$
# $$\hat m = \frac{m}{1 - 0.9^t}, \qquad \hat v = \frac{v}{1 - 0.999^t} ,$$
# $$w \leftarrow w - \eta\, \frac{\hat m}{\sqrt{\hat v} + 10^{-8}} .$$

# %% tags=["adam-by-hand"]
from minifbi.optim import Adam

memory = {name: [0.0, 0.0] for name in ours.parameters()}  # m and v


def adam_step(parameters, t, rate=0.001):
    for name, p in parameters.items():
        m, v = memory[name]
        m, v = 0.9 * m + 0.1 * p.grad, 0.999 * v + 0.001 * p.grad**2
        memory[name] = [m, v]
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        p.data = p.data - rate * m_hat / (np.sqrt(v_hat) + 1e-8)


optimizer = Adam(theirs.parameters(), lr=0.001)
for t in (1, 2, 3):
    batch = mnist.train.batch(slice(32 * t, 32 * t + 32), dtype=np.float64)
    three_steps(ours, *batch, FBI_WEIGHT)
    adam_step(ours.parameters(), t)
    three_step(theirs, *batch, weight=FBI_WEIGHT)
    optimizer.step()
    others = theirs.parameters()
    gap = max(np.abs(p.data - others[n].data).max() for n, p in ours.parameters().items())
    print(f"after step {t}: largest difference of a weight {gap:.0e}")
    assert gap < 1e-9

# %% [markdown]
# **What it costs.** Count in units of $F$, the multiply-adds of one forward pass. Each layer needs
# one map of the trio of notebook 2 for going forward; one (the transposed convolution) for the
# relevance; two for the way back through the forward pass; two for the way back through the
# relevance pass.
#
# | | forward | relevance | back through both | together |
# |---|---|---|---|---|
# | conventional | $F$ | | $2F$ | $3F$ |
# | three-step | $F$ | $F$ | $2F + 2F$ | $6F$ |
#
# Twice the arithmetic, then. And the clock? We time the steps one by one, with the compiled
# kernels, and take the fastest of several tries. (If this is your first run, they are compiled
# first. `fuse` rewrites the network for them: convolution, ReLU and pooling become one block, which
# computes the same numbers in less time. minifbi's trainer does that, too.)

# %% tags=["cost"]
import time

from minifbi.fusion import fuse

model = alexnet(seed=0)  # backend "auto": compiled, where Numba is installed
fast = fuse(model)  # it shares the model's weights
x, labels = mnist.train.batch(slice(0, 128))


def timed(with_relevance):
    """Seconds of the forward, the relevance and the backward step."""
    clock = [time.perf_counter()]
    steps = forward_pass(fast, x)
    loss = cross_entropy(steps[-1].z, labels)
    clock.append(time.perf_counter())
    if with_relevance:
        terms = fbi_terms(steps, relevance_pass(steps, "target", labels))
        loss = objective(loss, fbi_loss(terms), FBI_WEIGHT)
    clock.append(time.perf_counter())
    model.zero_grad()
    loss.backward()
    clock.append(time.perf_counter())
    return np.diff(clock)


tries = {"conventional": [], "three-step": []}
for _ in range(4 if FAST else 15):  # by turns, so that a busy moment hits both
    tries["conventional"].append(timed(with_relevance=False))
    tries["three-step"].append(timed(with_relevance=True))
fastest = {title: 1000 * min(times, key=sum) for title, times in tries.items()}
for title, (forward, relevance, backward) in fastest.items():
    print(
        f"{title:13s} forward {forward:5.1f} ms, relevance {relevance:5.1f} ms, "
        f"backward {backward:5.1f} ms"
    )
ratio = fastest["three-step"].sum() / fastest["conventional"].sum()
print(f"three-step / conventional: {ratio:.2f}")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 1.9), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
left = np.zeros(2)
for k, (name, color) in enumerate((("forward", BLUE), ("relevance", RED), ("backward", GREY))):
    widths = np.array([fastest[title][k] for title in fastest])
    ax.barh(list(fastest), widths, left=left, color=color, label=name, height=0.6)
    left += widths
ax.invert_yaxis()
ax.set(xlabel="milliseconds for a batch of 128")
fig.legend(loc="outside upper center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# The ratio depends on the machine and on what else it is doing; 2 is what the arithmetic says.
# What is above is overhead, what is below means that the conventional step has more overhead. (A
# stopwatch in a notebook is a rough one; `python -m minifbi.bench` measures with more care.)
#
# ## 3. The gate
#
# The paper does not use Eq. (4) from the first step on:
#
# > Since the terms regarding the relevance computing pass are not stabilized enough in an early
# > stage of learning, we need to train the network using only the task-specific loss [...] In our
# > experiments, we set the moment when the validation accuracy becomes above 70%.
#
# *Validation accuracy* is the share of right answers on images that are not trained on, and that
# are set apart to make such decisions with. (The *test* images decide nothing; they are looked at
# once, at the end.)
#
# "Not stabilized enough": can we see it? We train conventionally for some steps. Every few steps we
# ask for the relevance of 100 validation images, and compare it with what it was the time before,
# by the cosine (1: the same direction; 0: nothing in common).

# %%
from minifbi.datasets import Dataset, Split

TRAIN, VALIDATION, TEST = (960, 200, 500) if FAST else (3000, 500, 2000)


def part(split, count):
    return Split.from_arrays(split.images[:count], split.labels[:count])


def digits(train):
    """The first `train` training images, and some of the others."""
    return Dataset(
        "mnist",
        part(mnist.train, train),
        part(mnist.validation, VALIDATION),
        part(mnist.test, TEST),
        mnist.num_classes,
        mnist.class_names,
    )


data = digits(TRAIN)
some, some_labels = data.validation.batch(slice(0, 100))


def relevance_now(model):
    """Relevance at each layer's input, (100, units), and the accuracy on these images."""
    steps = forward_pass(model, some)
    relevances = relevance_pass(steps, "target", some_labels)
    right = (steps[-1].z.numpy().argmax(axis=1) == some_labels).mean()
    return {name: r.numpy().reshape(100, -1) for name, r in relevances.items()}, right


model = alexnet(seed=0)
optimizer = Adam(model.parameters(), lr=0.001)
order = np.random.default_rng(0).permutation(TRAIN)
EVERY, STEPS = 5, 25 if FAST else 80
before, accuracy = relevance_now(model)
record = [(0, np.nan, np.nan, accuracy)]
for step in range(1, STEPS + 1):
    begin = 32 * step % (TRAIN - 32)
    three_step(model, *data.train.batch(order[begin : begin + 32]), active=False)
    optimizer.step()
    if step % EVERY == 0:
        now, accuracy = relevance_now(model)
        cosines = []
        for name in ("conv1", "dense6"):
            u, v = before[name], now[name]
            lengths = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
            cosines.append(((u * v).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())
        record.append((step, *cosines, accuracy))
        before = now

# %% tags=["hide-input"]
steps_seen, at_pixels, at_dense6, accuracies = np.array(record).T
fig, ax = plt.subplots(figsize=(8, 3.1), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
ax.plot(steps_seen, at_dense6, color=ORANGE, marker="s", ms=4, label="relevance, input of dense6")
ax.plot(steps_seen, at_pixels, color=RED, marker="o", ms=4, label="relevance, pixels")
ax.plot(steps_seen, accuracies, color=GREY, ls="--", label="accuracy")
ax.axhline(0.7, color=GREY, lw=0.7)
ax.text(steps_seen[-1], 0.71, "70 %", color=GREY, ha="right", va="bottom", size=9)
ax.set(xlabel="training step", ylim=(0, 1.03), ylabel=f"cosine with {EVERY} steps before")
ax.legend(frameon=False, loc="lower right")
plt.show()
print(f"pixels: cosine {at_pixels[1]:.2f} at step {EVERY}, {at_pixels[-1]:.2f} at step {STEPS}")

# %% [markdown]
# In the beginning the heatmap of an image is another one every few steps. To train a network to
# agree with such a thing would be to chase a weathercock. Later the relevance settles, along with
# the accuracy.
#
# So minifbi puts a **gate** before the FBI loss. It opens when the validation accuracy first
# exceeds 70 %, and stays open. Such a switch is called *latched*: a bad day later does not shut it.
# In code it is a dozen lines:

# %% tags=["gate"]
from minifbi.training import Gate

gate = Gate(threshold=0.7)
for step, accuracy in ((50, 0.41), (100, 0.70), (150, 0.74), (200, 0.66)):
    opened_now = gate.look(step, accuracy)
    print(f"step {step}: accuracy {accuracy:.2f}, opened now: {opened_now!s:5s} open: {gate.open}")

# %% [markdown]
# (0.70 does not *exceed* 0.70.) Does it matter? An experiment: short training runs from the same
# initial weights, with the gate and with the FBI loss from the very first step (a threshold of 0).
# Once with the paper's $\lambda$, once with one that is twenty times as large. (In a quick run,
# only the latter.)

# %% tags=["gate-matters"]
from minifbi.training import TrainConfig, Trainer, evaluate

EPOCHS, BATCH, WEIGHTS = (2, 32, (0.02,)) if FAST else (2, 64, (0.001, 0.02))


def short_run(weight, threshold):
    config = TrainConfig(
        fbi_weight=weight,
        fbi_gate=threshold,
        gate_interval=5,  # look at the validation accuracy every 5 steps
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=0,
    )
    trainer = Trainer(config, data)
    for _ in range(EPOCHS):
        trainer.run_epoch()
    return trainer


gated = {}
for weight in WEIGHTS:
    for threshold in (0.0, 0.7):
        trainer = short_run(weight, threshold)
        gated[weight, threshold] = evaluate(trainer.model, data.test)[0]
        when = f"from step {trainer.gate.step}" if trainer.gate.open else "never"
        print(
            f"lambda {weight:<5g} gate at {threshold:g}: FBI loss active {when:13s} "
            f"test accuracy {gated[weight, threshold]:.3f}"
        )
for weight in WEIGHTS:
    gain = gated[weight, 0.7] - gated[weight, 0.0]
    error = np.sqrt(2 * 0.25 / TEST)  # of a difference of two shares of TEST images, at most
    verdict = "the gate helped" if gain > 3 * error else "no clear difference"
    print(f"lambda {weight:g}: with the gate {gain:+.3f} -> {verdict}")

# %% [markdown]
# When we ran this, the gate made no clear difference at the paper's $\lambda$; at the larger one it
# decided between a network that learns and one that has learnt nothing after two epochs. Remember
# from notebook 5 what the FBI loss wants if nobody contradicts: silence. A network that cannot do
# anything yet has nothing to say against it.
#
# ## 4. The loop
#
# Around the steps stands a loop. An *epoch* is one tour through all training images, in a new
# random order; a *batch* is what one step sees; and the learning rate falls along half a cosine,
# from its first value to 0 at the end of the last epoch. Here is the whole trainer:

# %% tags=["loop-by-hand"]
from minifbi.optim import learning_rate


def train_by_hand(config, data):
    """What minifbi's Trainer does, without its log, its checks and its checkpoints."""
    model = alexnet(seed=config.seed)
    fast = fuse(model)
    optimizer = Adam(model.parameters())
    gate = Gate(config.fbi_gate)
    rng = np.random.default_rng([config.seed, 1])  # the initial weights have a stream of their own
    images, step = len(data.train), 0
    steps_per_epoch = -(-images // config.batch_size)  # rounded up: the last batch may be smaller
    for _ in range(config.epochs):
        order = rng.permutation(images)
        for begin in range(0, images, config.batch_size):
            x, labels = data.train.batch(order[begin : begin + config.batch_size])
            active = gate.open and config.fbi_weight > 0
            three_step(fast, x, labels, weight=config.fbi_weight, active=active)
            optimizer.lr = learning_rate(0.001, "cosine", step, config.epochs * steps_per_epoch)
            optimizer.step()
            step += 1
            end_of_epoch = begin + config.batch_size >= images
            if not gate.open and (step % config.gate_interval == 0 or end_of_epoch):
                gate.look(step, evaluate(model, data.validation)[0])
    return model, gate


config = TrainConfig(epochs=2, batch_size=BATCH, gate_interval=5, seed=3)
small = digits(960 if FAST else 2000)
by_hand, gate = train_by_hand(config, small)
trainer = Trainer(config, small)
for _ in range(config.epochs):
    trainer.run_epoch()
print("the gate opened at step", gate.step, "by hand, at step", trainer.gate.step, "in minifbi")
equal = [
    np.array_equal(p.numpy(), trainer.model.parameters()[name].numpy())
    for name, p in by_hand.parameters().items()
]
print(f"equal in every bit: {sum(equal)} of {len(equal)} parameters")
assert all(equal)

# %% [markdown]
# Not "nearly the same": the same numbers, after dozens of steps. This is what a *seed* is for. All
# randomness comes from generators that are started with it, so whoever has the configuration can
# make the run again. (On the same machine, that is. Another processor may round differently, and
# training blows up differences in the last digit.)
#
# ## 5. Watch it
#
# Now a real run, on more digits. `Trainer.run_epoch` accepts an object that it tells about its
# progress: any object with the methods `batch` and `gate`. Ours draws. If you run this notebook
# yourself, the figure grows while the network learns. In a notebook that was run before, you see
# its last state, and the cell after it draws all once more, as a still picture.

# %% tags=["live"]
from IPython.display import display
from matplotlib.figure import Figure


class Live:
    """A figure that follows a Trainer."""

    def __init__(self, seconds=0.7):
        self.seconds, self.drawn = seconds, 0.0  # between two drawings; time of the last
        self.seen, self.accuracy = [], []  # training accuracy, as the trainer tells it
        self.handle = None

    def batch(self, images, accuracy, task, penalty):
        """Called after each step: images in it, accuracy in this epoch, the losses."""
        self.seen.append(len(self.seen) + 1)
        self.accuracy.append(accuracy)
        if time.monotonic() - self.drawn > self.seconds:
            self.draw()

    def gate(self, gate, accuracy):
        """Called when the gate opens."""
        self.draw()

    def follow(self, trainer):
        self.trainer = trainer
        for _ in range(trainer.config.epochs):
            trainer.run_epoch(self)
        self.draw()

    def draw(self):
        trainer, history = self.trainer, {k: np.array(v) for k, v in self.trainer.history.items()}
        last = trainer.config.epochs * trainer.steps_per_epoch
        fig = Figure(figsize=(9, 2.7), layout="constrained")
        axes = fig.subplots(1, 3)
        axes[0].plot(history["step"], history["task_loss"], color=BLUE, lw=1)
        axes[0].set(title="task loss", yscale="log")
        known = np.isfinite(history["penalty"])  # before the gate it is only measured now and then
        axes[1].plot(history["step"][known], history["penalty"][known], color=RED, lw=1)
        axes[1].set(title="FBI loss", ylim=(0, None))
        axes[2].plot(self.seen, self.accuracy, color=GREY, lw=1, label="training, this epoch")
        axes[2].plot(history["val_step"], history["val_accuracy"], "o-", ms=3, color=ORANGE)
        axes[2].plot([], [], "o-", ms=3, color=ORANGE, label="validation")
        axes[2].set(title="accuracy", ylim=(0, 1.03))
        axes[2].legend(frameon=False, loc="lower right")
        for ax in axes:
            ax.set(xlabel=f"step (of {last})", xlim=(0, last))
            ax.spines[["top", "right"]].set_visible(False)
            if trainer.gate.open:
                ax.axvline(trainer.gate.step, color="black", lw=0.8, ls=":")
        if trainer.gate.open:
            where = axes[1].get_xaxis_transform()
            axes[1].text(trainer.gate.step, 0.03, " gate opens", transform=where, size=9)
        if self.handle is None:
            self.handle = display(fig, display_id=True)
        elif self.handle:
            self.handle.update(fig)
        self.drawn = time.monotonic()


config = TrainConfig(epochs=2, batch_size=BATCH, gate_interval=10, seed=0)
trainer = Trainer(config, digits(960 if FAST else 9000))
Live().follow(trainer)

# %% tags=["hide-input"]
from minifbi.plots import plot_curves

figure = plot_curves(
    trainer.history,
    trainer.records,
    gate_step=trainer.gate.step,
    title=f"the same run: {len(trainer.dataset.train)} images, {config.epochs} epochs",
)
figure.set_dpi(80)
display(figure)

# %% [markdown]
# How to read it. Before the dotted line the training is conventional: the task loss falls, while
# the FBI loss (measured, not trained) goes where it likes. From the line on, Eq. (4) is at work,
# and the FBI loss soon falls. The single steps are noisy, since each batch holds other digits. (The
# grey curve is the mean since the beginning of the epoch, so it jumps where a new epoch begins.)
# The last picture shows Eq. (3) layer by layer.

# %%
accuracy, _ = evaluate(trainer.model, trainer.dataset.test)
print(f"gate opened at step {trainer.gate.step} of {trainer.step}")
if trainer.gate.open:
    trained = np.array(trainer.history["penalty"][trainer.gate.step :])
    last = trained[-10:].mean()
    print(
        f"FBI loss since then: {trained.max():.0f} at its largest, {last:.0f} in the last 10 steps"
    )
print(f"test accuracy {accuracy:.3f} on {TEST} images")

# %% [markdown]
# ## 6. A run and its folder
#
# A run worth keeping belongs into a folder. `minifbi.training.train` (on the command line:
# `python -m minifbi.train`) writes one. Here it goes to a temporary place, with few digits.

# %%
import tempfile
from pathlib import Path

from minifbi.training import load_checkpoint, resume, train

place = tempfile.TemporaryDirectory()
run = Path(place.name) / "run"
config = TrainConfig(epochs=2 if FAST else 3, batch_size=BATCH, gate_interval=5, seed=1)
small = digits(960 if FAST else 2000)
result = train(config, run, dataset=small, quiet=True)


def listing(folder):
    for file in sorted(folder.iterdir()):
        print(f"  {file.name:18s}{file.stat().st_size / 1000:9.1f} kB")


listing(run)
print("result:", {k: result[k] for k in ("test_accuracy", "gate_step", "epochs", "steps")})

# %% [markdown]
# - `config.json`: all options, so that the run can be made again.
# - `metrics.jsonl`: the log, one line per epoch.
# - `checkpoint.npz`: all that is needed to go on: weights, Adam's memory, the random generator, the
#   gate. `previous.npz`: the same, of the epoch before, in case the last file is damaged.
#   `best.npz`: the same, of the epoch with the best validation accuracy.
# - `curves.png` and `activations.png`: pictures.
# - `result.json`: the final numbers. Only a finished run has it.
#
# **Pull the plug.** Runs are interrupted: a full disk, a lid that was closed, an impatient
# `Ctrl-C`. We play that with training images that raise an error in the middle of the second epoch.

# %% tags=["interrupted"]
from dataclasses import replace


class Plug(Split):
    """Images that are pulled out of the wall after some batches."""

    left = 3 * len(small.train) // (2 * config.batch_size)  # one epoch and a half

    def batch(self, *arguments):
        Plug.left -= 1
        if Plug.left < 0:
            raise KeyboardInterrupt("someone pulled the plug")
        return super().batch(*arguments)


second = Path(place.name) / "interrupted"
with_plug = replace(small, train=Plug(small.train.images, small.train.labels))
try:
    train(config, second, dataset=with_plug, quiet=True)
except KeyboardInterrupt as reason:
    print(reason)
listing(second)

# %% [markdown]
# There is no result, but a checkpoint of the last *finished* epoch. `resume` goes on from there (on
# the command line: `--resume FOLDER`). The half epoch is done again, with the very same batches,
# since the state of the random generator was in the checkpoint.

# %% tags=["resumed"]
resumed = resume(second, dataset=small, quiet=True, figures=False)
whole, parts = (load_checkpoint(folder / "checkpoint.npz")[0] for folder in (run, second))
same = all(np.array_equal(whole["parameters"][n], p) for n, p in parts["parameters"].items())
print("test accuracy, not interrupted:", result["test_accuracy"])
print("test accuracy, resumed:        ", resumed["test_accuracy"])
print("the weights are equal in every bit:", same)
assert same

# %% [markdown]
# ## 7. Read the log
#
# `metrics.jsonl` holds one JSON object a line. That is a format for everybody: Python needs three
# lines, and a spreadsheet or `jq` can read it, too.

# %% tags=["log"]
import json

lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
log = [json.loads(line) for line in lines]
print("names:", ", ".join(log[0]))
for r in log:
    print(
        f"epoch {r['epoch']}: task loss {r['task_loss']:.3f}, FBI loss {r['penalty']:.0f}, "
        f"validation accuracy {r['val_accuracy']:.3f}, FBI active at the end: {r['penalty_active']}"
    )

# %% tags=["hide-input"]
fig, axes = panels(1, 2, 9, 2.9, width_ratios=(1, 1.6))
epochs = [r["epoch"] for r in log]
axes[0].plot(epochs, [r["val_accuracy"] for r in log], "o-", color=ORANGE)
axes[0].set(title="validation accuracy", xlabel="epoch", xticks=epochs, ylim=(0, 1.03))
names = list(log[0]["penalty_terms"])
for k, r in enumerate(log):
    shade = plt.get_cmap("Reds")(0.35 + 0.55 * k / (len(log) - 1))
    heights = [r["penalty_terms"][name] for name in names]
    at = np.arange(len(names)) + 0.27 * (k - (len(log) - 1) / 2)
    axes[1].bar(at, heights, 0.25, color=shade, label=f"epoch {r['epoch']}")
axes[1].set(title="terms of Eq. (3)", xticks=range(len(names)), xticklabels=names)
axes[1].tick_params(axis="x", rotation=30)
fig.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# Which layers pay most, and which became cheaper? (`penalty` is what joins the task loss: here the
# FBI loss, in a run with another regularizer that one's penalty.) And mind what such a line means:
# `penalty` is the mean over the steps of the epoch in which it was computed. Before the gate opens
# it is computed only now and then, so the first epoch's number is a mean over a mixture. Whoever
# plots a log should know what was averaged.
#
# The network is in the folder, too. We load it and draw what `activations.png` shows (in other
# colours): activation maps of the first convolutions, and on the right the relevance at the same
# places. Orange speaks for the answer, purple against it.

# %%
from minifbi.plots import plot_activations
from minifbi.training import load_model

model, about = load_model(run / "best.npz")
seven = int(np.flatnonzero(data.test.labels == 7)[0])
image, _ = data.test.batch(slice(seven, seven + 1))
title = f"the network after epoch {about['epoch']}"
figure = plot_activations(model, image[0], 7, title=title, colorblind=True)
figure.set_dpi(80)
display(figure)

# %%
place.cleanup()  # a run of your own you would keep

# %% [markdown]
# ## 8. FBI against conventional
#
# What does it do? We train pairs of networks. Within a pair all is the same, the initial weights,
# the order of the images, the learning rate, but one is trained conventionally ($\lambda = 0$) and
# one with Eq. (4). Each pair has a seed of its own.
#
# For each network we look at three numbers, on test images: the accuracy; the mean activation of
# the first convolution; and the share of this activation that lies where the filter sees *nothing
# but paper*, 5 x 5 pixels of 0. (The authors say that their training avoids "strong activations in
# the background".)

# %% tags=["pairs"]
SEEDS = range(2) if FAST else range(5)
data = digits(960 if FAST else 4000)
pictures, _ = data.test.batch(slice(0, 200))
around = np.pad(pictures[:, 0], ((0, 0), (2, 2), (2, 2)))
seen = np.lib.stride_tricks.sliding_window_view(around, (5, 5), axis=(1, 2))
paper = (seen.max(axis=(3, 4)) == 0)[:, None]  # (200, 1, 28, 28)


def measure(trainer):
    conv1 = next(
        s.z.numpy() for s in forward_pass(trainer.model, pictures) if s.name == "relu_conv1"
    )
    share = (conv1 * paper).sum() / conv1.sum()
    return evaluate(trainer.model, data.test)[0], conv1.mean(), share


pairs = {}
for seed in SEEDS:
    for weight in (0.0, 0.001):
        config = TrainConfig(
            fbi_weight=weight, epochs=2, batch_size=BATCH, gate_interval=5, seed=seed
        )
        trainer = Trainer(config, data)
        for _ in range(config.epochs):
            trainer.run_epoch()
        pairs[seed, weight] = trainer

results = {weight: np.array([measure(pairs[s, weight]) for s in SEEDS]) for weight in (0.0, 0.001)}
for weight, title in ((0.0, "conventional"), (0.001, "FBI")):
    means = results[weight].mean(axis=0)
    print(
        f"{title:13s} accuracy {means[0]:.3f}   conv1: mean activation {means[1]:.4f}, "
        f"{means[2]:.0%} of it on paper"
    )

# %% [markdown]
# First, is it a fair pair? Until the gate opens, the two trainings must be one and the same:

# %%
for seed in SEEDS:
    one, two = (np.array(pairs[seed, weight].history["task_loss"]) for weight in (0.0, 0.001))
    part_at = int(np.flatnonzero(one != two)[0]) if (one != two).any() else len(one)
    opened = pairs[seed, 0.001].gate.step
    print(f"seed {seed}: equal for {part_at} steps; the gate opened after step {opened}")
    assert opened is None or part_at == opened + 1

# %% [markdown]
# (Equal for one step more than the gate's: the first step with the FBI loss still starts from the
# same weights, so its *task* loss is the same, and only then the weights part.)
#
# Now the differences. Two kinds of noise must be kept apart.
#
# **Noise of the test.** An accuracy from $n$ images is a share, and a share has the standard error
# $\sqrt{p\,(1 - p) / n}$. With other test images it would have come out by about so much higher or
# lower.
#
# **Noise of the training.** With another seed, all is different. We take the difference within each
# pair and ask how much the *mean* difference is worth: its standard error $s / \sqrt m$ ($s$: the
# standard deviation of the $m$ differences), times the factor of Student's $t$ distribution, which
# for few seeds is large. The result is an interval that would catch the true mean difference in 95
# of 100 such experiments.

# %% tags=["noise"]
from scipy.stats import t as student

titles = ("accuracy", "mean activation", "share on paper")
m = len(SEEDS)
factor = student.ppf(0.975, m - 1)
differences = results[0.001] - results[0.0]  # (seeds, 3)
half = factor * differences.std(axis=0, ddof=1) / np.sqrt(m)
p = results[0.0][:, 0].mean()
print(f"noise of the test: one accuracy is known to about ±{np.sqrt(p * (1 - p) / TEST):.3f}")
print(f"noise of the training: {m} seeds, factor {factor:.2f}")
for k, title in enumerate(titles):
    middle = differences[:, k].mean()
    low, high = middle - half[k], middle + half[k]
    verdict = "different" if low > 0 or high < 0 else "cannot tell"
    interval = f"interval {low:+.4f} to {high:+.4f}"
    print(f"{title:16s} FBI - conventional: {middle:+.4f}, {interval}: {verdict}")

# %% tags=["hide-input"]
fig, axes = panels(1, 3, 9, 3)
for k, (ax, title) in enumerate(zip(axes, titles, strict=True)):
    for n in range(m):
        pair = [results[weight][n, k] for weight in (0.0, 0.001)]
        ax.plot([0, 1], pair, color="#bbbbbb", lw=1, zorder=0)
        ax.scatter([0, 1], pair, color=[BLUE, RED], s=24)
    if k == 0:
        error = 1.96 * np.sqrt(results[0.0][:, 0] * (1 - results[0.0][:, 0]) / TEST)
        ax.errorbar(-0.15, p, error.mean(), color=GREY, capsize=3)
        ax.text(-0.19, p, "95 %, test", rotation=90, ha="right", va="center", size=8, color=GREY)
    ax.set(xticks=[0, 1], xticklabels=["conventional", "FBI"], xlim=(-0.45, 1.3), title=title)
    if k:
        ax.set_ylim(0, None)
plt.show()

# %% [markdown]
# Each grey line is a pair. What can be said after a minute of computing?
#
# - If nearly all lines go the same way, an effect is likely even though the seeds differ among
#   themselves; this is what the pairs are for.
# - "Cannot tell" does not mean "no difference". It means that this experiment is too small to see
#   one. Two seeds can hardly show anything: look at the factor.
# - "Different" is a statement about *this* training: few images, two epochs. Whether it holds after
#   a full training is another experiment ([notebook 7](07_figures_and_table.ipynb) has the
#   numbers), and whether quieter maps are easier to *interpret* is another question
#   ([notebook 8](08_is_it_more_interpretable.ipynb)).
# - And whoever tries many numbers and reports the one that came out "different" will always find
#   one. We said what we would look at before we trained.
#
# ## What you learnt
#
# - A training step has three steps: forward, relevance, backward. A weight works in the first two,
#   so its gradient comes along two roads.
# - It costs $6F$ instead of $3F$: twice the conventional step.
# - The gate keeps the FBI loss out until the relevance is worth agreeing with. It is latched.
# - With a seed, a run can be made again bit by bit; with a checkpoint, it can be continued as if
#   nothing had happened.
# - A log line is an average; know over what.
# - Compare in pairs, over several seeds, and give an interval. One pair is an anecdote.
#
# ## Exercises
#
# Replace each `...`, run the cell, and read what the check says.

# %%
from checks import tutorial_06 as check

# %% [markdown]
# **Exercise 1: the 2.5.** In section 1 the FBI loss contributed $2.5\,x_i$ to the gradient of a
# weight of the first layer. What would the two parts be (for $x_i = 1$), if every weight of the
# *second* layer were $\frac12$ instead of 3? Mind the signs of what stands between the bars.

# %% tags=["exercise"]
# solution
# student: through_forward = ...  # one number
# student: through_relevance = ...  # one number
# terms: sum_j |h_j - h_j / 2| rises by 1/2 for each h_j; a_i^- = x_i * sum_j w_ji / 2 = 3 x_i
through_forward = 0.5 * 0.5
through_relevance = 0.5 * 0.5
# end solution

check.two_roads(through_forward, through_relevance)

# %% [markdown]
# **Exercise 2: a gate.** Given the validation accuracies that are measured after `interval`, 2
# `interval`, 3 `interval` ... steps, return the step at which the gate opens, or `None` if it stays
# shut.


# %% tags=["exercise"]
def opens_at(accuracies, interval, threshold):
    # solution
    # student: return ...
    for n, accuracy in enumerate(accuracies, start=1):
        if accuracy > threshold:
            return n * interval
    return None
    # end solution


check.opens_at(opens_at)

# %% [markdown]
# **Exercise 3: pairs.** Write the interval of section 8: from the results of two ways of training,
# one number for each seed (the same seeds in the same order), the mean difference `b - a`, and half
# the width of the interval for a given factor.


# %% tags=["exercise"]
def paired(a, b, factor):
    """The mean difference b - a, and factor times its standard error.

    a, b: arrays (m,), m at least 2.
    """
    # solution
    # student: return ...  # mean, half width
    d = b - a
    return d.mean(), factor * d.std(ddof=1) / np.sqrt(len(d))
    # end solution


check.paired(paired)

# %% [markdown]
# **Exercise 4: five and five.** A colleague trains for 5 epochs, then resumes the finished run with
# `epochs=10`. Another one trains for 10 epochs in one go. Same seed, same data, same machine. Their
# networks differ. Why?
#
# - `"a"`: The order of the images differs after resuming.
# - `"b"`: Adam's memory is lost when a run is resumed.
# - `"c"`: The learning rate knows how long the training will be.
# - `"d"`: The gate must open a second time.

# %% tags=["exercise"]
# solution
# student: answer = ...
answer = "c"
# end solution

check.five_and_five(answer)

# %% [markdown]
# **Exercise 5: to think about.** The gate looks at the validation accuracy. In section 3 we
# measured directly what the authors worry about, how stable the relevance is. Would a gate that
# opens by that measure be better? How would you find out, and how many seeds would you need?
#
# ## Further reading
#
# - C. H. Yoo, N. Kim and J.-W. Kang, *Relevance Regularization of Convolutional Neural Network for
#   Interpretable Classification*, CVPR Workshops 2019: Section 3.2 is this notebook.
# - D. P. Kingma and J. Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015.
# - I. Loshchilov and F. Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, ICLR 2017:
#   the cosine (we use it without restarts).
# - X. Bouthillier and others, *Accounting for Variance in Machine Learning Benchmarks*, MLSys 2021:
#   where the noise of training comes from, and how to compare in spite of it.
# - `minifbi/training/`: three_step.py, gate.py and trainer.py. You have written all three.
#
# Before: [5. The FBI loss](05_the_fbi_loss.ipynb). Next:
# [7. Figures and table](07_figures_and_table.ipynb).
