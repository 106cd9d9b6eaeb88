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
# # 11. Build your own: images, a layer, a rule
#
# So far you have used what minifbi brings. Sooner or later you will want something that it does not
# have: your own pictures, a layer from a paper that you just read, a relevance rule that nobody has
# tried. Here you build one of each, and, what matters more, you find out whether they are right.
#
# You will be able to
#
# 1. turn a folder of pictures into a data set, and train on it,
# 2. write a layer with its four methods: forward, relevance, and the way back through each,
# 3. test such a layer so that no typical mistake gets through,
# 4. write a layer with a smooth activation function, where the four methods are not enough,
# 5. write a relevance rule, draw heatmaps with it, and train with it in the FBI loss.
#
# You need notebook 4 ([relevance](04_relevance.ipynb)) and notebook 5 ([the FBI
# loss](05_the_fbi_loss.ipynb)). It takes about 30 minutes.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer images; for a quick run

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY = "#1f77b4", "#c0392b", "#666666"

# %% [markdown]
# ## 1. Images of your own
#
# Most people have their pictures in a folder, one subfolder for each class. We have none at hand,
# so we draw some: four shapes, each in a random place, size, colour and turn. (Replace this cell by
# your own folder whenever you like; all that follows stays as it is.) Pillow, the image library
# under matplotlib, draws and writes them. They are drawn four times too large and then shrunk,
# which makes their edges soft, as in a photograph.

# %%
SHAPES = ("circle", "square", "triangle", "cross")
SIZE = 28  # rows and columns of a picture
EACH = 300 if FAST else 600  # pictures of each class


def corners(center, radius, angles):
    """Points on a circle, as (x, y) pairs."""
    return [(center[0] + radius * np.cos(a), center[1] + radius * np.sin(a)) for a in angles]


def draw(shape, rng):
    """A picture of one shape: random place, size, colour and turn, on black."""
    large = 4 * SIZE
    picture = Image.new("RGB", (large, large))
    pen = ImageDraw.Draw(picture)
    radius = 4 * rng.uniform(5, 9)
    center = rng.uniform(radius, large - radius, size=2)
    color = tuple(int(value) for value in rng.integers(90, 256, size=3))
    turn = rng.uniform(0, 2 * np.pi)
    if shape == "circle":
        pen.ellipse([*(center - radius), *(center + radius)], fill=color)
    elif shape == "cross":
        for a in (turn, turn + np.pi / 2):  # two bars
            ends = a + np.array([-0.25, 0.25, np.pi - 0.25, np.pi + 0.25])
            pen.polygon(corners(center, radius, ends), fill=color)
    else:
        sides = {"triangle": 3, "square": 4}[shape]
        angles = turn + 2 * np.pi * np.arange(sides) / sides
        pen.polygon(corners(center, radius, angles), fill=color)
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


place = tempfile.TemporaryDirectory()  # it goes when the notebook is closed
folder = Path(place.name) / "shapes"
rng = np.random.default_rng(0)
for shape in SHAPES:
    (folder / shape).mkdir(parents=True)
    for number in range(EACH):
        draw(shape, rng).save(folder / shape / f"{number:04d}.png")

for shape in SHAPES:
    files = sorted((folder / shape).glob("*.png"))
    print(f"shapes/{shape}: {len(files)} files, {files[0].name} to {files[-1].name}")

# %% [markdown]
# Now the way back, from files to arrays. minifbi wants images as $(N, C, H, W)$: which image, which
# channel (here red, green, blue), which row, which column. A picture file has the channels *last*,
# so the axes must be put in another order. The numbers may stay what they are in the file, whole
# numbers from 0 to 255 (dtype `uint8`); they are divided by 255 when they are used.


# %%
def read_folder(folder, size):
    """Images (N, 3, size, size) of uint8, labels (N,), and the names of the classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, name in enumerate(names):
        for path in sorted((folder / name).glob("*.png")):
            with Image.open(path) as picture:
                small = picture.convert("RGB").resize((size, size))
                images.append(np.asarray(small).transpose(2, 0, 1))  # (H, W, C) to (C, H, W)
            labels.append(label)
    return np.stack(images), np.array(labels), names


images, labels, names = read_folder(folder, SIZE)
print("images", images.shape, images.dtype, "from", images.min(), "to", images.max())
print("classes", names)

# %% [markdown]
# A data set has three parts: *training*, from which the network learns; *validation*, by which you
# make choices (and by which the gate of the paper opens); and *test*, at which you look once, at
# the end. The files are sorted by class, so they must be shuffled before they are cut. `Split`
# checks what it is given, and says what is wrong:

# %%
from minifbi.datasets import Dataset, Split
from minifbi.errors import DataError

try:
    Split.from_arrays(images / 128, labels, num_classes=4, name="shapes")
except DataError as error:
    print(error)

# %%
order = np.random.default_rng(1).permutation(len(images))
cuts = [int(0.7 * len(order)), int(0.85 * len(order))]
parts = [
    Split.from_arrays(images[chosen], labels[chosen], num_classes=len(names), name="shapes")
    for chosen in np.split(order, cuts)
]
shapes = Dataset("shapes", *parts, num_classes=len(names), class_names=tuple(names))
print(shapes.train, shapes.validation, shapes.test, sep="\n")

# %% tags=["hide-input"]
fig, axes = plt.subplots(4, 10, figsize=(9, 3.9), layout="constrained")
for label, row in enumerate(axes):
    shown = np.flatnonzero(shapes.train.labels == label)[:10]
    for ax, picture in zip(row, shapes.train.images[shown], strict=True):
        ax.imshow(picture.transpose(1, 2, 0))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(names[label])
plt.show()

# %% [markdown]
# A network for them: three convolutions with pooling, two dense layers. The activation function is
# left open, since we want to change it soon: `activation` gets the number of channels and returns a
# layer.

# %%
from minifbi.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential


def shape_net(activation, seed=0, backend="auto", dtype=np.float32):
    """A small CNN for 28 x 28 colour pictures of four classes."""
    options = {"rng": np.random.default_rng(seed), "backend": backend, "dtype": dtype}
    return Sequential(
        {
            "conv1": Conv2d(3, 8, 5, padding=2, **options),
            "act1": activation(8),
            "pool1": MaxPool2d(2),
            "conv2": Conv2d(8, 16, 5, padding=2, **options),
            "act2": activation(16),
            "pool2": MaxPool2d(2),
            "conv3": Conv2d(16, 16, 3, padding=1, **options),
            "act3": activation(16),
            "pool3": MaxPool2d(2),
            "flatten": Flatten(),
            "dense4": Dense(16 * 3 * 3, 32, **options),
            "act4": activation(32),
            "dense5": Dense(32, 4, **options),
        }
    )


# %% [markdown]
# And the trainer, conventionally first: `fbi_weight=0` means the task loss alone.

# %%
from minifbi.training import TrainConfig, Trainer, evaluate

EPOCHS = 6 if FAST else 8


def train(model, **options):
    """Train on the shapes; print the accuracies; return the trainer."""
    config = TrainConfig(num_classes=4, epochs=EPOCHS, batch_size=32, lr=2e-3, **options)
    trainer = Trainer(config, shapes, model=model)
    accuracies = [trainer.run_epoch()["val_accuracy"] for _ in range(EPOCHS)]
    print("validation accuracy, epoch by epoch:", " ".join(f"{a:.3f}" for a in accuracies))
    print(f"test accuracy {evaluate(model, shapes.test)[0]:.3f}")
    return trainer


plain = train(shape_net(lambda channels: ReLU()), fbi_weight=0.0)

# %% [markdown]
# ## 2. A layer of your own
#
# The ReLU silences everything negative. The *leaky* ReLU lets a part of it through:
#
# $$z = f(x) = \begin{cases} x & \text{if } x > 0 \\ p\,x & \text{otherwise} \end{cases}$$
#
# with a slope $p$, say 1/4. minifbi has no such layer. What does it take to write one? With the
# *factor* $s = 1$ where $x > 0$, and $s = p$ elsewhere, the layer is $z = s\,x$, and the four
# methods follow one by one.
#
# **`forward`** is the formula.
#
# **`backward`** is the chain rule. It gets the gradient at the output, $G = \partial L/\partial z$,
# and returns the gradient at the input, $\partial L/\partial x = s\,G$.
#
# **`relevance`** is Eq. (2) for this layer. Each output has just one input, so that input gets all
# of its relevance: $R_\text{in} = R_\text{out}$. What travels in minifbi is the *ratio* of
# relevance to activation ([notebook 4](04_relevance.ipynb)), $R_\text{in} = x\,r_\text{in}$ and
# $R_\text{out} = z\,r_\text{out}$. From $x\,r_\text{in} = s\,x\,r_\text{out}$ we read off
#
# $$r_\text{in} = s\,r_\text{out} .$$
#
# **`jvp`** serves the way back through the relevance pass, the chain rule for the line above. Keep
# the layer's choices (here: which units are positive), and it is a linear map $J$, here "times
# $s$". The line above is $r_\text{in} = J^\top r_\text{out}$, and so, as for every linear map, the
# gradient $u = \partial L/\partial r_\text{in}$ goes back through the transpose of $J^\top$, which
# is $J$ itself: $\partial L/\partial r_\text{out} = J\,u$. That is the forward map once more, for
# $u$ in the place of $x$ and with the choices of before; here $s\,u$. (Its name is short for
# *Jacobian-vector product*.) As a class:

# %%
from minifbi.errors import ShapeError
from minifbi.layers import Layer


class LeakyReLU(Layer):
    """x where x > 0, slope * x elsewhere."""

    def __init__(self, slope=0.25):
        super().__init__()
        self.slope = slope

    def __repr__(self):
        return f"LeakyReLU({self.slope})"

    def forward(self, backend, x):
        factor = backend.xp.where(x > 0, x.dtype.type(1), x.dtype.type(self.slope))
        return x * factor, (factor,)  # the output, and what the other methods need

    def backward(self, backend, grad, saved, needs_x):
        return (grad * saved[0],)

    def relevance(self, backend, ratio, saved):
        return ratio * saved[0]

    def jvp(self, backend, u, saved):
        return u * saved[0]


# %% [markdown]
# **With a slope that is trained.** The *parametric* ReLU (He et al. 2015) learns how much to let
# through: each channel $c$ has a slope $p_c$ of its own, which starts at 1/4 and is trained like a
# weight. The factor $s$ now holds $p_c$; `relevance` and `jvp` stay as they are. What is new is
# that gradients must reach the slopes, too.
#
# `backward` returns the gradients at everything that went in, the slopes included. At one unit,
# $\partial z/\partial p_c = x$ where $x \le 0$ (and 0 elsewhere). All units of a channel share one
# $p_c$, so their gradients add up:
#
# $$\frac{\partial L}{\partial x} = s\,G , \qquad
#   \frac{\partial L}{\partial p_c} = \sum_{\text{units of } c,\; x \le 0} x\,G .$$
#
# And the relevance pass? In $r_\text{in} = s\,r_\text{out}$ there are two things that a gradient
# must reach: $r_\text{out}$, for which `jvp` is enough, and, inside of $s$, the slope. So a layer
# with parameters writes the whole way back, **`relevance_backward`**, which returns both:
#
# $$\frac{\partial L}{\partial r_\text{out}} = s\,u , \qquad
#   \frac{\partial L}{\partial p_c} = \sum_{\text{units of } c,\; x \le 0} r_\text{out}\,u .$$
#
# The second is the same sum as before, with the ratio in the place of $x$ and $u$ in the place of
# $G$. So the slope gets two gradients, one through each pass, and the tape adds them. (A layer
# without parameters inherits a `relevance_backward` that calls `jvp`. Convolution and dense layers
# inherit another, which also finds the gradient at their weights: it is the code of [notebook
# 5](05_the_fbi_loss.ipynb), in `minifbi/layers/linear.py`.)


# %%
class PReLU(LeakyReLU):
    """x where x > 0, slope * x elsewhere, with one slope for each channel, which is trained."""

    def __init__(self, channels, slope=0.25, *, backend="auto", dtype=np.float32):
        super().__init__(slope)
        self.slope = self.add_parameter("slope", np.full(channels, slope), backend, dtype)

    def __repr__(self):
        return f"PReLU({self.slope.size})"

    def check_input(self, shape):
        if len(shape) < 2 or shape[1] != self.slope.size:
            raise ShapeError(
                f"PReLU got an input of shape {shape}, expected (N, {self.slope.size}, ...)"
            )

    def forward(self, backend, x, slope):
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))  # (C,) or (C, 1, 1)
        factor = backend.xp.where(x > 0, x.dtype.type(1), slope)
        return x * factor, (factor, x)

    def backward(self, backend, grad, saved, needs_x):
        factor, x = saved
        return grad * factor, per_channel(grad * x * (x <= 0))

    def relevance_backward(self, backend, grad, ratio, saved):
        _, x = saved
        return self.jvp(backend, grad, saved), per_channel(grad * ratio * (x <= 0))


def per_channel(values):
    """Sum over all but the channels: (N, C, ...) to (C,)."""
    return values.sum(axis=(0, *range(2, values.ndim)))


# %% [markdown]
# Some customs of the house:
#
# - The methods get and return plain arrays, not tensors. `Layer` puts them on the tape.
# - `forward` gets the parameters after `x`, in the order in which they were registered, and the two
#   backward methods return a gradient for each, in that order.
# - What `forward` wants to remember it *returns* (as `saved`) and never keeps in `self`. So one
#   layer can be used twice in a net.
# - `needs_x` is False if nobody will use the gradient at $x$, as in the first layer. A layer may
#   then save the work; ours ignores it.
# - The array library is `backend.xp`: NumPy here, CuPy on a GPU. And the arrays keep their dtype;
#   that is why the 1 in `where` is made of `x.dtype`.
# - Two switches say how a layer takes part in the loss. `functional = True`: it is one of the $K$
#   layers of Eq. (3). `proportional = True`: it shares relevance out by the parts of a sum, so that
#   rules like LRP-epsilon act there. Our layers are neither.
#
# ## 3. Is it right?
#
# A wrong layer often trains quite well, so training proves nothing. Three tests do, in a small net
# of float64 numbers.

# %%
from minifbi import (
    Tensor,
    check_gradients,
    fbi_loss,
    fbi_terms,
    forward_pass,
    objective,
    relevance_pass,
)
from minifbi.autograd import cross_entropy


def small_net(activation):
    """Two convolutions and a dense layer in float64, with random biases."""
    rng = np.random.default_rng(5)
    options = {"rng": rng, "backend": "numpy", "dtype": np.float64}
    model = Sequential(
        {
            "conv1": Conv2d(1, 3, 3, padding=1, **options),
            "act1": activation(3),
            "conv2": Conv2d(3, 2, 3, **options),
            "act2": activation(2),
            "flatten": Flatten(),
            "dense3": Dense(2 * 4 * 4, 4, **options),
        }
    )
    state = model.state_dict()
    for name in state:
        if name.endswith("bias"):
            state[name] = 0.3 * rng.standard_normal(state[name].shape)
    model.load_state_dict(state)
    return model


few = np.random.default_rng(6).random((4, 1, 6, 6))
few_labels = np.array([0, 1, 2, 3])


def prelu64(channels):
    return PReLU(channels, backend="numpy", dtype=np.float64)


net, leaky = small_net(prelu64), small_net(lambda channels: LeakyReLU())


# %% [markdown]
# **The forward method**, against the formula, written in another way:

# %%
steps = forward_pass(net, few)
before, after = steps[1].x.numpy(), steps[1].z.numpy()
np.testing.assert_allclose(after, np.maximum(before, 0) + 0.25 * np.minimum(before, 0))
print(f"forward: as in the formula, at {before.size} numbers, {np.mean(before < 0):.0%} negative")

# %% [markdown]
# **The relevance method.** What do we know about the relevance of this layer without having
# computed it? Notebook 4 proved that LRP-0 is activation times gradient wherever $f(z) = z\,f'(z)$.
# A PReLU satisfies that. So we need not trust our derivation: the tape's own gradient tells what
# must come out.

# %%
image = Tensor(few, requires_grad=True)
steps = forward_pass(net, image)
steps[-1].z[np.arange(4), few_labels].sum().backward()
relevance = relevance_pass(steps, "target", few_labels)["conv1"].numpy()
difference = np.abs(relevance - few * image.grad).max()
print(f"relevance: largest |value| {np.abs(relevance).max():.3f}, off by {difference:.1e}")
np.testing.assert_allclose(relevance, few * image.grad, atol=1e-12)

# %% [markdown]
# **Both ways back, in the double pass.** The gradient checker nudges the parameters in random
# directions and looks how the loss really changes. The loss is Eq. (4), so its gradient goes
# through the forward and through the relevance pass: all four methods take part.


# %%
def eq4(model, rule="zero"):
    """L of Eq. (4) with lambda = 1/2."""
    steps = forward_pass(model, few)
    relevances = relevance_pass(steps, "target", few_labels, rule=rule)
    task = cross_entropy(steps[-1].z, few_labels)
    return objective(task, fbi_loss(fbi_terms(steps, relevances)), fbi_weight=0.5)


for title, model in (("LeakyReLU", leaky), ("PReLU", net)):
    print(title, check_gradients(lambda model=model: eq4(model), model.parameters()), sep="\n")

# %% [markdown]
# To see that the third test is needed, look at the mistake that everybody makes once: to forget
# that the slope also acts in the relevance pass. The first two tests cannot notice, and nor can the
# checker if one only checks the task loss.


# %%
class ForgetfulPReLU(PReLU):
    """Forgets the slope on the way back through the relevance pass."""

    def relevance_backward(self, backend, grad, ratio, saved):
        return self.jvp(backend, grad, saved), None


wrong = small_net(lambda channels: ForgetfulPReLU(channels, backend="numpy", dtype=np.float64))


def task_alone():
    return cross_entropy(wrong(few), few_labels)


def both_passes():
    return eq4(wrong)


for what, loss in (("task loss alone", task_alone), ("Eq. (4)", both_passes)):
    report = check_gradients(loss, wrong.parameters(), raises=False)
    print(f"{what}: wrong are {', '.join(report.wrong) or 'none'}")

# %% [markdown]
# Now it may be trained, with the FBI loss this time. (We take $\lambda = 0.01$, ten times the
# paper's, so that its effect can be seen in so small a net.) The slopes are parameters like all
# others: the optimiser finds them by itself, and they are saved with the weights.

# %%
own = train(shape_net(PReLU), fbi_weight=0.01)
print(f"the FBI loss joined after step {own.gate.step}")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 2.7), layout="constrained")
slopes = {n: p.numpy() for n, p in own.model.parameters().items() if n.endswith("slope")}
for k, values in enumerate(slopes.values()):
    spread = k + np.linspace(-0.25, 0.25, len(values))
    ax.plot(spread, np.sort(values), "o", color=BLUE, markersize=4)
ax.axhline(0.25, color=RED, lw=1.2, ls="--")
ax.text(3.4, 0.25, "start", color=RED, va="bottom", ha="right")
ax.axhline(0, color=GREY, lw=0.8)
ax.set_xticks(range(len(slopes)), list(slopes))
ax.set(ylabel="slope $p_c$", title="the slopes after training: one dot for each channel, sorted")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## 4. Where four methods are not enough
#
# Many recent networks use smooth activation functions. The SiLU (Elfwing et al. 2018), also called
# *swish*, is $f(x) = x\,\sigma(x)$ with the logistic function $\sigma(x) = 1/(1 + e^{-x})$. For its
# relevance the reasoning of section 2 still holds: one input takes all, and $z = \sigma(x)\,x$, so
# $r_\text{in} = \sigma(x)\,r_\text{out}$.
#
# But there is a difference. In a PReLU the factor $s$ is a step function of $x$: constant almost
# everywhere. Here the factor $\sigma(x)$ changes with $x$, so the relevance pass depends on $x$ in
# a new way, and a gradient must flow from it to $x$ as well. Yet `relevance_backward` returns
# gradients at the ratio and at the parameters, and has no place for $x$.
#
# The way out is to leave the four methods aside and to let the tape do the work. A layer's `trace`
# returns a `Step`, which knows the layer's input and output, and how to carry a ratio back. If both
# are written with tensors, all gradients come by themselves:

# %%
from minifbi.layers import Step


class SiLU(Layer):
    """x * sigma(x), written on the tape."""

    def __repr__(self):
        return "SiLU()"

    def trace(self, x, name=""):
        gate = 1 / (1 + (-x).exp())
        return [SiLUStep(name or "silu", self, (x,), x * gate, saved=gate)]


class SiLUStep(Step):
    """A SiLU at work."""

    def relevance(self, ratio):
        return ratio * self.saved


smooth = small_net(lambda channels: SiLU())
print(check_gradients(lambda: eq4(smooth), smooth.parameters()))

# %% [markdown]
# Twelve lines, and no derivative. It costs time, since the tape keeps every intermediate array, but
# it is the way to try an idea. You can also use it as an oracle, when you write the four methods of
# a layer for speed: both must give the same numbers.
#
# And does relevance still equal activation times gradient? Notebook 4 says: not for a function with
# $f(x) \ne x\,f'(x)$.

# %%
for title, model in (("PReLU", net), ("SiLU", smooth)):
    image = Tensor(few, requires_grad=True)
    steps = forward_pass(model, image)
    steps[-1].z[np.arange(4), few_labels].sum().backward()
    relevance = relevance_pass(steps, "target", few_labels)["conv1"].numpy()
    difference = np.abs(relevance - few * image.grad).max()
    print(f"{title}: largest |relevance - pixel x gradient| = {difference:.1e}")

# %% [markdown]
# ## 5. A rule of your own
#
# A *rule* says how an output shares its relevance among its inputs. With the contributions $c_{ji}
# = W_{ji}\,x_i$, LRP-0 gives input $i$ the share $c_{ji}/z_j$. Where contributions of both signs
# nearly cancel, $z_j$ is small and the shares are large: the noise of LRP-0. Here is an idea to
# tame it: share by the *size* of the contributions, whatever their sign,
#
# $$R_i = \sum_j \frac{|c_{ji}|}{\sum_{i'} |c_{ji'}|}\, R_j .$$
#
# Shares are now between 0 and 1, and they sum to 1: relevance is conserved, the bias gets nothing.
# (Vukadin et al. 2024 build on this idea.) What do you expect of its heatmaps? Think of it before
# you see them. A share cannot be negative any more ...
#
# To write it for minifbi, we need it as a ratio, $R_i = x_i\,r_i$. Let $t_j = \sum_{i'} |c_{ji'}|$
# be the sum that divides, and $s_j = R_j/t_j$ the relevance for each unit of it. From $|c_{ji}| =
# |W_{ji}|\,|x_i|$ and $|x_i| = x_i \operatorname{sign} x_i$ we get
#
# $$r_i = \operatorname{sign}(x_i) \sum_j |W_{ji}|\, s_j .$$
#
# Both sums are the layer's own linear maps, forward and transposed, with other weights: $|W|$ in
# the place of $W$. `LinearMap` offers just that, for a dense layer and for a convolution alike. A
# rule is a class whose `__call__` turns what arrives at the output of a step into what arrives at
# its input:

# %%
from dataclasses import dataclass

from minifbi.autograd.functions import where
from minifbi.rules import Flow, Rule
from minifbi.rules.flow import share
from minifbi.rules.linear import LinearMap


@dataclass(frozen=True)
class Absolute(Rule):
    """Share by the size of the contributions."""

    def __str__(self):
        return "absolute"

    def __call__(self, step, flow, book=None):
        layer = LinearMap(step)
        size = layer.weight.abs()
        total = layer.forward(step.x.abs(), size)  # t_j, in the shape of the output
        s = share(flow, step.z, total, book=book)  # R_j / t_j, with 0/0 = 0
        ratio = layer.transpose(s, size)
        return Flow(where(step.x.data >= 0, ratio, -ratio))


# %% [markdown]
# `flow` is what arrives. It holds either a ratio or (from rules that also give relevance to inputs
# that are 0) the relevance itself; `share` treats both. `book` is where a rule writes down what it
# did not pass on; we hand it through. Everything is written with tensors, so here, too, nobody has
# to derive a gradient.
#
# **First by hand.** One unit with the contributions 6, −5, 1 and 0, as in notebook 4. Its output is
# 2, the sizes sum to 12. So a sixth of each size, before you run the cell: 1, ...?

# %% tags=["own-rule-one-unit"]
one = Sequential({"unit": Dense(4, 1, bias=False, dtype=np.float64)})
one.load_state_dict({"unit.weight": np.array([[10.0, -5.0, 5.0, -15.0]])})
one_step = forward_pass(one, np.array([[0.6, 1.0, 0.2, 0.0]]))
for rule in ("zero", Absolute()):
    shares = relevance_pass(one_step, "logits", rule=rule)["unit"].numpy()[0]
    print(f"{rule!s:9s} {shares.round(3)}  sum {shares.sum():g}")

# %% [markdown]
# **Then in nets**: is relevance conserved, as the formula says, and are the gradients of the FBI
# loss right when relevance follows this rule? Both nets of section 3 and 4 serve, the smooth one
# too.

# %%
from minifbi.explain import conservation_report

for title, model in (("PReLU", net), ("SiLU", smooth)):
    report = conservation_report(model, few, few_labels, rule=Absolute())
    lost = max(np.abs(layer.above - layer.below).max() for layer in report.layers)
    print(f"{title}: largest loss of relevance in a layer {lost:.1e}")
    checked = check_gradients(lambda model=model: eq4(model, Absolute()), model.parameters())
    print(f"       largest error of a gradient {max(checked.errors.values()):.1e}")

# %% [markdown]
# **Heatmaps.** The explainer `LRP` takes a rule as an object. We ask the ReLU net of section 1
# about four test images: why did it choose its class? And what speaks for the runner-up, its second
# choice?

# %%
from minifbi.explain import LRP

tested, tested_labels = shapes.test.batch(slice(0, 100))
logits = plain.model(tested).numpy()
second = np.argsort(logits, axis=1)[:, -2]
right = logits.argmax(axis=1) == tested_labels
chosen = [int(np.argmax((tested_labels == c) * (1 + right))) for c in range(4)]  # one a class
explainers = {
    "LRP-0": LRP("zero"),
    "epsilon": LRP("epsilon:0.25"),
    "gamma": LRP("gamma"),
    "absolute": LRP(Absolute()),
}

# %% tags=["hide-input", "own-rule-heatmaps"]
asked = np.concatenate([tested_labels[chosen], second[chosen]])
pictures = tested[chosen + chosen]
heatmaps = {n: e(plain.model, pictures, asked).sum(axis=1) for n, e in explainers.items()}
fig, axes = plt.subplots(5, 8, figsize=(10, 6.6), layout="constrained")
for column, (picture, class_) in enumerate(zip(pictures, asked, strict=True)):
    axes[0, column].imshow(picture.transpose(1, 2, 0))
    axes[0, column].set_title(f"{names[class_]}?", size=10, loc="center")
    for ax, found in zip(axes[1:, column], heatmaps.values(), strict=True):
        limit = np.abs(found[column]).max() or 1.0
        ax.imshow(found[column], cmap="RdBu_r", vmin=-limit, vmax=limit)
for ax, name in zip(axes[:, 0], ("image", *heatmaps), strict=True):
    ax.set_ylabel(name)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.suptitle("left: why its class?   right: what speaks for the runner-up?", size=11)
plt.show()

# %% [markdown]
# (Red speaks for the class, blue against it, white is 0; each map has its own range. The black
# background gets nothing, by each of these rules, because it is 0.)
#
# The maps of the new rule are calm, and show the whole shape. Are they better? Compare left and
# right: the same image, and another question. An explanation of *this class* should change with the
# class. As in notebook 4, we let numbers speak: how much of a map is negative, and the correlation
# of the two maps of an image, over those of the first 100 test images that the net gets right.

# %% tags=["own-rule-sensitivity"]
images_right, labels_right = tested[right], tested_labels[right]
print(f"{'rule':10s} negative part   correlation of two classes")
for name, explainer in explainers.items():
    maps = [explainer(plain.model, images_right, c) for c in (labels_right, second[right])]
    negative = np.maximum(-maps[0], 0).sum() / np.abs(maps[0]).sum()
    pairs = zip(*maps, strict=True)
    alike = np.mean([abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs])
    print(f"{name:10s} {negative:13.2f} {alike:28.2f}")

# %% [markdown]
# (We take the correlation without its sign: a map and its negative show the same place.)
#
# Sharing by size cannot tell "for" from "against": what comes out is where the net looks, hardly
# why it decides. A negative result, and a useful one: the picture alone would have sold the rule.
# Others that mix the signs have the same weakness (Sixt et al. 2020).
#
# ## 6. All together: train with your rule
#
# A rule under a name is available everywhere a name is asked for: in the configuration of a
# training run, and so in the FBI loss. `RULES` maps names to what builds a *composite*, which gives
# each kind of layer its rule; `Composite.uniform` takes one for all.

# %%
from minifbi.rules import RULES, Composite

RULES["absolute"] = lambda: Composite.uniform(Absolute())

own_rule = train(shape_net(PReLU), fbi_weight=0.01, fbi_rule="absolute")

# %% [markdown]
# Your images, through your layer, in a loss made of your rule. Did the rule change anything? For a
# fair comparison we need the same net without the FBI loss too. And we measure each net by each
# rule: $L_{FBI}$ with LRP-0 and with the new rule, beside the plain size of the activations, summed
# and averaged in the same way, which knows no relevance at all.

# %% tags=["own-rule-trained"]
without = train(shape_net(PReLU), fbi_weight=0.0)
runs = {"without FBI": without, "FBI, LRP-0": own, "FBI, absolute": own_rule}
print(f"\n{'trained':14s} {'test accuracy':>13s} {'L_FBI':>9s} {'L_FBI':>9s} {'size of':>12s}")
print(f"{'':28s} {'LRP-0':>9s} {'absolute':>9s} {'activations':>12s}")
for title, trainer in runs.items():
    steps = forward_pass(trainer.model, tested)
    losses = [
        fbi_loss(fbi_terms(steps, relevance_pass(steps, "target", tested_labels, rule=rule)))
        for rule in ("zero", "absolute")
    ]
    sizes = [np.abs(s.x.numpy()).sum() / len(tested) for s in steps if s.layer.functional]
    accuracy = evaluate(trainer.model, shapes.test)[0]
    numbers = " ".join(f"{loss.item():9.2f}" for loss in losses)
    print(f"{title:14s} {accuracy:13.3f} {numbers} {np.mean(sizes):12.2f}")

# %% [markdown]
# Compare the lines first: the FBI loss, by either rule, made the activations smaller. Then compare
# the columns within a line. The two losses are nearly the same, and not far from the third number!
# In a trained net most relevance is small against the activation, so that $|a^+ - a^-|$ is close to
# $|a^+|$, here a little less: the price is near 1, as you saw in
# [notebook 5](05_the_fbi_loss.ipynb). So it hardly matters by which rule the
# relevance is made, and your rule, which draws quite other heatmaps, trains nearly the same net.
# That is worth knowing before one spends a month on rules for this loss.
#
# (One seed and one small data set prove little. What it takes before one may say "better" is the
# subject of [notebook 8](08_is_it_more_interpretable.ipynb).)
#
# One more look at your own net: what does it say to pictures that belong to *none* of its classes?

# %% tags=["hide-input", "strangers"]
strangers = {}
for title, sides, step in (("hexagon", 6, 1), ("star", 5, 2)):
    picture = Image.new("RGB", (112, 112))
    angles = -np.pi / 2 + 2 * np.pi * np.arange(sides) * step / sides
    ImageDraw.Draw(picture).polygon(corners((56, 56), 32, angles), fill=(200, 200, 90))
    strangers[title] = picture
picture = Image.new("RGB", (112, 112))
ImageDraw.Draw(picture).ellipse((24, 24, 88, 88), outline=(200, 200, 90), width=8)
strangers["ring"] = picture
strangers["nothing"] = Image.new("RGB", (112, 112))
batch = np.stack(
    [np.asarray(p.resize((SIZE, SIZE), Image.Resampling.BOX)) for p in strangers.values()]
)
batch = (batch.transpose(0, 3, 1, 2) / 255).astype(np.float32)
scores = np.exp(own_rule.model(batch).numpy())
scores /= scores.sum(axis=1, keepdims=True)  # the softmax: probabilities of the four classes
fig, axes = plt.subplots(1, 4, figsize=(8, 2.4), layout="constrained")
for ax, title, picture, probability in zip(axes, strangers, batch, scores, strict=True):
    ax.imshow(picture.transpose(1, 2, 0))
    best = int(probability.argmax())
    ax.set_title(f"{title}:\n{names[best]}, {probability[best]:.0%}", size=10)
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# It has only four words, so it uses them, even for nothing at all. A heatmap of such an answer
# looks no less convincing than any other. Whoever brings own images should also bring some that do
# not belong.
#
# ## What you learnt
#
# - Images become a `Dataset` as arrays $(N, C, H, W)$, shuffled and cut into three parts; `Split`
#   checks them.
# - A layer is four methods: `forward`, `backward`, `relevance`, and `jvp`, the forward map once
#   more, from which the way back through the relevance pass follows. Derive the relevance from
#   "each input gets the share that it contributed", written for the ratio.
# - With parameters, `relevance_backward` takes the place of `jvp`. Both ways back must reach
#   everything that the pass before them uses.
# - Test the forward pass against another formula, the relevance against activation times gradient
#   where that holds, and the gradients in the double pass. Training well proves nothing.
# - Where relevance depends smoothly on the input, write the layer on the tape, with a `Step` of its
#   own.
# - A rule is a class that turns a flow at the output into a flow at the input; written with
#   tensors, it can be trained with. Whether it explains better is a question for measurements.
#
# ## Exercises
#
# Replace each `...`, run the cell, and read what the check says.
#
# **1. A layer with a gain.** The layer `Scale` multiplies each channel $c$ by a number $g_c$, its
# gain, which is trained: $z = g_c\,x$. Write its four methods; with a parameter, the fourth is
# `relevance_backward`. (`per_channel` sums over all but the channels; `wide` brings the gains into
# a shape that multiplies maps.)


# %% tags=["exercise"]
from checks import tutorial_11 as check


class Scale(Layer):
    """z = gain * x, with one gain for each channel."""

    def __init__(self, channels, gain=1.0, *, backend="auto", dtype=np.float32):
        super().__init__()
        self.gain = self.add_parameter("gain", np.full(channels, gain), backend, dtype)

    @staticmethod
    def wide(gain, x):
        """The gains (C,) in the shape (C, 1, 1) for maps, and (C,) for vectors."""
        return gain.reshape(-1, *[1] * (x.ndim - 2))

    def forward(self, backend, x, gain):
        # solution
        # student: # return the output, and a tuple of what you need below
        return x * self.wide(gain, x), (x, self.wide(gain, x))
        # end solution

    def backward(self, backend, grad, saved, needs_x):
        # solution
        # student: # return the gradients at x and at gain, for the gradient at the output
        x, gain = saved
        return grad * gain, per_channel(grad * x)
        # end solution

    def relevance(self, backend, ratio, saved):
        # solution
        # student: # return the ratio at the input, for the ratio at the output
        _, gain = saved
        return ratio * gain
        # end solution

    def relevance_backward(self, backend, grad, ratio, saved):
        # solution
        # student: # return the gradients at the ratio at the output and at gain
        _, gain = saved
        return grad * gain, per_channel(grad * ratio)
        # end solution


check.scale_layer(Scale)

# %% [markdown]
# **2. A rule with squares.** Share by the square of each contribution:
#
# $$R_i = \sum_j \frac{c_{ji}^2}{\sum_{i'} c_{ji'}^2}\, R_j , \qquad c_{ji} = W_{ji}\,x_i .$$
#
# Follow the class `Absolute`. Write $R_i = x_i\,r_i$ on paper first: how many factors $x_i$ are
# left in the ratio?


# %% tags=["exercise"]
@dataclass(frozen=True)
class Squares(Rule):
    """Share by the squares of the contributions."""

    def __call__(self, step, flow, book=None):
        # solution
        # student: # the linear map of the step; the squares of its weights; the sum that divides,
        # student: # and with it s: four lines, as in Absolute
        # student: ratio = ...  # at the input: R_i = x_i * ratio
        layer = LinearMap(step)
        squares = layer.weight**2
        total = layer.forward(step.x**2, squares)
        s = share(flow, step.z, total, book=book)
        ratio = step.x * layer.transpose(s, squares)
        # end solution
        return Flow(ratio)


check.squares_rule(Squares)

# %% [markdown]
# **3. Photographs.** A camera gave you pictures of shape $(N, H, W, 3)$, with whole numbers from 0
# to
# 255. Return them as *grey* images that `Split.from_arrays` accepts: floats from 0 to 1, of shape
# $(N, 1, H, W)$, where grey is the mean of the three colours.


# %% tags=["exercise"]
def to_grey(photos):
    """Photos (N, H, W, 3) of uint8 as grey images (N, 1, H, W), floats in [0, 1]."""
    # solution
    # student: return ...
    return photos.mean(axis=3)[:, None] / 255
    # end solution


check.to_grey(to_grey)

# %% [markdown]
# **4. Twenty cups.** You photograph 20 cups and 20 glasses, each 50 times in a row while you walk
# around it: 2000 pictures. How do you cut them into training, validation and test?
#
# - `"a"`: shuffle the 2000 pictures and cut,
# - `"b"`: of each object, the first 35 pictures for training, the next 7 for validation, the last 8
#   for test,
# - `"c"`: 28 objects with all their pictures for training, 6 others for validation, the last 6 for
#   test.

# %% tags=["exercise"]
# solution
# student: split = ...
split = "c"
# end solution

check.cups(split)

# %% [markdown]
# **5. To think about.** With the rule `Absolute`, relevance at a hidden unit is positive whenever
# the logit is. Look at Eq. (3): what does the FBI loss ask of a unit of a PReLU that is negative?
# Is that what the authors of the loss had in mind?
#
# ## Further reading
#
# - K. He, X. Zhang, S. Ren and J. Sun, *Delving Deep into Rectifiers: Surpassing Human-Level
#   Performance on ImageNet Classification*, ICCV 2015: the PReLU.
# - S. Elfwing, E. Uchibe and K. Doya, *Sigmoid-Weighted Linear Units for Neural Network Function
#   Approximation in Reinforcement Learning*, Neural Networks 107, 2018: the SiLU.
# - D. Vukadin, P. Afrić, M. Šilić and G. Delač, *Advancing Attribution-Based Neural Network
#   Explainability through Relative Absolute Magnitude Layer-Wise Relevance Propagation and
#   Multi-Component Evaluation*, 2024: relevance by absolute size.
# - L. Sixt, M. Granz and T. Landgraf, *When Explanations Lie: Why Many Modified BP Attributions
#   Fail*, ICML 2020: why rules that mix the signs hardly see the class.
# - S. Lapuschkin, S. Wäldchen, A. Binder, G. Montavon, W. Samek and K.-R. Müller, *Unmasking Clever
#   Hans predictors and assessing what machines really learn*, Nature Communications 10, 2019: what
#   one finds in other people's images.
