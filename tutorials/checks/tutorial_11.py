"""Checks of the exercises of notebook 11, build your own."""

from __future__ import annotations

from typing import Any

import numpy as np
from minifbi import Tensor, get_backend, relevance_pass
from minifbi.datasets import Split
from minifbi.errors import MinifbiError
from minifbi.layers import Conv2d, Dense, Flatten, Layer, Sequential
from minifbi.rules import Rule

from checks import Typical, Verdict, call, choice, equal, every, function, values


# ---- exercise 1: four methods ------------------------------------------------------------
def _sum(a: Any) -> Any:
    return a.sum(axis=(0, *range(2, a.ndim)))


def _pair(got: Any, name: str, what: str) -> Verdict | None:
    """What is wrong with something that should be a pair of gradients."""
    if not isinstance(got, tuple) or len(got) != 2:
        return Verdict(False, f"{name} must return two values, the gradients at {what}.")
    return None


def scale_layer(answer: Any) -> Verdict:
    """Exercise 1: the layer Scale, one method after the other."""
    if not (isinstance(answer, type) and issubclass(answer, Layer)):
        return Verdict(False, f"expected the class Scale, got {answer!r:.40}.")
    rng = np.random.default_rng(11)
    for shape in ((4, 3), (2, 3, 4, 5)):
        verdict = _scale_on(answer, rng, shape)
        if not verdict.ok:
            return verdict
    return Verdict(True, "right, all four methods: the closed trio in its smallest form.")


def _scale_on(answer: type[Layer], rng: Any, shape: tuple[int, ...]) -> Verdict:
    """The four methods for an input of one shape."""
    backend, channels = get_backend("numpy"), shape[1]
    x, grad, ratio = (rng.standard_normal(shape) for _ in range(3))
    gain = rng.uniform(0.5, 2, channels)
    wide = gain.reshape(-1, *[1] * (len(shape) - 2))
    try:
        layer = answer(channels, backend=backend, dtype=np.float64)  # type: ignore[call-arg]
    except Exception as error:
        return Verdict(False, f"Scale({channels}) raised {type(error).__name__}: {error}.")

    where = f" (input of shape {shape})"
    got, failed = _method(layer.forward, (backend, x, gain), f"forward{where}")
    if failed is not None:
        return failed
    if not isinstance(got, tuple) or len(got) != 2:
        return Verdict(
            False, "forward must return two things: the output, and what the others need (saved)."
        )
    z, saved = got
    verdict = values(z, x * wide, f"the output of forward{where}", hint="z = gain * x.")
    if not verdict.ok:
        return verdict

    name = f"backward{where}"
    got, failed = _method(layer.backward, (backend, grad, saved, True), name)
    failed = failed or _pair(got, name, "x and at gain")
    if failed is not None:
        return failed
    verdict = every(
        values(
            got[0],
            grad * wide,
            f"the gradient at x of {name}",
            hint="What is dz/dx? Multiply the gradient at the output by it.",
            typical=[(grad, "x is multiplied by the gain on its way forward.")],
        ),
        values(
            got[1],
            _sum(grad * x),
            f"the gradient at gain of {name}",
            hint="All units of a channel share one gain: per_channel(grad * dz/dgain).",
            typical=[
                (grad * x, "all units of a channel share one gain: add up, with per_channel."),
                (_sum(grad), "what is dz/dgain? Not 1."),
                (_sum(grad * x * wide), "z = gain * x, so dz/dgain has no gain in it."),
                (_sum(grad * x) / x.size * channels, "add up over the units, no mean."),
            ],
        ),
    )
    if not verdict.ok:
        return verdict

    name = f"relevance{where}"
    got, failed = _method(layer.relevance, (backend, ratio, saved), name)
    if failed is not None:
        return failed
    verdict = values(
        got,
        ratio * wide,
        f"the result of {name}",
        hint="The relevance stays: x * ratio_in = z * ratio_out. Solve for ratio_in.",
        typical=[
            (ratio, "the relevance passes unchanged, but the ratio does not: z is not x."),
            (ratio / wide, "x * ratio_in = z * ratio_out, and z = gain * x: multiply, not divide."),
            (ratio * wide * x, "that is the relevance; the method returns the ratio."),
        ],
    )
    if not verdict.ok:
        return verdict

    name = f"relevance_backward{where}"
    got, failed = _method(layer.relevance_backward, (backend, grad, ratio, saved), name)
    failed = failed or _pair(got, name, "the ratio and at gain")
    if failed is not None:
        return failed
    if got[1] is None:
        return Verdict(
            False,
            "relevance_backward forgets the gain: it acts in the relevance pass too, so that "
            "pass has a gradient for it. (Section 3 shows who notices.)",
        )
    return every(
        values(
            got[0],
            grad * wide,
            f"the gradient at the ratio of {name}",
            hint="Differentiate the line of relevance: ratio_in = gain * ratio_out.",
            typical=[(grad, "the ratio is multiplied by the gain on its way.")],
        ),
        values(
            got[1],
            _sum(grad * ratio),
            f"the gradient at gain of {name}",
            hint="Differentiate the line of relevance, ratio_in = gain * ratio_out, by the gain.",
            typical=[
                (_sum(grad * x), "that is what backward does; here the line is about the ratio."),
                (grad * ratio, "all units of a channel share one gain: add up, with per_channel."),
                (_sum(grad * ratio * x), "relevance returns a ratio: there is no x in its line."),
            ],
        ),
    )


def _method(method: Any, arguments: tuple[Any, ...], name: str) -> tuple[Any, Verdict | None]:
    """Call a method of a student's layer; its arguments would be too long for a message."""
    got, failed = call(method, arguments, name)
    if failed is None:
        return got, None
    message = failed.message
    begin = message.find("(", message.find(name) + len(name))
    for word in (" raised ", " returned "):
        if begin >= 0 and word in message:
            message = message[:begin] + message[message.index(word) :]
    return None, Verdict(False, message)


# ---- exercise 2: a rule ------------------------------------------------------------------
def _share_by(step: Any, R: Any, power: float, *, by_z: bool = False) -> Any:
    """Relevance of a dense layer, shared by |c|^power, in loops."""
    x, W, z = step.x.numpy(), step.layer.weight.numpy(), step.z.numpy()
    found = np.zeros_like(x)
    for n in range(len(x)):
        for j in range(len(W)):
            parts = np.abs(W[j] * x[n]) ** power
            bottom = z[n, j] if by_z else parts.sum()
            if bottom != 0:
                found[n] += parts / bottom * R[n, j]
    return found


def squares_rule(answer: Any) -> Verdict:
    """Exercise 2: the rule that shares by squares, on a dense layer and on a convolution."""
    if not (isinstance(answer, type) and issubclass(answer, Rule)):
        return Verdict(False, f"expected the class Squares, got {answer!r:.40}.")
    rng = np.random.default_rng(12)
    one = Sequential({"unit": Dense(4, 1, bias=False, dtype=np.float64)})
    one.load_state_dict({"unit.weight": np.array([[10.0, -5.0, 5.0, -15.0]])})
    several = Sequential({"dense": Dense(5, 3, rng=rng, dtype=np.float64)})
    several.load_state_dict({**several.state_dict(), "dense.bias": np.array([0.5, -0.3, 0.1])})
    verdict = every(
        _squares_on(answer, one, np.array([[0.6, 1.0, 0.2, 0.0]]), "one unit (6, -5, 1, 0)"),
        _squares_on(answer, several, rng.random((3, 5)), "a dense layer with a bias"),
        _squares_on(answer, several, rng.standard_normal((3, 5)), "inputs of both signs"),
    )
    if not verdict.ok:
        return verdict
    return _squares_in_cnn(answer, rng)


def _squares_on(answer: Any, net: Sequential, x: Any, what: str) -> Verdict:
    """The rule on one dense layer, from the logits."""
    (step,) = net.trace(x)
    R = step.z.numpy()
    got, failed = _relevance_by(answer, [step])
    if failed is not None:
        return failed
    ones = np.ones_like(R)
    weight = step.layer.weight.numpy()
    total = (x**2) @ (weight**2).T
    s = np.divide(R, total, out=np.zeros_like(R), where=total != 0)
    typical: Typical = [
        (_share_by(step, R, 1), "that shares by the size of the contributions, not their squares."),
        (_share_by(step, R, 2, by_z=True), "divide by the sum of the squares, not by z."),
        (
            x * (s @ weight**2),
            "the square of c holds x twice: R = x * ratio takes one of them, "
            "and one is left in the ratio.",
        ),
        (
            x * (x**2 * (s @ weight**2)),
            "R = x * ratio: Flow(...) expects the ratio, not the relevance.",
        ),
        (x * (x * (ones @ weight**2)), "what arrives must be divided by the total: see share."),
        (x * (R @ weight), "that is LRP-0 without its division: the weights to share by are W^2."),
    ]
    return values(
        got,
        _share_by(step, R, 2),
        f"the relevance at {what}",
        hint="Compare with the class Absolute: both sums are linear maps, with W^2 and x^2 in "
        "the places of |W| and |x|.",
        typical=typical,
    )


def _relevance_by(answer: Any, steps: list[Any]) -> tuple[Any, Verdict | None]:
    """Relevance at the first functional layer by a student's rule."""
    try:
        found = relevance_pass(steps, "logits", rule=answer())
        return next(iter(found.values())).numpy(), None
    except Exception as error:  # whatever the student's rule raises belongs in the message
        if "ellipsis" in str(error) or "Ellipsis" in str(error):
            return None, Verdict(False, "there is still a `...` in the rule: replace it.")
        return None, Verdict(False, f"the rule raised {type(error).__name__}: {error}.")


def _squares_in_cnn(answer: Any, rng: Any) -> Verdict:
    """A convolution: relevance is conserved, and gradients reach the weights."""
    net = Sequential(
        {
            "conv": Conv2d(2, 3, 3, padding=1, rng=rng, dtype=np.float64),
            "flatten": Flatten(),
            "out": Dense(3 * 5 * 5, 2, bias=False, rng=rng, dtype=np.float64),
        }
    )
    x = Tensor(rng.random((2, 2, 5, 5)))
    steps = net.trace(x)
    got, failed = _relevance_by(answer, steps)
    if failed is not None:
        return failed
    arrived, started = got.sum(axis=(1, 2, 3)), steps[-1].z.numpy().sum(axis=1)
    if not equal(arrived, started, 1e-8, 1e-9):
        return Verdict(
            False,
            "in a convolution relevance is not conserved. Use layer.forward and layer.transpose, "
            "which know what kind of layer it is.",
        )
    relevance = relevance_pass(steps, "logits", rule=answer())["conv"]
    if relevance.requires_grad:
        relevance.abs().sum().backward()
    parameters = net.parameters()
    if any(parameters[name].grad is None for name in ("conv.weight", "out.weight")):
        return Verdict(
            False,
            "the relevance is right, but no gradient reaches the weights: compute with tensors "
            "(layer.weight, step.x), not with their .data or .numpy().",
        )
    return Verdict(True, "right, in dense layers and in convolutions, and one can train with it.")


# ---- exercise 3: photographs -------------------------------------------------------------
def to_grey(answer: Any) -> Verdict:
    """Exercise 3: photos to grey images."""

    def to_grey(photos):
        return photos.mean(axis=3)[:, None] / 255

    def reshaped(photos):
        n, height, width, _ = photos.shape
        return (photos.reshape(n, 3, height, width).mean(axis=1) / 255)[:, None]

    def wrapped(photos):
        return (photos.sum(axis=3, dtype=np.uint8) / 3)[:, None] / 255

    def added(photos):
        red, green, blue = np.moveaxis(photos, 3, 0)
        return ((red + green + blue) / 3)[:, None] / 255

    rng = np.random.default_rng(13)
    flat = np.full((1, 2, 3, 3), 100, dtype=np.uint8)
    photos = rng.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    overflow = "uint8 goes up to 255 and then begins again at 0; take the mean, or floats first."
    verdict = function(
        answer,
        to_grey,
        [(flat,), (photos,)],
        hint="Axis 3 is the colour, and a new axis 1 must be made.",
        rtol=1e-4,  # float32 is fine
        typical=[
            (reshaped, "reshape does not move axes, it cuts the numbers into other rows."),
            (lambda p: p.mean(axis=3)[:, None], "divide by 255: pixels go from 0 to 1."),
            (lambda p: p.sum(axis=3)[:, None] / 255, "grey is the mean of the colours, no sum."),
            (lambda p: p[..., 0][:, None] / 255, "that is the red channel alone."),
            (lambda p: p[:, None, :, :, 0] / 255, "that is the red channel alone."),
            (lambda p: p.mean(axis=3) / 255, "the axis of channels is missing: (N, 1, H, W)."),
            (lambda p: p.mean(axis=3)[..., None] / 255, "the channel comes second: (N, 1, H, W)."),
            (wrapped, overflow),
            (added, overflow),
            (lambda p: p.transpose(0, 3, 1, 2) / 255, "that is in colour; take the mean of it."),
        ],
    )
    if not verdict.ok:
        return verdict
    try:
        Split.from_arrays(answer(photos), [0, 1], num_classes=2, name="photos")
    except MinifbiError as error:
        return Verdict(False, f"the numbers are right, but Split.from_arrays says: {error}")
    return Verdict(True, "right, and Split.from_arrays takes them.")


# ---- exercise 4: the cut -----------------------------------------------------------------
def cups(answer: Any) -> Verdict:
    """Exercise 4: how to cut pictures that come in series."""
    return choice(
        answer,
        "c",
        {
            "a": "two pictures in a row are nearly the same. Where would the neighbours of a test "
            "picture be, and what would the test then measure?",
            "b": "each cup of the test was seen in training, from another side. Do you want to "
            "know whether the net knows these 20 cups, or cups?",
            "c": "right: only objects that the net has never seen tell whether it knows cups.",
        },
    )
