"""What a person sees while a run goes on."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from minifbi.training.gate import Gate


def describe_epoch(record: dict[str, Any], epochs: int) -> str:
    """One epoch's record as a line of text."""
    fbi = "-" if record["fbi_loss"] is None else f"{record['fbi_loss']:.4g}"
    active = "on" if record["fbi_active"] else "off"
    return (
        f"epoch {record['epoch']}/{epochs}  step {record['step']}  "
        f"task loss {record['task_loss']:.4f}  FBI loss {fbi} ({active})  "
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
    """

    def __init__(
        self, images: int, done: int = 0, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.quiet = quiet
        stream = stream or sys.stderr
        self.bar: Any = None
        if not quiet and stream.isatty():
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

    def batch(self, images: int, accuracy: float, task: float, fbi: float | None) -> None:
        """One training step is done."""
        if self.bar is not None:
            fbi_text = "" if fbi is None else f", FBI {fbi:.3g}"
            text = f"accuracy {accuracy:.3f}, task loss {task:.4f}{fbi_text}"
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(images)

    def say(self, text: str) -> None:
        """Print a line without tearing the bar."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def gate(self, gate: Gate, accuracy: float) -> None:
        """The gate opened."""
        self.say(
            f"step {gate.step}: validation accuracy {accuracy:.4f} is above {gate.threshold:g}, "
            f"the FBI loss joins"
        )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
