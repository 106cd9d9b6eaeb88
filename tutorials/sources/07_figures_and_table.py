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
# # 7. The paper's figures and its table
#
# Yoo, Kim and Kang (2019) support their claims with three figures and one table. In this notebook
# you make all four again, from two networks that you train yourself, and look closely at what each
# of them can show.
#
# You will
#
# 1. train the pair that the paper compares: one network conventionally, one with the FBI loss,
# 2. draw Fig. 1, the scheme, and check its arithmetic,
# 3. draw Fig. 2, activation maps, and count what it shows,
# 4. meet an impostor: a network with other activations and the very same answers,
# 5. draw Fig. 3, densities, and learn what a density does with zeros,
# 6. compute every measure of Table 1 by hand, then make the table in every reading,
# 7. hold each claim of the paper against the numbers, yours and those of a larger run.
#
# You need [notebook 5](05_the_fbi_loss.ipynb) and [notebook 6](06_three_step_training.ipynb). It
# takes about 30 minutes.

# %%
import os
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import minifbi
import numpy as np
from IPython.display import Image, Markdown, display

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer images; for a quick run
COLORBLIND = True  # False: the colours of the paper, green to red, and blue and red

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, ORANGE, GREY = "#1f5fa8", "#d55e00", "#666666"


def panels(rows, columns, width, height, **options):
    """A row or grid of plots without the upper and the right edge."""
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
    )
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def screen(figure):
    """A figure in the size of a screen; as it comes it is meant for print."""
    figure.set_dpi(100)
    return figure


# The large run, which the authors of minifbi made with `python -m minifbi.reproduce`: five seeds,
# all images. It is committed beside the documentation and is only read here, where it is there.
PLACES = [Path("../docs"), Path("../../docs"), Path(minifbi.__file__).parent.parent / "docs"]
FULL = next((p / "reproduction" for p in PLACES if (p / "reproduction/values.csv").exists()), None)
print("the large run:", "found" if FULL else "not here, so its cells will say so and go on")

# %% [markdown]
# ## 1. The pair
#
# A comparison is worth what is held equal. The two networks get the same initial weights, the same
# images in the same order, the same optimiser; the one difference is $\lambda$ in Eq. (4), 0 or
# 0.001, once the gate is open. `with_method` makes such configurations from a common one: `"none"`
# is conventional training, `"fbi"` the paper's.

# %% tags=["the-pair"]
from minifbi import load_dataset
from minifbi.datasets import Dataset, Split
from minifbi.reproduce.experiments import with_method
from minifbi.training import TrainConfig, Trainer, evaluate

TRAIN, VALIDATION, TEST, EPOCHS = (3200, 300, 500, 3) if FAST else (9600, 500, 2000, 4)
mnist = load_dataset("mnist")


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
common = TrainConfig(epochs=EPOCHS, batch_size=64, gate_interval=10, seed=0)
NAMES = {"none": "conventional", "fbi": "FBI"}
trainers = {}
for method, name in NAMES.items():
    trainer = trainers[method] = Trainer(with_method(common, method), digits)
    for _ in range(EPOCHS):
        trainer.run_epoch()
    accuracy = evaluate(trainer.model, digits.test)[0]
    print(f"{name:13s} {trainer.step} updates, test accuracy {accuracy:.3f}")
models = {method: trainer.model for method, trainer in trainers.items()}

# %% [markdown]
# This is a small run: a few hundred updates on a part of MNIST, one seed. (If it is your first,
# Numba compiled its kernels, which took longer than the training.) Its numbers will differ from
# those of a long one, and we shall put the long one beside it wherever it matters.
#
# Is the pair as equal as we said? Until the gate opens, the two runs must agree to the last bit.

# %% tags=["until-the-gate"]
losses = {method: np.array(t.history["task_loss"]) for method, t in trainers.items()}
gate = trainers["fbi"].gate.step
equal = losses["none"] == losses["fbi"]
print("the gate opened after update", gate)
print("updates until then with exactly the same loss:", int(equal[:gate].sum()), "of", gate)
print("updates after it with exactly the same loss:  ", int(equal[gate + 1 :].sum()))
assert equal[:gate].all()

# %% tags=["hide-input"]
fig, axes = panels(1, 1, 8, 2.6)
ax = axes[0, 0]
for method, color in (("none", BLUE), ("fbi", ORANGE)):
    smooth = np.convolve(losses[method], np.ones(9) / 9, mode="valid")
    ax.plot(np.arange(len(smooth)) + 5, smooth, color=color, lw=1.4, label=NAMES[method])
ax.axvline(gate, color=GREY, lw=1, ls="--")
ax.text(gate, 1.7, "  the gate opens", color=GREY)
ax.set(xlabel="update", ylabel="task loss", yscale="log", title="mean of 9 updates")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 2. Fig. 1: the scheme
#
# The paper's first figure is a drawing of the three steps. minifbi draws it from a network, so that
# each number in it is real. Here is our FBI network with a test digit 7, the digit that the paper
# shows. Read it like this: the upper row goes to the right and is the forward pass (the mean over
# the channels of each map); the lower row goes to the left and is the relevance pass; the boxes
# between them are the terms of Eq. (3), and on the right they join the task loss, Eq. (4).

# %% tags=["figure-1"]
from minifbi.plots import example_image, plot_comparison, plot_densities, plot_scheme

seven, label = example_image(digits)  # the first 7 of the test images, and its class
screen(plot_scheme(models["fbi"], seven, label, colorblind=COLORBLIND))

# %% [markdown]
# Do its numbers fit together? With the passes of notebooks 4 and 5:

# %% tags=["figure-1-by-hand"]
from minifbi import fbi_terms, forward_pass, no_grad, relevance_pass
from minifbi.autograd import cross_entropy

with no_grad():
    steps = forward_pass(models["fbi"], seven[None])
    terms = fbi_terms(steps, relevance_pass(steps, "target", [label]))
    task = cross_entropy(steps[-1].z, [label]).item()
sizes = [term.item() for term in terms.values()]
L_fbi = sum(sizes) / len(sizes)  # Eq. (3)
print("terms", *(f"{size:.3g}" for size in sizes))
print(f"their mean, Eq. (3): {L_fbi:.3g}")
print(f"Eq. (4): 0.999 * {task:.3g} + 0.001 * {L_fbi:.3g} = {0.999 * task + 0.001 * L_fbi:.3g}")

# %% [markdown]
# Compare with the drawing. And note what the last line shows: for a digit that the network has
# learnt, nearly all of $L$ is the FBI loss, in spite of $\lambda = 0.001$ (notebook 5 said why).
#
# ## 3. Fig. 2: activation maps
#
# Now the figure on which the paper's argument rests: the activations of the first three
# convolutions, after the ReLU and before the pooling, with 16, 16 and 32 filters. Conventional
# training on the left, the FBI loss on the right. "The heatmaps of both training are normalized
# within same range for better comparison": each layer has one colour range for both networks.

# %% tags=["figure-2"]
sides = {"conventional training": models["none"], "proposed training (FBI)": models["fbi"]}
screen(plot_comparison(sides, seven, label, colorblind=COLORBLIND))

# %% [markdown]
# What do you see? Most people say: the right half is calmer, darker, has more empty maps and less
# in the background. The paper says it like this: the conventional network "often shows strong
# activations in the background", the proposed one focuses "on a region of interest", and in the
# last rows "there are more zero-out filters".
#
# All of this can be counted. Take the activations of conv3 for this one digit, and do
# it by hand. They are an array (filters, rows, columns).

# %% tags=["figure-2-by-hand"]
from minifbi.evaluate import collect_activations

maps = {m: collect_activations(model, seven[None])["conv3"][0] for m, model in models.items()}
ink = seven[0] > 0  # (28, 28): pixels with ink
# conv3 has 7 x 7 places, so each place stands for a cell of 4 x 4 pixels: does it hold ink?
cells = np.array(
    [[ink[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].any() for j in range(7)] for i in range(7)]
)

counted = {}
print("conv3, this digit   mean   largest   zeros   on the background   filters all zero")
for method, a in maps.items():
    background = sum(a[f][~cells].sum() for f in range(len(a))) / a.sum()
    empty = sum(bool((a[f] == 0).all()) for f in range(len(a)))
    counted[method] = background
    numbers = f"{a.mean():.3f} {a.max():9.2f} {(a == 0).mean():7.0%} {background:19.1%}"
    print(f"{NAMES[method]:18s} {numbers} {empty:13d} of {len(a)}")

# %% tags=["hide-input"]
fig, axes = panels(1, 4, 9, 2.5)
axes = axes[0]
axes[0].imshow(seven[0], cmap="gray")
axes[0].set_title("the digit", size=10)
axes[1].imshow(cells, cmap="gray")
axes[1].set_title("cells with ink: white", size=10)
place = (np.arange(280) + 0.5) / 40 - 0.5  # finer than the cells, so that the outline has corners
for ax, (method, a) in zip(axes[2:], maps.items(), strict=True):
    shown = ax.imshow(a.sum(axis=0), cmap="viridis", vmin=0)
    ax.contour(place, place, np.kron(cells, np.ones((40, 40))), [0.5], colors="white")
    ax.set_title(f"{NAMES[method]}: conv3, summed", size=10)
    fig.colorbar(shown, ax=ax, shrink=0.75)
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# "On the background" means: the share of the activation at places whose cell has no ink. (A unit
# sees more than its cell, so one beside the digit may well respond to ink and still count as
# background. That is a weakness of every such measure.) minifbi has it too, and it agrees:

# %%
from minifbi.evaluate.activations import background_share

for method, a in maps.items():
    theirs = background_share(a[None], seven[None])
    print(f"{NAMES[method]:13s} by hand {counted[method]:.6f}, minifbi {theirs:.6f}")
    assert abs(theirs - counted[method]) < 1e-6

# %% [markdown]
# Go back to the first numbers that we counted: the *mean* activations. The FBI loss makes all
# activations smaller; notebook 5 showed that this is what its gradient pushes for. With one colour
# range for both, whatever is smaller must look darker, calmer, emptier. So is the right half more
# *focused*, or just fainter? Divide each network's activations by their own root mean square (RMS),
# the square root of the mean of their squares, and draw again. What is left is where they lie.

# %% tags=["figure-2-rms"]
screen(plot_comparison(sides, seven, label, normalization="rms", colorblind=COLORBLIND))

# %% [markdown]
# The difference between left and right is now a different one from before, and a smaller one. Keep
# this pair of figures in mind: the first compares *how much* and *where* at once, the second
# *where* alone. Only the second speaks of focus.
#
# The same two figures of the large run, trained on all images:

# %% tags=["figure-2-large"]
if FULL:
    display(Image(FULL / "figure2.png"), Image(FULL / "figure2-rms.png"))
else:
    print("The large run is not on this machine; its Fig. 2 is in the documentation.")

# %% [markdown]
# ## 4. The impostor
#
# How much does the size of activations mean? Let us build a network that answers *exactly* like our
# conventional one and has any activations that we like.
#
# Multiply all weights and the biases of conv1 by $c > 0$. Its output is $c$ times as large; the
# ReLU lets this pass, $\max(0, cz) = c \max(0, z)$, and so does maximum pooling. Now divide the
# weights of conv2 by $c$, and conv2 notices nothing. The trick works at each layer:
#
# $$W_i \to \frac{c_i}{c_{i-1}} W_i, \qquad b_i \to c_i\, b_i, \qquad c_0 = 1, $$
#
# and the first layer that is not scaled is divided by the last $c$. We choose the $c_i$ so that the
# maxima become the very numbers that the paper's Table 1 prints for the *proposed* training.

# %% tags=["impostor"]
from minifbi import alexnet
from minifbi.reproduce.tables import PAPER, PAPER_LAYERS

IMAGES = 200  # test images on which activations are measured
many, _ = digits.test.batch(slice(0, IMAGES))
activations = {m: collect_activations(model, many) for m, model in models.items()}

printed = dict(zip(PAPER_LAYERS, PAPER["max"][1], strict=True))
state, below = models["none"].state_dict(), 1.0
for layer in PAPER_LAYERS:
    c = printed[layer] / activations["none"][layer].max()
    state[f"{layer}.weight"] = state[f"{layer}.weight"] * (c / below)
    state[f"{layer}.bias"] = state[f"{layer}.bias"] * c
    below = c
state["dense6.weight"] = state["dense6.weight"] / below

impostor = alexnet()
impostor.load_state_dict(state)
activations["impostor"] = collect_activations(impostor, many)
print("layer   conventional   impostor   printed in the paper for FBI")
for layer in PAPER_LAYERS:
    row = (activations[m][layer].max() for m in ("none", "impostor"))
    print(f"{layer}  {next(row):12.3f}   {next(row):8.3f}   {printed[layer]:8.3f}")

with no_grad():
    ours, theirs = models["none"](many).numpy(), impostor(many).numpy()
difference = np.abs(ours - theirs).max()
print(f"\nlargest logit {np.abs(ours).max():.1f}, largest difference {difference:.1e}")
print("same answers:", bool((ours.argmax(axis=1) == theirs.argmax(axis=1)).all()))
np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)

# %% [markdown]
# A network that was never trained with the FBI loss, that computes the same function as the
# conventional one up to rounding, and whose maxima are those of the paper's proposed network. So a
# raw maximum says nothing about what a network does, nor how it comes to its answer. And Fig. 2?
# Here is the impostor beside the network that it imitates. By its colours, which one would you call
# more focused, and at which layer?

# %% tags=["figure-2-impostor"]
pair = {"conventional training": models["none"], "its impostor": impostor}
screen(plot_comparison(pair, seven, label, colorblind=COLORBLIND))

# %% [markdown]
# A measure that we want to trust must give the impostor the same number as its original. We shall
# ask that of each one.
#
# ## 5. Fig. 3: densities
#
# Fig. 3 of the paper shows how activation values are distributed, as a smooth curve: a *kernel
# density estimate*. Put a small bell curve (a Gaussian of standard deviation $h$, the *bandwidth*)
# on each of the $n$ values, and take the mean of the bells:
#
# $$\hat p(t) = \frac1n \sum_k \frac1{h\sqrt{2\pi}} \exp\Big(-\frac{(t - a_k)^2}{2h^2}\Big) . $$
#
# Activations after a ReLU are never negative, but bells at 0 reach below it. *Reflection* mends
# that: what falls below 0 is folded back, so each value counts at $a_k$ and at $-a_k$. By hand, for
# five values, then with minifbi:

# %% tags=["density-by-hand"]
from minifbi.plots.density import reflected_density

five, h = np.array([0.0, 0.0, 0.6, 1.0, 2.2]), 0.25
t = np.linspace(0, 3.5, 351)


def bell(distance):
    return np.exp(-(distance**2) / (2 * h**2)) / (h * np.sqrt(2 * np.pi))


bells = [(bell(t - a) + bell(t + a)) / len(five) for a in five]
by_hand = sum(bells)
np.testing.assert_allclose(by_hand, reflected_density(five, t, h), atol=1e-12)
print(f"area under the curve {0.01 * (by_hand[1:] + by_hand[:-1]).sum() / 2:.4f}")

# %% tags=["hide-input"]
fig, axes = panels(1, 2, 9, 2.8)
left, right = axes[0]
for one in bells:
    left.plot(t, one, color=GREY, lw=0.9)
left.plot(t, by_hand, color=BLUE, lw=2)
left.plot(five, np.zeros(5), "|", color="black", ms=14, mew=2)
left.set(xlabel="value", ylabel="density", title="five values (two are 0), their bells, the sum")
values = activations["none"]["conv1"].ravel()
some = np.random.default_rng(0).choice(values, 4000, replace=False).astype(float)
at = np.linspace(0, 0.6, 301)
for bandwidth, style in ((0.1, "-"), (0.03, "--"), (0.01, ":")):
    curve = reflected_density(some, at, bandwidth)
    right.plot(
        at, curve, style, color=BLUE, lw=1.6, label=f"$h$ = {bandwidth:g}: {curve[0]:.0f} at 0"
    )
right.set(yscale="log", ylim=(1e-2, 100), xlabel="activation", title="conv1, one set of values")
right.legend(frameon=False)
plt.show()
print(f"share of exact zeros in conv1: {(values == 0).mean():.0%}")

# %% [markdown]
# The right plot is a warning. A large part of the activations is *exactly* 0. Such a lump has no
# density; the estimate draws it about $0.8 / h$ times its share high (two half bells, and small
# values add a little), so the height at 0 is chosen by whoever chose $h$. If each network gets a
# bandwidth of its own, as software does by default, then the network with smaller activations gets
# the smaller bandwidth and the higher peak, whatever its zeros are. minifbi uses one bandwidth for
# both networks of a panel and prints the share of zeros as a number.

# %% tags=["figure-3"]
both = (activations["none"], activations["fbi"])
screen(plot_densities(*both, names=tuple(sides), colorblind=COLORBLIND))

# %% [markdown]
# Mind the logarithmic axis: each line is a tenth of the one above it. The upper row shows the
# activations as they are. With FBI the curve falls off sooner, as the paper's curves do: small
# values are more frequent, large ones rarer. The lower row shows the same after division by the
# RMS. There both networks have the same "energy" (mean square), and the question is how it is
# spread: a curve that is higher at 0 *and* higher at the far right puts it into fewer units.
#
# The paper's Fig. 3 has one row, and its text says "energy-normalized". We do not know which of our
# rows it is. It matters: the upper one would be fooled by the impostor. And the same figure from
# the large run:

# %% tags=["figure-3-large"]
if FULL:
    display(Image(FULL / "figure3.png"))
else:
    print("The large run is not on this machine; its Fig. 3 is in the documentation.")

# %% [markdown]
# ## 6. Table 1: what was measured?
#
# The table prints two numbers a layer. The text defines them: "we measure the maximum and the
# skewness, denoting the maximal value and the inverse of the variance in the energy-normalized
# curves". How the energy is normalised it does not say. So let us compute everything that may be
# meant, first with a pencil. Four activations, $0, 0, 1, 3$:

# %% tags=["table-1-by-hand"]
a = np.array([0.0, 0.0, 1.0, 3.0])
n = len(a)
mean = (0 + 0 + 1 + 3) / 4
mean_square = (0 + 0 + 1 + 9) / 4
rms = mean_square**0.5
variance = ((0 - mean) ** 2 * 2 + (1 - mean) ** 2 + (3 - mean) ** 2) / 4
third_moment = ((0 - mean) ** 3 * 2 + (1 - mean) ** 3 + (3 - mean) ** 3) / 4
by_hand = {
    "maximum": 3.0,
    "rms_maximum": 3 / rms,
    "inverse_variance": 1 / variance,
    "inverse_variance_rms": 1 / (variance / rms**2),  # var(a / s) = var(a) / s^2
    "inverse_variance_mean": 1 / (variance / mean**2),
    "inverse_variance_max": 1 / (variance / 3**2),
    "skewness": third_moment / variance**1.5,
    "zero_fraction": 2 / 4,
    # k counts the values in ascending order: sum of (2k - n - 1) a_k over n times their sum
    "gini": (-3 * 0 + -1 * 0 + 1 * 1 + 3 * 3) / (4 * (0 + 0 + 1 + 3)),
    # (sqrt(n) - sum / sqrt(sum of squares)) / (sqrt(n) - 1)
    "hoyer": (2 - 4 / 10**0.5) / (2 - 1),
}
for name, value in by_hand.items():
    print(f"{name:22s} {value:.4f}")

# %% [markdown]
# What they say:
#
# - `maximum`, `rms_maximum`: the largest activation, as it is, or after division by the RMS.
# - `inverse_variance` and its sisters: 1/variance, as it is or after division by the RMS, the mean,
#   or the maximum.
# - `skewness`: what statistics calls so, the mean cube of the distance from the mean, in units of
#   the standard deviation. It is positive if there is a long tail to the right.
# - `zero_fraction`: the share of exact zeros.
# - `gini`, `hoyer`: two measures of *sparsity*, 0 if all values are equal and (nearly) 1 if one of
#   them has everything.
#
# minifbi's functions on the same four numbers. They want an array (images, filters, rows, columns).

# %%
from minifbi.evaluate import activations as measures

MEASURES = {
    "maximum": measures.maximum,
    "rms_maximum": measures.rms_maximum,
    "inverse_variance": measures.inverse_variance,
    "inverse_variance_rms": lambda a: measures.inverse_variance(a, "rms"),
    "inverse_variance_mean": lambda a: measures.inverse_variance(a, "mean"),
    "inverse_variance_max": lambda a: measures.inverse_variance(a, "max"),
    "skewness": measures.skewness,
    "zero_fraction": measures.zero_fraction,
    "gini": measures.gini,
    "hoyer": measures.hoyer,
}
for name, value in by_hand.items():
    assert abs(MEASURES[name](a.reshape(1, 1, 2, 2)) - value) < 1e-12, name
print("all ten agree")

# %% [markdown]
# Which of them is in the paper's table? Two facts help, and neither needs a network.
#
# **After division by the RMS, 1/variance is never below 1.** The mean square of $a/\text{rms}$ is
# 1, so its variance is $1 - \overline{a}^2/\text{rms}^2 \le 1$. (By the way, that is why
# `inverse_variance_rms` and `inverse_variance_mean` of our four numbers differ by exactly 1. They
# always do; one line of algebra shows it.)
#
# **Of raw values between 0 and $m$, 1/variance is never below $4/m^2$.** The variance is largest if
# half of the values are 0 and half are $m$, and is $m^2/4$ then (Popoviciu 1935).
#
# Now look at what the paper prints:

# %% tags=["table-1-possible"]
print("layer   network        max   skewness   at least 1?   at least 4/max^2?")
verdicts = []
for i, layer in enumerate(PAPER_LAYERS):
    for k, who in enumerate(("conventional", "relevance")):
        m, s = PAPER["max"][k][i], PAPER["skewness"][k][i]
        verdicts.append((s >= 1, s >= 4 / m**2))
        first, second = ("yes" if ok else "NO" for ok in verdicts[-1])
        print(
            f"{layer}   {who:12s} {m:6.3f} {s:9.3f}   {first:^11s}   {second:>4s}: {4 / m**2:.3f}"
        )
first, second = (sum(not v[k] for v in verdicts) for k in (0, 1))
print(f"\n{first} of {len(verdicts)} cells cannot be 1/variance after division by the RMS,")
print(
    f"{second} of {len(verdicts)} cannot be 1/variance of raw activations with the printed maximum"
)

# %% [markdown]
# So the printed "skewness" is not the first; nor is it the second, if the maximum above it is that
# of the same values. The two rows may have been normalised differently, something else divided, or
# something other than activations measured. (One more oddity: FBI's conv1 has 2.576 in both
# rows. Perhaps it slipped from one to the other when the table was typed.) We cannot know. What we
# can do is to report *all* readings, and see how far the conclusion depends on the choice.
#
# Here is Table 1 from our two networks, on 200 test images. In each cell: conventional → FBI; ↑ if
# FBI is larger.

# %% tags=["table-1"]
from minifbi.reproduce.tables import READINGS


def cell(before, after):
    return f"{before:.3g} → **{after:.3g}** {'↑' if after > before else '↓'}"


lines = ["| | " + " | ".join(PAPER_LAYERS) + " |", "|---|" + "---|" * len(PAPER_LAYERS)]
for printed_row, readings in READINGS.items():
    pairs = zip(*PAPER[printed_row], strict=True)
    cells_ = [cell(*pair) for pair in pairs]
    lines.append(f"| *{printed_row}, printed in the paper* | " + " | ".join(cells_) + " |")
    for text, name in readings.items():
        found = [
            cell(*(MEASURES[name](activations[m][layer]) for m in ("none", "fbi")))
            for layer in PAPER_LAYERS
        ]
        lines.append(f"| {text} | " + " | ".join(found) + " |")
Markdown("\n".join(lines))

# %% [markdown]
# Read it along the rows. Some readings of "max" and "skewness" go up in every layer, and others go
# down. An author may choose the reading after seeing the numbers, without any bad will, and a
# reader cannot tell. That is reason enough to define a measure by a formula.
#
# And which of these would the impostor fool? The same measures, for the network and its impostor,
# in conv3:

# %% tags=["impostor-measures"]
print(f"{'conv3':22s} conventional   impostor")
for name, function in MEASURES.items():
    original, copy = (function(activations[m]["conv3"]) for m in ("none", "impostor"))
    fooled = not np.isclose(original, copy, rtol=1e-3)
    print(f"{name:22s} {original:12.4f} {copy:10.4f}   {'<- fooled' if fooled else ''}")

# %% [markdown]
# The raw maximum and the raw 1/variance are fooled. The share of zeros does not depend on size,
# and all others divide by some size of the activations themselves: they see only the *shape* of
# their distribution. But our impostor is a mild one, with one factor for a whole layer. A ReLU
# network also allows one factor for each *filter*; that changes the shape, and would fool all of
# these but the share of zeros. Passing this test is necessary and not sufficient.
#
# One reading deserves a second look: `inverse_variance_rms`, the text's own words. With FBI it goes
# *down* in most layers. Why? After division by the RMS the variance is $1 - q^2$ with $q =
# \text{mean}/\text{RMS}$. Hoyer's sparsity is $(\sqrt n - \sqrt n\, q)/(\sqrt n - 1)$: it knows
# nothing but $q$, either. So the sparser the activations, the *smaller* is 1/variance. Taken
# literally, the paper's skewness is the opposite of the concentration that it is meant to show.

# %% tags=["hoyer-and-variance"]
for method in ("none", "fbi"):
    a = activations[method]["conv3"]
    root = np.sqrt(a.size)
    q = (root - measures.hoyer(a) * (root - 1)) / root  # Hoyer's formula, solved for q
    print(
        f"{NAMES[method]:13s} Hoyer {measures.hoyer(a):.3f}, from it 1/(1 - q^2) = "
        f"{1 / (1 - q**2):.4f}, measured {measures.inverse_variance(a, 'rms'):.4f}"
    )

# %% [markdown]
# Now the table of the large run, five seeds, with the standard deviation over the seeds. "As
# printed" counts the layers in which our difference surely has the sign of the paper's printed
# numbers, "as the text says" those in which FBI is surely larger. ("Surely": the 95 % interval of
# the difference does not contain 0. Notebook 8 computes such an interval.)

# %% tags=["table-1-large"]
from minifbi.reproduce.document import to_markdown
from minifbi.reproduce.results import read_values
from minifbi.reproduce.tables import table1

full = read_values(FULL / "values.csv") if FULL else None
text = to_markdown([table1(full)]) if full else "*The large run is not on this machine.*"
Markdown(text)

# %% [markdown]
# ## 7. Claim by claim
#
# What, then, is to be said of the paper's claims? `minifbi.reproduce.claims` writes each of them as
# comparisons: one measure in one layer, and the direction that the paper claims. For our own pair
# we can only count directions. For the large run, a comparison supports the claim if the whole 95 %
# interval lies on the claimed side, contradicts it if it lies on the other, and is open otherwise.

# %% tags=["claims"]
from minifbi.evaluate import activation_report
from minifbi.reproduce.claims import ACTIVATION_CLAIMS
from minifbi.reproduce.verdict import judge, judge_accuracy

report = {m: activation_report(model, digits.test, limit=IMAGES) for m, model in models.items()}
lines = ["| claim | our pair, for : against : equal | large run, for : against : open | verdict |"]
lines.append("|---|---|---|---|")
for claim in ACTIVATION_CLAIMS:
    signs = [
        reading.direction * np.sign(report["fbi"][layer][name] - report["none"][layer][name])
        for reading in claim.readings
        for name in [reading.measure]
        for layer in (reading.layers or PAPER_LAYERS)
    ]
    ours = f"{signs.count(1)} : {signs.count(-1)} : {signs.count(0)}"
    verdict, large = "-", "-"
    if full:
        judgement = judge(claim, full)
        count, verdict = judgement.count, judgement.verdict
        large = f"{count.supports} : {count.contradicts} : {count.open}"
    lines.append(f"| {claim.title} | {ours} | {large} | {verdict} |")
Markdown("\n".join(lines))

# %% [markdown]
# And the reasons, in the words of the report (made by a rule from the numbers; the rule knows no
# outcome):

# %% tags=["claims-large"]
if full:
    for judgement in [judge_accuracy(full), *(judge(claim, full) for claim in ACTIVATION_CLAIMS)]:
        print(f"{judgement.title}: {judgement.verdict}")
        for sentence in judgement.sentences[1:]:
            plain = sentence.replace("**", "")
            print(textwrap.fill(plain, 84, initial_indent="   ", subsequent_indent="   "))
        print()
else:
    print("The large run is not on this machine.")

# %% [markdown]
# Three remarks on reading this.
#
# *What agrees.* The FBI loss does something, and something that can be seen: activations become
# much smaller, and by the measures that do not see the size, they are spread over fewer units in
# most layers. The direction of the paper's Fig. 3 comes out.
#
# *What does not.* That all maxima rise, that filters switch off, that the background empties: look
# at the rows above for each. If we cannot confirm a claim, it does not follow that the authors did
# not see it. We do not know their network beyond its first three layers, nor the number of epochs,
# the learning rate, whether $L_1$ is a sum or a mean (notebook 5: it decides whether anything
# happens), where the relevance pass starts, on how many images they measured, and how many networks
# they trained. Any of these may matter. A paper that gives them can be checked; one that does not
# can only be repeated in spirit.
#
# *What is not asked here.* Is a network with sparser activations "more interpretable"? And does it
# take the FBI loss to make them sparser? That is
# [notebook 8](08_is_it_more_interpretable.ipynb).

# %% [markdown]
# ## What you learnt
#
# - A fair pair shares everything but the loss; until the gate the two runs are equal to the bit.
# - A common colour range shows size and place at once. Divide by the RMS to see the place alone.
# - Activations can be rescaled at will without changing any answer. A measure that such an impostor
#   fools (raw maximum, raw variance) says nothing about what the network does. One that it does not
#   fool may still be fooled by an impostor that rescales filter by filter.
# - A density of values with many exact zeros is as high at 0 as its bandwidth makes it.
# - "Skewness, the inverse of the variance in the energy-normalized curves" cannot be pinned down,
#   and the printed values contradict the two plainest readings. Taken literally it is the opposite
#   of sparsity. So report all readings.
# - Some of the paper's claims come out, some in part, some not, and some depend on the reading.
#
# ## Exercises
#
# Replace each `...`, run the cell, and read what the check says.
#
# **1. One reading of "skewness".** Write 1/variance after division by a scale: `"none"`, `"rms"`,
# `"mean"` or `"max"`. `a` is an array of any shape, and all of its values count.

# %% tags=["exercise"]
from checks import tutorial_07 as check


def inverse_variance(a, scale):
    """1 / variance of a / s, where s is 1, or the RMS, mean or maximum of a."""
    # solution
    # student: # s depends on the name in `scale`
    # student: return ...
    s = {
        "none": 1.0,
        "rms": np.sqrt(np.mean(a**2)),
        "mean": np.mean(a),
        "max": np.max(a),
    }[scale]
    return 1 / np.var(a / s)
    # end solution


check.inverse_variance(inverse_variance)

# %% [markdown]
# **2. Where the activation lies.** Write the background share for a batch: `a` has the shape
# (N, C, h, w), and `on_digit` (N, h, w) is True at places whose cell has ink. Sum over everything
# first, then divide.


# %% tags=["exercise"]
def share_on_background(a, on_digit):
    """Activation off the digit / all activation: one number for the whole batch."""
    # solution
    # student: return ...
    places = a.sum(axis=1)  # (N, h, w)
    return places[~on_digit].sum() / places.sum()
    # end solution


check.share_on_background(share_on_background)

# %% [markdown]
# **3. An impostor of your own.** Take a net of two dense layers, `relu(x @ W1.T + b1) @ W2.T + b2`.
# Return the weights of a net that gives the same outputs, and whose hidden activations are `c`
# times as large (`c` is positive).


# %% tags=["exercise"]
def rescaled(W1, b1, W2, b2, c):
    """The four arrays of the impostor, in the same order."""
    # solution
    # student: return ..., ..., ..., ...
    return c * W1, c * b1, W2 / c, b2
    # end solution


check.rescaled(rescaled)

# %% [markdown]
# **4. Can it be?** A table prints a maximum $m$ and a number $v$, "the variance of the
# activations". Activations lie between 0 and $m$. Return True if the two can belong together. (Use
# the second fact of section 6. A variance is never negative, either.)


# %% tags=["exercise"]
def can_be(m, v):
    """Whether values between 0 and m can have the variance v."""
    # solution
    # student: return ...
    return 0 <= v <= m**2 / 4
    # end solution


check.can_be(can_be)

# %% [markdown]
# **5. A slide.** Somebody shows two rows of heatmaps with one common colour range. Those of the new
# method are much darker, and the speaker concludes that the new network focuses on fewer places.
# What is the best question?
#
# - `"a"`: Did you use the same image for both?
# - `"b"`: How do they look if each network is divided by the RMS of its own activations?
# - `"c"`: How do they look if each single map has its own colour range?

# %% tags=["exercise"]
# solution
# student: answer = ...
answer = "b"
# end solution

check.slide(answer)

# %% [markdown]
# **6. To think about.** With `COLORBLIND = False` in the first cell you get the paper's colours. In
# green to red, 0 is a strong green, and nothing looks like "nothing". Which of the two scales makes
# the FBI network look better, and why? (Kovesi 2015 and Crameri et al. 2020 are good reading.)
#
# ## Further reading
#
# - C. H. Yoo, N. Kim and J.-W. Kang, *Relevance Regularization of Convolutional Neural Network for
#   Interpretable Classification*, CVPR Workshops 2019: sections 4.2 and 4.3.
# - B. W. Silverman, *Density Estimation for Statistics and Data Analysis*, 1986: bandwidths, and
#   reflection at a boundary.
# - N. Hurley and S. Rickard, *Comparing Measures of Sparsity*, IEEE Transactions on Information
#   Theory 55, 2009: what a measure of sparsity should do; Gini index and Hoyer's measure among
#   them.
# - L. Dinh, R. Pascanu, S. Bengio and Y. Bengio, *Sharp Minima Can Generalize For Deep Nets*, ICML
#   2017: the impostor's trick, used against another measure.
# - F. Crameri, G. E. Shephard and P. J. Heron, *The misuse of colour in science communication*,
#   Nature Communications 11, 2020.
# - P. Kovesi, *Good Colour Maps: How to Design Them*, 2015.
