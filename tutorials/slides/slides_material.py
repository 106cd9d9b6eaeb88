"""What the slides are made of: two trained networks and test digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from minifbi import alexnet, forward_pass, load_dataset, relevance_pass
from minifbi.datasets import Dataset, Split
from minifbi.layers import Sequential
from minifbi.training import TrainConfig, Trainer


@dataclass
class Material:
    """What the slides are made of: two networks that differ in the loss alone, and a digit."""

    conventional: Trainer
    fbi: Trainer
    images: Any
    labels: Any

    @property
    def digit(self) -> Any:
        """A test digit 7, (1, 1, 28, 28)."""
        return self.images[:1]


def first(split: Split, count: int) -> Split:
    """The first images of a split."""
    return Split.from_arrays(split.images[:count], split.labels[:count])


def train(quick: bool) -> Material:
    """Train both networks."""
    mnist = load_dataset("mnist")
    count, epochs = (1500, 1) if quick else (20_000, 3)
    data = Dataset(
        "mnist",
        first(mnist.train, count),
        first(mnist.validation, 500),
        first(mnist.test, 1000),
        10,
        mnist.class_names,
    )
    trainers = []
    for weight in (0.0, 0.001):
        trainer = Trainer(TrainConfig(fbi_weight=weight, epochs=epochs, gate_interval=20), data)
        for _ in range(epochs):
            record = trainer.run_epoch()
        print(f"lambda {weight:g}: validation accuracy {record['val_accuracy']:.3f}")
        trainers.append(trainer)
    images, labels = mnist.test.batch(slice(0, 200))
    return Material(*trainers, images, labels)


def float64(model: Sequential) -> Sequential:
    """The same network with float64 numbers, for what is to hold to the last digit."""
    net = alexnet(backend="numpy", dtype=np.float64)
    net.load_state_dict(model.state_dict())
    return net


def passes(model: Sequential, images: Any, labels: Any) -> tuple[list[Any], dict[str, Any]]:
    """Steps of the forward pass, and the relevance pass as arrays."""
    steps = forward_pass(model, images)
    found = relevance_pass(steps, "target", labels)
    return steps, {name: tensor.numpy() for name, tensor in found.items()}
