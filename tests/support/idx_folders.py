"""A small data set of random pixels in four IDX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minifbi.datasets import write_idx

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PIXELS = np.random.default_rng(0).integers(0, 256, size=(30, 5, 4), dtype=np.uint8)
LABELS = (np.arange(30) % 10).astype(np.uint8)


def fill(folder: Path, suffix: str = "", **replaced: np.ndarray) -> Path:
    """Write a small data set: 24 training and 6 test images of 5 x 4 pixels."""
    folder.mkdir(exist_ok=True)
    arrays = {
        "train_images": PIXELS[:24],
        "train_labels": LABELS[:24],
        "test_images": PIXELS[24:],
        "test_labels": LABELS[24:],
    } | replaced
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        write_idx(folder / f"{stem}{suffix}", array)
    return folder
