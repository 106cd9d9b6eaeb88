"""Slides of the second session: the FBI loss, its gradient, and the training."""

from __future__ import annotations

from typing import Any

import numpy as np
from minifbi import fbi_terms, forward_pass, relevance_pass
from minifbi.autograd import Tensor
from minifbi.plots import plot_scheme

from slides_material import float64, passes
from slides_page import BLUE, GREEN, GREY, HIGH, ORANGE, RED, WIDE, Deck


def second_session(deck: Deck, material: Any) -> None:
    """The pages of the session."""
    deck.begin(
        "Session 2",
        "Train for it",
        [
            "relevance is activation times gradient",
            "the FBI loss, Eq. (3) and (4)",
            "the adjoint of the relevance pass",
            "three-step training, and the gate",
        ],
    )
    theorem(deck, material)
    proof(deck)
    loss(deck)
    price(deck, material)
    scheme(deck, material)
    adjoints(deck)
    checked(deck)
    costs(deck)
    gate(deck, material)
    effect(deck, material)
    deck.page("To discuss")
    deck.points(
        [
            "The first term compares the image with its relevance. What can training do about it?",
            "Why does the loss wait until the accuracy exceeds 70 %?",
            "With ‘mean’ instead of ‘sum’ in Eq. (3), the same λ does nothing. Why?",
            "The gradients of a trained net are near 0. What is the FBI loss close to, then?",
        ],
        gap=1.0,
    )


def theorem(deck: Deck, material: Any) -> None:
    deck.page("An experiment: relevance against gradient")
    net = float64(material.conventional.model)
    images, labels = material.images[:20].astype(np.float64), material.labels[:20]
    x = Tensor(images, requires_grad=True)
    steps = forward_pass(net, x)
    steps[-1].z[np.arange(len(labels)), labels].sum().backward()
    relevance = relevance_pass(steps, "target", labels)["conv1"].numpy()
    product = images * x.grad
    ax = deck.axes(1.5, 1.2, 5.0, 4.9)
    ax.plot(product.ravel(), relevance.ravel(), "o", color=BLUE, markersize=4)
    ax.set(xlabel="pixel × gradient of the logit", ylabel="relevance of the pixel")
    deck.text("20 test digits, all pixels.", 5.6, 7.4)
    deck.text(f"Largest difference: {np.abs(relevance - product).max():.1e}", 4.9, 7.4)
    deck.text(
        r"$\mathbf{a}_i^- = \mathbf{a}_{i-1}^+ \odot \mathbf{g}_i$", 3.6, 7.4, size=40, color=RED
    )
    deck.text(
        "LRP-0 in a net of ReLU\nis activation × gradient,\nwith biases and without.", 2.5, 7.4
    )


def proof(deck: Deck) -> None:
    deck.page("The proof: the ratio is a gradient")
    deck.table(
        [
            ["", "relevance pass", "gradient of the logit"],
            ["at the logit", "ratio 1", "derivative 1"],
            [
                "through the weights",
                r"$W^\top \mathbf{r}$",
                r"$W^\top\, \partial e/\partial \mathbf{z}$",
            ],
            [
                "through the ReLU",
                r"$\mathbf{1}[a > 0] \odot \mathbf{r}$",
                r"$f'(z) \odot \mathbf{g}$",
            ],
            ["another f", r"factor $f(z)/z$", r"factor $f'(z)$"],
        ],
        [4.0, 4.2, 4.2],
        height=0.85,
        size=24,
    )
    deck.text("Line by line the same, as long as  $f(z) = z\\, f'(z)$. For tanh it is not.", 1.3)


def loss(deck: Deck) -> None:
    deck.page("The FBI loss: forward and backward should agree")
    deck.text(
        r"$L_{FBI} = \frac{1}{K} \sum_{i=1}^{K} L_1(\mathbf{a}_{i-1}^+,\ \mathbf{a}_i^-)$  Eq. (3)",
        5.6,
        size=30,
    )
    deck.text(
        r"$L = (1 - \lambda)\, L_{TSK} + \lambda\, L_{FBI}, \qquad \lambda = 0.001$     Eq. (4)",
        4.3,
        size=30,
    )
    deck.text("In a net of ReLU, with the theorem:", 3.0)
    deck.text(r"$L_{FBI} = \frac{1}{K} \sum_i\ \sum_{units}\ a\ |1 - g|$", 2.2, size=30, color=RED)
    deck.text("Each unit pays its activation, at the price |1 − g|.", 1.1)


def price(deck: Deck, material: Any) -> None:
    deck.page("The price |1 − g|, and what a trained net pays")
    ax = deck.axes(1.2, 1.3, 4.6, 4.6)
    g = np.linspace(-1, 3, 200)
    ax.plot(g, np.abs(1 - g), color=RED, lw=3)
    ax.set(xlabel="g, gradient of the logit at the unit", ylabel="price of one unit of activation")
    ax.annotate(
        "be worth exactly one",
        (1, 0),
        (-0.05, 1.75),
        size=16,
        ha="left",
        arrowprops={"arrowstyle": "->", "color": GREY},
    )
    ax.annotate(
        "or be silent",
        (0, 1),
        (-0.95, 0.35),
        size=16,
        arrowprops={"arrowstyle": "->", "color": GREY},
    )
    ax = deck.axes(7.3, 1.75, 5.3, 4.15)
    steps, relevances = passes(material.conventional.model, material.images, material.labels)
    x = {step.name: step.x.numpy() for step in steps}
    places = np.arange(len(relevances))
    boxes = []
    for name, relevance in relevances.items():
        on = x[name] > 0
        boxes.append(np.abs(1 - relevance[on] / x[name][on]))
    ax.boxplot(
        boxes,
        positions=places,
        whis=(5, 95),
        showfliers=False,
        widths=0.6,
        medianprops={"color": RED, "lw": 2},
    )
    ax.set_xticks(places, list(relevances), rotation=45)
    ax.axhline(1, color=GREY, lw=1, ls="--")
    ax.set_ylim(0, None)
    ax.set_title("price of active units, conventional net", size=17)
    deck.text(
        "box: middle half of the units; whiskers: 5 to 95 %; dashed: what a plain L1 penalty asks",
        0.62,
        size=13,
        x=4.0,
        color=GREY,
    )


def scheme(deck: Deck, material: Any) -> None:
    deck.page("One training step: three passes")
    figure = plot_scheme(material.fbi.model, material.digit[0], int(material.labels[0]))
    figure.set_dpi(220)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())
    width = WIDE - 0.8
    height = width * drawn.shape[0] / drawn.shape[1]
    ax = deck.axes(0.4, (HIGH - height) / 2 - 0.1, width, height)
    ax.imshow(drawn, aspect="auto")
    ax.axis("off")


def adjoints(deck: Deck) -> None:
    deck.page("Backward through both passes: the closed trio")
    deck.table(
        [
            ["pass", "what it computes", "adjoint: at the input", "at the weights"],
            ["forward", "z = conv(x, W) + b", "conv_T(G, W)", "conv_W(x, G)"],
            ["relevance", "c = conv_T(r, W)", "conv(U, W)", "conv_W(U, r)"],
        ],
        [2.0, 3.8, 3.9, 2.4],
        height=0.85,
        size=22,
    )
    deck.points(
        [
            "G: gradient at z.   U: gradient at c.",
            "The adjoint of the relevance pass is a forward pass with the same weights.",
            "The weights get two gradients, one through each pass; the tape adds them.",
            "Forget one, and training still runs. On another loss.",
        ],
        y=3.2,
        gap=0.68,
    )


def checked(deck: Deck) -> None:
    from minifbi import check_gradients, fbi_loss
    from minifbi.layers import Dense, ReLU, Sequential

    deck.page("A gradient is believed when it has been checked")
    rng = np.random.default_rng(0)
    net = Sequential(
        {
            "dense1": Dense(6, 5, rng=rng, dtype=np.float64),
            "relu": ReLU(),
            "dense2": Dense(5, 3, rng=rng, dtype=np.float64),
        }
    )
    x, labels = rng.random((4, 6)), np.array([0, 1, 2, 1])

    def both(cut: bool) -> Any:
        steps = forward_pass(net, x)
        found = relevance_pass(steps, "target", labels)
        if cut:
            found = {name: tensor.detach() for name, tensor in found.items()}
        return fbi_loss(fbi_terms(steps, found))

    rows = [["parameter", "both passes", "relevance as a constant"]]
    reports = [
        check_gradients(lambda cut=cut: both(cut), net.parameters(), raises=False)
        for cut in (False, True)
    ]
    for name in net.parameters():
        texts = [
            f"error {report.errors[name]:.0e}"
            + ("   wrong" if name in report.wrong else "   right")
            if name in report.errors
            else "not tested"
            for report in reports
        ]
        rows.append([name, *texts])
    deck.table(rows, [4.0, 4.2, 4.2], height=0.8, size=22)
    deck.text(
        "The gradient of L_FBI against differences along random directions (float64).\n"
        "The loss has the same value in both columns.",
        1.6,
        size=18,
        color=GREY,
    )


def costs(deck: Deck) -> None:
    deck.page("What it costs")
    ax = deck.axes(4.0, 2.0, 8.3, 3.8)
    parts = {
        "conventional": [("forward", 1, BLUE), ("gradients", 2, GREY)],
        "three steps": [
            ("forward", 1, BLUE),
            ("relevance", 1, RED),
            ("its adjoint", 2, ORANGE),
            ("gradients", 2, GREY),
        ],
    }
    for row, (title, bars) in enumerate(parts.items()):
        left = 0
        for name, width, color in bars:
            ax.barh(-row, width, left=left, color=color, edgecolor="white", height=0.6)
            ax.text(left + width / 2, -row, name, ha="center", va="center", color="white", size=17)
            left += width
        ax.text(-0.15, -row, title, ha="right", va="center", size=19)
    ax.set(yticks=[], xlabel="in units of one forward pass (multiply-adds)", xlim=(0, 6.2))
    ax.spines["left"].set_visible(False)
    deck.text(
        "Twice the arithmetic is the floor; everything above it is overhead.",
        1.0,
        x=4.0,
        size=19,
        color=GREEN,
    )


def gate(deck: Deck, material: Any) -> None:
    deck.page("The gate: first learn something, then regularize")
    ax = deck.axes(1.3, 1.3, 11.2, 4.7)
    for trainer, color, title in (
        (material.conventional, BLUE, "conventional"),
        (material.fbi, RED, "FBI"),
    ):
        history = trainer.history
        steps, values = np.array(history["step"]), np.array(history["penalty"], float)
        known = np.isfinite(values)
        ax.plot(steps[known], values[known], "o-", ms=4, color=color, lw=2, label=title)
    step = material.fbi.gate.step
    if step is not None:
        ax.axvline(step, color=GREY, ls="--", lw=1.5)
        ax.annotate(
            f"gate opens, step {step}:\nvalidation accuracy > 70 %",
            (step, 0.74),
            xycoords=("data", "axes fraction"),
            xytext=(80, 0),
            textcoords="offset points",
            size=16,
            va="top",
        )
    ax.set(xlabel="training step", ylabel="$L_{FBI}$ of the batch", yscale="log")
    ax.legend(fontsize=17, frameon=False, loc="center right", bbox_to_anchor=(1, 0.7))


def effect(deck: Deck, material: Any) -> None:
    deck.page("What it did: each layer's term of Eq. (3)")
    ax = deck.axes(1.3, 1.3, 11.2, 4.7)
    width = 0.38
    for k, (trainer, color, title) in enumerate(
        ((material.conventional, BLUE, "conventional"), (material.fbi, RED, "FBI"))
    ):
        steps = forward_pass(trainer.model, material.images)
        terms = fbi_terms(steps, relevance_pass(steps, "target", material.labels))
        values = [term.item() for term in terms.values()]
        ax.bar(
            np.arange(len(values)) + (k - 0.5) * width,
            values,
            width,
            color=color,
            label=f"{title}, validation accuracy {trainer.run.best['val_accuracy']:.3f}",
        )
        ax.set_xticks(range(len(values)), list(terms))
    ax.set_ylabel("$L_1(a_{i-1}^+, a_i^-)$, mean of 200 test digits")
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
    ax.legend(fontsize=17, frameon=False, loc="upper left")
