"""A penalty on the weights."""

from __future__ import annotations

from minifbi.autograd import Tensor
from minifbi.regularizers.base import ZERO, Batch, Regularizer


class L2(Regularizer):
    """Small weights: P = 1/2 sum of w^2 over all kernels and matrices, biases left out.

    The gradient of w P adds w times the weight to its gradient.  ``--weight-decay`` does the
    same in the optimiser, to biases too, from the first update on and unseen by the log; this
    one joins at the gate, like all regularizers, so that they can be compared.

    Source: A. Krogh and J. A. Hertz, "A Simple Weight Decay Can Improve Generalization",
    NIPS 1991 (published 1992); without the biases as in Goodfellow, Bengio and Courville,
    "Deep Learning", 2016, Section 7.1.
    """

    label = "L2 penalty"
    default_weight = 0.01
    rule = ZERO

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        return {
            name: (p * p).sum() * 0.5
            for name, p in batch.model.parameters().items()
            if p.ndim > 1  # a bias has one dimension
        }
