"""The parts of a run that its configuration names: network, optimiser, regularizer."""

from __future__ import annotations

import numpy as np

from minifbi.backends import get_backend
from minifbi.datasets import Dataset
from minifbi.errors import ConfigError
from minifbi.layers import Sequential
from minifbi.models import build_model
from minifbi.optim import SGD, Adam, Optimizer
from minifbi.regularizers import FBI, Regularizer, get_regularizer
from minifbi.training.config import TrainConfig


def make_model(config: TrainConfig, dataset: Dataset) -> Sequential:
    """The network, for the images and classes of a data set."""
    return build_model(
        config.model,
        input_shape=dataset.image_shape,
        num_classes=dataset.num_classes,
        bias=config.bias,
        seed=config.seed,
        backend=get_backend(config.backend),
        dtype=np.dtype(config.dtype),
    )


def make_optimizer(config: TrainConfig, model: Sequential) -> Optimizer:
    """The optimiser."""
    lr = float(config.lr)  # type: ignore[arg-type]  # TrainConfig has filled it in
    if config.optimizer == "sgd":
        return SGD(model.parameters(), lr, config.momentum, config.weight_decay)
    return Adam(model.parameters(), lr, weight_decay=config.weight_decay)


def make_fbi(config: TrainConfig) -> FBI:
    """The FBI loss with the configuration's options, to train with or to measure."""
    return FBI(config.fbi_start, config.fbi_reduction, config.fbi_rule)


def make_regularizer(config: TrainConfig, dataset: Dataset) -> Regularizer:
    """The regularizer; with "none" the FBI loss, which is then measured and not minimised.

    Raises
    ------
    ConfigError
        If it needs masks and the training images have none.
    """
    if config.regularizer in ("fbi", "none"):
        return make_fbi(config)
    regularizer = get_regularizer(config.regularizer)
    if regularizer.needs_masks and getattr(dataset.train, "masks", None) is None:
        raise ConfigError(
            f"regularizer={config.regularizer!r} needs to know which pixels must not matter, and "
            f"{dataset.name} has no masks; use --dataset decoy-mnist"
        )
    return regularizer


def describe_regularizer(config: TrainConfig) -> str:
    """What is added to the task loss, in a few words for people."""
    if config.regularizer == "none":
        return "no regularizer"
    if config.regularizer == "fbi":
        return f"lambda {config.fbi_weight:g}"
    label = get_regularizer(config.regularizer).label
    return f"{label} with weight {config.penalty_weight:g}"
