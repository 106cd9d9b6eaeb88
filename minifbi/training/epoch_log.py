"""What the batches of one epoch found, and their means for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minifbi.autograd import Tensor
from minifbi.training.three_step import Losses


class EpochLog:
    """Collects the losses of an epoch's batches.

    Attributes
    ----------
    task, fbi, penalty : list of float
        L_TSK of every batch; L_FBI, and the penalty of another regularizer, of those in which
        it was computed.
    images, correct : int
        How many have been seen, and how many of them were classified rightly.
    """

    def __init__(self) -> None:
        self.task: list[float] = []
        self.fbi: list[float] = []
        self.penalty: list[float] = []
        self.images = self.correct = 0
        self._fbi_terms: list[dict[str, float]] = []
        self._penalty_terms: list[dict[str, float]] = []

    def add(self, losses: Losses, labels: Any) -> None:
        """One batch more."""
        self.task.append(losses.task_loss.item())
        if losses.fbi_loss is not None:
            self.fbi.append(losses.fbi_loss.item())
            self._fbi_terms.append(_items(losses.fbi_terms))
        if losses.penalty is not None:
            self.penalty.append(losses.penalty.item())
            self._penalty_terms.append(_items(losses.penalty_terms))
        self.images += len(labels)
        self.correct += int((losses.logits.numpy().argmax(axis=1) == labels).sum())

    def means(self, with_penalty: bool) -> dict[str, Any]:
        """Means for the epoch's record; `with_penalty` adds those of another regularizer."""
        record = {
            "task_loss": float(np.mean(self.task)),
            "fbi_loss": float(np.mean(self.fbi)) if self.fbi else None,
            "fbi_terms": _means(self._fbi_terms),
        }
        if with_penalty:
            record["penalty"] = float(np.mean(self.penalty)) if self.penalty else None
            record["penalty_terms"] = _means(self._penalty_terms)
        return record


def _items(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def _means(terms: list[dict[str, float]]) -> dict[str, float] | None:
    if not terms:
        return None
    return {name: float(np.mean([t[name] for t in terms])) for name in terms[0]}
