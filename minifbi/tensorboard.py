"""A training in TensorBoard: a callback that writes its event files."""

from __future__ import annotations

import math
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
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"TensorBoard's event files need the package tensorboardX ({error}): "
                f"`pip install tensorboardX`"
            ) from error
        self._open = SummaryWriter
        self.folder, self.images = folder, images
        self.every = whole("every", every, 1)
        self._writer: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Open the event file; what a killed run has written beyond its checkpoint is hidden."""
        folder = self.folder
        if folder is None:
            if trainer.folder is None:
                raise refused("folder", None, "a path, since this trainer has no run folder")
            folder = trainer.folder / FOLDER
        purge = trainer.step + 1 if trainer.step else None
        self._writer = self._open(str(folder), purge_step=purge)
        if not trainer.step:
            rows = [f"| {name} | {value} |" for name, value in trainer.config.to_dict().items()]
            table = "\n".join(["| option | value |", "|---|---|", *rows])
            self._writer.add_text("options", table, 0)

    def on_gate_open(self, trainer: Trainer) -> None:
        """Write where it was."""
        self._writer.add_text("gate", f"opened at step {trainer.gate.step}", trainer.step)

    def on_epoch_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """Write the record of the epoch, the losses of its batches, and the maps."""
        step = record["step"]
        before = trainer.records[-2]["step"] if len(trainer.records) > 1 else 0
        # from the history: an on_batch_end would make a GPU wait after each batch
        for name in ("task_loss", "penalty"):
            for batch in range(before - before % self.every + self.every, step + 1, self.every):
                if math.isfinite(value := trainer.history[name][batch - 1]):
                    self._writer.add_scalar(f"batch/{name}", value, batch)
        for name in ("task_loss", "penalty", "val_accuracy", "learning_rate", "seconds"):
            if record[name] is not None:
                self._writer.add_scalar(f"epoch/{name}", record[name], step)
        for name, value in (record["penalty_terms"] or {}).items():
            self._writer.add_scalar(f"penalty_terms/{name}", value, step)
        if self.images:
            x, labels = trainer.dataset.validation.batch(slice(0, 1))
            for layer in activation_maps(trainer.model, x[0], int(labels[0])).layers:
                self._writer.add_image(
                    f"activations/{layer.name}", tiled(layer.activation), step, dataformats="HW"
                )
        self._writer.flush()

    def on_train_end(self, trainer: Trainer, result: Mapping[str, Any]) -> None:
        """Write the test accuracy, and close the file."""
        self._writer.add_scalar("test_accuracy", result["test_accuracy"], trainer.step)
        self._writer.close()


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
