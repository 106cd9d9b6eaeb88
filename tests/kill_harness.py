"""Kill real training runs, resume them, and compare them with a run that nobody disturbed.

Every run trains on real MNIST digits, few of them, and writes its folder as
``python -m minifbi.train`` does.  It is killed in one of these ways, as often as there are
moments (or evenly over them, if fewer kills are asked for):

``lines``
    at each line of Python that runs in the files that write and read a run folder; this also
    lies between any two calls of the operating system that Python makes there
``bytes``
    in the middle of each file: after 0 %, a half, all but one byte, and all of it is on disk
``resumed``
    at each line as above, but of a run that was interrupted before and is being resumed
``random``
    at random moments of the whole command, from its start as a new process; also killed
    again while it resumes

by SIGKILL, SIGTERM and SIGINT in turn.  Then it is resumed until it is complete.  Between
kill and resume every file in the folder must be whole, and hold each epoch that was
announced.  In the end parameters, optimiser state, histories, random generators, log,
result and figures must be those of the undisturbed run, bit for bit; only the clock
("seconds") may differ.

    python tests/kill_harness.py                          # every moment, some 20 minutes
    python tests/kill_harness.py --kills 200 --modes lines bytes

No part of pytest's suite but used by it (tests/test_kills.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from helpers import write_idx_folder

from minifbi import train as command
from minifbi.cli import run_command
from minifbi.errors import CheckpointError
from minifbi.training import load_checkpoint

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MODES = ("lines", "bytes", "resumed", "random")
EPOCHS = 3
SAVE_PATH = tuple(
    os.sep + os.path.join("minifbi", *name.split("/"))
    for name in (
        "training/checkpoint.py",
        "training/folder.py",
        "training/lock.py",
        "training/run.py",
        "training/saving.py",
        "training/figures.py",
        "plots/figure.py",
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


class Harness:
    """The data, the undisturbed run, and runs that are killed.

    Parameters
    ----------
    place : Path
        Everything is written there.
    figures : bool
        Whether the runs draw; it takes most of their time.
    """

    def __init__(self, place: Path, figures: bool = True) -> None:
        self.place = place
        self.figures = figures
        self.data = write_idx_folder(place / "data", train=240, test=60)
        self.whole = place / "whole"
        self.seen: Counter[str] = Counter()
        code, self.moments = self.count(self.start(self.whole), "lines")
        assert code == 0, "the undisturbed run failed"

    # ---- one run -----------------------------------------------------------------------
    def start(self, out: Path) -> list[str]:
        """The command line of a new run."""
        options = f"--model mlp --backend numpy --epochs {EPOCHS} --batch-size 32 --seed 3"
        gate = "--gate-interval 3 --fbi-gate 0.2 --fbi-weight 0.01"
        return [*options.split(), *gate.split(), "--data-dir", str(self.data), "--out", str(out)]

    def again(self, out: Path) -> list[str]:
        """The command line that goes on with a run, whatever is there of it."""
        begun = (out / "config.json").exists() or (out / "checkpoint.npz").exists()
        return ["--resume", str(out)] if begun else self.start(out)

    def child(self, arguments: list[str], plan: Plan | None = None) -> tuple[int, int, str]:
        """Run a command in a forked process.

        Returns
        -------
        code : int
            Exit code, or minus the signal that ended it.
        moments : int
            How many there were.
        text : str
            What it printed.
        """
        printed = self.place / "printed"
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.close(reading)
                self._become(printed)
                if not self.figures:
                    sys.modules["minifbi.plots"] = None  # type: ignore[assignment]
                if plan is not None:
                    plan.arm()
                code = command.main(arguments)
                sys.settrace(None)
                if plan is not None:
                    os.write(writing, str(plan.seen).encode())
            except KeyboardInterrupt:
                code = 130  # outside of what the command guards
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            moments = int(pipe.read() or 0)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), moments, printed.read_text()

    @staticmethod
    def _become(printed: Path) -> None:
        """In the child: as a process of its own would be."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        handle = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)

    def count(self, arguments: list[str], kind: str) -> tuple[int, int]:
        """Run undisturbed; exit code and number of moments."""
        code, moments, _ = self.child(arguments, Plan(kind))
        return code, moments

    # ---- what must hold ----------------------------------------------------------------
    def check_between(self, out: Path, printed: str) -> None:
        """After a kill: every file is whole, and holds each epoch that was announced."""
        announced = [line for line in printed.splitlines() if line.startswith("epoch ")]
        epoch = int(announced[-1].split()[1].partition("/")[0]) if announced else 0
        for name in ("checkpoint.npz", "previous.npz", "best.npz"):
            if (out / name).exists():
                _, meta = load_checkpoint(out / name)  # raises if it is not whole
                if name == "checkpoint.npz" and meta["epoch"] < epoch:
                    raise AssertionError(f"epoch {epoch} was announced and is not kept")
            elif name == "checkpoint.npz" and epoch:
                raise AssertionError(f"epoch {epoch} was announced and there is no {name}")
        for name in ("config.json", "result.json"):
            if (out / name).exists():
                json.loads((out / name).read_text())
        if (out / "metrics.jsonl").exists():
            for line in (out / "metrics.jsonl").read_text().splitlines():
                json.loads(line)

    def check_end(self, out: Path) -> None:
        """The run is the undisturbed one, bit for bit, but for the clock."""
        names = {path.name for path in self.whole.iterdir()}
        found = {path.name for path in out.iterdir()}
        if found != names:
            raise AssertionError(f"files differ: {sorted(found ^ names)}")
        for name in sorted(names):
            one, other = content(self.whole / name), content(out / name)
            if one != other:
                raise AssertionError(f"{name} differs")

    # ---- kill, resume, compare -----------------------------------------------------------
    def finish(self, out: Path) -> None:
        """Resume until the run is complete, and compare."""
        code, _, printed = self.child(self.again(out))
        if code != 0:
            raise AssertionError(f"resuming failed with {code}: {printed[-300:]}")
        self.check_end(out)

    def kill(self, begin: Callable[[Path], list[str]], plan: Plan) -> bool:
        """One run that gets a signal; False if it ended before the moment came."""
        with tempfile.TemporaryDirectory(dir=self.place) as folder:
            out = Path(folder) / "out"
            arguments = begin(out)
            code, _, printed = self.child(arguments, plan)
            if code == 0:
                self.check_end(out)
                return False
            if code == 70 or "Traceback" in printed:
                raise AssertionError(f"a bug: {printed[-2000:]}")
            self.check_between(out, printed)
            self.finish(out)
        return True

    def interrupted(self, out: Path) -> list[str]:
        """A run that was killed after its first epoch, while it wrote the second."""
        source = self.place / "half"
        if not source.exists():
            moment = self.moments // 2
            self.child(self.start(source), Plan("lines", moment, signal.SIGKILL))
        shutil.copytree(source, out)
        return self.again(out)

    def random_kills(self, rng: random.Random, duration: float, number: int) -> int:
        """One run as a process of its own, killed at random moments until it is complete."""
        kills = 0
        with tempfile.TemporaryDirectory(dir=self.place) as folder:
            out = Path(folder) / "out"
            while not (out / "result.json").exists():
                process = subprocess.Popen(
                    [sys.executable, "-m", "minifbi.train", *self.again(out)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                )
                # one in five is left alone, so that it ends some day
                time.sleep(rng.uniform(0, duration) if rng.random() < 0.8 else 0)
                if rng.random() < 0.8:
                    process.send_signal(number)
                printed, _ = process.communicate()
                if process.returncode not in (0, 130, -number):
                    raise AssertionError(f"exit code {process.returncode}: {printed[-2000:]}")
                kills += process.returncode != 0
                if out.exists():
                    self.check_between(out, printed)
            self.finish(out)
        return kills


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
    return path.read_bytes()


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the clock."""
    return {name: value for name, value in record.items() if name != "seconds"}
