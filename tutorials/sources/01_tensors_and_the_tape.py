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
# # 1. Tensors and the tape
#
# Training a network means to change its numbers, a little at a time, so that some *loss* becomes
# smaller. For each number we must know one thing: if I turn it up a little, does the loss rise or
# fall, and how fast? That is its *gradient*. A network has a hundred thousand such numbers, and
# nobody works out their gradients on paper. A program does, and it is shorter than one would think.
#
# In this tutorial you will
#
# 1. see a gradient as the answer to "what if I nudge it?",
# 2. build a small program that finds gradients by itself, in 25 lines,
# 3. watch it fail when it works in the wrong order, and learn which order is right,
# 4. extend it from numbers to arrays, and train a little network with it,
# 5. do the same with minifbi's `Tensor`, which is the same idea with the gaps closed,
# 6. put *two* passes on one tape: the trick on which the FBI loss rests.
#
# You need Python, NumPy, and the chain rule. It takes 15 to 30 minutes.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

FAST = os.environ.get("MINIFBI_FAST") == "1"  # less training; for the tests

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY, ORANGE = "#1f77b4", "#c0392b", "#666666", "#d98200"

# %% [markdown]
# ## 1. What if I nudge it?
#
# A machine with a dial $w$ predicts $w x + b$ from an input $x$; $b$ is a constant shift. The right
# answer would be $t$ (the *target*). The loss is the squared error:
#
# $$L = (w x + b - t)^2$$

# %%
x, b, t = 3.0, -1.0, 4.0


def loss_at(w):
    return (w * x + b - t) ** 2


w, nudge = 2.0, 0.1
slope = (loss_at(w + nudge) - loss_at(w)) / nudge
print(f"L({w}) = {loss_at(w)},  L({w + nudge}) = {loss_at(w + nudge):.2f}")
print(f"a nudge of {nudge} raises the loss by {slope:.1f} times the nudge")

# %% [markdown]
# The quotient depends on how large the nudge is. For smaller and smaller ones it settles: this is
# the *derivative* $\partial L / \partial w$, the slope of the curve at this very place. (We write
# $\partial$ and not $d$ since $L$ depends on other things as well, which we hold fixed.)

# %%
print("  nudge    quotient")
for nudge in (0.1, 0.01, 0.001, 1e-5):
    print(f"{nudge:7g}  {(loss_at(w + nudge) - loss_at(w)) / nudge:10.5f}")

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.1), layout="constrained")
grid = np.linspace(1.2, 2.6, 200)
exact = 2 * (w * x + b - t) * x  # by the chain rule
for ax, step in zip(axes, (0.4, 0.1), strict=True):
    ax.spines[["top", "right"]].set_visible(False)
    ax.plot(grid, loss_at(grid), color=BLUE)
    secant = (loss_at(w + step) - loss_at(w)) / step
    ax.axline((w, loss_at(w)), slope=secant, color=ORANGE, lw=1.2, label=f"quotient {secant:.1f}")
    ax.axline((w, loss_at(w)), slope=exact, color=RED, lw=1.2, ls="--", label=f"slope {exact:g}")
    ax.plot([w, w + step], [loss_at(w), loss_at(w + step)], "o", color=BLUE, ms=5)
    ax.set(title=f"nudge {step}", xlabel="dial $w$", ylim=(-1.2, 7.5), xlim=(1.2, 2.6))
    ax.legend(frameon=False, loc="upper left")
axes[0].set_ylabel("loss $L$")
plt.show()

# %% [markdown]
# The slope at $w = 2$ is 6. It is positive, so the dial should be turned *down*. That is all of
# training: ask for the slope, take a small step against it, repeat.
#
# Nudging is easy to trust, but it costs one more evaluation of the loss for *each* number. With
# 100,000 numbers, one step of training would need 100,000 forward passes. The chain rule gives all
# slopes together for the price of about two.
#
# ## 2. A number that remembers
#
# Take the loss apart into steps so small that each slope is obvious:
#
# $$p = w \cdot x, \qquad q = p + b, \qquad e = q - t, \qquad L = e \cdot e$$
#
# For a sum, nudging one summand moves the result just as much: slope 1. For a product $a \cdot b$,
# nudging $a$ moves the result $b$ times as much: slope $b$. The chain rule then says: *along a path
# the slopes multiply, and where several paths lead to the same place, they add up.*
#
# So let each number remember what it was made from, and with which slopes:


# %%
class Number:
    """A number that remembers how it was made."""

    def __init__(self, value, inputs=(), slopes=()):
        self.value = value
        self.inputs = inputs  # the numbers that it was made from
        self.slopes = slopes  # for each of them: how fast this one moves if that one is nudged
        self.grad = 0.0  # how fast the final result moves if this one is nudged

    def __add__(self, other):
        return Number(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        return Number(self.value * other.value, (self, other), (other.value, self.value))


w, x, b, minus_t = Number(2.0), Number(3.0), Number(-1.0), Number(-4.0)
p = w * x
q = p + b
e = q + minus_t
L = e * e
print("L =", L.value)

# %% [markdown]
# While Python computed $L$, the objects tied themselves together. The record of what was computed
# from what is called the **tape** (or the *computation graph*, when one draws it):

# %% tags=["hide-input"]
RADIUS = 0.3


def draw(ax, spots, shares=(), inputs=lambda number: number.inputs, colors=None):
    """Draw a tape.  `spots` is {label: (number, column, row, lines of text)}."""
    place = {id(number): (c, r) for number, c, r, _ in spots.values()}
    for number, c, r, _ in spots.values():
        for k, source in enumerate(inputs(number)):
            if id(source) not in place:
                continue
            start, end = np.array(place[id(source)]), np.array((c, r))
            twice = sum(s is source for s in inputs(number)) > 1
            bend = (0.22 if k else -0.22) if twice else 0.0
            style = {"arrowstyle": "-|>", "color": "#aaaaaa", "shrinkA": 19, "shrinkB": 19}
            style["connectionstyle"] = f"arc3,rad={bend}"
            ax.annotate("", end, start, arrowprops=style, zorder=0)
    for at, text in shares:
        ax.text(*at, text, color=RED, size=8.5, ha="center", va="center", zorder=3)
    for label, (_, c, r, lines) in spots.items():
        edge = (colors or {}).get(label, GREY)
        ax.scatter(c, r, s=1050, color="white", edgecolor=edge, linewidth=1.4, zorder=1)
        ax.text(c, r, label, ha="center", va="center", zorder=2)
        for k, (text, color) in enumerate(lines):
            style = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
            at = (c, r - 0.43 - 0.2 * k)
            ax.text(*at, text, color=color, ha="center", va="center", size=8.5, bbox=style)
    columns, rows = zip(*place.values(), strict=True)
    ax.set(xlim=(min(columns) - 0.6, max(columns) + 0.6), ylim=(min(rows) - 0.8, max(rows) + 0.5))
    ax.axis("off")


fig, ax = plt.subplots(figsize=(8.5, 3.3), layout="constrained")
places = {
    "$w$": (w, 0, 2),
    "$x$": (x, 0, 0.6),
    "$p$": (p, 1.3, 1.3),
    "$b$": (b, 1.3, 0),
    "$q$": (q, 2.6, 1.3),
    "$-t$": (minus_t, 2.6, 0),
    "$e$": (e, 3.9, 1.3),
    "$L$": (L, 5.2, 1.3),
}
slopes = [
    ((0.65, 1.82), p.slopes[0]),
    ((0.65, 0.78), p.slopes[1]),
    ((1.95, 1.42), q.slopes[0]),
    ((1.85, 0.78), q.slopes[1]),
    ((3.25, 1.42), e.slopes[0]),
    ((3.15, 0.78), e.slopes[1]),
    ((4.55, 1.62), L.slopes[0]),
    ((4.55, 0.98), L.slopes[1]),
]
slopes = [(at, f"{slope:g}") for at, slope in slopes]
draw(ax, {k: (n, c, r, [(f"{n.value:g}", BLUE)]) for k, (n, c, r) in places.items()}, slopes)
ax.text(2.6, 2.25, "values (blue) and slopes (red, on the arrows)", color=GREY, ha="center")
plt.show()

# %% [markdown]
# $e$ went into $L = e \cdot e$ twice, so it has two arrows, each with slope $e = 1$.
#
# Now walk back, from $L$ to the left, with a pencil. How fast does $L$ move
#
# - if $L$ itself is nudged? Slope 1, of course.
# - if $e$ is nudged? Two paths of slope 1 lead from $e$ to $L$, and they add up: $1 + 1 = 2$.
# - if $q$, $p$ or $b$ is nudged? Multiply by the slope 1 of the sums: 2.
# - if $w$ is nudged? $2 \cdot 3 = 6$, as we found by nudging.
#
# In code, each number passes its gradient on to its inputs, times the slope:


# %%
def backward(order):
    """Each number of `order`, one after the other, passes its gradient on to its inputs."""
    for number in order:
        number.grad = 0.0
    order[0].grad = 1.0  # the result itself
    for number in order:
        number.passed_on = number.grad  # what it knows when its turn comes
        for source, slope in zip(number.inputs, number.slopes, strict=True):
            source.grad += number.passed_on * slope


backward([L, e, minus_t, q, b, p, x, w])
for name, number in {"w": w, "x": x, "b": b}.items():
    print(f"dL/d{name} = {number.grad}")

# %% [markdown]
# One walk, and all the slopes are there. But we gave it the order by hand. How does a program find
# it?
#
# ## 3. The order matters
#
# A natural idea: start at the result, visit what it was made from, then what *that* was made from,
# and so on, the nearest first. (Computer scientists call it breadth-first search.)


# %%
def nearest_first(result):
    """A tempting order."""
    order, waiting = [], [result]
    while waiting:
        number = waiting.pop(0)
        if number not in order:
            order.append(number)
            waiting += number.inputs
    return order


def example(swapped):
    """z = h + h * h with h = x * x, that is x^2 + x^4, at x = 2; the sum written in two ways."""
    x = Number(2.0)
    h = x * x
    y = h * h
    z = y + h if swapped else h + y
    return x, h, y, z


for swapped, text in ((True, "z = y + h"), (False, "z = h + y")):
    x, h, y, z = example(swapped)
    backward(nearest_first(z))
    print(f"{text}:  dz/dx = {x.grad:g}")

# %% [markdown]
# We swapped two summands, and got another gradient! They cannot both be right. The function is
# $z = x^2 + x^4$, so $\partial z / \partial x = 2 x + 4 x^3$, which is 36 at $x = 2$. Let us look
# at what happened in the second case, step by step.

# %% tags=["wrong-order", "hide-input"]
fig, axes = plt.subplots(2, 1, figsize=(8.5, 6), layout="constrained")
results = {}
for ax, title in zip(axes, ("nearest first: wrong", "users first: right"), strict=True):
    x, h, y, z = example(swapped=False)
    order = nearest_first(z) if "wrong" in title else [z, y, h, x]
    backward(order)
    step = {id(number): k + 1 for k, number in enumerate(order)}
    names = {"$x$": (x, 0, 1), "$h$": (h, 1.7, 1), "$y$": (y, 3.4, 2), "$z$": (z, 5.1, 1)}
    spots = {
        name: (n, c, r, [(f"no. {step[id(n)]}", GREY), (f"gradient {n.grad:g}", RED)])
        for name, (n, c, r) in names.items()
    }
    shares = [
        ((0.85, 1.36), h, 0),
        ((0.85, 0.64), h, 1),
        ((2.3, 1.85), y, 0),
        ((2.88, 1.32), y, 1),
        ((4.35, 1.65), z, 1),
        ((3.4, 0.87), z, 0),
    ]
    shares = [(at, f"${n.passed_on:g} \\cdot {n.slopes[k]:g}$") for at, n, k in shares]
    draw(ax, spots, shares)
    ax.set_title(title, color=RED if "wrong" in title else GREY)
    ax.set_ylim(0.2, 2.45)
    results[title] = x.grad
plt.show()
print(results)

# %% [markdown]
# On the way back every arrow carries a share (red). In the upper picture $h$ is the second to
# speak. At that moment it has heard only from $z$, so its gradient is 1, and it passes
# $1 \cdot 2 + 1 \cdot 2 = 4$ on to $x$. *Then* $y$ reports its share of 8. Too late: $h$ ends with
# the right gradient, 9, but $x$ never hears of it. No error, no warning, only a wrong number, and a
# network that trains a little worse than it should.
#
# So the rule is: **a number may pass its gradient on only after all who used it have reported.**
# Such an order is called *topological*. There is a neat way to find one. Walk to the inputs first,
# and write a number down when everything behind it is already written down. That list has inputs
# before users; reversed, it has users before inputs.


# %%
def users_first(result):
    """Each number after all numbers that were made from it."""
    order, seen = [], set()

    def visit(number):
        if number in seen:
            return
        seen.add(number)
        for source in number.inputs:
            visit(source)
        order.append(number)  # everything that it was made from is already listed

    visit(result)
    return order[::-1]


for swapped, text in ((True, "z = y + h"), (False, "z = h + y")):
    x, h, y, z = example(swapped)
    backward(users_first(z))
    print(f"{text}:  dz/dx = {x.grad:g}")
    assert x.grad == 36

# %% [markdown]
# **Could we do without an order?** Let each number pass a share on at once, whenever it gets one,
# and not wait for the rest. That is right, since every path is walked one by one, and their
# products add up. But count the paths: in a chain $h_1 = h_0 + h_0$, $h_2 = h_1 + h_1$, and so on,
# their number doubles with each link.


# %%
def impatient(number, share):
    """Pass every share on as soon as it arrives; return how many calls that takes."""
    number.grad += share
    return 1 + sum(
        impatient(source, share * slope)
        for source, slope in zip(number.inputs, number.slopes, strict=True)
    )


links, calls, visits = [], [], []
for n in range(1, 13 if FAST else 17):
    start = Number(1.0)
    end = start
    for _ in range(n):
        end = end + end
    calls.append(impatient(end, 1.0))
    assert start.grad == 2**n  # right, but look at the cost
    order = users_first(end)
    backward(order)
    assert start.grad == 2**n
    visits.append(len(order))
    links.append(n)

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
ax.semilogy(links, calls, "o-", color=RED, ms=4, label="impatient")
ax.semilogy(links, visits, "o-", color=BLUE, ms=4, label="users first")
ax.set(xlabel="links of the chain", ylabel="numbers visited")
ax.legend(frameon=False)
plt.show()
print(f"{links[-1]} links: {calls[-1]} calls against {visits[-1]} visits")

# %% [markdown]
# In a network of eight layers with 100 units each, $100^8$ paths lead from one end to the other. In
# the right order each number is visited once, whatever the number of paths. This method is called
# *reverse-mode automatic differentiation*, or **backpropagation**.
#
# ## 4. From numbers to arrays
#
# A network of 100,000 parameters as 100,000 Python objects would be slow. So let one object hold a
# whole array. Then a slope is no longer a number: an array of $n$ numbers made from one of $m$ has
# $n \cdot m$ slopes, a matrix called the *Jacobian*. How large would that be for a usual layer?

# %%
batch, inputs, units = 64, 784, 256
jacobian = (batch * units) * (inputs * units)
print(f"{batch * units} results x {inputs * units} weights = {jacobian:.1e} slopes")
print(f"as float32: {jacobian * 4 / 1e9:.0f} gigabytes")

# %% [markdown]
# Nobody stores that for each layer, and nobody needs it. On the way back we only ever *multiply*
# by it. So in place of the slopes, each array remembers a **function**: give me the gradient at
# the result, $G$, and I return the gradient at each input. $G$ has the shape of the result, what
# is returned has the shapes of the inputs, always.
#
# For a matrix product $Z = X W$ this function is two more matrix products. Written out,
# $z_{ij} = \sum_k x_{ik} w_{kj}$. The weight $w_{kj}$ takes part in column $j$ of the result, in
# every row $i$, with slope $x_{ik}$. Along each path multiply, then add up:
#
# $$\frac{\partial L}{\partial w_{kj}} = \sum_i x_{ik}\, g_{ij}
#   \quad\text{, that is }\quad
#   \frac{\partial L}{\partial W} = X^\top G,
#   \qquad\text{and likewise}\qquad
#   \frac{\partial L}{\partial X} = G\, W^\top .$$
#
# You need not remember on which side the transpose goes: the shapes allow only one.


# %%
class Array:
    """An array that remembers how it was made."""

    def __init__(self, data, inputs=(), pull=None):
        self.data = np.asarray(data, dtype=float)
        self.inputs = inputs
        self.pull = pull  # from the gradient here to the gradients at the inputs
        self.grad = np.zeros_like(self.data)

    def __add__(self, other):  # same shapes
        return Array(self.data + other.data, (self, other), lambda g: (g, g))

    def __mul__(self, other):  # same shapes, element by element
        return Array(
            self.data * other.data, (self, other), lambda g: (g * other.data, g * self.data)
        )

    def __matmul__(self, other):
        return Array(
            self.data @ other.data, (self, other), lambda g: (g @ other.data.T, self.data.T @ g)
        )

    def add_row(self, row):  # the row is added to each row, so its gradient is a sum over rows
        return Array(self.data + row.data, (self, row), lambda g: (g, g.sum(axis=0)))

    def relu(self):  # max(x, 0): slope 1 where the number is positive, 0 elsewhere
        return Array(np.maximum(self.data, 0), (self,), lambda g: (g * (self.data > 0),))

    def sum(self):  # each number counts with slope 1
        return Array(self.data.sum(), (self,), lambda g: (np.full(self.data.shape, g),))

    def backward(self):
        order = users_first(self)
        for array in order:
            array.grad = np.zeros_like(array.data)
        self.grad = np.ones_like(self.data)
        for array in order:
            if array.pull:
                for source, share in zip(array.inputs, array.pull(array.grad), strict=True):
                    source.grad = source.grad + share


# %% [markdown]
# The walk has not changed at all: `users_first` works as it stands.
#
# That is enough to train a network. The data are points in the plane, half of them on an inner
# ring (target $+1$), half on an outer ring (target $-1$). No straight line separates them. The net
# has one hidden layer of 16 units with ReLU, and one output. Its sign is the answer.

# %%
rng = np.random.default_rng(0)
COUNT = 200
angle = rng.uniform(0, 2 * np.pi, COUNT)
radius = np.where(np.arange(COUNT) < COUNT // 2, 1.0, 2.2) + 0.2 * rng.standard_normal(COUNT)
points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
targets = np.where(np.arange(COUNT) < COUNT // 2, 1.0, -1.0)[:, None]

W1 = Array(0.7 * rng.standard_normal((2, 16)))
b1 = Array(np.zeros(16))
W2 = Array(0.3 * rng.standard_normal((16, 1)))
b2 = Array(np.zeros(1))


def predict(points):
    return (Array(points) @ W1).add_row(b1).relu().__matmul__(W2).add_row(b2)


def mean_squared_error():
    error = predict(points) + Array(-targets)
    return (error * error).sum() * Array(1 / COUNT)


losses = []
for _ in range(150 if FAST else 400):
    loss = mean_squared_error()
    loss.backward()
    for parameter in (W1, b1, W2, b2):
        parameter.data = parameter.data - 0.1 * parameter.grad  # a small step against the slope
    losses.append(float(loss.data))

right = int((np.sign(predict(points).data) == targets).sum())
print(f"loss {losses[0]:.3f} at the start, {losses[-1]:.3f} at the end; {right} of {COUNT} right")

# %% tags=["hide-input"]
fig, axes = plt.subplots(
    1, 2, figsize=(9, 3.6), layout="constrained", gridspec_kw={"width_ratios": [1.3, 1]}
)
axes[0].spines[["top", "right"]].set_visible(False)
axes[0].plot(losses, color=BLUE)
axes[0].set(title="mean squared error", xlabel="training step", ylim=(0, None))
side = np.linspace(-3.2, 3.2, 121)
plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
answer = predict(plane).data.reshape(121, 121)
axes[1].contourf(side, side, answer, levels=np.linspace(-3, 3, 21), cmap="RdBu", extend="both")
axes[1].contour(side, side, answer, levels=[0], colors="black", linewidths=1)
for value, color in ((1, BLUE), (-1, RED)):
    chosen = targets[:, 0] == value
    axes[1].scatter(*points[chosen].T, s=12, color=color, edgecolor="white", linewidths=0.5)
axes[1].set(title="its answer", aspect="equal", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The black line is where the answer changes sign. It consists of straight pieces: each hidden unit
# has one line in the plane at which its ReLU switches on.
#
# ## 5. The same with minifbi
#
# `minifbi.Tensor` is our `Array` with the gaps closed: more operations, any shapes that NumPy can
# combine, float32 and float64, several backends, errors that say what is wrong. Only tensors with
# `requires_grad=True`, and what is made from them, go onto the tape. Let us feed it the trained
# numbers and see whether it finds the same gradients as our own program.

# %%
from minifbi import Tensor

parameters = {
    name: Tensor(array.data, requires_grad=True)
    for name, array in {"W1": W1, "b1": b1, "W2": W2, "b2": b2}.items()
}


def minifbi_loss():
    hidden = (Tensor(points) @ parameters["W1"] + parameters["b1"]).relu()
    error = hidden @ parameters["W2"] + parameters["b2"] - targets
    return (error * error).sum() * (1 / COUNT)


ours = mean_squared_error()
ours.backward()
theirs = minifbi_loss()
theirs.backward()
for name, array in {"W1": W1, "b1": b1, "W2": W2, "b2": b2}.items():
    gap = np.abs(parameters[name].grad - array.grad).max()
    print(f"{name}: largest difference of the gradients {gap:.0e}")
    np.testing.assert_allclose(parameters[name].grad, array.grad, rtol=1e-9, atol=1e-12)

# %% [markdown]
# A tensor keeps what it was made from in `tensor.node`: the `inputs`, a function `backward` (our
# `pull`) and a `name`. `backward_order` is our `users_first`, with a stack of its own in place of
# recursion, so that a very deep network does not overflow Python's. Here is the tape, in the order
# of the way back:

# %%
from minifbi.autograd.tensor import backward_order

for tensor in backward_order(theirs):
    made_by = tensor.node.name if tensor.node else "(a leaf: a parameter)"
    print(f"{tensor.shape!s:10}  {made_by}")

# %% [markdown]
# Four things differ from our `Array`, and they are worth knowing.
#
# **Gradients accumulate.** `backward()` *adds* to `.grad` of the leaves, so that gradients of
# several losses can be collected. Between training steps one calls `zero_grad()`.

# %%
dial = Tensor([2.0], requires_grad=True)
for _ in range(2):
    (dial * 3.0).sum().backward()
    print(dial.grad)
dial.zero_grad()

# %% [markdown]
# **Only leaves keep a gradient.** For the tensors in between, the gradient is passed on and
# forgotten, which saves memory.
#
# **`no_grad()` writes no tape.** For evaluation, where nobody asks for a gradient:

# %%
from minifbi import no_grad

with no_grad():
    print("on the tape?", (dial * 3.0).requires_grad)

# %% [markdown]
# **New operations are easy to add.** `record` takes the result, the inputs, and the function for
# the way back. As an example *softplus*, $\log(1 + e^x)$, a smooth cousin of ReLU. Its slope is
# $1 / (1 + e^{-x})$.

# %%
from minifbi import check_gradients
from minifbi.autograd import record


def softplus(x):
    slope = 1 / (1 + np.exp(-x.data))
    return record(np.log1p(np.exp(x.data)), (x,), lambda g: (g * slope,), "softplus")


v = Tensor(np.linspace(-2, 2, 7), requires_grad=True)
print(check_gradients(lambda: (softplus(v) * softplus(v)).sum(), {"v": v}))

# %% [markdown]
# `check_gradients` is section 1 again: it nudges the parameters in random directions, looks how the
# loss changes, and compares with what `backward` promised. It does so very precisely: the *relative
# error* above is the difference of the two, divided by the larger of them.
#
# ## 6. Two passes on one tape
#
# Why does a project about interpretable networks build its own tape? Because of this section.
#
# Take a net with two inputs, two hidden units with ReLU and one output, without biases:
# $\mathbf a = \mathrm{ReLU}(\mathbf x W)$ and $y = \mathbf a \cdot \mathbf v$. First it computes
# forwards. Then it computes *backwards*: it hands the answer $y$ down to the inputs, each unit in
# proportion to what it contributed. ([Notebook 4](04_relevance.ipynb) shows where that comes from;
# here only the formula counts.) An input $x_k$ gets
#
# $$x_k^- = x_k \sum_j W_{kj}\, v_j \,[a_j > 0],$$
#
# where $[a_j > 0]$ is 1 if the unit is on and 0 if it is off. This second pass uses $W$ and
# $\mathbf v$ *once more*. If the loss contains its result, the gradient of $W$ must come along two
# roads: through the forward pass and through the second pass. For the tape that is nothing special.
# Both passes are made of operations, and all operations are recorded.

# %% tags=["two-passes"]
x = Tensor([[1.0, 2.0]])
W = Tensor([[1.5, -1.0], [0.5, 0.25]], requires_grad=True)
v = Tensor([[1.0], [2.0]], requires_grad=True)


def two_passes(W_forward, W_back):
    """The loss, with the weights that the first and the second pass use."""
    z = x @ W_forward
    a = z.relu()
    y = a @ v  # the first pass ends here
    ratio = v.T * (a.data > 0)
    back = x * (ratio @ W_back.T)  # the second pass ends here
    loss = ((y - 1.0) ** 2).sum() + (x - back).abs().sum()
    return loss, {"z": z, "a": a, "y": y, "ratio": ratio, "back": back}


loss, parts = two_passes(W, W)
loss.backward()
print("y    ", parts["y"].numpy()[0], "   x^-", parts["back"].numpy()[0])
print("loss ", loss.item())
print("dL/dW\n", W.grad)

# %% tags=["hide-input"]
order = backward_order(loss)
of = {"z": parts["z"], "a": parts["a"], "y": parts["y"], "x^-": parts["back"], "r": parts["ratio"]}
one_more = next(t for t in order if t.node and parts["ratio"] in t.node.inputs)


def behind(tensor):
    """What a drawn tensor was made from, skipping the ones that are not drawn."""
    found, waiting = [], list(tensor.node.inputs) if tensor.node else []
    while waiting:
        source = waiting.pop()
        if id(source) in drawn:
            found.append(source)
        elif source.node:
            waiting += source.node.inputs
    return found


spots = {
    "$W$": (W, 0, 2, [("used twice", GREY)]),
    "$\\mathbf{v}$": (v, 0, 0.6, [("used twice", GREY)]),
    "$\\mathbf{z}$": (of["z"], 1.5, 2, [("matmul", BLUE)]),
    "$\\mathbf{a}$": (of["a"], 3, 2, [("ReLU", BLUE)]),
    "$y$": (of["y"], 4.5, 2, [("matmul", BLUE)]),
    "$\\mathbf{r}$": (of["r"], 1.5, 0.6, [("ratio", RED)]),
    "$\\mathbf{r} W^T$": (one_more, 3, 0.6, [("matmul", RED)]),
    "$\\mathbf{x}^-$": (of["x^-"], 4.5, 0.6, [("times $\\mathbf{x}$", RED)]),
    "$L$": (loss, 6, 1.3, [("loss", GREY)]),
}
drawn = {id(tensor) for tensor, *_ in spots.values()}
blue = dict.fromkeys(("$\\mathbf{z}$", "$\\mathbf{a}$", "$y$"), BLUE)
red = dict.fromkeys(("$\\mathbf{r}$", "$\\mathbf{r} W^T$", "$\\mathbf{x}^-$"), RED)
fig, ax = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
draw(ax, spots, inputs=behind, colors=blue | red)
ax.text(3, 2.42, "first pass", color=BLUE, ha="center")
ax.text(3, -0.15, "second pass", color=RED, ha="center")
ax.set_ylim(-0.3, 2.6)
plt.show()

# %% [markdown]
# The drawing is made from the real tape. From $L$, two roads lead back to $W$. We can close one of
# them: `detach()` returns the same numbers, off the tape.

# %%
whole = W.grad.copy()
shares = {}
for name, weights in {"first": (W, W.detach()), "second": (W.detach(), W)}.items():
    W.zero_grad()
    two_passes(*weights)[0].backward()
    shares[name] = W.grad.copy()
    print(f"through the {name} pass only\n", shares[name])
np.testing.assert_allclose(shares["first"] + shares["second"], whole)

W.zero_grad()
v.zero_grad()
print(check_gradients(lambda: two_passes(W, W)[0], {"W": W, "v": v}))

# %% [markdown]
# The two shares add up to the whole, as paths do, and the checker agrees. A method that explains a
# trained network needs the second pass only. A method that *trains* with it needs this gradient
# through both, and the tape gives it away for free.
#
# ## What you learnt
#
# - A gradient answers "how fast does the loss move if I nudge this?". Along a path slopes multiply;
#   over several paths they add up.
# - The tape is what each result remembers: its inputs, and how a gradient goes back to them.
# - A number may pass its gradient on only after all who used it have reported. The wrong order
#   gives a wrong number and no error; no order at all takes exponential time.
# - For arrays, slopes become functions from gradients to gradients. A gradient has the shape of its
#   array.
# - The second pass of the FBI loss is a computation like any other, on the same tape. So one
#   `backward()` differentiates through both.
#
# ## Exercises
#
# Replace each `...`, and run the cell: the check in its last line says whether it is right, and if
# not, where to look.

# %%
from checks import tutorial_01 as check

# %% [markdown]
# **Exercise 1: division.** Our `Number` can add and multiply. To divide, it needs the two slopes of
# $a / b$: how fast does the quotient move if $a$ is nudged, and how fast if $b$ is nudged?


# %%
def slopes_of_quotient(a, b):
    # solution
    # student: # return two numbers: the slope for a, and the slope for b
    return 1 / b, -a / b**2
    # end solution


check.slopes_of_quotient(slopes_of_quotient)

# %% [markdown]
# **Exercise 2: find an order.** A tape is given as a dictionary: for each name, the list of names
# that it was made from. For $z = h + h \cdot h$ with $h = x \cdot x$ it is
#
# `{"z": ["h", "y"], "y": ["h", "h"], "h": ["x", "x"], "x": []}`
#
# Write a function that returns a list of all names behind `result` (with `result` itself, each
# once), in an order that is right for the way back.


# %%
def backward_order_of(result, made_from):
    # solution
    # student: # made_from[name] is the list of names that `name` was made from
    order, seen = [], set()

    def visit(name):
        if name not in seen:
            seen.add(name)
            for source in made_from[name]:
                visit(source)
            order.append(name)

    visit(result)
    return order[::-1]
    # end solution


check.backward_order_of(backward_order_of)

# %% [markdown]
# **Exercise 3: undo broadcasting.** NumPy repeats small arrays to fit large ones: a row of shape
# `(3,)` or `(1, 3)` can be added to a matrix of shape `(4, 3)`, a column of shape `(4, 1)` too. On
# the way back the gradient at the result has the large shape, but the gradient of the small array
# must have the small one. Write the function that takes it there. (`add_row` in section 4 did it
# for one case. NumPy aligns shapes at their *ends*: missing axes are added in front.)


# %%
def unbroadcast(gradient, shape):
    # solution
    # student: # from gradient.shape to shape; sum has the arguments axis and keepdims
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra)))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1)
    return gradient.sum(axis=stretched, keepdims=True)
    # end solution


check.unbroadcast(unbroadcast)

# %% [markdown]
# **Exercise 4: the culprit.** A colleague added three operations, and since then the training is a
# little worse. One of them has a wrong `backward`. Use `check_gradients` to find it.


# %%
def cube(x):
    return record(x.data**3, (x,), lambda g: (g * 3 * x.data**2,), "cube")


def swish(x):  # x / (1 + e^-x)
    s = 1 / (1 + np.exp(-x.data))
    return record(x.data * s, (x,), lambda g: (g * s * (1 + x.data * s),), "swish")


def gaussian(x):  # e^(-x^2)
    y = np.exp(-(x.data**2))
    return record(y, (x,), lambda g: (g * y * -2 * x.data,), "gaussian")


# solution
# student: culprit = ...  # "cube", "swish" or "gaussian"
v = Tensor(np.linspace(-2, 2, 7), requires_grad=True)
for operation in (cube, swish, gaussian):
    print(operation.__name__)
    print(check_gradients(lambda f=operation: f(v).sum(), {"v": v}, raises=False))
culprit = "swish"
# end solution

check.culprit(culprit)

# %% [markdown] tags=["solution"]
# With $s = 1 / (1 + e^{-x})$ the slope of $s$ is $s (1 - s)$. So the slope of $x s$ is
# $s + x s (1 - s) = s\,(1 + x (1 - s))$; the colleague wrote $x s$ in place of $x (1 - s)$.

# %% [markdown]
# ## Further reading
#
# - D. E. Rumelhart, G. E. Hinton and R. J. Williams, *Learning representations by back-propagating
#   errors*, Nature 323, 1986: two pages that made the method known.
# - A. G. Baydin, B. A. Pearlmutter, A. A. Radul and J. M. Siskind, *Automatic Differentiation in
#   Machine Learning: a Survey*, JMLR 18(153), 2018: where it comes from, and the other ways.
# - `minifbi/autograd/tensor.py`, the file behind section 5. Having read this notebook, you can read
#   it from top to bottom.
#
# Next: [2. Convolution three ways](02_convolution_three_ways.ipynb).
