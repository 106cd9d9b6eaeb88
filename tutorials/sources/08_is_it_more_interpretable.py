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
# # 8. Is it really more interpretable?
#
# "The proposed algorithm provides more interpretability with the trained filters", the paper
# concludes. Notebook 7 made its figures and its table. Now we ask whether the conclusion follows.
# It is a question that you will meet again, with other methods and other papers, so this notebook
# is as much about asking as about the FBI loss.
#
# You will
#
# 1. split a word into questions that can be answered,
# 2. add the contestant that is missing in the paper: a plain L1 penalty, the loss's twin,
# 3. train every contestant with several seeds, and compute an uncertainty by hand,
# 4. measure explanations: pixel flipping, ROAD, randomisation, each with its control,
# 5. set a trap: digits with a mark that gives the answer away,
# 6. put your numbers beside those of a large run, and reach a verdict,
# 7. take home a checklist, and apply it to the paper.
#
# You need notebooks [4](04_relevance.ipynb), [5](05_the_fbi_loss.ipynb) and
# [7](07_figures_and_table.ipynb). It takes about 30 minutes.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import minifbi
import numpy as np
from IPython.display import Markdown

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer images and seeds; for a quick run

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
NAMES = {"none": "conventional", "fbi": "FBI", "l1": "L1"}
STYLE = {  # colour, line and marker: readable without colours, too
    "none": {"color": "#1f5fa8", "ls": "-", "marker": "o"},
    "fbi": {"color": "#d55e00", "ls": "--", "marker": "s"},
    "l1": {"color": "#444444", "ls": ":", "marker": "^"},
}


def panels(rows, columns, width, height, **options):
    """A row or grid of plots without the upper and the right edge."""
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
    )
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


# The large run of `python -m minifbi.reproduce` is committed beside the documentation.
PLACES = [Path("../docs"), Path("../../docs"), Path(minifbi.__file__).parent.parent / "docs"]
FULL = next((p / "reproduction" for p in PLACES if (p / "reproduction/values.csv").exists()), None)
print("the large run:", "found" if FULL else "not here, so its cells will say so and go on")

# %% [markdown]
# ## 1. One word, three questions
#
# Nobody can measure "interpretable". Lipton (2018) found that papers mean different and even
# contradictory things by it. So we ask what a person could *do* with a more interpretable network,
# and get three questions that numbers can answer:
#
# - **Concentration.** Do fewer units carry the answer, so that there is less to look at?
# - **Explanation.** If I ask the network which pixels made its answer, is the reply *true* of this
#   network, and is it *about* what it learnt?
# - **Reasons.** Does it look at what should matter, and not at a mark that happens to go along?
#
# The paper measures the first, shows pictures for the third, and does not measure the second. And
# every question needs an addition: *compared with what?* The paper compares with conventional
# training. But if FBI differs from that, is it due to the forward-backward idea?
#
# ## 2. The twin
#
# Notebook 5 found what the FBI loss is, in closed form. With the activation $\mathbf a_{i-1}^+$ at
# the input of layer $i$, and the gradient $\mathbf g_i$ of the true class's logit there ($u$ counts
# the units of that input, and $K$ is the number of layers with weights),
#
# $$L_{FBI} = \frac1K \sum_{i=1}^K \sum_u a_u\, |1 - g_u| . $$
#
# Replace $|1 - g|$ by 1, leave out the image, which cannot be learnt, and what remains is
#
# $$L_{L1} = \frac1{K-1} \sum_{i=2}^K \sum_u a_u , $$
#
# an *L1 penalty* on the activations (Glorot, Bordes and Bengio 2011), a few lines of code that
# need no relevance. Whatever both do cannot be due to the relevance; whatever FBI alone does, can.
# That is what a *baseline* is for: it has everything but the idea that is to be tested.
#
# Both terms can be measured on any network:

# %% tags=["the-twin"]
from minifbi import alexnet, load_dataset
from minifbi.datasets import Dataset, Split
from minifbi.regularizers import FBI, L1
from minifbi.training import TrainConfig, Trainer, evaluate, evaluate_penalty

TRAIN, VALIDATION, TEST, EPOCHS, SEEDS = (1120, 150, 300, 3, 2) if FAST else (3600, 500, 2000, 3, 5)
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
untrained = alexnet(seed=0)
few = part(mnist.validation, 100)
print(f"before training: FBI loss {evaluate_penalty(untrained, few, FBI()):.1f}, ", end="")
print(f"L1 penalty {evaluate_penalty(untrained, few, L1()):.1f}")

# %% [markdown]
# Three contestants, then, and for each of them several *seeds*: the seed decides the initial
# weights and the order of the images. Networks of the same seed start equal and see the same. The
# weight of L1 is the one for which, in the large run, the mean activation equals that of FBI: we
# want to compare kinds of pressure, not strengths. (`Results` will keep every number together
# with its method and its seed.)

# %% tags=["train"]
from minifbi.reproduce.experiments import MAIN, Experiment, with_method
from minifbi.reproduce.results import (
    ACTIVATION,
    ALL_LAYERS,
    EXPLANATION,
    TRAINING,
    Key,
    Results,
    Value,
    read_values,
)

L1_WEIGHT = 0.000856  # docs/reproduction/matching.json
runs, values = {}, []
for seed in range(SEEDS):
    base = TrainConfig(epochs=EPOCHS, batch_size=32, gate_interval=10, seed=seed)
    for method in NAMES:
        experiment = Experiment(MAIN, method, "", with_method(base, method, L1_WEIGHT))
        trainer = Trainer(experiment.config, digits)
        for _ in range(EPOCHS):
            trainer.run_epoch()
        runs[method, seed] = experiment, trainer.model
        accuracy = evaluate(trainer.model, digits.test)[0]
        values.append(Value(experiment, Key(TRAINING, "test_accuracy"), accuracy))
    print(
        f"seed {seed}:",
        "  ".join(f"{NAMES[v.experiment.method]} {v.value:.3f}" for v in values[-3:]),
    )

# %% [markdown]
# ## 3. Concentration
#
# The measures are those of notebook 7 that do not see the scale: maximum over RMS, share of exact
# zeros, the Gini index; and, beside them, the mean activation and the share on the background.
# Each is the mean over the five convolutions. One line is one seed.

# %% tags=["concentration"]
from minifbi.evaluate import activation_report

IMAGES = 100 if FAST else 300
for experiment, model in runs.values():
    report = activation_report(model, digits.test, limit=IMAGES)
    for name in next(iter(report.values())):
        mean = float(np.mean([layer[name] for layer in report.values()]))
        values.append(Value(experiment, Key(ACTIVATION, name, ALL_LAYERS), mean))
ours = Results(values)

# %% tags=["hide-input"]
SHOWN = {
    Key(TRAINING, "test_accuracy"): "test accuracy",
    Key(ACTIVATION, "mean", ALL_LAYERS): "mean activation",
    Key(ACTIVATION, "rms_maximum", ALL_LAYERS): "maximum / RMS",
    Key(ACTIVATION, "gini", ALL_LAYERS): "Gini index",
    Key(ACTIVATION, "zero_fraction", ALL_LAYERS): "share of zeros",
    Key(ACTIVATION, "background_share", ALL_LAYERS): "on the background",
}
fig, axes = panels(2, 3, 9, 4.6)
for ax, (key, title) in zip(axes.flat, SHOWN.items(), strict=True):
    for seed in range(SEEDS):
        line = [ours.by_seed(method, key)[seed] for method in NAMES]
        ax.plot(range(3), line, color="#bbbbbb", lw=1)
        for x, (method, y) in enumerate(zip(NAMES, line, strict=True)):
            ax.plot(x, y, STYLE[method]["marker"], color=STYLE[method]["color"], ms=6)
    ax.set(xticks=range(3), xticklabels=NAMES.values(), xlim=(-0.4, 2.4), title=title)
plt.show()

# %% [markdown]
# Two things to look for. From conventional to FBI: is the step the same for all seeds, and is it
# large beside the spread of the seeds? And from FBI to L1: is there a step at all?
#
# ## 4. How sure?
#
# The seeds of one method differ among themselves. So a difference between two methods with one seed
# each may be luck. The networks of one seed, however, belong together, and that helps: take the
# difference seed by seed, $d_s$, and ask how sure we are of *its* mean. With $n$ seeds, mean
# $\bar d$ and sample standard deviation $\sigma$ (with $n - 1$ in the denominator), the 95 %
# *confidence interval* is
#
# $$\bar d \;\pm\; t\, \frac{\sigma}{\sqrt n} , $$
#
# where $t$ comes from Student's distribution with $n - 1$ degrees of freedom: 12.7 for two seeds,
# 2.78 for five, 1.96 for very many. It is made so that it covers the true mean difference 19 times
# in 20. For the Gini index, by hand, and with minifbi:

# %% tags=["interval-by-hand"]
from minifbi.reproduce.statistics import paired_difference
from scipy.stats import t as student

gini = Key(ACTIVATION, "gini", ALL_LAYERS)
by_seed = {method: np.array(list(ours.by_seed(method, gini).values())) for method in NAMES}
t = student.ppf(0.975, SEEDS - 1)
print(f"t = {t:.2f} for {SEEDS} seeds")
for other in ("none", "l1"):
    d = by_seed["fbi"] - by_seed[other]
    half = t * d.std(ddof=1) / np.sqrt(SEEDS)
    theirs = paired_difference(ours.by_seed("fbi", gini), ours.by_seed(other, gini))
    np.testing.assert_allclose([d.mean() - half, d.mean() + half], [theirs.low, theirs.high])
    print(
        f"FBI - {NAMES[other]:12s} {d.mean():+.4f} [{theirs.low:+.4f}, {theirs.high:+.4f}]  "
        f"spread of the differences {d.std(ddof=1):.4f}, "
        f"of {NAMES[other]} alone {by_seed[other].std(ddof=1):.4f}"
    )

# %% [markdown]
# Compare the two spreads in each line: what pairing takes out is what the seed does to both.
#
# An interval that leaves out 0 is a hint and no proof, the less so the more of them one makes. Let
# us play: 40 measures, five seeds, and *no effect at all*, only noise. How many of the 40 intervals
# leave out 0?

# %% tags=["many-comparisons"]
rng = np.random.default_rng(0)
noise = rng.standard_normal((2000, 40, 5))  # 2000 papers, 40 measures, 5 seeds
half = student.ppf(0.975, 4) * noise.std(axis=2, ddof=1) / np.sqrt(5)
surprising = (np.abs(noise.mean(axis=2)) > half).sum(axis=1)
print(f"a paper finds {surprising.mean():.2f} effects on average, where there is none;")
print(f"{(surprising > 0).mean():.0%} of the papers find at least one")

# %% [markdown]
# So two surprising numbers among forty are what chance gives for free. What counts is whether most
# of the measures that should agree do agree, and whether the effect is large.
#
# ## 5. Are its explanations better?
#
# An explanation says how much each pixel spoke for the class. Ours is the paper's own relevance,
# LRP-0 (notebook 4). Three ways to test one:
#
# ### Pixel flipping
#
# If a pixel really made the answer, then erasing it must hurt. So erase pixels, the most relevant
# first, and watch the probability of the class (Bach et al. 2015). By hand, for one digit:

# %% tags=["flipping-by-hand"]
from minifbi import no_grad
from minifbi.evaluate import pixel_flipping
from minifbi.explain import get_explainer

lrp0 = get_explainer("lrp-0")
net = runs["none", 0][1]
many, labels = digits.test.batch(slice(0, 200))
with no_grad():
    right = net(many).numpy().argmax(axis=1) == labels
image, label = many[right][:1], labels[right][:1]  # (1, 1, 28, 28): one that it gets right
attribution = lrp0(net, image, label)

order = np.argsort(-attribution.ravel(), kind="stable")  # pixels, the most relevant first
curve = []
for count in range(0, 785, 14):
    damaged = image.copy().ravel()
    damaged[order[:count]] = 0
    with no_grad():
        logits = net(damaged.reshape(image.shape)).numpy()[0]
    curve.append(np.exp(logits[label[0]] - logits.max()) / np.exp(logits - logits.max()).sum())
theirs = pixel_flipping(net, image, label, attribution).scores[0]
print("largest difference from minifbi's curve:", f"{np.abs(curve - theirs).max():.1e}")
np.testing.assert_allclose(curve, theirs, atol=1e-4)

# %% tags=["hide-input"]
fig, axes = panels(1, 5, 9.5, 2.3, width_ratios=[1, 1, 1, 1, 1.9])
for ax, count in zip(axes[0], (0, 14, 42, 84), strict=False):
    damaged = image.copy().ravel()
    damaged[order[:count]] = 0
    ax.imshow(damaged.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{count} erased", size=10)
ax = axes[0, 4]
ax.plot(np.arange(0, 785, 14), curve, color=STYLE["none"]["color"])
ax.set(xlabel="pixels erased", ylim=(-0.03, 1.03))
ax.set_title(f"probability of {label[0]}", size=10)
plt.show()

# %% [markdown]
# (Where the curve is flat, black pixels are being erased, which changes nothing: their relevance is
# 0. At the end go those that spoke against the class.)
#
# The area under the curve is the score, low if the explanation is *faithful*. But low compared with
# what? Two *controls* that know nothing of the network: erase in a random order; and erase the ink
# first, in random order. The second is strong, since without its ink no digit is left. And there is
# a trap when two *networks* are compared: the curve depends on the explanation and on how the
# network bears damage. The controls show the second by itself.

# %% tags=["flipping-curves"]
COUNT = 10 if FAST else 40
images, classes = many[:COUNT], labels[:COUNT]
fig, axes = panels(1, 3, 9, 3, sharey=True)
titles = {"most": "most relevant first", "ink": "ink, any order", "random": "all pixels, any order"}
for ax, (order_name, title) in zip(axes[0], titles.items(), strict=True):
    for method, name in NAMES.items():
        model = runs[method, 0][1]
        curves = pixel_flipping(model, images, classes, lrp0(model, images, classes), order_name)
        style = {key: STYLE[method][key] for key in ("color", "ls")}
        text = f"{name}: area {curves.area.mean():.3f}"
        ax.plot(100 * curves.fractions, curves.mean, lw=1.8, label=text, **style)
    ax.set(xlabel="pixels erased, %", title=title)
    ax.legend(frameon=False, fontsize=8)
axes[0, 0].set_ylabel("mean probability of the true class")
plt.show()

# %% [markdown]
# If the curve of one network falls faster in the left panel *and* in the other two, the network may
# just be more fragile. That is why `flipping_gain`, the area for "ink, any order" minus that for
# "most relevant first", is the number to look at: what does the explanation know beyond where the
# ink is?
#
# ### ROAD
#
# A digit with holes is an image that no network has ever seen, and a hole may itself be a sign.
# *Remove and debias* (Rong et al. 2022) fills each removed pixel with the weighted mean of its
# neighbours, which leads to a system of equations, and compares removing the most relevant with
# removing the least relevant pixels. (In the pictures below a fifth of the pixels is gone: first
# those with positive relevance, then, in random order, black ones, whose relevance is 0.)

# %% tags=["road"]
from minifbi.evaluate import road
from minifbi.evaluate.explanations import linear_imputation, pixel_order

ranking = pixel_order(image, attribution, "most")[0]
gone = np.zeros(784, dtype=bool)
gone[ranking[:157]] = True  # a fifth of the pixels
gone = gone.reshape(1, 28, 28)
curves = road(net, images, classes, lrp0(net, images, classes))
print(
    f"conventional, seed 0, {COUNT} images: removed most relevant first {curves.most.mean():.3f},"
)
print(f"least relevant first {curves.least.mean():.3f}; difference {curves.difference.mean():.3f}")

# %% tags=["hide-input"]
fig, axes = panels(1, 4, 9, 2.5)
pictures = {
    "the digit": image[0, 0],
    "a fifth of the pixels": gone[0].astype(float),
    "erased": np.where(gone, 0, image[:, 0])[0],
    "imputed": linear_imputation(image, gone)[0, 0],
}
for ax, (title, picture) in zip(axes[0], pictures.items(), strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, size=10)
plt.show()

# %% [markdown]
# ### Randomisation
#
# An explanation of a trained network must depend on the training. Replace the weights by random
# ones, layer by layer from the top, and see how much of the heatmap is left (Adebayo et al. 2018).
# As a control we enter a swindler: an "explainer" that returns the image itself. Its heatmaps are
# sharp, lie perfectly on the digit, and explain nothing.

# %% tags=["randomisation"]
from minifbi.evaluate import randomization, relevance_mass


def swindler(model, images, classes):
    return images


explainers = {"LRP-0": lrp0, "gradient": get_explainer("gradient"), "swindler": swindler}
some, some_labels = many[:10], labels[:10]
fig, axes = panels(1, 1, 8, 2.9)
for (name, explainer), style in zip(explainers.items(), STYLE.values(), strict=True):
    found = randomization(net, explainer, some, some_labels)
    after = found.spearman.mean(axis=1)
    on_digit = relevance_mass(explainer(net, some, some_labels), some[:, 0] > 0).mean()
    print(f"{name:9s} relevance on the digit {on_digit:.2f}, left at the end {after[-1]:+.2f}")
    axes[0, 0].plot(["trained", *found.layers], [1, *after], label=name, **style)
axes[0, 0].set(ylabel="rank correlation", title="randomised from the right end of the net to ...")
axes[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# The swindler stays at 1, of course, and so it is caught. But in "relevance on the digit", which
# sounds so reasonable, it has the full score, and so does LRP-0, trained or not: relevance is pixel
# times gradient, and 0 on black pixels (notebook 4). *A measure that a swindler wins cannot show by
# itself that an explanation is good*; and with LRP-0 the mass on the digit is a constant. (That is
# why the list below takes it of the gradient. By rank it is no constant with LRP-0, but only since
# some ink has negative relevance. Trust these two rows the least.)
#
# ### All contestants, all seeds

# %% tags=["explanations"]
from minifbi.evaluate import explanation_report

SKIP = ("sensitivity", "randomization")
for experiment, model in runs.values():
    for name, skip in (("lrp-0", SKIP), ("gradient", (*SKIP, "flipping", "road"))):
        report = explanation_report(model, get_explainer(name), images, classes, skip=skip)
        values += [
            Value(experiment, Key(EXPLANATION, measure, name), v) for measure, v in report.items()
        ]
ours = Results(values)

# %% [markdown]
# To see many differences at once, we draw each as its interval, FBI minus conventional and L1 minus
# conventional, turned so that *better is to the right*. (What counts as better is what the source
# of each measure says.) Each row has a scale of its own: its largest number is 1.

# %% tags=["forest"]
MEASURED = {  # what, and whether higher (1) or lower (-1) is called better
    "accuracy": (Key(TRAINING, "test_accuracy"), 1),
    "activations: Gini index": (Key(ACTIVATION, "gini", ALL_LAYERS), 1),
    "activations: zeros": (Key(ACTIVATION, "zero_fraction", ALL_LAYERS), 1),
    "activations: maximum / RMS": (Key(ACTIVATION, "rms_maximum", ALL_LAYERS), 1),
    "activations: 1/variance (RMS)": (Key(ACTIVATION, "inverse_variance_rms", ALL_LAYERS), 1),
    "activations: on the background": (Key(ACTIVATION, "background_share", ALL_LAYERS), -1),
    "LRP-0: Gini index": (Key(EXPLANATION, "gini", "lrp-0"), 1),
    "LRP-0: flipping, most first": (Key(EXPLANATION, "flipping_most", "lrp-0"), -1),
    "LRP-0: flipping, gain over ink": (Key(EXPLANATION, "flipping_gain", "lrp-0"), 1),
    "LRP-0: ROAD": (Key(EXPLANATION, "road_difference", "lrp-0"), 1),
    "LRP-0: on the digit, by rank": (Key(EXPLANATION, "relevance_rank", "lrp-0"), 1),
    "gradient: Gini index": (Key(EXPLANATION, "gini", "gradient"), 1),
    "gradient: on the digit, by mass": (Key(EXPLANATION, "relevance_mass", "gradient"), 1),
}


def forest(results, title):
    """Draw FBI - conventional and L1 - conventional of everything in MEASURED."""
    ax = panels(1, 1, 8.5, 5)[1][0, 0]
    for row, (key, better) in enumerate(MEASURED.values()):
        found = {m: results.difference(m, "none", key) for m in ("fbi", "l1")}
        size = max(abs(v) for d in found.values() for v in (d.low, d.high)) or 1
        for shift, (method, d) in zip((-0.17, 0.17), found.items(), strict=True):
            style = STYLE[method]
            ends = np.array([d.low, d.high]) * better / size
            ax.plot(ends, [row + shift] * 2, color=style["color"], lw=2.5)
            label = f"{NAMES[method]} - conventional" if row == 0 else None
            middle = d.mean * better / size
            ax.plot(middle, row + shift, style["marker"], color=style["color"], label=label)
    ax.axvline(0, color="black", lw=0.8)
    ax.set(yticks=range(len(MEASURED)), yticklabels=MEASURED, ylim=(len(MEASURED) - 0.4, -0.6))
    ax.set(xticks=[-1, 0, 1], xticklabels=["worse", "0", "better"], xlim=(-1.1, 1.1), title=title)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)
    plt.show()


forest(ours, f"our short run, {SEEDS} seeds: differences with their 95 % intervals")

# %% [markdown]
# (With few seeds the intervals are wide, with two hopelessly so. That is an honest picture of what
# such a run can tell.)
#
# Look at one row in particular, "1/variance (RMS)", the plainest reading of the paper's "skewness".
# Notebook 7 showed why it goes the other way from the other measures of concentration.
#
# ## 6. The right reasons?
#
# Fig. 2 suggests that FBI makes the network look at the digit. There is a sharper test than looking
# at pictures: set a trap. *Decoy-MNIST* (Ross, Hughes and Doshi-Velez 2017) puts a grey square into
# a corner of every digit. In training its shade gives the class away, $255 - 25 y$ for class $y$;
# in the test the shade is that of a random class. Who looks at the digit loses nothing.

# %% tags=["decoy-digits"]
from minifbi.datasets import decoy_mnist

decoys = decoy_mnist(digits)
fig, axes = panels(2, 8, 9, 2.7)
for row, split, title in zip(axes, (decoys.train, decoys.test), ("training", "test"), strict=True):
    for ax, picture, y in zip(row, split.images[:8], split.labels[:8], strict=True):
        ax.imshow(picture[0], cmap="gray", vmin=0)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{y}", size=9, loc="center")
    row[0].set_ylabel(title)
plt.show()

# %% [markdown]
# Here we take the small dense network (`mlp`), as Ross et al. did: it falls into the trap more
# readily than a CNN. And there is a fourth contestant, made for this: *Right for the Right Reasons*
# penalises the gradient at the pixels of the square. It is told where they are. FBI and L1 have to
# find out.
#
# The *decoy gap* is what is lost when the shades lie. By hand first: the same test digits with
# telling squares, minus those with random ones.

# %% tags=["decoy"]
from minifbi.datasets import add_decoys
from minifbi.evaluate import confounder_report

gradient = get_explainer("gradient")
base = TrainConfig(
    model="mlp", dataset="decoy-mnist", epochs=EPOCHS + 1, batch_size=32, gate_interval=10, seed=0
)
decoy_reports = {}
for method in (*NAMES, "right-reasons"):
    trainer = Trainer(with_method(base, method, L1_WEIGHT), decoys)
    for _ in range(base.epochs):
        trainer.run_epoch()
    telling = add_decoys(digits.test, "label", seed=[0, 2])  # the squares of the test set, honest
    gap = evaluate(trainer.model, telling)[0] - evaluate(trainer.model, decoys.test)[0]
    report = confounder_report(trainer.model, gradient, digits.test, limit=200)
    assert abs(gap - report["decoy_gap"]) < 1e-9
    decoy_reports[method] = report

rows = {"accuracy_rule": "squares tell the class", "accuracy_random": "squares lie"}
rows |= {"accuracy_clean": "no squares", "decoy_gap": "decoy gap"}
rows |= {"wrong_reason_share": "gradient on the square"}
lines = ["| | " + " | ".join([*NAMES.values(), "right reasons"]) + " |", "|---|" + "---|" * 4]
for key, text in rows.items():
    cells = (f"{report[key]:.3f}" for report in decoy_reports.values())
    lines.append(f"| {text} | " + " | ".join(cells) + " |")
Markdown("\n".join(lines))

# %% [markdown]
# The lower the gap, the better. Two readings. Compare FBI and L1 with conventional training: does
# the gap close? And compare them with *right reasons*: how far can it close? (By the way: the
# accuracy with telling squares, which is all that one sees on a validation set with the same
# squares, would rank the contestants quite differently.)
#
# ## 7. The large run
#
# Our networks were small in number and short in training. Here is the same forest from the large
# run: five seeds, three epochs on all 55,000 images, the L1 weight matched to FBI's mean
# activation.

# %% tags=["forest-large"]
full = read_values(FULL / "values.csv") if FULL else None
if full:
    forest(full, "the large run, 5 seeds: differences with their 95 % intervals")
else:
    print("The large run is not on this machine; see the report in the documentation.")

# %% [markdown]
# Now we ask it two questions in numbers. How often is FBI surely better or worse than conventional
# training? And how much of what FBI does, does L1 do as well? For the latter we take only measures
# that FBI surely changes, and print the part of the change that L1 shares: 100 % if the twin does
# exactly the same, more if it overdoes it, 0 % if it does nothing.


# %% tags=["shared"]
def shared(results):
    """What FBI surely changes: the measure, the direction, L1's part of the change."""
    found = []
    for name, (key, better) in MEASURED.items():
        fbi, l1 = (results.difference(m, "none", key) for m in ("fbi", "l1"))
        if fbi.direction:
            found.append((name, fbi.direction * better, l1.mean / fbi.mean))
    return found


for title, results in (("our short run", ours), ("the large run", full)):
    if results is None:
        continue
    found = shared(results)
    good, bad = (sum(sign == s for _, s, _ in found) for sign in (1, -1))
    print(f"{title}: of {len(MEASURED)} measures FBI is surely better in {good}, worse in {bad}")
    for name, sign, share in found:
        print(f"   {name:32s} {'better' if sign > 0 else 'worse '}   L1 has {share:4.0%} of it")
    if found:
        print(f"   in the middle (median): {np.median([s for *_, s in found]):.0%}\n")

# %% [markdown]
# And the traps of the large run: the mean over five seeds, and whether the 95 % interval of the
# difference from conventional training leaves out 0 (an arrow says in which direction).

# %% tags=["decoy-large"]
from minifbi.reproduce.experiments import DECOY, DECOY_METHODS
from minifbi.reproduce.results import CONFOUNDER

lines = [
    "| network | measure | conventional | FBI | L1 | right reasons |",
    "|---|---|---|---|---|---|",
]
for network, setting in (("mlp", "mlp"), ("alexnet", "")):
    for measure, text in (("accuracy_random", "squares lie"), ("decoy_gap", "decoy gap")):
        cells = []
        for method in DECOY_METHODS if full else ():
            key = Key(CONFOUNDER, measure)
            mean = full.summary(method, key, DECOY, setting).mean
            arrow = {1: " ↑", -1: " ↓", 0: ""}
            sign = full.difference(method, "none", key, DECOY, setting).direction
            cells.append(f"{mean:.3f}{arrow[sign] if method != 'none' else ''}")
        lines.append(f"| {network} | {text} | " + " | ".join(cells) + " |")
Markdown("\n".join(lines) if full else "*The large run is not on this machine.*")

# %% [markdown]
# ## 8. The verdict
#
# minifbi's report words its verdicts by rules that were fixed before the numbers: a claim *agrees*
# if at least 80 % of its comparisons surely support it and none contradicts it; *not*, if at most
# 20 % support it and more contradict it; *undecided*, if most are open; *partly*, in all other
# cases. Beside FBI's count stands that of L1.

# %% tags=["verdict"]
from minifbi.reproduce.claims import ACTIVATION_CLAIMS, EXPLAINABLE
from minifbi.reproduce.verdict import judge, judge_accuracy

lines = ["| claim | verdict | FBI, for : against : open | L1, the same |", "|---|---|---|---|"]
if full:
    lines.append(f"| Accuracy is kept | {judge_accuracy(full).verdict} | | |")
    for claim in (*ACTIVATION_CLAIMS, EXPLAINABLE):
        j = judge(claim, full)
        counts = (f"{c.supports} : {c.contradicts} : {c.open}" for c in (j.count, j.twin))
        lines.append(f"| {claim.title} | {j.verdict} | " + " | ".join(counts) + " |")
Markdown("\n".join(lines) if full else "*The large run is not on this machine.*")

# %% [markdown]
# What may one say, then? Read the tables of the large run, and try a sentence of your own before
# you go on. Ours has four parts.
#
# - *Concentration*: yes, by most measures that do not see the scale, and at hardly any cost in
#   accuracy. No, by 1/variance after division by the RMS, the plainest reading of the paper's text
#   (but not what its table prints).
# - *Explanation*: mixed. Some measures improve and some get worse, and the paper's own relevance is
#   among what gets worse. "More interpretable" without saying by which measure is not supported.
# - *Reasons*: the trap stays open, a little less wide at best, where a method made for the purpose
#   closes it all but completely.
# - *The idea*: what FBI does, for better and for worse, a plain L1 penalty does to nearly the same
#   extent, without a relevance pass. So the effects are those of pressing activations down. If
#   there is a merit in comparing forward and
#   backward activations, it lies in the small rest by which the two differ.
#
# And what this verdict cannot say: it is about MNIST, one architecture, one $\lambda$, our reading
# of what the paper leaves open, and measures that were made for heatmaps and not for people. No
# person was asked whether they understand the one network better than the other. That would be the
# test of the word in the title (Doshi-Velez and Kim 2017), and we know of nobody who has made it.
#
# None of this makes the paper useless. It has an idea that can be written in one line, it made us
# find out that relevance is activation times gradient, and its weak spots can be named only because
# it was written down.
#
# ## 9. A checklist for such papers
#
# **The claim**
#
# 1. `defined`: is the word in the title defined so that one could measure it?
# 2. `explained`: is any explanation, or any person's understanding, tested?
#
# **The measure**
#
# 3. `formula`: can you compute every reported measure from the text alone?
# 4. `independent`: is it something else than what the loss itself pushes?
# 5. `impostor`: does it rule out an impostor, a network that is rescaled and answers the same?
#
# **The comparison**
#
# 6. `baseline`: is it compared with a simpler method that might do the same?
# 7. `accuracy`: is the price named, the accuracy with and without?
# 8. `seeds`: is more than one network trained for each method, and a spread given?
# 9. `breadth`: more than one data set or architecture?
#
# **The report**
#
# 10. `consistent`: do text, table and figures say the same?
# 11. `chosen`: is it said how the pictured examples were chosen?
# 12. `settings`: are the method's own settings (here $\lambda$ and the gate) given?
# 13. `repeat`: is the rest given, so that one could train the same network again?
#
# In exercise 5 you answer these for Yoo, Kim and Kang (2019). Then try them on a paper that you
# like.

# %% [markdown]
# ## What you learnt
#
# - "Interpretable" has to be split into questions; each measure answers a part of one.
# - A baseline has everything but the idea: the L1 penalty tells what the relevance adds.
# - Compare seed by seed, and give an interval; among many comparisons some are lucky.
# - Every measure needs a control: the ink in random order, the swindler, the impostor.
# - Explanations of two *networks* are hard to compare, since the networks differ in more than that.
# - A trap with a known answer (Decoy-MNIST) says more about reasons than a picture.
#
# ## Exercises
#
# Replace each `...`, run the cell, and read what the check says.
#
# **1. The Gini index.** Notebook 7 computed it for four numbers. Write it for any array of values
# that are not negative: with the values in ascending order, $a_1 \le \dots \le a_n$,
# $G = \sum_k (2k - n - 1)\, a_k \,/\, (n \sum_k a_k)$.

# %% tags=["exercise"]
from checks import tutorial_08 as check


def gini_index(a):
    """The Gini index of an array of any shape."""
    # solution
    # student: return ...
    a = np.sort(np.ravel(a))
    n = len(a)
    k = np.arange(1, n + 1)
    return ((2 * k - n - 1) * a).sum() / (n * a.sum())
    # end solution


check.gini_index(gini_index)

# %% [markdown]
# **2. An interval.** Write the confidence interval of the mean paired difference $a - b$. The
# quantile `t` of Student's distribution is given.


# %% tags=["exercise"]
def paired_interval(a, b, t):
    """Lower and upper end. a, b: one number for each seed, in the same order."""
    # solution
    # student: return ..., ...
    d = a - b
    half = t * d.std(ddof=1) / np.sqrt(len(d))
    return d.mean() - half, d.mean() + half
    # end solution


check.paired_interval(paired_interval)

# %% [markdown]
# **3. Luck.** A paper reports $k$ independent comparisons, each with a 95 % interval, and there is
# no effect at all. What is the probability that at least one interval leaves out 0? (Section 4
# played it for 40.)


# %% tags=["exercise"]
def at_least_one(k):
    # solution
    # student: return ...
    return 1 - 0.95**k
    # end solution


check.at_least_one(at_least_one)

# %% [markdown]
# **4. Two networks.** Network A has an area of 0.10 under its flipping curve, "most relevant
# first", and network B of 0.20. "Ink, any order" gives 0.12 for A and 0.30 for B. What follows?
#
# - `"a"`: The explanations of A are the better ones, 0.10 is below 0.20.
# - `"b"`: The explanation of A knows hardly more than where the ink is; that of B knows more.
# - `"c"`: Nothing, areas of different networks must never be looked at together.

# %% tags=["exercise"]
# solution
# student: answer = ...
answer = "b"
# end solution

check.two_networks(answer)

# %% [markdown]
# **5. The checklist.** Apply it to the paper (four pages; sections 3 and 4 are enough). Answer
# `"yes"`, `"no"` or `"unclear"`. In two or three of them more than one answer can be defended.

# %% tags=["exercise"]
checklist = {
    # solution
    # student: "defined": ...,
    # student: "explained": ...,
    # student: "formula": ...,
    # student: "independent": ...,
    # student: "impostor": ...,
    # student: "baseline": ...,
    # student: "accuracy": ...,
    # student: "seeds": ...,
    # student: "breadth": ...,
    # student: "consistent": ...,
    # student: "chosen": ...,
    # student: "settings": ...,
    # student: "repeat": ...,
    "defined": "no",
    "explained": "no",
    "formula": "no",
    "independent": "no",
    "impostor": "unclear",
    "baseline": "no",
    "accuracy": "no",
    "seeds": "no",
    "breadth": "no",
    "consistent": "no",
    "chosen": "no",
    "settings": "yes",
    "repeat": "no",
    # end solution
}

check.checklist(checklist)

# %% [markdown]
# **6. To think about.** Apply the checklist to *this notebook*. Where does it fail? (A start: the
# measures of explanations were chosen by us, after we had read the paper. How could one choose them
# before?)
#
# ## Further reading
#
# - Z. C. Lipton, *The Mythos of Model Interpretability*, Communications of the ACM 61(10), 2018:
#   what people mean by the word.
# - F. Doshi-Velez and B. Kim, *Towards A Rigorous Science of Interpretable Machine Learning*, 2017:
#   tests with people, and without.
# - J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt and B. Kim, *Sanity Checks for
#   Saliency Maps*, NeurIPS 2018.
# - W. Samek, A. Binder, G. Montavon, S. Lapuschkin and K.-R. Müller, *Evaluating the Visualization
#   of What a Deep Neural Network Has Learned*, IEEE Transactions on Neural Networks and Learning
#   Systems 28(11), 2017: pixel flipping.
# - Y. Rong, T. Leemann, V. Borisov, G. Kasneci and E. Kasneci, *A Consistent and Efficient
#   Evaluation Strategy for Attribution Methods*, ICML 2022: ROAD.
# - A. S. Ross, M. C. Hughes and F. Doshi-Velez, *Right for the Right Reasons*, IJCAI 2017: the
#   decoys.
# - X. Glorot, A. Bordes and Y. Bengio, *Deep Sparse Rectifier Neural Networks*, AISTATS 2011: the
#   L1 penalty on activations.
# - Z. C. Lipton and J. Steinhardt, *Troubling Trends in Machine Learning Scholarship*, 2018: more
#   for the checklist.
