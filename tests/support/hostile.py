"""Checkpoints that somebody has tampered with, and what all must do with them."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from fuzz import mutators, targets

from minifbi.errors import CheckpointError
from minifbi.files.checkpoint import load_checkpoint
from minifbi.training import RunState, Trainer, load_model, resume


def members(**changes: bytes) -> bytes:
    """A checkpoint with members replaced or added, its seal and check sums right."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(targets.tiny_checkpoint())) as archive:
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    return pack({**found, **{f"{name}.npy": content for name, content in changes.items()}})


def pack(found: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in found.items():
            archive.writestr(zipfile.ZipInfo(name), content, packing)
        archive.comment = mutators.SEAL + b"0" * 64
    return mutators.seal(out.getvalue()[: -len(mutators.SEAL) - 64])


def described(**changes: object) -> bytes:
    """A checkpoint that says something else of itself."""
    with zipfile.ZipFile(io.BytesIO(targets.tiny_checkpoint())) as archive:
        content = archive.read("meta.npy")
    meta = json.loads(content[content.find(b"\n") + 1 :])
    text = json.dumps({**meta, **changes}).encode()
    return members(
        meta=mutators.npy(f"'|u1', 'fortran_order': False, 'shape': ({len(text)},), ", text)
    )


def refused(folder: Path, content: bytes, *expected: str) -> None:
    """Neither reading, nor building, nor resuming takes the file."""
    path = folder / "checkpoint.npz"
    path.write_bytes(content)

    def take() -> None:
        load_checkpoint(path)
        load_model(path, backend="numpy")
        resume(folder, dataset=targets.tiny_data(), quiet=True, figures=False)

    with pytest.raises(CheckpointError) as caught:
        take()
    for part in expected:
        assert part in str(caught.value)


def peak(action, *errors: type[Exception]) -> int:
    """Bytes that a refusal takes at most."""
    tracemalloc.start()
    try:
        with pytest.raises(errors):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def state():
    """The arrays of a right checkpoint, and what else it says."""
    return load_checkpoint(targets.put("right.npz", targets.tiny_checkpoint()))


def go_on(arrays, meta):
    """A trainer that goes on from there."""
    trainer = Trainer(targets.tiny_config(), targets.tiny_data())
    trainer.load_state(RunState.from_checkpoint(arrays, meta))
    return trainer
