"""Command lines: every command is run up to the place where its work would begin."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from fuzz import mutators, targets
from minifbi import bench, doctor, train
from minifbi.datasets import write_idx
from minifbi.explain import EXPLAINERS
from minifbi.explain import __main__ as explain
from minifbi.reproduce import __main__ as reproduce
from minifbi.rules import RULES
from minifbi.training import config as configs
from minifbi.training import run as runs

MAINS: dict[str, Callable[[list[str]], int]] = {
    "train": train.main,
    "explain": explain.main,
    "reproduce": reproduce.main,
    "bench": bench.main,
    "doctor": doctor.main,
}
PARSERS = {
    "train": train.build_parser,
    "explain": explain.build_parser,
    "reproduce": reproduce.build_parser,
    "bench": bench.build_parser,
}
SEPARATOR = b"\n"
VALUES = (
    *("0", "1", "-1", "2", "3", "0.5", "-0.5", "1e3", "1e999", "nan", "inf", "-inf", "0x10", "1_0"),
    *("", " ", "-", "--", "=", "a=b", "@file", "%s", "%(prog)s", "{}", "\x1b[2J", "\0", "\udcff"),
    *("9" * 30, "9" * 5000, "-" + "9" * 30, "1e-400", "\u0663", "\u0661\u0662", "x" * 3000, "$x$"),
    *(
        "mlp",
        "alexnet",
        "tiny",
        "sgd",
        "adam",
        "numpy",
        "numba",
        "cupy",
        "float64",
        "target",
        "mean",
    ),
    *("none", "l1", "l2", "fbi", "right-reasons", "run", "data", "run/checkpoint.npz", "/dev/null"),
    *("label", "predicted", "a", "b", "row", "test", "train", "out.png", "missing/out.png", "loop"),
    *("/dev/zero", "pipe", "..", "/", "~nobody", "mnist", "decoy-mnist", "fashion-mnist", "cosine"),
    *(
        f"{rule}:{numbers}"
        for rule in RULES
        for numbers in ("", "0.1", "nan", "1,2", "-1", "1e999")
    ),
    *EXPLAINERS,
    *(f"lrp-{rule}:0.3" for rule in RULES),
)
SEEDS = (
    "train --model tiny --data-dir data --num-classes 3 --epochs 2 --batch-size 8 --out new",
    "train --dataset mnist --model tiny --optimizer sgd --momentum 0.5 --lr 0.1 --no-bias --quiet",
    "train --fbi-weight 0.01 --fbi-gate 0 --fbi-start logits --fbi-reduction mean --seed 3",
    "train --fbi-rule gamma:0.25 --gate-interval 5 --dtype float64 --schedule step --backend numpy",
    "train --regularizer l1 --regularizer-weight 0.01 --weight-decay 0.001 --threads 1",
    "train --resume run --epochs 3 --quiet",
    "explain run --index 0 1 --method lrp-0 --out out.png --backend numpy",
    "explain run/checkpoint.npz --class a predicted 2 --method gradient --shared row --colorblind",
    "explain run --method lrp-epsilon:0.05 --conservation --split train --data-dir data",
    "explain --list-methods",
    "reproduce --quick --plan --out new",
    "reproduce --seeds 2 --epochs 2 --fashion-dir data --colorblind --threads 1",
    "reproduce --report --out new",
    "bench --backend numpy --batch 4 8 --repeats 3 --threads 1 --model mlp --json new.json",
    "bench --scaling out.png --backend numpy --repeats 2",
    "bench --peer torch",
    "doctor --json",
    "doctor",
)


def seeds() -> list[bytes]:
    """Right command lines."""
    return [SEPARATOR.join(line.encode().split()) for line in SEEDS]


@functools.cache
def flags(command: str) -> tuple[str, ...]:
    """All flags of a command."""
    if command not in PARSERS:
        return ("--json", "--help")
    return tuple(flag for action in PARSERS[command]()._actions for flag in action.option_strings)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change, add, remove or double arguments."""
    words = data.split(SEPARATOR)
    command = words[0].decode("utf-8", "replace")
    known = flags(command) if command in MAINS else ("--help",)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(1, len(words) + 1)
        kind = rng.randrange(8)
        value = rng.choice(VALUES).encode("utf-8", "surrogateescape")
        flag = rng.choice(known).encode()
        if kind == 0 and place < len(words):
            words[place] = mutators.mutate_bytes(words[place], rng).replace(SEPARATOR, b"")
        elif kind == 1 and place < len(words) and len(words) > 2:
            del words[place]
        elif kind == 2:
            words[place:place] = [flag, value]
        elif kind == 3:
            words[place:place] = [flag + b"=" + value]
        elif kind == 4:
            words[place:place] = [flag]
        elif kind == 5 and rng.random() < 0.1:
            words[0] = rng.choice(list(MAINS)).encode()
        elif place < len(words):
            words[place] = value
        else:
            words.append(value)
    return SEPARATOR.join(words)


class _Stop(KeyboardInterrupt):
    """In the place of the work."""


def _stop(*_: Any, **__: Any) -> Any:
    raise _Stop


@functools.cache
def place() -> Path:
    """A folder with what the seeds name: a run, a data set, a loop of links, a pipe."""
    folder = targets.scratch() / "place"
    folder.mkdir()
    (folder / "run").mkdir()
    (folder / "run" / "checkpoint.npz").write_bytes(targets.tiny_checkpoint())
    config = json.dumps(targets.tiny_config().to_dict())
    (folder / "run" / "config.json").write_text(config)
    (folder / "data").mkdir()
    for prefix, split in (("train", targets.tiny_data().train), ("t10k", targets.tiny_data().test)):
        write_idx(folder / "data" / f"{prefix}-images-idx3-ubyte", split.images[:, 0])
        labels = split.labels.astype("uint8")
        write_idx(folder / "data" / f"{prefix}-labels-idx1-ubyte", labels)
    os.symlink("loop", folder / "loop")
    os.mkfifo(folder / "pipe")
    return folder


def _load_dataset(name: str, **options: Any) -> Any:
    """The tiny data set for those that ship, the real reader for folders."""
    if options.get("data_dir") is None and name in train.DATASET_NAMES:
        return targets.tiny_data()
    return _real_load_dataset(name, **options)


_real_load_dataset = configs.load_dataset


@functools.cache
def _report() -> Any:
    return doctor.examine()


@contextlib.contextmanager
def without_work() -> Iterator[None]:
    """Nothing is trained, timed, drawn or written."""
    from minifbi import plots
    from minifbi.plots import figure
    from minifbi.reproduce import data

    if runs._go_on is _stop:  # inside another one
        yield
        return
    report = _report()
    place()  # while folders can be made
    targets.add_tiny_model()
    # making a parser takes longer than using it, and using it leaves no trace
    parsers = [
        (module, "build_parser", functools.cache(module.build_parser))
        for module in (train, explain, reproduce, bench)
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, stand_in in (
            *parsers,
            (configs, "load_dataset", _load_dataset),
            (data, "load_dataset", _load_dataset),
            (runs, "make_folder", _look_at),
            (runs, "FolderLock", contextlib.nullcontext),
            (runs, "put_previous_first", _look_at),
            (runs, "write_config", lambda config, _: json.dumps(config, allow_nan=False)),
            (runs, "_go_on", _stop),
            (plots, "plot_heatmaps", lambda *_, **__: None),
            (plots, "save_figure", lambda _, path: figure.check_place(path)),
            (reproduce, "time_step", lambda _: 0.01),
            (reproduce.Reproduction, "run", _stop),
            (reproduce.Reproduction, "gather", _stop),
            (Path, "mkdir", _look_at),
            (bench, "race", _stop),
            (bench, "scaling", _stop),
            (doctor, "examine", lambda: report),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield


def _look_at(path: Path, *_: Any, **__: Any) -> None:
    """What making a folder would say of a name that cannot be one."""
    with contextlib.suppress(OSError):
        os.lstat(path)


def run(data: bytes) -> bool:
    """Run a command line; whether the command took it."""
    words = [word.decode("utf-8", "surrogateescape") for word in data.split(SEPARATOR)]
    main = MAINS.get(words[0])
    if main is None:
        return False
    folder, before = place(), os.getcwd()
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    code: Any = None
    os.chdir(folder)
    try:
        with (
            without_work(),
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", errors),
        ):
            errors.reconfigure(errors="backslashreplace")  # as Python's own is
            try:
                code = main(words[1:])
            except SystemExit as end:
                code = end.code
            except _Stop:
                code = 130
            out.flush()
            errors.flush()
    finally:
        os.chdir(before)
    said = errors.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert code in (0, 1, 2, 130), code
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert len(said) < 20_000
    if code in (1, 2):
        assert "error: " in said
    return code in (0, 130)
