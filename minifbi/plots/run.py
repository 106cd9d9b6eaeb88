"""The figures of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minifbi.datasets import Dataset
from minifbi.training.from_config import describe_regularizer
from minifbi.training.trainer import Trainer


def draw_run(trainer: Trainer, folder: Path) -> None:
    """Write curves.png and activations.png of a finished run."""
    from minifbi.plots import plot_activations, plot_curves, save_figure

    dataset, config = trainer.dataset, trainer.config
    kind = describe_regularizer(config).replace("lambda ", "lambda = ")
    if not config.penalty_weight:
        kind = "conventional training"
    title = f"{config.model} on {dataset.name}, {kind}, seed {config.seed}"
    figure = plot_curves(
        {name: np.array(values) for name, values in trainer.history.items()},
        trainer.records,
        gate_step=trainer.gate.step if config.penalty_weight else None,
        gate_threshold=config.fbi_gate,
        title=title,
        penalty=None if trainer.trains_fbi else trainer.regularizer.label,
    )
    save_figure(figure, folder / "curves.png")
    image, label = example_image(dataset)
    save_figure(
        plot_activations(
            trainer.model,
            image,
            label,
            title=title,
            start="predicted" if config.fbi_start == "predicted" else "target",
        ),
        folder / "activations.png",
    )


def example_image(dataset: Dataset) -> tuple[Any, int]:
    """The test image that pictures show: the first 7, as in the paper's Fig. 2, else the first."""
    sevens = np.flatnonzero(dataset.test.labels == 7)
    index = int(sevens[0]) if sevens.size else 0
    x, labels = dataset.test.batch(slice(index, index + 1))
    return x[0], int(labels[0])
