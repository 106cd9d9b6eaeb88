"""Penalties on the gradient at the image: double backpropagation without a second-order engine.

Start the relevance pass with the gradient of some function of the logits.  What then arrives
at the image, before it is multiplied by the pixels, is the gradient of that function with
respect to the image: in a ReLU network the ratio that the pass carries *is* the gradient
(docs/three-steps.md, "What the relevance pass computes").  The pass is on the tape, so that a
penalty on its result can be differentiated like any loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minifbi.autograd import Tensor, softmax
from minifbi.errors import ConfigError, ShapeError
from minifbi.fbi import start_ratio
from minifbi.layers import Step
from minifbi.regularizers.base import ZERO, Batch, Regularizer
from minifbi.rules import walk


def input_gradient(steps: Sequence[Step], start: Tensor) -> Tensor:
    """Carry `start` from the logits to the image, on the tape.

    Parameters
    ----------
    steps : sequence of Step
        The forward pass.
    start : Tensor, shape of the logits (N, F)
        df/dy for a function f of the logits y.  A Tensor that was computed from the logits
        keeps its tape: the gradient of a penalty flows through it as well.

    Returns
    -------
    Tensor, shape of the images (N, C, H, W)
        df/dx, for each image its own.
    """
    *_, first = walk(steps, start)
    return first.at_input.values


class InputGradient(Regularizer):
    """Smooth answers: P = mean over the batch of || d(-log p_label) / dx ||_2^2.

    The start is the gradient of the cross-entropy at the logits, p - onehot(label); it
    depends on the logits, and the gradient of P flows through it.

    Source: H. Drucker and Y. LeCun, "Improving Generalization Performance Using Double
    Backpropagation", IEEE Transactions on Neural Networks 3(6), 1992; A. S. Ross and
    F. Doshi-Velez, "Improving the Adversarial Robustness and Interpretability of Deep Neural
    Networks by Regularizing Their Input Gradients", AAAI 2018.
    """

    label = "input-gradient penalty"
    default_weight = 1.0
    rule = ZERO

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        y = batch.logits
        gradient = input_gradient(batch.steps, softmax(y) - start_ratio(y, "target", batch.labels))
        return {"image": (gradient * gradient).sum() * (1.0 / len(batch))}


class RightReasons(Regularizer):
    """Right for the right reasons: P = mean over the batch of sum_d (A_d d(sum_k log p_k)/dx_d)^2.

    A marks the pixels d that must not matter.  The start is the gradient of
    sum_k log p_k at the logits, 1 - F p for F classes.

    Source: A. S. Ross, M. C. Hughes and F. Doshi-Velez, "Right for the Right Reasons:
    Training Differentiable Models by Constraining their Explanations", IJCAI 2017, Eq. (1).
    They sum both losses over the images where we average both, so the weight is their lambda_1.

    Raises
    ------
    ConfigError
        If the batch has no masks.
    ShapeError
        If the masks do not fit the images.
    """

    label = "right-reasons penalty"
    default_weight = 0.1
    needs_masks = True
    rule = ZERO

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        y = batch.logits
        if batch.masks is None:
            raise ConfigError(
                "right-reasons needs to know which pixels must not matter, and these images "
                "have no masks; use --dataset decoy-mnist, or a Split with masks"
            )
        gradient = input_gradient(batch.steps, 1.0 - softmax(y) * float(y.shape[1]))
        masks, shape = np.asarray(batch.masks), gradient.shape
        if masks.dtype != bool or masks.shape != (shape[0], *shape[2:]):
            raise ShapeError(
                f"masks are {masks.dtype} of shape {masks.shape}; images of shape {shape} need "
                f"bool masks of shape {(shape[0], *shape[2:])}"
            )
        wrong = gradient * masks[:, None]  # the same pixels in every channel
        return {"image": (wrong * wrong).sum() * (1.0 / len(batch))}
