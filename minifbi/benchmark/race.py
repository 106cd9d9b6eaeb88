"""Time several contenders in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from minifbi.benchmark.arithmetic import STEPS, step_gflop
from minifbi.datasets import load_mnist
from minifbi.errors import MinifbiError
from minifbi.layers import Sequential
from minifbi.models import build_model

Say = Callable[[str], None]

# As the user has it.  Our numba backend adds a setting for its own threads when it is loaded,
# and a peer must not inherit that.
ENVIRONMENT = dict(os.environ)


class RaceError(MinifbiError):
    """A contender that stops, or whose loss or gradients differ."""


@dataclass
class Contender:
    """A process that runs training steps on command.

    Attributes
    ----------
    spec : dict
        "who", "backend", "form", and the case, see :mod:`minifbi.benchmark.worker`.
    times : dict of str to list of float
        Milliseconds of each timed step, by the step's name.
    memory : dict of str to float
        Peak memory in MiB after that step and the earlier ones, by the step's name.
    """

    spec: dict[str, Any]
    times: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    errors: IO[str] | None = None

    @property
    def label(self) -> str:
        """The contender's name in messages."""
        who = self.spec["who"]
        return f"{who} {self.spec['backend' if who == 'minifbi' else 'form']}"

    def start(self) -> None:
        """Start the process; it answers when it has loaded everything."""
        # to a file: nothing would read a pipe meanwhile, and a full one stops the process
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minifbi.benchmark.worker", json.dumps(self.spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=ENVIRONMENT,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer."""
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            process.wait()
            assert self.errors is not None
            self.errors.seek(0)
            reason = (self.errors.read().strip().splitlines() or ["no message"])[-1]
            raise RaceError(f"{self.label} stopped: {reason}")
        return dict(json.loads(line))

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
        if self.errors is not None:
            self.errors.close()
            self.errors = None


def race(
    backends: Sequence[str],
    batches: Sequence[int],
    *,
    peers: Sequence[str] = (),
    model: str = "alexnet",
    fbi_weight: float = 0.001,
    threads: int | None = None,
    repeats: int = 30,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Time all steps of all contenders in turn.

    Parameters
    ----------
    backends : sequence of str
        Backends of minifbi.  With "cupy" among them peers run on the GPU, and the peak is that
        of the first backend.
    batches : sequence of int
        Images per step; one race for each.
    peers : sequence of {"torch-eager", "torch-compile"}
        Each in the ratio and in the divided form of the relevance pass.
    model : str
        A key of :data:`minifbi.models.MODELS`; peers know the alexnet only.
    fbi_weight : float
        lambda of Eq. (4).
    threads : int, optional
        Of each process; as many as there are cores if left out.
    repeats : int
        Timed steps of each kind for each contender.
    say : callable
        Takes one line of progress as text.

    Returns
    -------
    dict
        "results", one object per contender, batch and step, with the median and the 10th
        and 90th percentile in ms, images/s, GFLOP/s and the peak memory (on a GPU, the
        GPU's); "peak_gflops", the speed of the matrix product; "ratios", our time over that
        of the fastest peer.

    Raises
    ------
    RaceError
        If a contender stops, or its loss or gradients differ from ours.
    """
    entries = [("minifbi", name, "ratio") for name in backends]
    entries += [(who, "torch", form) for who in peers for form in ("ratio", "divided")]
    common = {
        "model": model,
        "options": {},
        "fbi_weight": fbi_weight,
        "threads": threads,
        "device": "cuda" if "cupy" in backends else "cpu",  # of the peers: the same as ours
    }
    results: list[dict[str, Any]] = []
    peak = 0.0
    for batch in batches:
        with tempfile.TemporaryDirectory() as folder:
            case, net = write_case(Path(folder), batch, model)
            contenders = [
                Contender({"who": who, "backend": where, "form": form, "case": case, **common})
                for who, where, form in entries
            ]
            try:
                for contender in contenders:
                    contender.start()
                _check_equal(contenders, Path(folder), say)
                peak = max(peak, contenders[0].ask(do="peak")["gflops"])
                _warm_up(contenders, say)
                _take_turns(contenders, repeats)
                peak = max(peak, contenders[0].ask(do="peak")["gflops"])
            finally:
                for contender in contenders:
                    contender.stop()
        for contender in contenders:
            results += [
                _summary(contender, batch, step, step_gflop(net, (1, 28, 28), batch, step))
                for step in STEPS
            ]
        say(f"batch {batch} done")
    for result in results:
        result["share_of_peak"] = result["gflops"] / peak
    return {"results": results, "peak_gflops": peak, "ratios": ratios(results)}


def write_case(
    folder: Path, batch: int, model: str = "alexnet", size: int = 28, **options: Any
) -> tuple[str, Sequential]:
    """Weights, images and labels in a file, the same for all contenders.

    Parameters
    ----------
    folder : path
        Where the file is written.
    batch : int
        Number of digits, from MNIST; after its last image they repeat from the first.
    model : str
        A key of :data:`minifbi.models.MODELS`.
    size : int
        Height and width in pixels; digits are scaled to it if it is not 28.
    **options
        Further arguments of the model's builder.

    Returns
    -------
    str, Sequential
        The file, and the model.
    """
    train = load_mnist().train
    images, labels = train.batch(np.arange(batch) % len(train))
    nearest = np.arange(size) * 28 // size
    images = np.ascontiguousarray(images[:, :, nearest][:, :, :, nearest])
    net = build_model(model, input_shape=images.shape[1:], backend="numpy", seed=0, **options)
    case = folder / f"{model}-{batch}-{size}.npz"
    arrays: dict[str, Any] = {"images": images, "labels": labels, **net.state_dict()}
    np.savez(case, **arrays)
    return str(case), net


def _check_equal(contenders: Sequence[Contender], folder: Path, say: Say) -> None:
    """Check that all compute the same loss and gradients, so that the race is fair."""
    reference: tuple[float, dict[str, np.ndarray]] | None = None
    for number, contender in enumerate(contenders):
        file = folder / f"gradients{number}.npz"
        loss = contender.ask(do="gradients", file=str(file))["loss"]
        with np.load(file, allow_pickle=False) as arrays:
            gradients = {name: arrays[name] for name in arrays.files}
        if reference is None:
            reference = loss, gradients
            continue
        # the divided form with its small stabiliser is only nearly the same, by nature
        allowed = 1e-4 if contender.spec["form"] == "ratio" else 0.05
        worst = max(
            float(np.linalg.norm(gradients[n] - g) / np.linalg.norm(g))
            for n, g in reference[1].items()
        )
        if not abs(loss - reference[0]) <= 1e-4 * abs(reference[0]) or not worst <= allowed:
            raise RaceError(
                f"{contender.label} computes something else: loss {loss}, expected "
                f"{reference[0]}; relative difference of the gradients {worst:.1e}"
            )
        say(f"{contender.label}: loss and gradients equal ours (to {worst:.0e})")


def _warm_up(contenders: Sequence[Contender], say: Say) -> None:
    """Compile, fill caches, and note the memory; steps that need less memory come first."""
    for contender in contenders:
        for step in STEPS:
            contender.ask(do="run", step=step, count=2)
            contender.memory[step] = contender.ask(do="run", step=step, count=3)["peak_memory_mb"]
        say(f"{contender.label} is warm")


def _take_turns(contenders: Sequence[Contender], repeats: int, turn: int = 5) -> None:
    turn = min(turn, repeats)
    for _ in range(-(-repeats // turn)):
        for step in STEPS:
            for contender in contenders:
                times = contender.ask(do="run", step=step, count=turn + 1)["ms"]
                # the first of a turn finds caches cold that another contender has used
                contender.times.setdefault(step, []).extend(times[1:])


def _summary(contender: Contender, batch: int, step: str, gflop: float) -> dict[str, Any]:
    times = contender.times[step]
    median = statistics.median(times)
    return {
        "who": contender.spec["who"],
        "backend": contender.spec["backend"],
        "form": contender.spec["form"],
        "batch": batch,
        "step": step,
        "median_ms": median,
        "p10_ms": float(np.percentile(times, 10)),
        "p90_ms": float(np.percentile(times, 90)),
        "images_per_s": 1e3 * batch / median,
        "gflops": 1e3 * gflop / median,
        "peak_memory_mb": contender.memory[step],
    }


def ratios(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our median over that of the fastest peer, in its faster form; below 1 we are faster."""
    found = []
    for ours in results:
        if ours["who"] != "minifbi":
            continue
        same = [
            r
            for r in results
            if r["who"] != "minifbi" and r["batch"] == ours["batch"] and r["step"] == ours["step"]
        ]
        if same:
            best = min(same, key=lambda r: r["median_ms"])
            found.append(
                {
                    "backend": ours["backend"],
                    "batch": ours["batch"],
                    "step": ours["step"],
                    "ratio": ours["median_ms"] / best["median_ms"],
                    "peer": best["who"],
                    "form": best["form"],
                }
            )
    return found
