"""Checks of the exercises of notebook 4, relevance."""

from __future__ import annotations

from typing import Any

import numpy as np
from minifbi import forward_pass
from minifbi.explain import conservation_report
from minifbi.fbi import start_ratio
from minifbi.layers import Conv2d, Dense, Flatten, ReLU, Sequential

from checks import Verdict, call, choice, every, function, values


def _ratio(R: Any, z: Any) -> Any:
    return np.divide(R, z, out=np.zeros_like(R), where=z != 0)


def dense_relevance(answer: Any) -> Verdict:
    """Exercise 1: Eq. (2) of a dense layer, with the division."""

    def right(x, W, b, R):
        return x * (_ratio(R, x @ W.T + b) @ W)

    def no_bias(x, W, b, R):
        return x * (_ratio(R, x @ W.T) @ W)

    def no_input(x, W, b, R):
        return _ratio(R, x @ W.T + b) @ W

    def not_divided(x, W, b, R):
        return x * (R @ W)

    def bias_twice(x, W, b, R):
        return x * (_ratio(R - b * _ratio(R, x @ W.T + b), x @ W.T + b) @ W)

    rng = np.random.default_rng(4)
    x, W, b = rng.random((3, 4)), rng.standard_normal((2, 4)), np.array([0.5, -0.25])
    R, twelve = rng.standard_normal((3, 2)), np.array([[12.0]])
    dead = np.array([[1.0, 1.0]]), np.array([[1.0, -1.0], [1.0, 2.0]]), np.zeros(2)
    verdict = function(
        answer,
        right,
        [
            (np.array([[3.0, 2.0, 4.0]]), np.array([[2.0, -1.0, 0.5]]), np.zeros(1), twelve),
            (x, W, b, R),
        ],
        "dense_relevance",
        hint="Compare with section 2: relevance = x * (ratio @ W).",
        typical=[
            (no_bias, "the bias took part in making z, so it belongs into the z that divides."),
            (no_input, "that is the ratio at the inputs; their relevance is x times that."),
            (not_divided, "R has to be divided by the outputs z first."),
            (bias_twice, "the bias absorbs its share by itself; do not subtract it from R."),
        ],
    )
    if not verdict.ok:
        return verdict
    with np.errstate(all="ignore"):
        got, failed = call(answer, (*dead, np.array([[0.0, 6.0]])), "dense_relevance")
    if failed is not None:
        return failed
    return values(
        got,
        right(*dead, np.array([[0.0, 6.0]])),
        "the relevance where one output is 0",
        hint="For such a unit the ratio is 0/0, and 0 by our agreement: np.divide has `where`.",
        praise="right, also where an output is 0.",
    )


def _small_cnn() -> tuple[Sequential, Any, Any]:
    """A CNN with random biases, images, and their classes."""
    rng = np.random.default_rng(7)
    options = {"rng": rng, "dtype": np.float64}
    net = Sequential(
        {
            "conv1": Conv2d(1, 3, 3, padding=1, **options),
            "relu1": ReLU(),
            "conv2": Conv2d(3, 2, 3, **options),
            "relu2": ReLU(),
            "flatten": Flatten(),
            "dense3": Dense(2 * 4 * 4, 5, **options),
            "relu3": ReLU(),
            "dense4": Dense(5, 3, bias=False, **options),
        }
    )
    state = net.state_dict()
    for name in state:
        if name.endswith("bias"):
            state[name] = 0.3 * rng.standard_normal(state[name].shape)
    net.load_state_dict(state)
    return net, rng.random((4, 1, 6, 6)), np.array([0, 1, 2, 1])


def absorbed(answer: Any) -> Verdict:
    """Exercise 2: what biases absorb, against the conservation report."""
    net, images, classes = _small_cnn()
    steps = forward_pass(net, images)
    got, failed = call(answer, (steps, start_ratio(steps[-1].z, "target", classes)), "absorbed")
    if failed is not None:
        return Verdict(False, failed.message.replace(str(steps)[:60], "steps"))
    expected = conservation_report(net, images, classes)
    names = ["dense3", "conv2", "conv1"]
    if not isinstance(got, dict) or sorted(got) != sorted(names):
        return Verdict(
            False, f"expected a dict with the names {', '.join(names)}, the layers with a bias."
        )
    verdicts = []
    for name in names:
        relevance = (expected[name].above, "that is all relevance of the layer; b * r is asked.")
        wrong = [relevance, (-expected[name].bias, "the sign is wrong.")]
        verdicts.append(
            values(
                got[name],
                expected[name].bias,
                f"found[{name!r}]",
                hint="Sum b_j r_j over all output units j of each image: for a map, over its "
                "places too. The ratio must be that at the output of the step.",
                typical=wrong,
            )
        )
    return every(*verdicts, praise="right: with what arrives at the pixels it sums to the logit.")


def epsilon_ratio(answer: Any) -> Verdict:
    """Exercise 3: LRP-epsilon."""

    def epsilon_ratio(z, W, ratio, epsilon):
        return (z * ratio / (z + epsilon * np.where(z >= 0, 1.0, -1.0))) @ W

    def no_sign(z, W, ratio, epsilon):
        return (z * ratio / (z + epsilon)) @ W

    def ratio_for_relevance(z, W, ratio, epsilon):
        return (ratio / (z + epsilon * np.where(z >= 0, 1.0, -1.0))) @ W

    rng = np.random.default_rng(5)
    W, ratio = rng.standard_normal((3, 4)), rng.standard_normal((2, 3))
    z = np.array([[1.0, 2.0, 0.5], [3.0, 0.1, 1.0]])
    signed = np.array([[1.0, -2.0, 0.5], [-3.0, 0.1, -1.0]])
    with_zero = np.array([[1.0, 0.0, 0.5], [-3.0, 0.1, -1.0]])
    verdict = function(
        answer,
        epsilon_ratio,
        [(z, W, ratio, 0.25), (signed, W, ratio, 0.25)],
        hint="R = z * ratio is divided by z + epsilon * sign(z), then goes through W.",
        typical=[
            (no_sign, "for a negative z, epsilon must push it further from 0: mind the sign."),
            (ratio_for_relevance, "the relevance R is z * ratio; you divided the ratio."),
        ],
    )
    if not verdict.ok:
        return verdict
    with np.errstate(all="ignore"):  # 0/0 is what is being looked for
        return function(
            answer,
            epsilon_ratio,
            [(with_zero, W, ratio, 0.25)],
            hint="Look at z = 0: np.sign(0) is 0, so 0 is divided by 0; here sign(0) is +1.",
            praise="right: minifbi writes it as ratio * |z| / (|z| + epsilon).",
        )


def black_pixels(answer: Any) -> Verdict:
    """Exercise 4: what a heatmap of LRP-0 can show."""
    return choice(
        answer,
        "b",
        {
            "a": "look again at the last line of the convolution in section 3: what can a pixel "
            "of value 0 get?",
            "b": "right. Relevance is pixel times gradient, and the pixel is 0. To learn what the "
            "network does with the background, look at the gradient, or change the background.",
            "c": "look again at the last line of the convolution in section 3: what exactly does "
            "a pixel of value 0 get?",
        },
    )
