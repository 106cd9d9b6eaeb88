"""Moments at which a run can be killed, and what its files must be then."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from minifbi.training import load_checkpoint

SAVE_PATH = tuple(
    os.sep + os.path.join("minifbi", *name.split("/"))
    for name in (
        "files/atomic.py",
        "files/checkpoint.py",
        "files/lock.py",
        "training/folder.py",
        "training/run.py",
        "training/state.py",
    )
)
FRACTIONS = (0.0, 0.5, 1.0, 2.0)  # of a file's bytes; 1: all but one, 2: all


class Plan:
    """What happens to a child: the signal comes at the n-th moment of a kind.

    Parameters
    ----------
    kind : {"lines", "bytes"}
    moment : int
        From 1; 0 only counts the moments.
    number : signal
    """

    def __init__(self, kind: str, moment: int = 0, number: int = signal.SIGKILL) -> None:
        self.kind, self.moment, self.number = kind, moment, number
        self.seen = 0

    def reached(self) -> None:
        """One moment more; the signal, if it is the one."""
        self.seen += 1
        if self.seen == self.moment:
            os.kill(os.getpid(), self.number)

    def arm(self) -> None:
        """Watch this process."""
        if self.kind == "lines":
            sys.settrace(self._trace)
        else:
            self._open, os.fdopen = os.fdopen, self._watched

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(SAVE_PATH):
            return None
        if event == "line":
            self.reached()
        return self._trace

    def _watched(self, *arguments: Any, **options: Any) -> Any:
        file = self._open(*arguments, **options)
        return _Watched(file, self) if "w" in getattr(file, "mode", "") else file


class _Watched:
    """An open file whose writes reach the disk in pieces, with a moment after each."""

    def __init__(self, file: Any, plan: Plan) -> None:
        self._file, self._plan = file, plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, content: Any) -> int:
        """Write the content in pieces."""
        content, done = bytes(content), 0
        for fraction in FRACTIONS:
            end = {1.0: len(content) - 1, 2.0: len(content)}.get(
                fraction, int(fraction * len(content))
            )
            self._file.write(content[done:end])
            self._file.flush()
            done = max(done, end)
            self._plan.reached()
        return len(content)


def check_whole(folder: Path, epoch: int) -> None:
    """Raise unless every file of a run is whole, and the checkpoint holds this epoch."""
    for name in ("checkpoint.npz", "previous.npz", "best.npz"):
        if (folder / name).exists():
            _, meta = load_checkpoint(folder / name)  # raises if it is not whole
            if name == "checkpoint.npz" and meta["epoch"] < epoch:
                raise AssertionError(f"epoch {epoch} was announced and is not kept")
        elif name == "checkpoint.npz" and epoch:
            raise AssertionError(f"epoch {epoch} was announced and there is no {name}")
    for name in ("config.json", "result.json", "metrics.jsonl", "metrics.csv"):
        if (folder / name).exists():
            content(folder / name)  # raises if it is not JSON, or a table with rows of a length


def content(path: Path) -> Any:
    """What a file says, without the clock."""
    if path.suffix == ".npz":
        arrays, meta = load_checkpoint(path)
        meta = {**meta, "seconds": 0, "records": [timeless(r) for r in meta["records"]]}
        return meta, {
            group: {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in named.items()}
            for group, named in arrays.items()
        }
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        head, *rows = csv.reader(path.read_text().splitlines())
        return [timeless(dict(zip(head, row, strict=True))) for row in rows]
    return path.read_bytes()


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the clock."""
    return {name: value for name, value in record.items() if name != "seconds"}


def assert_same(one: Path, other: Path, *, but: tuple[str, ...] = ()) -> None:
    names = {path.name for path in one.iterdir()}
    assert {path.name for path in other.iterdir()} - set(but) == names
    for name in names:
        assert content(one / name) == content(other / name), name
