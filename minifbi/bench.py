"""``python -m minifbi.bench``: how long the steps take, alone or beside PyTorch."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minifbi.arguments import whole
from minifbi.backends import BACKEND_NAMES, backend_status, get_backend
from minifbi.benchmark.race import RaceError, race
from minifbi.benchmark.scaling import plot_scaling, scaling
from minifbi.cli import Parser, run_command
from minifbi.errors import ConfigError
from minifbi.files.atomic import write_json
from minifbi.models import MODELS

PROG = "minifbi.bench"
LARGEST_BATCH = 60_000  # as many digits as there are; a batch is in memory at once


def build_parser() -> Parser:
    """All flags."""
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Time inference, the conventional and the FBI training step (three steps and "
        "Adam), contenders in turn, each in its own process.",
    )
    parser.add_argument(
        "--backend", nargs="+", choices=BACKEND_NAMES, default=["numba"], help="of minifbi"
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[128], help="images per step")
    parser.add_argument("--model", choices=MODELS, default="alexnet", help="the network")
    parser.add_argument(
        "--peer",
        choices=("none", "torch", "torch-eager", "torch-compile"),
        default="none",
        help="race against PyTorch, if it is installed: eager and compiled, ratio and divided form",
    )
    parser.add_argument("--repeats", type=int, default=30, help="timed steps of each kind")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument(
        "--scaling",
        metavar="PNG",
        default="",
        help="instead of a race, draw how time grows with batch, width and image size into PNG",
    )
    parser.add_argument("--json", metavar="FILE", default="", help="write the numbers there")
    return parser


def table(outcome: dict[str, Any]) -> str:
    """The outcome as text."""
    lines = [
        f"matrix product: {outcome['peak_gflops']:.0f} GFLOP/s at best "
        f"({'cuBLAS' if outcome['results'][0]['backend'] == 'cupy' else 'NumPy'}, float32)",
        "",
        f"{'who':<26} {'batch':>5} {'step':<12} {'median':>9} {'10 %':>9} {'90 %':>9} "
        f"{'images/s':>9} {'GFLOP/s':>8} {'of peak':>7} {'memory':>8}",
    ]
    for r in outcome["results"]:
        who = f"{r['who']} {r['backend' if r['who'] == 'minifbi' else 'form']}"
        lines.append(
            f"{who:<26} {r['batch']:>5} {r['step']:<12} {r['median_ms']:>6.2f} ms "
            f"{r['p10_ms']:>6.2f} ms {r['p90_ms']:>6.2f} ms {r['images_per_s']:>9,.0f} "
            f"{r['gflops']:>8.1f} {r['share_of_peak']:>7.0%} {r['peak_memory_mb']:>5.0f} MB"
        )
    if outcome["ratios"]:
        lines += ["", "time of minifbi over that of the fastest peer (below 1: we are faster)"]
    for r in outcome["ratios"]:
        lines.append(
            f"  {r['backend']:<6} batch {r['batch']:>4}  {r['step']:<12} {r['ratio']:.2f}  "
            f"({r['peer']}, {r['form']} form)"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = build_parser().parse_args(argv)

    def command() -> int:
        for size in options.batch:
            whole("--batch", size, 1, LARGEST_BATCH)
        whole("--repeats", options.repeats, 1)
        whole("--threads", options.threads, 0)
        for name in options.backend:
            get_backend(name)  # says why, if it cannot run
        if "cupy" in options.backend and len(options.backend) > 1:
            raise ConfigError(
                "--backend cupy races alone: peers run on the GPU then, and the peak is the GPU's"
            )
        peers: tuple[str, ...] = ()
        if options.peer != "none":
            if importlib.util.find_spec("torch") is None:
                raise RaceError("--peer torch: PyTorch is not installed; `pip install torch` first")
            if options.model != "alexnet":
                raise ConfigError("--peer knows the alexnet only")
            both = ("torch-eager", "torch-compile")
            peers = both if options.peer == "torch" else (options.peer,)
        if options.scaling:
            if options.peer != "none" or len(options.backend) > 1 or options.model != "alexnet":
                raise ConfigError("--scaling takes one --backend, the alexnet, and no --peer")
            outcome = scaling(
                options.backend[0],
                repeats=options.repeats,
                threads=options.threads or None,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )
            plot_scaling(outcome, options.scaling)
            if options.json:
                write_json(Path(options.json), outcome)
            return 0
        outcome = race(
            options.backend,
            options.batch,
            peers=peers,
            model=options.model,
            threads=options.threads or None,
            repeats=options.repeats,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
        outcome["machine"] = {
            "date": datetime.date.today().isoformat(),
            "torch": importlib.metadata.version("torch") if peers else None,
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "backends": backend_status(),
        }
        print(table(outcome))
        if options.json:
            write_json(Path(options.json), outcome)
        return 0

    return run_command(command, PROG)


if __name__ == "__main__":
    sys.exit(main())
