"""``python -m minifbi.reproduce``: the paper's figures and table, and what it leaves out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from minifbi.backends import set_threads
from minifbi.cli import Parser, run_command
from minifbi.errors import ConfigError
from minifbi.reproduce.figures import draw_lambda, draw_paper_figures
from minifbi.reproduce.pipeline import Clock, Reproduction, duration, machine, time_step
from minifbi.reproduce.report import Facts, write_report
from minifbi.reproduce.results import Results
from minifbi.reproduce.settings import Settings, quick
from minifbi.training.part import KINDS
from minifbi.training.parts import Parts

PROG = "minifbi.reproduce"
DEFAULT = Settings()


def build_parser() -> Parser:
    """All flags."""
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Train conventional and FBI networks and the baselines over several seeds, "
        "measure them, and write every figure and table of the paper and a report that says "
        "which of its claims hold. After an interruption the same command continues.",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=argparse.SUPPRESS,
        help=f"of the main comparison (default: {DEFAULT.seeds}, or 2 with --quick)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=argparse.SUPPRESS,
        help=f"of every run (default: {DEFAULT.epochs}, or 2 with --quick)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where everything goes (default: reproduction, or reproduction-quick with --quick)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="every artefact in less than 5 minutes on two cores, from few images; no results",
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what would be trained and how long it takes; stop"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="train nothing; write the report from the runs that are finished",
    )
    parser.add_argument(
        "--fashion-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="folder with the IDX files of Fashion-MNIST (default: the download folder; without "
        "the files these runs are left out)",
    )
    group = parser.add_argument_group(
        "your own", "parts in a Python file, compared with the paper's over some seeds"
    )
    for kind in KINDS.values():
        group.add_argument(
            kind.flag,
            dest=f"own_{kind.option}",
            metavar="FILE.py:function",
            default=argparse.SUPPRESS,
            help=f"a {kind.noun}",
        )
    parser.add_argument(
        "--colorblind", action="store_true", help="colours for people with colour-vision deficiency"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="that compute; 0: as many as there are cores"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)

    def command() -> int:
        if options.threads:
            set_threads(options.threads)
        settings = make_settings(options)
        out = Path(
            getattr(options, "out", "reproduction-quick" if options.quick else "reproduction")
        )
        if options.plan and options.report:
            raise ConfigError("--plan and --report: choose one")
        given = {n: getattr(options, f"own_{kind.option}", None) for n, kind in KINDS.items()}
        whole = Reproduction(settings, out, say, Parts.of(**given))
        if not options.report:
            step = time_step(whole.data)
            print(whole.describe_plan(step), flush=True)
            if options.plan:
                return 0
        elif not whole.pair_is_there():
            raise ConfigError(
                f"{out} does not hold the finished runs from which the figures are drawn, the "
                "conventional and the FBI network of seed 0; run the same command without --report"
            )
        out.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        missing = 0
        try:
            if options.report:
                missing = whole.gather()
            else:
                whole.run(Clock(step))
        except KeyboardInterrupt:
            print(
                f"\n{PROG}: interrupted; finished runs are kept, the same command continues",
                file=sys.stderr,
            )
            return 130
        results = Results(whole.values)
        captions = draw_paper_figures(whole.store, settings, out, options.colorblind)
        captions |= draw_lambda(results, out)
        facts = Facts(
            command=" ".join(["python -m minifbi.reproduce", *_shown(arguments)]),
            machine=machine(),
            settings=settings,
            quick=options.quick,
            captions=captions,
            matching=whole.matching,
            fashion="" if whole.fashion else whole.no_fashion,
            missing=missing,
        )
        judgements = write_report(results, facts, out)
        for judgement in judgements:
            say(f"{judgement.title}: {judgement.verdict}")
        say(f"{out / 'report.html'} is written ({duration(time.perf_counter() - begin)})")
        return 0

    return run_command(command, PROG)


def make_settings(options: argparse.Namespace) -> Settings:
    """The flags as settings."""
    given = vars(options)
    seeds, epochs = given.get("seeds"), given.get("epochs")
    fashion = Path(given["fashion_dir"]) if "fashion_dir" in given else None
    if options.quick:
        return quick(seeds, epochs, fashion)
    return Settings(
        seeds=DEFAULT.seeds if seeds is None else seeds,
        epochs=DEFAULT.epochs if epochs is None else epochs,
        fashion_dir=fashion,
    )


def _shown(arguments: Sequence[str]) -> list[str]:
    """The arguments that decide the numbers: not where they go, nor that they were there."""
    shown, skip = [], False
    for argument in arguments:
        if skip or argument == "--report":
            skip = False
        elif argument.startswith("--out"):
            skip = argument == "--out"
        else:
            shown.append(argument)
    return shown


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
