"""Small pieces that several test files use."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from minifbi.datasets import Dataset, Split, load_mnist, write_idx


@functools.cache
def small_mnist(train: int = 960, validation: int = 240, test: int = 200) -> Dataset:
    """Real MNIST, fewer images."""
    full = load_mnist()

    def part(split: Split, count: int) -> Split:
        return Split.from_arrays(split.images[:count], split.labels[:count])

    return Dataset(
        name="mnist",
        train=part(full.train, train),
        validation=part(full.validation, validation),
        test=part(full.test, test),
        num_classes=10,
        class_names=full.class_names,
    )


def write_idx_folder(folder: Path, train: int = 960, test: int = 120) -> Path:
    """Four IDX files with the first images of real MNIST."""
    full = load_mnist()
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, split, count in (("train", full.train, train), ("t10k", full.test, test)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", np.array(split.images[:count, 0]))
        labels = split.labels[:count].astype(np.uint8)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


def command(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run ``python -m minifbi.<arguments>`` as a user would, and capture what it says."""
    module, *rest = arguments
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", f"minifbi.{module}", *map(str, rest)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        **options,
    )


def obey_permissions() -> None:
    """In a child, before it starts: root too may not write where permissions forbid it."""
    override, drop = 1, 24  # CAP_DAC_OVERRIDE, PR_CAPBSET_DROP of Linux
    ctypes.CDLL(None).prctl(drop, override, 0, 0, 0)


def interrupt_after(epochs, monkeypatch):
    """Let every training end after so many epochs, as Ctrl-C would."""
    from minifbi.training import Trainer

    run_epoch = Trainer.run_epoch

    def interrupted(self, progress=None):
        if self.epoch == epochs:
            raise KeyboardInterrupt
        return run_epoch(self, progress)

    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
