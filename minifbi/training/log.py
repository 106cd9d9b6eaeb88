"""What the batches of one epoch found, and their means for the log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minifbi.backends import Array, Backend
from minifbi.training.evaluation import count_hits
from minifbi.training.three_step import Losses


@dataclass
class BatchRecord:
    """The numbers of one batch.

    Attributes
    ----------
    step : int
        Number of its update, from 1.
    loss, task_loss, fbi_loss, penalty : float
        NaN where it was not computed.
    """

    step: int
    loss: float = math.nan
    task_loss: float = math.nan
    fbi_loss: float = math.nan
    penalty: float = math.nan


@dataclass
class _Unread:
    """A batch whose numbers still are where they were computed."""

    step: int
    images: int
    hits: Array
    values: dict[str, Array]  # loss, task_loss, fbi_loss, penalty: those that there are
    fbi_terms: dict[str, Array]
    penalty_terms: dict[str, Array]

    @property
    def numbers(self) -> list[Array]:
        return [*self.values.values(), *self.fbi_terms.values(), *self.penalty_terms.values()]


class EpochLog:
    """Collects the losses of an epoch's batches.

    :meth:`add` only puts them down; :meth:`read` reads all that were added since, at once:
    to look at a number that a GPU computes, the host must wait until it is there.

    Parameters
    ----------
    backend : Backend
        Where the losses are computed.

    Attributes
    ----------
    task, fbi, penalty : list of float
        L_TSK of every batch; L_FBI, and the penalty of another regularizer, of those in which
        it was computed.
    images, correct : int
        How many have been seen, and how many of them were classified rightly.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.task: list[float] = []
        self.fbi: list[float] = []
        self.penalty: list[float] = []
        self.images = self.correct = 0
        self._fbi_terms: list[dict[str, float]] = []
        self._penalty_terms: list[dict[str, float]] = []
        self._unread: list[_Unread] = []

    def __len__(self) -> int:
        """Return the number of batches that wait to be read."""
        return len(self._unread)

    def add(self, step: int, losses: Losses, labels: Any) -> None:
        """One batch more; `step` is the number of its update."""
        found = {
            "loss": losses.loss,
            "task_loss": losses.task_loss,
            "fbi_loss": losses.fbi_loss,
            "penalty": losses.penalty,
        }
        self._unread.append(
            _Unread(
                step,
                len(labels),
                count_hits(losses.logits, labels),
                # arrays, not tensors: the log must not keep a step's activations alive
                {name: tensor.data for name, tensor in found.items() if tensor is not None},
                {name: term.data for name, term in losses.fbi_terms.items()},
                {name: term.data for name, term in losses.penalty_terms.items()},
            )
        )

    def read(self) -> list[BatchRecord]:
        """Read what was added since the last time, in order."""
        unread, self._unread = self._unread, []
        numbers = iter(self.backend.scalars([n for batch in unread for n in batch.numbers]))
        hits = self.backend.scalars([batch.hits for batch in unread])
        records = []
        for batch, correct in zip(unread, hits, strict=True):
            record = BatchRecord(batch.step, **{name: next(numbers) for name in batch.values})
            fbi_terms = {name: next(numbers) for name in batch.fbi_terms}
            penalty_terms = {name: next(numbers) for name in batch.penalty_terms}
            self.task.append(record.task_loss)
            if "fbi_loss" in batch.values:
                self.fbi.append(record.fbi_loss)
                self._fbi_terms.append(fbi_terms)
            if "penalty" in batch.values:
                self.penalty.append(record.penalty)
                self._penalty_terms.append(penalty_terms)
            self.images += batch.images
            self.correct += int(correct)
            records.append(record)
        return records

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


def _means(terms: list[dict[str, float]]) -> dict[str, float] | None:
    if not terms:
        return None
    return {name: float(np.mean([t[name] for t in terms])) for name in terms[0]}
