"""What the batches of one epoch found, and what a person sees of it while a run goes on."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from minifbi.backends import Array, Backend
from minifbi.training.evaluation import count_hits
from minifbi.training.gate import Gate
from minifbi.training.three_step import Losses


@dataclass
class BatchRecord:
    """The numbers of one batch.

    Attributes
    ----------
    step : int
        Number of its update, from 1.
    loss, task_loss, penalty : float
        As in :class:`~minifbi.training.Losses`; NaN where it was not computed.
    """

    step: int
    loss: float = math.nan
    task_loss: float = math.nan
    penalty: float = math.nan


@dataclass
class _Unread:
    """A batch whose numbers still are where they were computed."""

    step: int
    images: int
    hits: Array
    values: dict[str, Array]  # loss, task_loss, penalty: those that there are
    terms: dict[str, Array]

    @property
    def numbers(self) -> list[Array]:
        return [*self.values.values(), *self.terms.values()]


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
    task, penalty : list of float
        L_TSK of every batch; the penalty of those in which it was computed.
    images, correct : int
        How many have been seen, and how many of them were classified rightly.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.task: list[float] = []
        self.penalty: list[float] = []
        self.images = self.correct = 0
        self._terms: list[dict[str, float]] = []
        self._unread: list[_Unread] = []

    def __len__(self) -> int:
        """Return the number of batches that wait to be read."""
        return len(self._unread)

    def add(self, step: int, losses: Losses, labels: Any) -> None:
        """One batch more; `step` is the number of its update."""
        found = {"loss": losses.loss, "task_loss": losses.task_loss, "penalty": losses.penalty}
        self._unread.append(
            _Unread(
                step,
                len(labels),
                count_hits(losses.logits, labels),
                # arrays, not tensors: the log must not keep a step's activations alive
                {name: tensor.data for name, tensor in found.items() if tensor is not None},
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
            terms = {name: next(numbers) for name in batch.terms}
            self.task.append(record.task_loss)
            if "penalty" in batch.values:
                self.penalty.append(record.penalty)
                self._terms.append(terms)
            self.images += batch.images
            self.correct += int(correct)
            records.append(record)
        return records

    def means(self) -> dict[str, Any]:
        """Means over the epoch, for its record; None where the penalty was never computed."""
        terms = self._terms
        return {
            "task_loss": float(np.mean(self.task)),
            "penalty": float(np.mean(self.penalty)) if self.penalty else None,
            "penalty_terms": {name: float(np.mean([t[name] for t in terms])) for name in terms[0]}
            if terms
            else None,
        }


# ---- for people ------------------------------------------------------------------------
def describe_epoch(record: dict[str, Any], epochs: int, label: str = "FBI loss") -> str:
    """One epoch's record as a line of text; `label` is what to call the regularizer."""
    penalty = "-" if record["penalty"] is None else f"{record['penalty']:.4g}"
    active = "on" if record["penalty_active"] else "off"
    return (
        f"epoch {record['epoch']}/{epochs}  step {record['step']}  "
        f"task loss {record['task_loss']:.4f}  {label} {penalty} ({active})  "
        f"validation accuracy {record['val_accuracy']:.4f}  {record['seconds']:.1f} s"
    )


class NotebookLine:
    """A line of text in a notebook that changes in place; what writes to a terminal can use it.

    Unlike a widget it needs no package beside IPython, and a notebook that was saved shows how it
    was at the end.

    Parameters
    ----------
    display : callable
        IPython's ``display``.
    """

    encoding = "utf-8"  # asks for a smooth bar

    def __init__(self, display: Any) -> None:
        self._display, self._handle = display, None

    def write(self, text: str) -> None:
        """Show the text in the place of what was there; what only moves a cursor is left out."""
        text = text.strip("\r\n").rstrip()
        if not text or "\x1b" in text:
            return
        content = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def flush(self) -> None:
        """Nothing waits to be written."""


def notebook_line() -> NotebookLine | None:
    """A line in the notebook that runs this, if one does.

    Returns
    -------
    NotebookLine or None
    """
    ipython = sys.modules.get("IPython")  # in a notebook it is there already
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):  # a terminal's IPython has none
        return None
    from IPython.display import display

    return NotebookLine(display)


class Progress:
    """A progress bar on a terminal or in a notebook, one line per epoch, nothing if quiet.

    Parameters
    ----------
    images : int
        Images of the whole run, all epochs together.
    done : int
        Images that an interrupted run has seen already.
    quiet : bool
        Print nothing and draw no bar; warnings are still printed.
    stream : text stream
        Where the bar goes (standard error), if it is a terminal; else only a notebook has one.
    label : str
        What to call the regularizer.
    """

    def __init__(
        self,
        images: int,
        done: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
        label: str = "FBI loss",
    ) -> None:
        self.quiet, self.label = quiet, label
        stream = stream or sys.stderr
        self.bar: Any = None
        # without a console, or with 2>&-, there is no standard error
        terminal = stream is not None and stream.isatty()
        place = stream if terminal else notebook_line()
        if not quiet and place is not None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=images,
                initial=done,
                unit=" img",
                unit_scale=True,
                file=place,
                dynamic_ncols=True,
                mininterval=0.2,
                bar_format="{percentage:3.0f}%|{bar:20}| {rate_fmt}, {remaining} left{postfix}",
            )

    def batch(self, images: int, accuracy: float, task: float, penalty: float | None) -> None:
        """One training step is done."""
        if self.bar is not None:
            more = "" if penalty is None else f", {self.label} {penalty:.3g}"
            text = f"accuracy {accuracy:.3f}, task loss {task:.4f}{more}"
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(images)

    def say(self, text: str) -> None:
        """Print a line without tearing the bar.

        Once nobody reads any more (``| head``) or a full disk takes no more (``> log``), it
        is said on standard error, and the run goes on quietly.
        """
        if self.quiet or sys.stdout is None:
            return
        try:
            if self.bar is not None:
                self.bar.write(text, file=sys.stdout)
            else:
                print(text, flush=True)
        except OSError as error:
            self.quiet = True
            # what Python has kept back goes nowhere, or it would fail again at the end
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, sys.stdout.fileno())
            os.close(silence)
            self.warn(f"nothing more is printed ({error.strerror}), the run goes on")

    @staticmethod
    def warn(text: str) -> None:
        """Print a line on standard error, also if quiet."""
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def gate(self, gate: Gate, accuracy: float) -> None:
        """The gate opened."""
        self.say(
            f"step {gate.step}: validation accuracy {accuracy:.4f} is above {gate.threshold:g}, "
            f"the {self.label} joins"
        )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
