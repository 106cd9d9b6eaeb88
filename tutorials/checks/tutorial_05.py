"""Checks of the exercises of notebook 5, the FBI loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from minifbi import fbi_loss, fbi_terms, forward_pass, relevance_pass
from minifbi.layers import Dense, ReLU, Sequential

from checks import Verdict, function, number, values


def fbi_by_price(answer: Any) -> Verdict:
    """Exercise 1: Eq. (3) in closed form."""

    def fbi_by_price(activations, gradients):
        n = len(activations[0])
        pays = [(a * abs(1 - g)).sum() for a, g in zip(activations, gradients, strict=True)]
        return sum(pays) / (n * len(pays))

    def outside(activations, gradients):
        n = len(activations[0])
        pays = [abs((a * (1 - g)).sum()) for a, g in zip(activations, gradients, strict=True)]
        return sum(pays) / (n * len(pays))

    def signed(activations, gradients):
        n = len(activations[0])
        pays = [(a * (1 - g)).sum() for a, g in zip(activations, gradients, strict=True)]
        return sum(pays) / (n * len(pays))

    def not_over_images(activations, gradients):
        return fbi_by_price(activations, gradients) * len(activations[0])

    def not_over_layers(activations, gradients):
        return fbi_by_price(activations, gradients) * len(activations)

    def neither(activations, gradients):
        return not_over_layers(activations, gradients) * len(activations[0])

    def all_means(activations, gradients):
        pairs = zip(activations, gradients, strict=True)
        return np.mean([(a * abs(1 - g)).mean() for a, g in pairs])

    rng = np.random.default_rng(6)
    toy = [np.array([[2.0, 1.0]]), np.array([[3.0, 3.0, 0.0]])]
    slopes = [np.array([[4.0, 1.0]]), np.array([[2.0, 1.0, 5.0]])]
    shapes = [(3, 1, 4, 4), (3, 2, 2, 2), (3, 5)]
    real = [rng.random(s) for s in shapes], [2 * rng.standard_normal(s) for s in shapes]
    verdict = function(
        answer,
        fbi_by_price,
        [(toy, slopes), real],
        hint="Each unit pays a * |1 - g|; the first case is the net of section 1.",
        praise="right: that is Eq. (3) without a relevance pass.",
        typical=[
            (outside, "the absolute value belongs to each unit, before the sum."),
            (signed, "a unit with g above 1 has to pay, too: mind the absolute value."),
            (neither, "averages are missing: over the images, and over the K layers."),
            (not_over_images, "the average over the images is missing."),
            (not_over_layers, "the average over the K layers is missing."),
            (all_means, "sum over the units of an image; only images and layers are averaged."),
        ],
    )
    return Verdict(verdict.ok, verdict.message[:400])


def pays_nothing(first: Any, second: Any) -> Verdict:
    """Exercise 2: weights with L_FBI = 0 on all positive inputs."""
    for weight, name, shape in ((first, "pay_1", (4, 3)), (second, "pay_2", (2, 4))):
        verdict = values(weight, np.zeros(shape), name)
        if weight is Ellipsis or weight is None or "shape" in verdict.message:
            return verdict
        if not verdict.ok and "differs" not in verdict.message:
            return verdict  # no numbers, or not finite
    net = Sequential(
        {
            "first": Dense(3, 4, bias=False, dtype=np.float64),
            "relu": ReLU(),
            "second": Dense(4, 2, bias=False, dtype=np.float64),
        }
    )
    net.load_state_dict({"first.weight": np.asarray(first), "second.weight": np.asarray(second)})
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.exponential(size=(200, 3)), 10 * np.eye(3) + 0.01])
    steps = forward_pass(net, x)
    terms = fbi_terms(steps, relevance_pass(steps, "logits"))
    loss, hidden = fbi_loss(terms).item(), steps[1].z.numpy()
    if loss < 1e-9:
        return Verdict(True, "right: L_FBI is 0, and the outputs sum to the sum of the inputs.")
    if not hidden.any():
        hint = "All hidden units are silent. They pay nothing then, but what do the inputs pay?"
    elif terms["second"].item() > 1e-9:
        hint = (
            "The hidden units pay. At each active one, g is the sum of its column in pay_2, and "
            "must be 1."
        )
    else:
        hint = (
            "The hidden units pay nothing, well done. The inputs do: at an input, g is the sum of "
            "its column in pay_1 over the hidden units that are active for this x."
        )
    return Verdict(False, f"for random positive inputs L_FBI is {number(loss, 3)}. {hint}")


def pool_relevance_adjoint(answer: Any) -> Verdict:
    """Exercise 3: the adjoint of average pooling's relevance pass."""

    def windows(u):
        n, c, h, w = u.shape
        return u.reshape(n, c, h // 2, 2, w // 2, 2)

    def pool_relevance_adjoint(u):
        return windows(u).mean(axis=(3, 5))

    def summed(u):
        return windows(u).sum(axis=(3, 5))

    def first_only(u):
        return u[:, :, ::2, ::2]

    def quarter(u):
        return u[:, :, ::2, ::2] / 4

    def maximum(u):
        return windows(u).max(axis=(3, 5))

    rng = np.random.default_rng(9)
    small = np.array([[[[1.0, 2.0], [3.0, 6.0]]]])
    cases = [(small,), (rng.standard_normal((2, 3, 4, 6)),)]
    hint = "It must hold <u, pool_relevance(r)> = <adjoint(u), r> for all u and r."
    return function(
        answer,
        pool_relevance_adjoint,
        cases,
        hint=hint,
        praise="right: the adjoint of the relevance pass is the forward pass, here as everywhere.",
        typical=[
            (
                summed,
                "each of the four got a quarter of the ratio; so a quarter comes back.",
            ),
            (first_only, "all four inputs of a window depend on its ratio: collect from each."),
            (quarter, "all four inputs of a window depend on its ratio: collect from each."),
            (maximum, "that is maximum pooling; here all four have their share."),
        ],
    )


def damping_adjoint(answer: Any) -> Verdict:
    """Exercise 4: the adjoint of the stabiliser."""

    def damping_adjoint(v, r, z, epsilon):
        size = abs(z)
        return v * size / (size + epsilon), v * r * epsilon * np.sign(z) / (size + epsilon) ** 2

    def no_sign(v, r, z, epsilon):
        return damping_adjoint(v, r, z, epsilon)[0], v * r * epsilon / (abs(z) + epsilon) ** 2

    def no_ratio(v, r, z, epsilon):
        bottom = (abs(z) + epsilon) ** 2
        return damping_adjoint(v, r, z, epsilon)[0], v * epsilon * np.sign(z) / bottom

    def constant_bottom(v, r, z, epsilon):
        return damping_adjoint(v, r, z, epsilon)[0], v * r * np.sign(z) / (abs(z) + epsilon)

    def no_gradient_at_z(v, r, z, epsilon):
        return damping_adjoint(v, r, z, epsilon)[0], np.zeros_like(z)

    def undamped(v, r, z, epsilon):
        return v, damping_adjoint(v, r, z, epsilon)[1]

    rng = np.random.default_rng(10)
    v, r = rng.standard_normal((2, 4)), rng.standard_normal((2, 4))
    z = np.array([[1.0, -2.0, 0.5, 3.0], [-0.1, 0.2, -1.0, 2.0]])
    return function(
        answer,
        damping_adjoint,
        [(v, r, np.abs(z), 0.25), (v, r, z, 0.25)],
        hint="Differentiate r |z| / (|z| + epsilon), first with respect to r, then to z.",
        praise="right. Note that the second is large where |z| is small against epsilon.",
        typical=[
            (no_sign, "the derivative of |z| is sign(z)."),
            (no_ratio, "the derivative with respect to z has the factor r."),
            (constant_bottom, "z stands below the fraction, too: use the quotient rule."),
            (no_gradient_at_z, "the damped ratio depends on z, so there is a gradient at z."),
            (undamped, "the derivative with respect to r is |z| / (|z| + epsilon), not 1."),
        ],
    )
