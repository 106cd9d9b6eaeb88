"""Slides of the first session: from a tape to the relevance of a trained network."""

from __future__ import annotations

from typing import Any

import numpy as np
from minifbi.explain import conservation_report

from slides_material import float64, passes
from slides_page import BLUE, GREEN, GREY, ORANGE, RED, Deck, arrow, box, draw_net


def opening(deck: Deck) -> None:
    """Title, and the way through the three sessions."""
    deck.session = "minifbi"
    deck.page("")
    deck.text("Relevance in the training loop", 5.3, size=44, weight="bold")
    deck.text(
        "Three sessions with minifbi on the paper of Yoo, Kim and Kang,\n"
        "Relevance Regularization of Convolutional Neural Network\n"
        "for Interpretable Classification (CVPR Workshops 2019)",
        4.2,
        size=24,
    )
    deck.page("Three sessions, three questions")
    deck.table(
        [
            ["", "question", "at the end you can"],
            ["1", "Which inputs made the answer?", "propagate relevance by hand and by program"],
            ["2", "Can one train for it?", "derive the FBI loss and check its gradient"],
            ["3", "Is it more interpretable?", "test the claim, and build your own"],
        ],
        [0.7, 5.2, 6.2],
        height=0.9,
        size=19,
        y=5.4,
    )


def first_session(deck: Deck, material: Any) -> None:
    """Pages 3 to 13 or so."""
    deck.begin(
        "Session 1",
        "Who made the answer?",
        [
            "a tape, and why its order matters",
            "a convolution and its two partners",
            "the forward pass, Eq. (1)",
            "the relevance pass, Eq. (2)",
        ],
    )
    two_networks(deck, material)
    tape(deck)
    trio(deck)
    forward(deck, material)
    one_unit(deck)
    small_net(deck)
    ratio(deck)
    way_down(deck, material)
    bookkeeping(deck, material)
    deck.page("To discuss")
    deck.points(
        [
            "A heatmap lies on the ink only. Does the network ignore the background?",
            "A bias takes relevance away. Where has it gone? Is that a fault?",
            "Relevance 0, or relevance +5 and −5 that cancel: the same explanation?",
            "What would you show a physician: activations or relevance?",
        ],
        gap=1.0,
    )


def two_networks(deck: Deck, material: Any) -> None:
    deck.page("The same digit: which network can you read?")
    shown = {}
    for title, trainer in (("A", material.conventional), ("B", material.fbi)):
        steps = trainer.model.trace(material.digit)
        shown[title] = [
            step.z.numpy()[0] for step in steps if step.name in ("relu_conv1", "relu_conv3")
        ]
    for column, (title, layers) in enumerate(shown.items()):
        left = 0.6 + 6.3 * column
        accuracy = (material.conventional, material.fbi)[column].run.best["val_accuracy"]
        deck.text(f"{title}   accuracy {accuracy:.1%}", 5.55, left, 20, weight="bold")
        bottom = 0.8
        for maps, columns in zip(reversed(layers), (8, 8), strict=True):
            bottom += deck.tiles(maps, left, bottom, 5.4, columns, float(maps.max())) + 0.12
    deck.text(
        "first convolution (top), third (below); each layer of each network has its own range",
        0.45,
        size=12,
        x=4.2,
        color=GREY,
    )


def tape(deck: Deck) -> None:
    deck.page("A tape writes down what was computed")
    ax = deck.canvas(0.6, 2.6, 12.1, 3.4)
    box(ax, 1.0, 1.7, 1.4, 0.9, "x", BLUE, 22)
    box(ax, 4.4, 2.7, 2.2, 0.9, "u = 2 x", BLUE, 20)
    box(ax, 4.4, 0.7, 2.2, 0.9, "v = x²", BLUE, 20)
    box(ax, 8.2, 1.7, 2.2, 0.9, "y = u v", BLUE, 20)
    for start, end in (
        ((1.75, 1.9), (3.25, 2.6)),
        ((1.75, 1.5), (3.25, 0.8)),
        ((5.55, 2.6), (7.05, 1.9)),
        ((5.55, 0.8), (7.05, 1.5)),
    ):
        arrow(ax, start, end, BLUE)
        arrow(ax, (end[0] + 0.02, end[1] + 0.22), (start[0] + 0.02, start[1] + 0.22), RED)
    ax.text(9.7, 2.15, "forward", color=BLUE, size=20)
    ax.text(9.7, 1.15, "backward", color=RED, size=20)
    deck.points(
        [
            "Backward, x must wait until both u and v have reported.",
            "Pass on too early, and part of the gradient is lost: no error, just a wrong number.",
        ],
        y=2.1,
        gap=0.75,
    )


def trio(deck: Deck) -> None:
    deck.page("A convolution has two partners")
    rng = np.random.default_rng(1)
    x = np.zeros((7, 7))
    x[1:6, 3] = 1
    x[1, 2:5] = 1
    kernel = rng.integers(-2, 3, (3, 3)).astype(float)
    z = np.array([[(x[i : i + 3, j : j + 3] * kernel).sum() for j in range(5)] for i in range(5)])
    back = np.zeros((7, 7))
    for i in range(5):
        for j in range(5):
            back[i : i + 3, j : j + 3] += z[i, j] * kernel
    weight = np.array([[(x[i : i + 5, j : j + 5] * z).sum() for j in range(3)] for i in range(3)])
    for k, (title, parts, names) in enumerate(
        (
            ("conv(x, W)", (x, kernel, z), ("x", "W", "z")),
            ("conv_T(g, W)", (z, kernel, back), ("g", "W", "at x")),
            ("conv_W(x, g)", (x, z, weight), ("x", "g", "at W")),
        )
    ):
        bottom = 4.55 - 1.85 * k
        deck.text(title, bottom + 0.75, size=23, family="monospace")
        for m, (part, name) in enumerate(zip(parts, names, strict=True)):
            deck.signed(part, 4.3 + 2.0 * m, bottom, 1.4, name)
        use = ("forward", "relevance, gradient at x", "gradient at the weights")[k]
        deck.text(use, bottom + 0.75, 10.1, 19, color=GREY)
    deck.text(
        "Forward, relevance and all their gradients need these three and no more.",
        0.55,
        size=15,
        x=3.2,
    )


def forward(deck: Deck, material: Any) -> None:
    deck.page("Step 1: forward, and keep every activation")
    deck.text(r"$\mathbf{a}_i^+ = f(\mathbf{a}_{i-1}^+,\ \mathbf{w}_i)$     Eq. (1)", 6.1, size=28)
    steps = material.conventional.model.trace(material.digit)
    kept = [s for s in steps if s.layer.functional]
    left = 0.6
    for step in kept:
        values = step.x.numpy()[0]
        if values.ndim == 3:
            size = 0.55 + 1.2 * values.shape[1] / 28
            deck.picture(values.mean(axis=0), left, 3.4 - size / 2, size, cmap="viridis")
        else:
            deck.picture(values[:, None], left - 0.6, 2.5, 1.8, cmap="viridis", aspect="auto")
            size = 0.6
            ax = deck.figure.axes[-1]
            place = ax.get_position()
            ax.set_position((left / 13.333, place.y0, 0.25 / 13.333, place.height))
        deck.text(f"{step.name}\n{' × '.join(map(str, values.shape))}", 1.7, left - 0.05, 13)
        left += max(size, 0.85) + 0.5
    deck.text(
        "the input of each of the K = 8 layers, for a test digit (maps: mean over the channels)",
        0.85,
        size=16,
        color=GREY,
    )


def one_unit(deck: Deck) -> None:
    deck.page("One unit shares out what it got")
    x, w, relevance = np.array([3.0, 2.0, 4.0]), np.array([2.0, -1.0, 0.5]), 12.0
    c = w * x
    deck.table(
        [
            ["input x", "weight W", "contribution c = W x", "share of 12"],
            *[
                [f"{a:g}", f"{b:g}", f"{d:g}", f"{d / c.sum() * relevance:g}"]
                for a, b, d in zip(x, w, c, strict=True)
            ],
            ["", "", f"z = {c.sum():g}", f"{relevance:g}"],
        ],
        [2.2, 2.4, 5.0, 2.8],
        height=0.72,
        size=25,
    )
    deck.points(
        [
            "Each input gets the share that it contributed. Nothing is lost.",
            f"One number does it: the ratio r = R / z = {relevance / c.sum():g}.",
        ],
        y=1.7,
        gap=0.7,
    )


def small_net(deck: Deck) -> None:
    """The net with its weights, to work on; then the same with the answer."""
    W1, W2 = np.array([[1.0, 1.0], [2.0, -1.0], [-1.0, 1.0]]), np.array([[2.0, 1.0, 5.0]])
    a0 = np.array([2.0, 1.0])
    a1 = np.maximum(W1 @ a0, 0)
    r1 = (a1 > 0) * W2[0]
    R1, R0, y = a1 * W2[0], a0 * (W1.T @ r1), W2 @ a1
    inner = [(("in", i), ("hid", j), W1[j, i]) for i in range(2) for j in range(3)]
    outer = [(("hid", j), ("out", 0), W2[0, j]) for j in range(3)]

    deck.page("A net with a pencil")
    units = {("in", i): (f"{a0[i]:g}", "?") for i in range(2)} | {("out", 0): ("?", "")}
    units |= {("hid", j): ("?", "?") for j in range(3)}
    draw_net(deck, [(low, high, w, GREY, 2.0) for low, high, w in inner + outer], units)
    deck.text(
        "on the edges: weights; ReLU in the hidden units, no biases. "
        "First forward, then hand the output down.",
        0.72,
        size=16,
        x=1.4,
    )

    deck.page("The answer")
    messages = [(low, high, w * a0[low[1]] * r1[high[1]]) for low, high, w in inner]
    messages += [(low, high, R1[low[1]]) for low, high, _ in outer]
    edges = [
        (low, high, m, RED if m > 0 else BLUE if m < 0 else "#cccccc", 1 + abs(m))
        for low, high, m in messages
    ]
    units = {("in", i): (f"{a0[i]:g}", f"{R0[i]:g}") for i in range(2)}
    units |= {("hid", j): (f"{a1[j]:g}", f"{R1[j]:g}") for j in range(3)}
    units[("out", 0)] = (f"{y[0]:g}", f"{y[0]:g}")
    draw_net(deck, edges, units)
    deck.text(
        "grey: activation, forward     bold: relevance, back     red: for, blue: against",
        0.72,
        size=16,
        x=2.4,
    )


def ratio(deck: Deck) -> None:
    deck.page("Step 2: Eq. (2), and why nothing is divided")
    deck.text(
        r"$\mathbf{a}_i^- = \mathbf{a}_{i-1}^+ \odot W_i^\top\,"
        r"\frac{\mathbf{a}_{i+1}^-}{\mathbf{a}_i^+}$     Eq. (2)",
        5.7,
        size=32,
    )
    deck.text(
        "One layer multiplies by $\\mathbf{a}^+$, the next divides by it. Carry the ratio instead:",
        4.4,
    )
    deck.text(
        r"$\mathbf{r}_{i-1} = \mathbf{1}[\mathbf{a}_{i-1}^+ > 0] \odot W_i^\top \mathbf{r}_i$"
        r"$,\qquad \mathbf{a}_i^- = \mathbf{a}_{i-1}^+ \odot W_i^\top \mathbf{r}_i$",
        3.5,
        size=28,
    )
    deck.points(
        [
            "0/0 = 0: where nothing went forward, nothing comes back.",
            "In float32 the divided form spoils the gradients; the ratio does not.",
        ],
        y=2.1,
    )


def way_down(deck: Deck, material: Any) -> None:
    deck.page("Relevance walks down a trained network")
    chosen = [int(np.flatnonzero(material.labels == c)[0]) for c in (7, 4, 0)]
    _, relevances = passes(
        material.conventional.model, material.images[chosen], material.labels[chosen]
    )
    convs = [name for name in relevances if name.startswith("conv")]
    for row, index in enumerate(chosen):
        bottom = 4.55 - 1.72 * row
        deck.picture(
            material.images[index, 0],
            0.6,
            bottom,
            1.58,
            cmap="gray",
            title="digit" if row == 0 else "",
        )
        for column, name in enumerate(convs):
            deck.signed(
                relevances[name][row].sum(axis=0),
                2.7 + 2.05 * column,
                bottom,
                1.58,
                f"input of {name}" if row == 0 else "",
            )
    deck.text(
        "read from right to left; red: for the class, blue: against; each map has its own range",
        0.72,
        size=15,
        x=2.6,
        color=GREY,
    )


def bookkeeping(deck: Deck, material: Any) -> None:
    deck.page("Where does relevance go?")
    report = conservation_report(
        float64(material.conventional.model),
        material.images[:100].astype(np.float64),
        material.labels[:100],
    )
    layers = [layer for layer in report.layers if layer.rule != "passes on"]
    ax = deck.axes(1.6, 1.9, 11.0, 4.1)
    places = np.arange(len(layers) + 1)
    arrives = [report.layers[0].above.mean(), *(layer.below.mean() for layer in layers)]
    ax.bar(places, arrives, color=[GREY, *[BLUE] * len(layers)], width=0.55)
    ax.bar(places[1:] + 0.33, [layer.bias.mean() for layer in layers], color=ORANGE, width=0.16)
    ax.set_xticks(places, ["logit", *(layer.name for layer in layers)])
    ax.set_ylabel("sum of relevance")
    ax.axhline(0, color=GREY, lw=1)
    deck.text("blue: arrives at the input of the layer", 6.3, 1.7, 16, color=BLUE)
    deck.text("orange: absorbed by its bias", 6.3, 7.4, 16, color=ORANGE)
    kept = sum(layer.bias.mean() for layer in layers)
    deck.text(
        f"logit {arrives[0]:.2f}  =  {arrives[-1]:.2f} at the pixels  +  {kept:.2f} in the biases"
        "   (mean of 100 test digits)",
        1.15,
        size=18,
        color=GREEN,
    )
