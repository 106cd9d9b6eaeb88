"""What is fuzzed: a reader, right inputs to start from, and how to change them.

A target returns whether the reader accepted the input.  It lets the documented errors pass and
nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import mutators
from minifbi import models
from minifbi.datasets import Dataset, Split, load_idx_folder, read_idx
from minifbi.errors import CheckpointError, ConfigError, DataError, MinifbiError
from minifbi.files.checkpoint import load_checkpoint
from minifbi.files.strict_json import parse_json
from minifbi.reproduce.results import COLUMNS, read_values
from minifbi.reproduce.store import GOOD, _measure, read_own
from minifbi.training import RunState, TrainConfig, Trainer, load_model
from minifbi.training import resume as go_on
from minifbi.training.folder import read_config


@dataclasses.dataclass(frozen=True)
class Target:
    """One reader.

    Attributes
    ----------
    run : callable
        Takes the input; True if it was accepted, False after a documented error.
    seeds : callable
        Gives right inputs.
    mutate : callable
        Makes another input of one.
    """

    run: Callable[[bytes], bool]
    seeds: Callable[[], list[bytes]]
    mutate: mutators.Mutator


@functools.cache
def scratch() -> Path:
    """A folder for this process, in memory where that can be."""
    shared = Path("/dev/shm")
    place = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="minifbi-fuzz-", dir=place))


def put(name: str, data: bytes) -> Path:
    """The input as a file."""
    path = scratch() / name
    path.write_bytes(data)
    return path


# ---- a network, a data set and a run small enough to be changed a million times --------------
def tiny(*args: Any, **options: Any) -> Any:
    """A network of 31 numbers."""
    return models.mlp(*args, widths=(3,), **options)


def add_tiny_model() -> None:
    """Make it known by name, as one's own networks are."""
    models.MODELS["tiny"] = tiny


@functools.cache
def tiny_data() -> Dataset:
    """24, 2 and 3 images of 2 x 2 pixels in 3 classes."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 2, 2), dtype=np.uint8)
        return Split.from_arrays(images, np.arange(count) % 3, num_classes=3)

    return Dataset("tiny", split(24), split(2), split(3), 3, ("a", "b", "c"))


def tiny_config(**options: Any) -> TrainConfig:
    """How it is trained."""
    add_tiny_model()
    base: dict[str, Any] = {
        "model": "tiny",
        "backend": "numpy",
        "epochs": 2,
        "batch_size": 8,
        "num_classes": 3,
        "gate_interval": 2,
        "fbi_gate": 0.0,
    }
    return TrainConfig(**{**base, **options})


@functools.cache
def tiny_checkpoint(**options: Any) -> bytes:
    """checkpoint.npz after one epoch."""
    trainer = Trainer(tiny_config(**options), tiny_data())
    trainer.run_epoch()
    path = scratch() / "made.npz"
    trainer.state().save(path)
    return path.read_bytes()


# ---- IDX ---------------------------------------------------------------------------------
def run_idx(data: bytes) -> bool:
    """Read one file."""
    try:
        found = read_idx(put("some-idx", data))
    except DataError:
        return False
    assert found.dtype == np.uint8
    return True


def idx_seeds() -> list[bytes]:
    """Images and labels, plain and zipped."""
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 2) + bytes(range(12))
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes(5)
    more = [gzip.compress(plain, mtime=0) for plain in (images, labels)]
    return [images, labels, *more, struct.pack(">BBBBI", 0, 0, 8, 1, 0)]


def run_folder(data: bytes) -> bool:
    """Read four files, which the input is cut into, as a data set."""
    parts = data.split(b"\xfe\xfd\xfc")
    folder = scratch() / "four"
    folder.mkdir(exist_ok=True)
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        path = folder / f"{stem}-ubyte"
        path.unlink(missing_ok=True)
        if parts:
            path.write_bytes(parts.pop(0))
    try:
        load_idx_folder(folder, num_classes=3)
    except DataError:
        return False
    return True


def folder_seeds() -> list[bytes]:
    """A data set that is right."""
    parts = []
    for count in (24, 3):
        parts.append(struct.pack(">BBBBIII", 0, 0, 8, 3, count, 2, 2) + bytes(4 * count))
        parts.append(struct.pack(">BBBBI", 0, 0, 8, 1, count) + bytes(i % 3 for i in range(count)))
    return [b"\xfe\xfd\xfc".join(parts)]


def mutate_folder(data: bytes, rng: Any) -> bytes:
    """Change one or two of the files."""
    parts = data.split(b"\xfe\xfd\xfc")
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(parts))
        parts[place] = mutators.mutate_idx(parts[place], rng)
    return b"\xfe\xfd\xfc".join(parts)


# ---- checkpoints -------------------------------------------------------------------------
def run_checkpoint(data: bytes) -> bool:
    """Read a checkpoint, build its network, and go on with its run."""
    path = put("checkpoint.npz", data)
    try:
        arrays, meta = load_checkpoint(path)
    except CheckpointError:
        return False
    good = True
    try:
        model, _ = load_model(path, backend="numpy")
        with np.errstate(all="ignore"):
            model(np.zeros((1, *meta["input_shape"]), model.dtype))
    except CheckpointError:
        good = False
    try:
        run = RunState.from_checkpoint(arrays, meta)
        config = TrainConfig.from_dict(run.config)
        if config.epochs * config.batch_size > 10**6 or config.backend != "numpy":
            return good
        trainer = Trainer(config, tiny_data())
    except MinifbiError:  # for example images too small for the network
        return False
    try:
        trainer.load_state(run)
    except CheckpointError:
        return False
    trainer.state().save(path)
    return good


def run_resume(data: bytes) -> bool:
    """Resume a run with this checkpoint to its end: training, measuring, result.json."""
    folder = scratch() / "run"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / "checkpoint.npz").write_bytes(data)
    try:
        config = TrainConfig.from_dict(RunState.load(folder / "checkpoint.npz").config)
        if config.epochs > 5 or config.model != "tiny" or config.backend != "numpy":
            return False  # right or wrong, no work for a fuzzer
        go_on(folder, dataset=tiny_data(), quiet=True, figures=False)
    except MinifbiError:
        return False
    parse_json((folder / "result.json").read_bytes())
    return True


def checkpoint_seeds() -> list[bytes]:
    """Checkpoints of three kinds of runs."""
    return [
        tiny_checkpoint(),
        tiny_checkpoint(optimizer="sgd", fbi_weight=0.0, dtype="float64"),
        tiny_checkpoint(regularizer="l1", bias=False),
    ]


# ---- JSON --------------------------------------------------------------------------------
def run_config(data: bytes) -> bool:
    """Read config.json, and make the options of it."""
    path = put("config.json", data)
    try:
        values = read_config(path.parent)
        config = TrainConfig.from_dict(values)
    except (CheckpointError, ConfigError):
        return False
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert TrainConfig.from_dict(parse_json(text)) == config
    text.encode("utf-8")
    return True


def config_seeds() -> list[bytes]:
    """Configurations as they are stored."""
    kinds = (
        {},
        {"regularizer": "l1", "optimizer": "sgd"},
        {"fbi_rule": "gamma:0.5", "bias": False},
    )
    versions = {"minifbi": "0.1.0", "numpy": "2.0", "python": "3.11"}
    return [
        json.dumps({**tiny_config(**kind).to_dict(), "versions": versions}).encode()
        for kind in kinds
    ]


def run_results(data: bytes) -> bool:
    """Read what ``python -m minifbi.reproduce`` keeps of a run and of its measures."""
    path, accepted = put("result.json", data), False
    kinds = [*GOOD.values()]
    kinds += [functools.partial(_measure, what=w) for w in ("activations", "mean-activation", "x")]
    for good in kinds:
        try:
            read_own(path, good)
            accepted = True
        except DataError:
            pass
    return accepted


def results_seeds() -> list[bytes]:
    """A result, a run that diverged, and measures."""
    result = {
        "test_accuracy": 0.5,
        "test_loss": 1.0,
        "val_accuracy": 0.4,
        "gate_step": 3,
        "fbi_loss": None,
        "seconds": 2.5,
        "best": {"epoch": 1, "val_accuracy": 0.4},
    }
    found: list[dict[str, Any]] = [result, {"diverged": "nan", "seconds": 1.0, "seed": 0}]
    for what, values in (
        ("activations", {"conv1": {"max": 1.0, "gini": None}}),
        ("mean-activation", 0.25),
        ("x", {"a": 1.0}),
    ):
        found.append({"what": what, "options": {"n": 1}, "version": "0.1.0", "values": values})
    return [json.dumps(one).encode() for one in found]


def run_values(data: bytes) -> bool:
    """Read values.csv of a reproduction."""
    try:
        results = read_values(put("values.csv", data))
    except DataError:
        return False
    for value in results.values:
        results.summary(value.experiment.method, value.key, value.experiment.group)
    return True


def values_seeds() -> list[bytes]:
    """Some of its lines."""
    head = ",".join((*COLUMNS, "value"))
    lines = (
        "main,,none,alexnet,mnist,0,training,test_accuracy,,0.98",
        "main,,fbi,alexnet,mnist,1,activation,max,conv1,12.5",
        '"decoy-mnist","a, b",fbi,mlp,decoy-mnist,0,explanation,gini,lrp-0,',
    )
    return ["\n".join((head, *lines, "")).encode(), head.encode() + b"\n"]


TARGETS: dict[str, Target] = {
    "idx": Target(run_idx, idx_seeds, mutators.mutate_idx),
    "folder": Target(run_folder, folder_seeds, mutate_folder),
    "checkpoint": Target(run_checkpoint, checkpoint_seeds, mutators.mutate_npz),
    "resume": Target(run_resume, checkpoint_seeds, mutators.mutate_npz),
    "config": Target(run_config, config_seeds, mutators.mutate_json),
    "results": Target(run_results, results_seeds, mutators.mutate_json),
    "values": Target(run_values, values_seeds, mutators.mutate_csv),
}
