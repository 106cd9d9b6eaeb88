"""How time and memory grow with the batch, the width of the network and the image."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minifbi.benchmark.arithmetic import step_gflop
from minifbi.benchmark.race import Contender, Say, write_case

AXES: dict[str, tuple[int, ...]] = {
    "batch": (32, 64, 128, 256, 512, 1024),
    "width": (1, 2, 3, 4),
    "image size": (28, 36, 48, 64),
}
STANDARD = {"batch": 128, "width": 1, "image size": 28}


def scaling(
    backend: str = "numba",
    *,
    repeats: int = 10,
    threads: int | None = None,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Time the conventional and the FBI step while one thing grows at a time.

    Parameters
    ----------
    backend : str
        Which backend of minifbi to time.
    repeats : int
        Timed steps per point.
    threads : int, optional
        As many as there are cores if left out.
    say : callable
        Takes one line of progress as text.

    Returns
    -------
    dict
        "points": one object for each value of each axis and each step, with
        the median in ms per sample, GFLOP per sample and the peak memory in MiB;
        "peak_gflops": the fastest matrix product of the run.
    """
    points: list[dict[str, Any]] = []
    peak = 0.0
    for axis, values in AXES.items():
        for value in values:
            case = {**STANDARD, axis: value}
            with tempfile.TemporaryDirectory() as folder:
                file, net = write_case(
                    Path(folder), case["batch"], size=case["image size"], width=case["width"]
                )
                contender = Contender(
                    {
                        "who": "minifbi",
                        "backend": backend,
                        "form": "ratio",
                        "case": file,
                        "model": "alexnet",
                        "options": {"width": case["width"]},
                        "fbi_weight": 0.001,
                        "threads": threads,
                    }
                )
                contender.start()
                try:
                    peak = max(peak, contender.ask(do="peak")["gflops"])
                    for step in ("conventional", "fbi"):
                        contender.ask(do="run", step=step, count=3)
                        answer = contender.ask(do="run", step=step, count=repeats)
                        shape = (1, case["image size"], case["image size"])
                        points.append(
                            {
                                "axis": axis,
                                "value": value,
                                "step": step,
                                "ms_per_sample": statistics.median(answer["ms"]) / case["batch"],
                                "gflop_per_sample": step_gflop(net, shape, 1, step),
                                "peak_memory_mb": answer["peak_memory_mb"],
                            }
                        )
                finally:
                    contender.stop()
            say(f"{axis} {value}: {points[-1]['ms_per_sample']:.3f} ms per sample")
    return {"points": points, "peak_gflops": peak}


def plot_scaling(outcome: dict[str, Any], path: str | Path) -> None:
    """Draw :func:`scaling`'s outcome: time against the arithmetic floor, and memory."""
    from matplotlib.figure import Figure

    from minifbi.plots import save_figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, len(AXES), sharey="row")
    colours = {"conventional": "tab:blue", "fbi": "tab:red"}
    for column, (axis, values) in enumerate(AXES.items()):
        time_axes, memory_axes = axes[:, column]
        for step, colour in colours.items():
            points = [p for p in outcome["points"] if (p["axis"], p["step"]) == (axis, step)]
            time_axes.plot(
                values, [p["ms_per_sample"] for p in points], "o-", color=colour, label=step
            )
            floor = [1e3 * p["gflop_per_sample"] / outcome["peak_gflops"] for p in points]
            time_axes.plot(values, floor, "--", color=colour, label=f"{step}, arithmetic floor")
            memory_axes.plot(values, [p["peak_memory_mb"] for p in points], "o-", color=colour)
        _log_ticks(time_axes, values)
        _log_ticks(memory_axes, values)
        time_axes.set_yscale("log")
        memory_axes.set_yscale("log")
        memory_axes.set_xlabel(axis)
    axes[0, 0].set_ylabel("ms per sample")
    axes[1, 0].set_ylabel("peak memory of the process, MiB")
    axes[0, 0].legend(fontsize="small")
    figure.suptitle(
        f"alexnet, float32; floor: arithmetic at the measured matrix product's "
        f"{outcome['peak_gflops']:.0f} GFLOP/s"
    )
    save_figure(figure, path)


def _log_ticks(axes: Any, values: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(values, [str(v) for v in values])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
