"""The three-step scheme as a drawing of a real network, in the style of the paper's Fig. 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray

from minifbi.autograd import cross_entropy, no_grad
from minifbi.fbi import fbi_loss, fbi_terms, forward_pass, objective
from minifbi.fbi import relevance_pass as relevance_of
from minifbi.layers import AvgPool2d, Conv2d, Dense, MaxPool2d, Sequential, Step
from minifbi.plots.figure import new_figure
from minifbi.switch import evaluating

# All lengths in inches, from the left and from the bottom.
COLUMN, EDGE, PICTURE = 1.72, 0.75, 0.78
FORWARD, TERMS, BACKWARD = 3.5, 2.4, 1.3  # height of each row's middle
HEIGHT = 4.9
STRIP = 0.22  # width of a vector
BLUE, RED, GREY = "#1f5fa8", "#b3261e", "#444444"


def plot_scheme(
    model: Sequential,
    image: Any,
    label: int,
    *,
    fbi_weight: float = 0.001,
    colorblind: bool = False,
) -> Figure:
    """Draw the forward pass, the relevance pass, and the loss that joins them.

    All shapes, values, L1 terms of Eq. (3) and losses of Eq. (4) are computed from the network
    and the image.  A map is drawn as the mean over its channels, a vector as a strip.

    Parameters
    ----------
    model : Sequential
        With at least one convolution or dense layer.
    image : array, shape (C, H, W)
        Pixels in [0, 1].
    label : int
        The true class; the relevance pass starts from its logit.
    fbi_weight : float
        lambda of Eq. (4).
    colorblind : bool
        Viridis and purple-orange instead of green-red and red-blue.

    Returns
    -------
    Figure
        One axes for the drawing.

    Raises
    ------
    MinifbiError
        If an argument does not fit the model.
    """
    with evaluating(model), no_grad():
        steps = forward_pass(model, np.asarray(image)[None])
        relevances = relevance_of(steps, "target", [label])
        terms = fbi_terms(steps, relevances)
        task, fbi = cross_entropy(steps[-1].z, [label]), fbi_loss(terms)
        total = objective(task, fbi, fbi_weight).item()
    parts = _parts(steps)
    count = len(parts)
    width = EDGE + count * COLUMN + 2.85
    figure = new_figure(width, HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1), label="scheme")
    axes.set(xlim=(0, width), ylim=(0, HEIGHT))
    axes.axis("off")
    pairs = [(part[0].x.numpy()[0], relevances[part[0].name].numpy()[0]) for part in parts]
    if pairs[0][0].size == np.asarray(image).size:  # flattened first: show it as the image it is
        pairs[0] = (np.asarray(image), pairs[0][1].reshape(np.asarray(image).shape))
    widths = [_width(forward) for forward, _ in pairs] + [STRIP]
    drawing = _Drawing(axes, ("viridis", "PuOr_r") if colorblind else ("RdYlGn_r", "RdBu_r"))
    for i, part in enumerate(parts, start=1):
        term = terms[part[0].name].item()
        drawing.column(i, _describe(part), *pairs[i - 1], term, widths[i])
    drawing.output(count, steps[-1].z.numpy()[0], label, task.item())
    drawing.legend(width, count, fbi.item(), total, fbi_weight)
    return figure


def _parts(steps: list[Step]) -> list[list[Step]]:
    """The steps, cut before each functional layer: one part per term of Eq. (3)."""
    parts: list[list[Step]] = []
    for step in steps:
        if step.layer.functional:
            parts.append([])
        if parts:
            parts[-1].append(step)
    return parts


def _describe(part: list[Step]) -> str:
    """What the layers of one part do, in a few lines."""
    lines = []
    for step in part:
        layer = step.layer
        if isinstance(layer, Conv2d):
            kh, kw = layer.kernel_size
            lines += [step.name, f"{layer.out_channels} of {kh}x{kw}"]
        elif isinstance(layer, Dense):
            lines += [step.name, f"{step.z.shape[1]} units"]
        elif isinstance(layer, (MaxPool2d, AvgPool2d)):
            lines.append("max pool" if isinstance(layer, MaxPool2d) else "avg pool")
        elif layer.functional:
            lines.append(step.name)
        else:
            lines.append(type(layer).__name__)
    return "\n".join(lines)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def _width(values: NDArray[Any]) -> float:
    """How wide a picture of an activation is drawn."""
    return STRIP if values.ndim == 1 else PICTURE * min(1.0, values.shape[2] / values.shape[1])


class _Drawing:
    """Puts the pieces of the scheme on one axes, in inches."""

    def __init__(self, axes: Axes, colors: tuple[str, str]) -> None:
        self.axes, (self.heat, self.signed) = axes, colors

    def picture(self, x: float, y: float, values: NDArray[Any], signed: bool) -> float:
        """Values around (x, y); returns half the width that they take."""
        flat = values.ndim == 1
        shown = values[:, None] if flat else values.mean(axis=0)  # (F, 1), or (H, W)
        h, w = shown.shape
        tall = PICTURE * (1.0 if flat else min(1.0, h / w))
        wide = _width(values)
        limit = float(np.abs(shown).max()) or 1.0
        box = (x - wide / 2, x + wide / 2, y - tall / 2, y + tall / 2)
        self.axes.imshow(
            shown,
            cmap=self.signed if signed else self.heat,
            vmin=-limit if signed else 0,
            vmax=limit,
            extent=box,
            aspect="auto",
            interpolation="nearest",
            zorder=2,
        )
        return wide / 2

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], color: str, style: str
    ) -> None:
        self.axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle=style, mutation_scale=13, color=color, lw=1.4, zorder=1
            )
        )

    def box(self, x: float, y: float, text: str, color: str) -> None:
        """Text in a rounded frame, drawn over its arrow."""
        self.axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=color,
            linespacing=1.2,
            zorder=4,
            bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": color, "lw": 0.9},
        )

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        self.axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": 9, **options})

    def column(
        self,
        i: int,
        layer: str,
        forward: NDArray[Any],
        relevance: NDArray[Any],
        term: float,
        next_width: float,
    ) -> None:
        """Layer i: its input above, the relevance there below, and the distance of the two."""
        x, following = EDGE + (i - 1) * COLUMN, EDGE + i * COLUMN
        half = self.picture(x, FORWARD, forward, signed=False)
        self.picture(x, BACKWARD, relevance, signed=True)
        size, above = _size(forward.shape), PICTURE / 2 + 0.13
        name = "image " if i == 1 else ""
        self.text(x, FORWARD + above + 0.22, rf"$a_{{{i - 1}}}^+$", fontsize=15, color=BLUE)
        self.text(x, FORWARD + above, name + size, fontsize=10, color=GREY)
        self.text(x, BACKWARD - above, size, fontsize=10, color=GREY)
        self.text(x, BACKWARD - above - 0.24, rf"$a_{{{i}}}^-$", fontsize=15, color=RED)
        begin, end = x + half + 0.03, following - next_width / 2 - 0.03
        self.arrow((begin, FORWARD), (end, FORWARD), BLUE, "-|>")
        self.arrow((end, BACKWARD), (begin, BACKWARD), RED, "-|>")
        self.box((begin + end) / 2 - 0.03, FORWARD, layer, BLUE)
        self.box((begin + end) / 2 + 0.03, BACKWARD, rf"$W_{{{i}}}^T$", RED)
        self.arrow((x, FORWARD - 0.44), (x, BACKWARD + 0.44), GREY, "<|-|>")
        self.box(x, TERMS, rf"$L_1(a_{{{i - 1}}}^+, a_{{{i}}}^-)$" + f"\n= {term:.3g}", GREY)

    def output(self, count: int, logits: NDArray[Any], label: int, task: float) -> None:
        """The logits, the task loss, and where the relevance pass starts."""
        x = EDGE + count * COLUMN
        ratio = np.zeros_like(logits)
        ratio[label] = logits[label]
        above = PICTURE / 2 + 0.13
        for y, values in ((FORWARD, logits), (BACKWARD, ratio)):
            self.picture(x, y, values, signed=True)
        self.text(x, FORWARD + above + 0.22, rf"$a_{{{count}}}^+$", fontsize=15, color=BLUE)
        self.text(x, FORWARD + above, f"logits {len(logits)}", fontsize=10, color=GREY)
        self.text(x, BACKWARD - above, "start", fontsize=10, color=GREY)
        self.text(x, BACKWARD - above - 0.24, rf"$a_{{{count + 1}}}^-$", fontsize=15, color=RED)
        self.arrow((x, FORWARD - 0.44), (x, BACKWARD + 0.44), RED, "-|>")
        self.box(x, TERMS, f"logit of\nclass {label}\n= {logits[label]:.3g}", RED)
        self.arrow((x + 0.14, FORWARD), (x + 0.75, FORWARD), BLUE, "-|>")
        self.box(x + 1.45, FORWARD, r"$L_{TSK}$" + f" = {task:.3g}", BLUE)

    def legend(self, width: float, count: int, fbi: float, total: float, weight: float) -> None:
        """The three steps by name, and what is minimised."""
        x = EDGE + count * COLUMN + 1.45
        size = 12 if width > 10 else 10  # two of the lines share the bottom
        left = {"ha": "left", "fontsize": size, "fontweight": "bold"}
        self.text(0.3, HEIGHT - 0.2, "step 1: forward pass, Eq. (1)  →", color=BLUE, **left)
        self.text(0.3, 0.2, "step 2: relevance pass, Eq. (2)  ←", color=RED, **left)
        self.axes.text(
            width - 0.3,
            0.2,
            "step 3: backward pass of L through both passes, Eq. (5)",
            ha="right",
            va="center",
            fontsize=size,
            fontweight="bold",
            color=GREY,
        )
        self.arrow((x, FORWARD - 0.25), (x, TERMS + 0.49), GREY, "-|>")
        self.arrow((x, BACKWARD + 0.3), (x, TERMS - 0.48), GREY, "-|>")
        self.axes.add_patch(
            FancyBboxPatch(
                (x - 0.97, TERMS - 0.42),
                2.15,
                0.84,
                boxstyle="round,pad=0.05",
                facecolor="#f4f4f4",
                edgecolor=GREY,
            )
        )
        self.text(
            x + 0.1,
            TERMS,
            r"$L = (1-\lambda)\,L_{TSK} + \lambda\,L_{FBI}$"
            + f"\n= {total:.3g}\n"
            + rf"$\lambda$ = {weight:g}",
            fontsize=10.5,
        )
        self.box(
            x + 0.1,
            BACKWARD,
            rf"$L_{{FBI}} = \frac{{1}}{{{count}}}\,\Sigma_i\,L_1(a_{{i-1}}^+, a_i^-)$"
            + f"\n= {fbi:.3g}",
            GREY,
        )
