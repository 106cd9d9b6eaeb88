"""``python -m minifbi.explain``: what a trained network saw in an image, as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from minifbi.backends import BACKEND_NAMES
from minifbi.cli import Parser, run_command
from minifbi.explain import EXPLAINERS, LRP, get_explainer
from minifbi.explain.report import explain
from minifbi.explain.runs import SPLITS

PROG = "minifbi.explain"


def build_parser() -> Parser:
    """All arguments."""
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Draw which pixels a trained network counts as evidence for a class, and which "
        "against it.  Several runs are drawn side by side.",
    )
    parser.add_argument(
        "checkpoints",
        nargs="*",
        default=argparse.SUPPRESS,
        metavar="RUN",
        help="folder of a run, or one of its checkpoints, such as best.npz",
    )
    images = parser.add_argument_group("images")
    images.add_argument(
        "--index", type=int, nargs="+", default=[0], metavar="N", help="images, by their index"
    )
    images.add_argument("--split", choices=SPLITS, default="test", help="where the images are")
    images.add_argument(
        "--data-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where the data set is, if not where the run found it",
    )
    images.add_argument(
        "--image",
        nargs="+",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="explain these pictures instead; the data set is not needed. For networks trained on "
        "digits a drawing is prepared as MNIST's digits are",
    )
    images.add_argument(
        "--raw-image", action="store_true", help="only resize pictures, also for digits"
    )
    own = parser.add_argument_group("parts of your own, of a run that was trained with them")
    own.add_argument(
        "--model",
        action="append",
        metavar="FILE.py:function",
        default=argparse.SUPPRESS,
        help="the network; for several runs with different ones it is repeated",
    )
    own.add_argument(
        "--dataset",
        metavar="FILE.py:function",
        default=argparse.SUPPRESS,
        help="the data set; not needed with --image",
    )
    question = parser.add_argument_group("question")
    question.add_argument(
        "--class",
        dest="classes",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="CLASS",
        help="the class to explain: 'label', 'predicted', a number, or a name; or the difference "
        "of two, such as 4-9: why 4, and not 9? Several give several rows for each image "
        "(default: label, for --image predicted)",
    )
    question.add_argument(
        "--unit",
        nargs="+",
        metavar="UNIT",
        default=argparse.SUPPRESS,
        help="explain a hidden unit: LAYER:CHANNEL, or LAYER:CHANNEL,ROW,COLUMN",
    )
    question.add_argument(
        "--method",
        action="append",
        default=argparse.SUPPRESS,
        metavar="METHOD",
        help="an explainer with its options, such as lrp-epsilon:0.05 or integrated-gradients:100, "
        "or rules by layer, 'lrp-conv*=gamma:0.25; dense*=epsilon'; may be repeated "
        "(default: lrp-0)",
    )
    question.add_argument(
        "--through",
        nargs="+",
        metavar="LAYER:CHANNELS",
        default=argparse.SUPPRESS,
        help="count only relevance that goes through these channels, such as conv3:5,7",
    )
    question.add_argument(
        "--layer",
        metavar="LAYER",
        default=argparse.SUPPRESS,
        help="draw relevance at this hidden layer instead of the pixels: the sum over its "
        "channels, and the channels with the most",
    )
    question.add_argument("--list-methods", action="store_true", help="print all methods and exit")
    question.add_argument(
        "--conservation",
        action="store_true",
        help="print where relevance goes in each layer, for the methods lrp-...",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", metavar="FILE", default="explanation.png", help="the PNG file to write"
    )
    output.add_argument(
        "--shared",
        choices=("none", "row", "column", "all"),
        default="none",
        help="which heatmaps share one colour range; a column is a method, in all runs",
    )
    output.add_argument("--colorblind", action="store_true", help="purple and orange")
    output.add_argument(
        "--save",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="write the attributions as arrays too, to an .npz file",
    )
    output.add_argument(
        "--pixels",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="write each heatmap and image as a PNG file of its own too, one pixel per pixel",
    )
    output.add_argument(
        "--scale",
        type=int,
        default=1,
        metavar="N",
        help="with --pixels, make each pixel a square of N x N",
    )
    parser.add_argument(
        "--backend", choices=("auto", *BACKEND_NAMES), default="auto", help="where it runs"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.list_methods:
        return run_command(list_methods, PROG)
    if "checkpoints" not in options:
        parser.error("the following arguments are required: RUN, before the options")
    if "image" in options:
        for flag in ("index", "split", "data_dir", "dataset"):
            if getattr(options, flag, None) != parser.get_default(flag) and flag in options:
                parser.error(f"--{flag.replace('_', '-')} does not go with --image")
    elif options.raw_image:
        parser.error("--raw-image goes with --image FILE")
    if options.scale != 1 and "pixels" not in options:
        parser.error("--scale goes with --pixels DIR")
    return run_command(lambda: explain(options), PROG)


def describe(name: str) -> str:
    """An explainer and the numbers it takes, on one line."""
    explainer = get_explainer(name)
    detail: object = explainer.composite.describe() if isinstance(explainer, LRP) else explainer
    return f"{name:<30}{detail}"


def list_methods() -> int:
    """Print every method with what it does."""
    print("\n".join(describe(name) for name in EXPLAINERS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
