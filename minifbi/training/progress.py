"""What a person sees while a run goes on."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO

from minifbi.training.gate import Gate


def describe_epoch(record: dict[str, Any], epochs: int, label: str = "FBI loss") -> str:
    """One epoch's record as a line of text; `label` is what to call the regularizer."""
    name = "penalty" if "penalty" in record else "fbi"
    value = record.get("penalty", record["fbi_loss"])
    penalty = "-" if value is None else f"{value:.4g}"
    active = "on" if record[f"{name}_active"] else "off"
    return (
        f"epoch {record['epoch']}/{epochs}  step {record['step']}  "
        f"task loss {record['task_loss']:.4f}  {label} {penalty} ({active})  "
        f"validation accuracy {record['val_accuracy']:.4f}  {record['seconds']:.1f} s"
    )


class Progress:
    """A progress bar on a terminal, one line an epoch anywhere, nothing if quiet.

    Parameters
    ----------
    images : int
        Images of the whole run, all epochs together.
    done : int
        Images that an interrupted run has seen already.
    quiet : bool
    stream : text stream
        Where the bar goes (standard error); it is drawn only on a terminal.
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
        if not quiet and stream is not None and stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=images,
                initial=done,
                unit=" img",
                unit_scale=True,
                file=stream,
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
