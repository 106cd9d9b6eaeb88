"""A training in TensorBoard: a callback that writes its event files."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.activation_maps import activation_maps
from minifbi.arguments import refused, whole
from minifbi.errors import ConfigError
from minifbi.training import Callback, Trainer

FOLDER = "tensorboard"


class TensorBoard(Callback):
    """Writes losses, accuracy and learning rate as TensorBoard reads them.

    ``python -m minifbi.train --tensorboard`` adds one.  Look at it with
    ``tensorboard --logdir runs``, which finds the event files of all runs in there.

    Parameters
    ----------
    folder : path, optional
        Where the event files go; ``tensorboard`` in the folder of the run if left out.
    every : int
        Updates between two points of the losses of single batches, at least 1.
    images : bool
        Whether to draw, after each epoch, the activation maps of an image of the validation split.

    Raises
    ------
    ConfigError
        If the package tensorboardX is missing, or a number is outside its range.
    """

    def __init__(
        self, folder: str | Path | None = None, *, every: int = 50, images: bool = True
    ) -> None:
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"TensorBoard's event files need the package tensorboardX ({error}): "
                f"`pip install tensorboardX`"
            ) from error
        self.folder, self.images = folder, images
        self.every = whole("every", every, 1)
        self._file: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Open an event file; what a killed run has written beyond its checkpoint is hidden."""
        # not SummaryWriter, which writes from a thread: a kill would lose what was flushed before
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder, step = self.folder, trainer.step
        if folder is None:
            if trainer.folder is None:
                raise refused("folder", None, "a path, since this trainer has no run folder")
            folder = trainer.folder / FOLDER
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._event, self._summary = Event, summary
        # without the step it would be the name of a file that was begun in the same second
        self._file = EventsWriter(str(Path(folder) / "events"), f".{step}")
        if step:
            start = SessionLog(status=SessionLog.START)
            self._file.write_event(Event(step=step + 1, wall_time=time.time(), session_log=start))
        else:
            rows = [f"| {name} | {value} |" for name, value in trainer.config.to_dict().items()]
            table = "\n".join(["| option | value |", "|---|---|", *rows])
            self._write(0, summary.text("options", table))
        self._file.flush()

    def on_gate_open(self, trainer: Trainer) -> None:
        """Write where it was."""
        self._write(
            trainer.step, self._summary.text("gate", f"opened after update {trainer.gate.step}")
        )

    def on_epoch_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """Write the record of the epoch, the losses of its batches, and the maps."""
        step = record["step"]
        before = trainer.records[-2]["step"] if len(trainer.records) > 1 else 0
        # from the history: an on_batch_end would make a GPU wait after each batch
        for name in ("task_loss", "penalty"):
            for batch in range(before - before % self.every + self.every, step + 1, self.every):
                self._scalar(f"batch/{name}", trainer.history[name][batch - 1], batch)
        for name in ("task_loss", "penalty", "val_accuracy", "learning_rate", "seconds"):
            self._scalar(f"epoch/{name}", record[name], step)
        for name, value in (record["penalty_terms"] or {}).items():
            self._scalar(f"penalty_terms/{name}", value, step)
        if self.images:
            x, labels = trainer.dataset.validation.batch(slice(0, 1))
            for layer in activation_maps(trainer.model, x[0], int(labels[0])).layers:
                page = tiled(layer.activation)
                image = self._summary.image(f"activations/{layer.name}", page, dataformats="HW")
                self._write(step, image)
        self._file.flush()

    def on_train_end(self, trainer: Trainer, result: Mapping[str, Any]) -> None:
        """Write the test accuracy, and close the file."""
        self._scalar("test_accuracy", result["test_accuracy"], trainer.step)
        self._file.close()

    def _scalar(self, tag: str, value: float | None, step: int) -> None:
        """Write a number; nothing where it was not measured."""
        if value is not None and math.isfinite(value):
            self._write(step, self._summary.scalar(tag, value))

    def _write(self, step: int, summary: Any) -> None:
        self._file.write_event(self._event(step=step, wall_time=time.time(), summary=summary))


def tiled(maps: NDArray[Any]) -> NDArray[np.uint8]:
    """Maps side by side in a grid, from 0 (black) to the largest of all (white).

    Parameters
    ----------
    maps : ndarray, shape (F, H, W)
        Negative values are shown as 0.

    Returns
    -------
    ndarray of uint8, shape (rows (H + 1) - 1, columns (W + 1) - 1)
        With a grey line between them.
    """
    filters, height, width = maps.shape
    columns = math.ceil(math.sqrt(filters))
    rows = math.ceil(filters / columns)
    page = np.full((rows * (height + 1), columns * (width + 1)), 64, np.uint8)
    scale = 255 / max(float(maps.max(initial=0)), 1e-30)
    for i, one in enumerate(maps):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        page[top : top + height, left : left + width] = np.clip(one * scale, 0, 255)
    return page[:-1, :-1]
