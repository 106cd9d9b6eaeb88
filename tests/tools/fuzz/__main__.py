"""``python tests/tools/fuzz TARGET``: wrong inputs for a reader, until it raises something else.

With atheris (``pip install -e '.[fuzz]'``) coverage decides which inputs are changed further.
Without it, or with ``--engine random``, right inputs are changed at random.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def build_parser() -> argparse.ArgumentParser:
    """All flags."""
    parser = argparse.ArgumentParser(prog="python tests/tools/fuzz", description=__doc__)
    parser.add_argument(
        "target",
        choices=("idx", "folder", "checkpoint", "resume", "config", "results", "values", "command"),
    )
    parser.add_argument("--runs", type=int, default=100_000, help="inputs")
    parser.add_argument("--seconds", type=int, default=600, help="at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("atheris", "random"), default="atheris")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="corpus, findings, log")
    parser.add_argument("--memory", type=int, default=3072, help="MiB of addresses, at most")
    parser.add_argument(
        "--replay", nargs="+", type=Path, metavar="FILE", help="run these, and stop"
    )
    return parser


class Session:
    """Counts inputs, and keeps each kind of finding once.

    Parameters
    ----------
    name : str
        The target.
    out : Path
        Where ``NAME.json`` and ``NAME-findings/`` go.
    """

    def __init__(self, name: str, out: Path) -> None:
        from fuzz import commands, targets

        every = {
            **targets.TARGETS,
            "command": targets.Target(commands.run, commands.seeds, commands.mutate),
        }
        self.target, self.name, self.out = every[name], name, out
        self.inputs = self.accepted = self.found = 0
        self.slowest = 0.0
        self.kinds: dict[str, int] = {}
        self.begin = time.monotonic()

    def feed(self, data: bytes) -> None:
        """One input; what it raises, if it is not documented, is written down."""
        begin = time.monotonic()
        try:
            self.accepted += self.target.run(data)
        except Exception as error:
            self.keep(data, error)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.inputs += 1
        if self.inputs % 1000 == 0:
            self.write()

    def keep(self, data: bytes, error: Exception) -> None:
        """The first input of each kind: the error and the line that raised it."""
        frames = traceback.extract_tb(error.__traceback__)
        last = next((f for f in reversed(frames) if "minifbi" in f.filename), frames[-1])
        kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        self.found += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] == 1:
            folder = self.out / f"{self.name}-findings"
            os.makedirs(folder, exist_ok=True)  # the commands under test have no Path.mkdir
            name = hashlib.sha256(kind.encode()).hexdigest()[:8]
            (folder / name).write_bytes(data)
            text = "".join(traceback.format_exception(error))
            (folder / f"{name}.txt").write_text(f"{kind}\n\n{text}", errors="backslashreplace")
            self.write()

    def write(self) -> None:
        """How far it is."""
        os.makedirs(self.out, exist_ok=True)
        state = {
            "target": self.name,
            "inputs": self.inputs,
            "accepted": self.accepted,
            "undocumented": self.found,
            "kinds": self.kinds,
            "slowest_seconds": round(self.slowest, 3),
            "seconds": round(time.monotonic() - self.begin, 1),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        (self.out / f"{self.name}.json").write_text(json.dumps(state, indent=2) + "\n")


def run_random(session: Session, options: Any) -> None:
    """Change right inputs, and what came of them a few times."""
    rng = random.Random(options.seed)
    pool = session.target.seeds()
    fixed = len(pool)
    for data in pool:
        session.feed(data)
    while session.inputs < options.runs and time.monotonic() - session.begin < options.seconds:
        data = session.target.mutate(rng.choice(pool[:fixed] if rng.random() < 0.6 else pool), rng)
        session.feed(data)
        if len(data) < 20_000:
            if len(pool) < fixed + 200:
                pool.append(data)
            else:
                pool[rng.randrange(fixed, len(pool))] = data


def run_atheris(session: Session, options: Any) -> None:
    """Let coverage choose; this ends the process."""
    import atheris

    corpus = options.out / f"{options.target}-corpus"
    os.makedirs(corpus, exist_ok=True)
    for i, data in enumerate(session.target.seeds()):
        (corpus / f"seed{i}").write_bytes(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.15:
            return atheris.Mutate(data, max_size)
        return session.target.mutate(data, rng)[:max_size]

    arguments = [
        *(sys.argv[0], str(corpus), f"-runs={options.runs}", f"-seed={options.seed}"),
        *(f"-max_total_time={options.seconds}", "-max_len=16384", "-timeout=60", "-rss_limit_mb=0"),
        *(f"-artifact_prefix={options.out}/{options.target}-", "-print_final_stats=1"),
    ]
    atheris.Setup(arguments, session.feed, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> int:
    """Run it; 1 if something undocumented was raised."""
    options = build_parser().parse_args()
    if options.engine == "atheris" and not options.replay:
        try:
            import atheris
        except ImportError:
            print("atheris is not installed; --engine random needs nothing", file=sys.stderr)
            return 2
        # the readers, and what they read with
        only = ["minifbi", "zipfile", "gzip", "argparse", "fuzz"]
        with atheris.instrument_imports(include=only):
            session = Session(options.target, options.out)
    else:
        session = Session(options.target, options.out)
    if options.target == "command":  # once, and not for every input
        from fuzz import commands

        no_work = commands.without_work()
        no_work.__enter__()
    limit = options.memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if options.replay:
        for path in options.replay:
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                with contextlib.suppress(OSError):
                    session.feed(file.read_bytes())
    elif options.engine == "random":
        run_random(session, options)
    else:
        run_atheris(session, options)
    session.write()
    print((options.out / f"{options.target}.json").read_text())
    return 1 if session.found else 0


if __name__ == "__main__":
    sys.exit(main())
