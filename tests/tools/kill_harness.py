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

each by SIGKILL, SIGTERM or SIGINT.  Then it is resumed until it is complete.  Between
kill and resume every file in the folder must be whole, and hold each epoch that was
announced.  In the end parameters, optimiser state, histories, random generators, log,
result and figures must be those of the undisturbed run, bit for bit; only the clock
("seconds") may differ.

    python tests/tools/kill_harness.py                              # every moment of every kind
    python tests/tools/kill_harness.py --kills 200 --kinds lines bytes

No part of pytest's suite but used by it (tests/robustness/test_kills.py).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))  # for helpers

from helpers import write_idx_folder
from kill_moments import Plan, check_whole, content

from minifbi import train as command
from minifbi.errors import CheckpointError

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KINDS = ("lines", "bytes", "resumed", "random")
EPOCHS = 3


class Harness:
    """The data, the undisturbed run, and runs that are killed.

    Parameters
    ----------
    place : Path
        Everything is written there.
    figures : bool
        Whether the runs draw; it takes most of their time, and "random" kills do it anyway.
    """

    def __init__(self, place: Path, figures: bool = False) -> None:
        self.place, self.figures = place, figures
        self.data = write_idx_folder(place / "data", train=240, test=60)
        self.whole = place / "whole"
        self.moments = {"lines": self.count(self.start(self.whole), "lines")}
        self.moments["bytes"] = self.count(self.start(place / "counted"), "bytes")
        self.half = place / "half"  # killed after its first epoch, while it wrote the second
        self.child(self.start(self.half), Plan("lines", self.moments["lines"] // 2))
        copy = place / "copy"
        self.moments["resumed"] = self.count(self.interrupted(copy), "lines")

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
            except BaseException:
                traceback.print_exc()
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

    def count(self, arguments: list[str], kind: str) -> int:
        """How many moments an undisturbed run has."""
        code, moments, printed = self.child(arguments, Plan(kind))
        if code != 0:
            raise AssertionError(f"the undisturbed run failed: {printed}")
        return moments

    # ---- what must hold ----------------------------------------------------------------
    def check_between(self, out: Path, printed: str) -> None:
        """After a kill: every file is whole, and holds each epoch that was announced."""
        announced = [line for line in printed.splitlines() if line.startswith("epoch ")]
        epoch = int(announced[-1].split()[1].partition("/")[0]) if announced else 0
        check_whole(out, epoch)

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
        """A folder whose run was killed before, and how to go on with it."""
        shutil.copytree(self.half, out)
        return self.again(out)

    def kill_at_random(self, rng: random.Random, seconds: float, most: int = 8) -> Iterator[int]:
        """One run as a process of its own, killed at random moments until it is complete.

        Parameters
        ----------
        rng : Random
        seconds : float
            How long an undisturbed run takes.
        most : int
            Kills after which it may end.

        Yields
        ------
        int
            The signal of each kill.
        """
        with tempfile.TemporaryDirectory(dir=self.place) as folder:
            out = Path(folder) / "out"
            code, done = 1, 0
            while code != 0:
                number = rng.choice(SIGNALS)
                process = subprocess.Popen(
                    [sys.executable, "-m", "minifbi.train", *self.again(out)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    # a shell starts its background jobs deaf to Ctrl-C
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )
                if done < most:
                    time.sleep(rng.uniform(0, seconds))
                    process.send_signal(number)
                printed, _ = process.communicate()
                code = process.returncode
                # Ctrl-C while Python itself still starts ends as Python ends it
                if "Traceback" in printed and "KeyboardInterrupt" not in printed:
                    raise AssertionError(f"exit code {code}: {printed[-2000:]}")
                if out.exists():
                    self.check_between(out, printed)
                if code != 0:
                    done += 1
                    yield number
            self.finish(out)


def jobs(harness: Harness, kinds: list[str], kills: int) -> Iterator[tuple[str, Plan]]:
    """The kills at chosen moments: all, or `kills` of each kind, spread over the moments."""
    for kind in kinds:
        if kind == "random":
            continue
        places = range(1, harness.moments[kind] + 1)
        every = [(place, number) for place in places for number in SIGNALS]
        if kills:
            step = len(places) / kills
            every = [(places[int(i * step)], SIGNALS[i % 3]) for i in range(kills)]
        for place, number in every:
            yield kind, Plan("bytes" if kind == "bytes" else "lines", place, number)


def main() -> int:
    """Run the kills that the command line asks for; 1 if a run was lost or differs."""
    parser = argparse.ArgumentParser(description="Kill training runs, resume, compare.")
    parser.add_argument("--kills", type=int, default=0, help="of each kind; 0: every moment")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    rng, counts, failures = random.Random(options.seed), Counter(), 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder))
        print(f"moments: {harness.moments}", flush=True)
        for kind, plan in jobs(harness, options.kinds, options.kills):
            start = harness.interrupted if kind == "resumed" else harness.start
            try:
                killed = harness.kill(start, plan)
                counts[kind, signal.Signals(plan.number).name if killed else "came too late"] += 1
                if counts.total() % 100 == 0:
                    print(f"{counts.total()} kills, {failures} failures", flush=True)
            except (AssertionError, CheckpointError, ValueError) as error:
                failures += 1
                print(f"FAILED {kind} {plan.moment} {plan.number}: {error}", flush=True)
        if "random" in options.kinds:
            failures += random_runs(Path(folder) / "random", rng, options.kills or 200, counts)
    for (kind, number), count in sorted(counts.items()):
        print(f"{kind:<8} {number:<13} {count:>6}")
    kills = sum(count for (_, number), count in counts.items() if number != "came too late")
    minutes = (time.perf_counter() - begin) / 60
    print(f"{kills} kills, {failures} runs lost or differing, {minutes:.1f} minutes")
    return 1 if failures else 0


def random_runs(place: Path, rng: random.Random, kills: int, counts: Counter[Any]) -> int:
    """Kill whole commands at random moments until there are `kills`; the failures."""
    place.mkdir()
    harness, done, failures = Harness(place, figures=True), 0, 0
    begin = time.perf_counter()
    arguments = harness.start(place / "timed")
    subprocess.run([sys.executable, "-m", "minifbi.train", *arguments, "--quiet"], check=True)
    seconds = 1.1 * (time.perf_counter() - begin)
    while done < kills:
        try:
            for number in harness.kill_at_random(rng, seconds):
                counts["random", signal.Signals(number).name] += 1
                done += 1
        except (AssertionError, CheckpointError, ValueError) as error:
            failures += 1
            print(f"FAILED random after {done}: {error}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
