"""Draw the pictures of docs/engine.md, as SVG, from what the engine does.

    python docs/drawings.py            # write docs/images/tape.svg and trio.svg

The picture of the tape is read off a tape: a net of two dense layers is trained for one step,
and each entry that it wrote becomes a box, each tensor that went in an arrow.  A test draws it
again and compares, so a change of the engine that the picture does not show is noticed.
"""

# ruff: noqa: RUF001  # minus signs are meant as such

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from minifbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.autograd import Tensor, cross_entropy
from minifbi.autograd.tensor import backward_order
from minifbi.layers import Dense, ReLU, Sequential

IMAGES = Path(__file__).parent / "images"
INK, FORWARD, BACK, LOSS, WEIGHT = "#222222", "#cfe3f3", "#fbd9b5", "#e4e4e4", "#d3ead2"
FONT = 'font-family="Helvetica, Arial, sans-serif"'

# where the entries of the tape stand in the picture: column, row, text, colour
PLACES = {
    "x": (70, 60, "image\nx = a₀⁺", "#ffffff"),
    "W1": (215, 145, "W₁", WEIGHT),
    "W2": (505, 145, "W₂", WEIGHT),
    "r": (612, 230, "start\nratio", "#ffffff"),
    "first.Dense": (215, 60, "Dense\nforward", FORWARD),
    "ReLU": (360, 60, "ReLU\nforward", FORWARD),
    "second.Dense": (505, 60, "Dense\nforward", FORWARD),
    "cross_entropy": (690, 60, "cross_entropy\nL_TSK", LOSS),
    "second.Dense.relevance": (505, 230, "Dense\nrelevance", BACK),
    "ReLU.relevance": (360, 230, "ReLU\nrelevance", BACK),
    "first.Dense.relevance": (215, 230, "Dense\nrelevance", BACK),
    "first.l1_difference": (140, 330, "l1_difference\n|a₀⁺ − a₁⁻|", LOSS),
    "second.l1_difference": (430, 330, "l1_difference\n|a₁⁺ − a₂⁻|", LOSS),
    "fbi_loss": (285, 410, "fbi_loss\nL_FBI", LOSS),
    "objective": (690, 410, "objective\nL, Eq. (4)", LOSS),
}
WIDTH, HEIGHT = 112, 42


def tape() -> tuple[list[str], list[tuple[str, str]]]:
    """The tape of one three-step update of a small net.

    Returns
    -------
    entries : list of str
        Keys of `PLACES`.
    arrows : list of (str, str)
        What went into which entry.
    """
    rng = np.random.default_rng(0)
    net = Sequential(
        {
            "first": Dense(3, 4, bias=False, rng=rng, dtype=np.float64),
            "relu": ReLU(),
            "second": Dense(4, 2, bias=False, rng=rng, dtype=np.float64),
        }
    )
    x = Tensor(rng.random((2, 3)))
    steps = forward_pass(net, x)
    task = cross_entropy(steps[-1].z, [0, 1])
    terms = fbi_terms(steps, relevance_pass(steps, "target", [0, 1]))
    loss = objective(task, fbi_loss(terms), fbi_weight=0.001)

    weights = {id(p): f"W{i}" for i, p in enumerate(net.parameters().values(), start=1)}
    known: dict[int, str] = {id(x): "x", **weights}
    entries, arrows = [], []
    for tensor in reversed(backward_order(loss)):
        if tensor.node is None:
            continue
        inputs = [known.get(id(t), "constant") for t in tensor.node.inputs]
        name = _key(tensor.node.name, inputs)
        known[id(tensor)] = name
        if name == "second.Dense.relevance":
            inputs[0] = "r"  # a constant: it depends on the labels alone
        entries.append(name)
        arrows += [(source, name) for source in inputs if source != "constant"]
    # independent entries have no order of their own
    entries.sort(key=list(PLACES).index)
    return entries, sorted(arrows)


def _key(operation: str, inputs: list[str]) -> str:
    """Which entry this is: the operation, and for those that occur twice where it stands."""
    if operation.startswith("Dense"):
        return ("first." if "W1" in inputs else "second.") + operation
    if operation == "l1_difference":
        return ("first." if "x" in inputs else "second.") + operation
    return operation


# ---- SVG ---------------------------------------------------------------------------------
def text(x: float, y: float, lines: str, size: int = 13, **options: str) -> str:
    """Centred lines of text."""
    rows = lines.split("\n")
    extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in options.items())
    first = y - 0.5 * (len(rows) - 1) * (size + 3) + 0.36 * size
    return "".join(
        f'<text x="{x:g}" y="{first + i * (size + 3):g}" font-size="{size}" {FONT} '
        f'text-anchor="middle" fill="{INK}"{extra}>{escape(row)}</text>\n'
        for i, row in enumerate(rows)
    )


def box(name: str) -> str:
    """One entry; what is no entry (an image, weights) has round corners."""
    x, y, label, colour = PLACES[name]
    round_ = 20 if name in ("x", "W1", "W2", "r") else 4
    width = 76 if round_ == 20 else WIDTH
    return (
        f'<rect x="{x - width / 2:g}" y="{y - HEIGHT / 2:g}" width="{width}" height="{HEIGHT}" '
        f'rx="{round_}" fill="{colour}" stroke="{INK}"/>\n'
    ) + text(x, y, label)


def arrow(source: str, target: str) -> str:
    """From the edge of one box to the edge of another."""
    (x1, y1, _, _), (x2, y2, _, _) = PLACES[source], PLACES[target]
    half = {n: 38 if n in ("x", "W1", "W2", "r") else WIDTH / 2 for n in (source, target)}
    if source == "ReLU" and target == "second.l1_difference":  # around the relevance of the ReLU
        return path(f"M {x1 + 40} {y1 + 21} C 432 130, 430 210, {x2} {y2 - 22}")
    if source == "x" and target == "first.l1_difference":
        return path(f"M {x1} {y1 + 21} C 70 170, 110 240, {x2 - 20} {y2 - 22}")
    if y1 == y2:
        side = 1 if x2 > x1 else -1
        return path(f"M {x1 + side * half[source]:g} {y1} L {x2 - side * half[target]:g} {y2}")
    side = 1 if y2 > y1 else -1
    shift = 0.0 if x1 == x2 else (18 if x2 > x1 else -18)
    return path(f"M {x1 + shift:g} {y1 + side * 21} L {x2 - shift:g} {y2 - side * 21}")


def path(d: str) -> str:
    """A line with an arrowhead."""
    return (
        f'<path d="{d}" fill="none" stroke="{INK}" stroke-width="1.3" marker-end="url(#head)"/>\n'
    )


def svg(width: int, height: int, title: str, body: str) -> str:
    """A whole picture on white, which also is read aloud."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n<title>{escape(title)}</title>\n'
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        f'markerHeight="8" orient="auto"><path d="M 0 1 L 10 5 L 0 9 z" fill="{INK}"/></marker>'
        f'</defs>\n<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}</svg>\n'
    )


def draw_tape() -> str:
    """The tape of two passes and the objective."""
    entries, arrows = tape()
    body = "".join(arrow(*ends) for ends in arrows)
    body += "".join(box(name) for name in (*entries, "x", "W1", "W2", "r"))
    for y, label in ((60, "step 1"), (230, "step 2")):
        body += text(790, y, label, 14, font_weight="bold")
    body += text(790, 410, "step 3\nback from\nhere", 14, font_weight="bold")
    title = "The tape of one update: forward pass, relevance pass and objective"
    return svg(840, 455, title, body)


def draw_trio() -> str:
    """The three maps: any two of x, W and z give the third."""
    panels = (
        ("conv(x, W)", "z", "forward\nadjoint of relevance"),
        ("conv_T(g, W)", "x", "relevance\nadjoint of forward"),
        ("conv_W(x, g)", "W", "both adjoints"),
    )
    body = ""
    for i, (title, target, uses) in enumerate(panels):
        left = 20 + 270 * i
        corners = {"x": (left + 45, 150), "W": (left + 120, 75), "z": (left + 195, 150)}
        tx, ty = corners[target]
        body += text(left + 120, 25, title, 16, font_weight="bold")
        for name, (cx, cy) in corners.items():
            if name != target:
                dx, dy = tx - cx, ty - cy
                length = (dx * dx + dy * dy) ** 0.5
                ux, uy = dx / length, dy / length
                body += path(
                    f"M {cx + 24 * ux:.1f} {cy + 24 * uy:.1f} "
                    f"L {tx - 25 * ux:.1f} {ty - 25 * uy:.1f}"
                )
            colour = {"x": FORWARD, "W": WEIGHT, "z": BACK}[name]
            shown = "z, g" if name == "z" else name
            width = 3 if name == target else 1
            body += (
                f'<circle cx="{cx}" cy="{cy}" r="22" fill="{colour}" stroke="{INK}" '
                f'stroke-width="{width}"/>\n'
            ) + text(cx, cy, shown, 14)
        body += text(left + 120, 205, uses, 14)
    return svg(
        820, 235, "The closed trio: any two of input, weights and output give the third", body
    )


def main() -> None:
    """Write both pictures."""
    for name, picture in (("tape.svg", draw_tape()), ("trio.svg", draw_trio())):
        (IMAGES / name).write_text(picture, encoding="utf-8")
        print(f"docs/images/{name}")


if __name__ == "__main__":
    main()
