"""Small float64 nets of every kind, for the tests of the relevance pass and the FBI loss."""

from __future__ import annotations

import numpy as np

from minifbi.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)

BATCH, CLASSES = 3, 4
INPUTS = {"dense": (6,)}  # all others take images of 1 x 7 x 6
NETS = ("dense", "max", "overlapping", "avg", "strided", "dropout")


def build(name, backend, bias=True, seed=0, dtype=np.float64):
    """A net with random weights; with `bias`, random biases too."""
    rng = np.random.default_rng(seed)
    options = {"bias": bias, "rng": rng, "backend": backend, "dtype": dtype}
    if name == "dense":
        layers = [Dense(6, 8, **options), ReLU(), Dense(8, 5, **options), ReLU()]
        layers += [Dense(5, CLASSES, **options)]
    else:
        pool, features = {
            "max": (MaxPool2d(2), 9),
            "overlapping": (MaxPool2d(3, 2), 6),
            "avg": (AvgPool2d(3, 2, 1), 12),
            "strided": (Conv2d(3, 3, 2, 2, **options), 9),
            "dropout": (Dropout(0.3, rng=4), 42),
        }[name]
        layers = [Conv2d(1, 3, 3, padding=1, **options), ReLU(), pool]
        layers += [Conv2d(3, 2, 3, padding=1, **options), ReLU(), Flatten()]
        layers += [Dense(2 * features, 5, **options), ReLU(), Dense(5, CLASSES, **options)]
    model = Sequential(*layers)
    for key, p in model.parameters().items():
        if key.endswith("bias"):
            p.data = p.backend.asarray(0.3 * rng.standard_normal(p.shape).astype(dtype))
    return model


def inputs(name, seed=0):
    """A batch for the net, with its labels."""
    rng = np.random.default_rng(100 + seed)
    shape = INPUTS.get(name, (1, 7, 6))
    return rng.standard_normal((BATCH, *shape)), rng.integers(0, CLASSES, BATCH)


def residual_net(backend="numpy", bias=True, dtype=np.float64):
    """Two blocks, one with a convolution in its shortcut and a chain inside its chain."""
    options = {"backend": backend, "dtype": dtype, "rng": np.random.default_rng(4), "bias": bias}
    model = Sequential(
        {
            "stem": Conv2d(1, 3, 3, padding=1, **options),
            "relu": ReLU(),
            "block1": Residual(
                {
                    "conv1": Conv2d(3, 3, 3, padding=1, **options),
                    "relu": ReLU(),
                    "conv2": Conv2d(3, 3, 3, padding=1, **options),
                }
            ),
            "relu1": ReLU(),
            "block2": Residual(
                Sequential(Conv2d(3, 5, 3, stride=2, padding=1, **options), ReLU()),
                Conv2d(5, 4, 3, padding=1, **options),
                shortcut=Sequential(AvgPool2d(2), Conv2d(3, 4, 1, **options)),
            ),
            "relu2": ReLU(),
            "pool": MaxPool2d(2),
            "flatten": Flatten(),
            "out": Dense(4 * 2 * 1, 4, **options),
        }
    )
    for name, p in model.parameters().items():
        if name.endswith("bias"):  # 0 is a kink of some rules
            p.data = p.backend.asarray(options["rng"].normal(0, 0.1, p.shape).astype(dtype))
    return model
