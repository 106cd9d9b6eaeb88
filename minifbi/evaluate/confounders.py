"""Does the network look at what should not matter?  Decoy-MNIST as a test.

Ross et al. (2017) train on digits with a patch whose shade tells the label, and test where it
tells nothing; see :mod:`minifbi.datasets.decoy`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minifbi.datasets import Split, add_decoys
from minifbi.datasets.decoy import TEST
from minifbi.errors import ConfigError
from minifbi.evaluate._common import Explainer, check_limit, explain, mean_defined, predict
from minifbi.evaluate.localization import relevance_mass
from minifbi.layers import Sequential

__all__ = ["DecoyGap", "confounder_report", "decoy_gap", "wrong_reason_share"]


@dataclass(frozen=True)
class DecoyGap:
    """Accuracy on the same digits with three kinds of corners, each from 0 to 1.

    Attributes
    ----------
    rule : float
        With patches that tell the label, as in training.
    clean : float
        Without patches.
    random : float
        With patches of a random label's shade, as in the test set of Decoy-MNIST.
    """

    rule: float
    clean: float
    random: float

    @property
    def gap(self) -> float:
        """rule - random: the accuracy lost when the patch no longer tells the label.

        0 for a network that ignores the patch.  Both test sets have their patches in the same
        corners.
        """
        return self.rule - self.random

    @property
    def clean_gap(self) -> float:
        """clean - random: the accuracy that misleading patches cost, compared with no patches.

        Below 0 if a missing patch misleads more than a wrong one: a network that has only seen
        images with patches may take black corners for a very dark patch.
        """
        return self.clean - self.random


def decoy_gap(
    model: Sequential,
    test: Split,
    *,
    num_classes: int = 10,
    seed: int = 0,
    limit: int | None = None,
) -> DecoyGap:
    """Accuracy with the training's patches, without patches, and with random patches.

    Parameters
    ----------
    model : Sequential
        Trained on Decoy-MNIST.
    test : Split
        The test set *without* decoys, ``load_dataset("mnist").test``; patches are put on here.
    num_classes : int
        Number of labels from which random shades are drawn.
    seed : int
        With the seed given to :func:`~minifbi.datasets.decoy_mnist`, the random patches are
        those of its test set.  ``load_dataset("decoy-mnist")`` has seed 0.
    limit : int, optional
        Use only the first `limit` images.

    Returns
    -------
    DecoyGap

    Raises
    ------
    ConfigError
        If `test` has decoys already, or `limit` is not at least 1.

    References
    ----------
    Ross, Hughes and Doshi-Velez, "Right for the Right Reasons: Training Differentiable Models
    by Constraining their Explanations", IJCAI 2017.
    """
    kinds = {
        "rule": _with_decoys(test, "label", num_classes, seed),
        "clean": test,
        "random": _with_decoys(test, "random", num_classes, seed),
    }
    return DecoyGap(**{name: _accuracy(model, split, limit) for name, split in kinds.items()})


def wrong_reason_share(attributions: ArrayLike, masks: ArrayLike) -> NDArray[np.float64]:
    """Share of the absolute attribution that lies where nothing should matter.

    sum of |R_p| over the mask / sum of |R_p| over the image, R_p the attribution of pixel p.
    In Decoy-MNIST, where the mask is the patch of 16 pixels, an attribution without any preference
    has 16/784, about 0.02.

    Parameters
    ----------
    attributions : array of float, shape (N, C, H, W)
        Signed; those of a pixel's channels are added.
    masks : array of bool, shape (N, H, W)
        True where a pixel is irrelevant: ``Split.masks``.

    Returns
    -------
    ndarray of float64, shape (N,)
        0 to 1; NaN for an attribution that is 0 everywhere.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not fit together.
    """
    return relevance_mass(attributions, masks, "absolute")


def confounder_report(
    model: Sequential,
    explainer: Explainer,
    test: Split,
    *,
    num_classes: int = 10,
    seed: int = 0,
    limit: int | None = None,
) -> dict[str, float]:
    """The decoy gap and the wrong-reason share of a network.

    The wrong-reason share is measured on images with random patches, for the class that the
    network predicts: it shows whether the patch led to that prediction.

    Parameters
    ----------
    model, test, num_classes, seed
        See :func:`decoy_gap`.
    explainer : callable
        ``explainer(model, images, classes)`` returns attributions (N, C, H, W).
    limit : int, optional
        Explain only the first `limit` images; accuracies use all images.

    Returns
    -------
    dict of str to float
        By the names of ``CONFOUNDER_MEASURES``.
    """
    gap = decoy_gap(model, test, num_classes=num_classes, seed=seed)
    decoys = _with_decoys(test, "random", num_classes, seed)
    images, _ = decoys.batch(slice(check_limit(limit)), model.dtype)
    answers = predict(model, images).argmax(axis=1)
    attributions = explain(model, explainer, images, answers)
    assert decoys.masks is not None  # add_decoys makes them
    return {
        "accuracy_rule": gap.rule,
        "accuracy_clean": gap.clean,
        "accuracy_random": gap.random,
        "decoy_gap": gap.gap,
        "clean_gap": gap.clean_gap,
        "wrong_reason_share": mean_defined(
            wrong_reason_share(attributions, decoys.masks[: len(images)])
        ),
    }


def _with_decoys(test: Split, rule: str, num_classes: int, seed: int) -> Split:
    """The test set with patches, where and as :func:`~minifbi.datasets.decoy_mnist` has them."""
    if test.masks is not None:
        raise ConfigError(
            "the test set has decoys already, so accuracy without them cannot be measured; pass "
            'the original one, load_dataset("mnist").test'
        )
    return add_decoys(test, rule, num_classes=num_classes, seed=[seed, TEST])


def _accuracy(model: Sequential, split: Split, limit: int | None) -> float:
    images, labels = split.batch(slice(check_limit(limit)), model.dtype)
    return float((predict(model, images).argmax(axis=1) == labels).mean())
