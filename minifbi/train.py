"""``python -m minifbi.train``: train a network with the FBI loss."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from minifbi.backends import BACKEND_NAMES, set_threads
from minifbi.cli import Parser, printable, run_command
from minifbi.datasets import DATASET_NAMES
from minifbi.fbi import REDUCTIONS, STARTS
from minifbi.files.source import parse_source
from minifbi.models import MODELS
from minifbi.optim import DEFAULT_LR, OPTIMIZERS, SCHEDULES
from minifbi.regularizers import REGULARIZERS, get_regularizer, regularizer_names
from minifbi.rules import RULES
from minifbi.tensorboard import TensorBoard
from minifbi.training import TrainConfig, default_folder, resume, train
from minifbi.training.part import KINDS
from minifbi.training.parts import Parts

PROG = "minifbi.train"


def build_parser() -> Parser:
    """All flags, in groups."""
    default = TrainConfig()
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Train a CNN in three steps (forward, relevance, backward) with the "
        "forward-backward interacted-activation loss of Yoo, Kim and Kang (2019).",
    )
    group = parser.add_argument_group("network and data")
    group.add_argument(
        "--model",
        choices=OrOwn(MODELS),
        default=default.model,
        help="the network; for one of your own, FILE.py:function names the function that builds it",
    )
    group.add_argument(
        "--dataset",
        default=default.dataset,
        choices=OrOwn(DATASET_NAMES),
        help="mnist ships with the package; fashion-mnist is downloaded once (31 MB); "
        "decoy-mnist is mnist with a misleading patch in a corner",
    )
    group.add_argument(
        "--data-dir",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help="images of your own instead: a folder of pictures with a sub-folder for each class, a "
        "folder of IDX files, of CIFAR's binary files or with train.csv, or a file .npz or .csv",
    )
    group.add_argument(
        "--num-classes",
        type=int,
        default=argparse.SUPPRESS,
        help="classes in --data-dir (default: as many as the data have)",
    )
    group.add_argument(
        "--image-size",
        metavar="N or HxW",
        type=image_size,
        default=argparse.SUPPRESS,
        help="resize the images to this many rows and columns of pixels (default: as they are)",
    )
    group.add_argument(
        "--channels",
        type=int,
        choices=(1, 3),
        default=argparse.SUPPRESS,
        help="make the images grey (1) or colour (3) (default: as they are)",
    )
    group.add_argument(
        "--split-seed",
        type=int,
        default=default.split_seed,
        help="of the validation and test set, where --data-dir has none and they are drawn",
    )
    group.add_argument(
        "--images",
        metavar="N",
        type=int,
        default=argparse.SUPPRESS,
        help="train on N images only, each class its share, to try things out (default: all)",
    )

    group.add_argument(
        "--bias",
        action=argparse.BooleanOptionalAction,
        default=default.bias,
        help="whether the layers have biases",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="start from these weights: a .safetensors or .npz file, or the folder or a checkpoint "
        "of a run (default: random weights)",
    )
    group.add_argument(
        "--weights-skip",
        metavar="LAYER,...",
        default=argparse.SUPPRESS,
        help="layers that start with random weights all the same, such as the last one for "
        "other classes",
    )

    group = parser.add_argument_group("computation")
    group.add_argument(
        "--backend",
        choices=("auto", *BACKEND_NAMES),
        default=default.backend,
        help="where it runs: auto takes numba where it imports, else numpy, unless the "
        "environment variable MINIFBI_BACKEND names one",
    )
    group.add_argument(
        "--dtype", choices=("float32", "float64"), default=default.dtype, help="precision"
    )
    group.add_argument(
        "--seed", type=int, default=default.seed, help="of the initial weights and the shuffling"
    )

    group.add_argument(
        "--threads", type=int, default=0, help="that compute; 0: as many as there are cores"
    )

    group.add_argument(
        "--check-numerics",
        action="store_true",
        help="look for NaN and infinity in every layer and pass, and stop with the name of the "
        "first at fault; changes no number, and takes longer",
    )

    group = parser.add_argument_group("optimisation")
    group.add_argument("--epochs", type=int, default=default.epochs, help="passes over the data")
    group.add_argument("--batch-size", type=int, default=default.batch_size, help="images a step")
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default=default.optimizer, help="the optimiser"
    )
    group.add_argument(
        "--lr",
        type=float,
        default=argparse.SUPPRESS,
        help="learning rate (default: "
        + ", ".join(f"{lr:g} for {name}" for name, lr in DEFAULT_LR.items())
        + ")",
    )
    group.add_argument("--momentum", type=float, default=default.momentum, help="of sgd")
    group.add_argument(
        "--weight-decay", type=float, default=default.weight_decay, help="L2 penalty"
    )
    group.add_argument(
        "--schedule",
        metavar="SCHEDULE",
        default=default.schedule,
        help="of the learning rate, with its numbers if need be, such as cosine:0.01 (the last "
        "factor), step:0.1,0.5,0.75 (factor, shares of the run) or plateau:0.1,10 (factor, epochs "
        f"without a better validation accuracy); one of {', '.join(SCHEDULES)}",
    )
    group.add_argument(
        "--warmup",
        type=float,
        metavar="EPOCHS",
        default=default.warmup,
        help="in which the learning rate rises linearly, with every schedule",
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="EPOCHS",
        default=default.patience,
        help="without a better validation accuracy after which the run stops; the count starts "
        "again when the gate opens; 0: never",
    )
    group.add_argument(
        "--min-delta",
        type=float,
        metavar="D",
        default=default.min_delta,
        help="how much higher the validation accuracy must be to count as better",
    )

    group = parser.add_argument_group("the FBI loss, Eq. (2) to (4) of the paper")
    group.add_argument(
        "--fbi-weight",
        type=float,
        default=default.fbi_weight,
        help="lambda of Eq. (4), 0 to 1; 0 is conventional training",
    )
    group.add_argument(
        "--fbi-gate",
        type=float,
        default=default.fbi_gate,
        help="validation accuracy above which the FBI loss, or the --regularizer in its place, "
        "joins; 0: from the start",
    )
    group.add_argument(
        "--gate-interval",
        type=int,
        default=default.gate_interval,
        help="iterations between two looks at the validation accuracy before that",
    )
    group.add_argument(
        "--fbi-start",
        choices=STARTS,
        default=default.fbi_start,
        help="where the relevance pass starts: the logit of the true class, all logits, "
        "or the largest logit",
    )
    group.add_argument(
        "--fbi-reduction",
        choices=REDUCTIONS,
        default=default.fbi_reduction,
        help="L1 of Eq. (3): sum over a sample's units and mean over the batch, or mean over all",
    )
    group.add_argument(
        "--fbi-rule",
        metavar="RULE",
        default=default.fbi_rule,
        help="rule of the relevance pass, with its numbers if need be, such as epsilon:0.05 or "
        f"gamma:0.25; one of {', '.join(RULES)}, or your own as FILE.py:function",
    )
    group.add_argument(
        "--fbi-stabilizer",
        metavar="EPS",
        dest="fbi_rule",
        type=stabilizer_rule,
        default=argparse.SUPPRESS,
        help="the same as --fbi-rule epsilon:EPS, the divided form R / (z + eps sign z); 0: zero, "
        "the exact ratio form. Of the two flags the last one counts",
    )

    group = parser.add_argument_group("baselines: what to train with instead of the FBI loss")
    group.add_argument(
        "--regularizer",
        choices=OrOwn(regularizer_names()),
        default=default.regularizer,
        help="what joins the task loss at the gate; right-reasons needs --dataset decoy-mnist",
    )
    group.add_argument(
        "--regularizer-weight",
        type=float,
        default=argparse.SUPPRESS,
        help="its weight w in L_TSK + w P; fbi has --fbi-weight instead (default: "
        + ", ".join(
            f"{get_regularizer(name).default_weight:g} for {name}"
            for name in REGULARIZERS
            if name != "fbi"
        )
        + ")",
    )

    group = parser.add_argument_group("run folder")
    group.add_argument(
        "--out",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where results go; must not hold a run (default: a new folder under runs/)",
    )
    group.add_argument(
        "--resume",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="go on with an interrupted run, with its own options; only --epochs, --backend, "
        "--threads, --check-numerics, --tensorboard, --quiet and parts of your own may stand "
        "beside it",
    )
    group.add_argument(
        "--changed-parts",
        action="store_true",
        help="with --resume: go on although the file of a part of your own has changed",
    )
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write what TensorBoard shows into a folder of this name within the run's; needs the "
        "package tensorboardX",
    )
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


class OrOwn(tuple[str, ...]):
    """Names to choose from, or ``FILE.py:function``."""

    __slots__ = ()

    def __new__(cls, names: Iterable[str]) -> OrOwn:
        return super().__new__(cls, (*names, "FILE.py:function"))

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or parse_source(value) is not None


def stabilizer_rule(text: str) -> str:
    """The rule that a stabiliser is; ValueError if the text is not a number."""
    return "zero" if float(text) == 0 else f"epsilon:{text}"


def image_size(text: str) -> tuple[int, int]:
    """Rows and columns from "28" or "28x40"; ValueError if the text is neither."""
    rows, times, columns = text.lower().partition("x")
    return int(rows), int(columns if times else rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    options = vars(parser.parse_args(arguments))
    quiet, threads = options.pop("quiet"), options.pop("threads")
    tensorboard = options.pop("tensorboard")
    changed = options.pop("changed_parts")
    out, folder = options.pop("out", None), options.pop("resume", None)
    # what stands in the command is run; a configuration holds names only
    own = {
        name: options[kind.option]
        for name, kind in KINDS.items()
        if parse_source(options[kind.option]) is not None
    }

    def command() -> int:
        nonlocal out
        if threads:
            set_threads(threads)
        callbacks = [TensorBoard()] if tensorboard else []
        try:
            if folder is None:
                if changed:
                    parser.error("--changed-parts goes with --resume DIR")
                parts = Parts.of(**own)
                config = parts.named_in(TrainConfig(**options))
                out = out or default_folder(config)
                train(config, out, **parts.given(), callbacks=callbacks, quiet=quiet)
            else:
                given = {a.split("=")[0] for a in arguments if a.startswith("--")}
                beside = {"--resume", "--epochs", "--backend", "--threads", "--quiet"}
                beside |= {"--check-numerics", "--tensorboard", "--changed-parts"}
                beside |= {KINDS[name].flag for name in own}
                surplus = sorted(given - beside)
                if surplus:
                    parser.error(f"--resume takes its options from {folder}; drop {surplus[0]}")
                epochs = options["epochs"] if "--epochs" in given else None
                backend = options["backend"] if "--backend" in given else None
                check = True if "--check-numerics" in given else None
                resume(
                    Path(folder),
                    epochs=epochs,
                    backend=backend,
                    check_numerics=check,
                    callbacks=callbacks,
                    quiet=quiet,
                    changed_parts=changed,
                    **own,
                )
        except KeyboardInterrupt:
            print(
                f"\n{PROG}: interrupted; finished epochs are kept, "
                f"go on with --resume {printable(str(folder or out))}",
                file=sys.stderr,
            )
            return 130
        return 0

    return run_command(command, PROG)


if __name__ == "__main__":
    sys.exit(main())
