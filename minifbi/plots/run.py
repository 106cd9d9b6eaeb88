"""The figures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minifbi.datasets import Dataset
from minifbi.files.source import part_name
from minifbi.plots.activations import plot_activations
from minifbi.plots.curves import plot_curves
from minifbi.plots.figure import save_figure
from minifbi.training.config import describe_regularizer
from minifbi.training.folder import ACTIVATIONS, CURVES
from minifbi.training.trainer import Trainer


def draw_run(trainer: Trainer, folder: Path) -> None:
    """Write curves.png and activations.png, as :func:`minifbi.training.train` does at its end.

    Parameters
    ----------
    trainer : Trainer
        After at least one epoch.
    folder : Path
        Where the figures go.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    dataset, config = trainer.dataset, trainer.config
    kind = describe_regularizer(config).replace("lambda ", "lambda = ")
    if not config.penalty_weight:
        kind = "conventional training"
    title = f"{part_name(config.model)} on {dataset.name}, {kind}, seed {config.seed}"
    figure = plot_curves(
        {name: np.array(values) for name, values in trainer.history.items()},
        trainer.records,
        gate_step=trainer.gate.step if config.penalty_weight else None,
        gate_threshold=config.fbi_gate,
        title=title,
        label=trainer.regularizer.label,
    )
    save_figure(figure, folder / CURVES)
    image, label = example_image(dataset)
    save_figure(
        plot_activations(
            trainer.model,
            image,
            label,
            title=title,
            start="predicted" if config.fbi_start == "predicted" else "target",
            class_names=dataset.class_names,
        ),
        folder / ACTIVATIONS,
    )


def example_image(dataset: Dataset) -> tuple[Any, int]:
    """The test image that pictures show: the first 7, as in the paper's Fig. 2, else the first.

    Parameters
    ----------
    dataset : Dataset
        Its test split is searched.

    Returns
    -------
    image : ndarray, shape (C, H, W)
        Pixels from 0 to 1.
    label : int
    """
    sevens = np.flatnonzero(dataset.test.labels == 7)
    index = int(sevens[0]) if sevens.size else 0
    x, labels = dataset.test.batch(slice(index, index + 1))
    return x[0], int(labels[0])
