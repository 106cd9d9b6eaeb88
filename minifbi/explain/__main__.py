"""``python -m minifbi.explain``: what a trained network saw in an image, as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.autograd import no_grad, softmax
from minifbi.backends import BACKEND_NAMES
from minifbi.cli import Parser, run_command
from minifbi.datasets import Dataset
from minifbi.errors import ConfigError
from minifbi.explain import EXPLAINERS, LRP, conservation_report, get_explainer

PROG = "minifbi.explain"
SPLITS = ("train", "validation", "test")


def build_parser() -> Parser:
    """All arguments."""
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Draw which pixels a trained network counts as evidence for a class, and which "
        "against it.",
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="checkpoint.npz or best.npz of a run, or its folder",
    )
    parser.add_argument(
        "--index", type=int, nargs="+", default=[0], metavar="N", help="images, by their index"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="where the images are")
    parser.add_argument(
        "--class",
        dest="classes",
        nargs="+",
        default=["label"],
        metavar="CLASS",
        help="the class to explain: 'label', 'predicted', a number, or a name; several give "
        "several heatmaps for each image",
    )
    parser.add_argument(
        "--method",
        action="append",
        default=argparse.SUPPRESS,
        metavar="METHOD",
        help="an explainer, such as lrp-epsilon:0.05; may be repeated (default: lrp-0)",
    )
    parser.add_argument("--list-methods", action="store_true", help="print all methods and exit")
    parser.add_argument(
        "--out", metavar="FILE", default="explanation.png", help="the PNG file to write"
    )
    parser.add_argument(
        "--shared",
        choices=("none", "row", "column", "all"),
        default="none",
        help="which heatmaps share one colour range",
    )
    parser.add_argument("--colorblind", action="store_true", help="purple and orange")
    parser.add_argument(
        "--conservation",
        action="store_true",
        help="print where relevance goes in each layer, for the methods lrp-...",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="folder with the four IDX files, if it is not the one in the checkpoint",
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
    if options.checkpoint is None:
        parser.error("the following arguments are required: CHECKPOINT")
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


def explain(options: argparse.Namespace) -> int:
    """Load, explain, print and draw."""
    from minifbi.plots import plot_heatmaps, save_figure
    from minifbi.plots.figure import check_place
    from minifbi.training import load_model
    from minifbi.training.loading import load_run_data

    check_place(options.out)  # before the work, not after
    methods = list(dict.fromkeys(getattr(options, "method", ["lrp-0"])))
    explainers = {name: get_explainer(name) for name in methods}
    model, meta = load_model(options.checkpoint, backend=options.backend)
    dataset = load_run_data(meta, getattr(options, "data_dir", None))
    images, labels = pick(dataset, options.split, options.index, model.dtype)
    with no_grad():
        logits = model(images)
        scores, probabilities = logits.numpy(), softmax(logits).numpy()
    rows, chosen, titles = [], [], []
    for i, (index, label) in enumerate(zip(options.index, labels, strict=True)):
        predicted = int(scores[i].argmax())
        names = dataset.class_names
        print(
            f"{dataset.name}, {options.split} image {index}: label {names[label]}, predicted "
            f"{names[predicted]} (probability {probabilities[i, predicted]:.3f})"
        )
        wanted = [which_class(c, int(label), predicted, dataset) for c in options.classes]
        for target in dict.fromkeys(wanted):
            rows.append(i)
            chosen.append(target)
            logit = f"{scores[i, target]:.2f}".replace("-", "\N{MINUS SIGN}")
            titles.append(
                f"{options.split} image {index}\nlabel {names[label]}\npredicted "
                f"{names[predicted]}\nexplained: {names[target]}\n(logit {logit})"
            )
    classes = np.array(chosen)
    found = {
        name: explainer(model, images[rows], classes) for name, explainer in explainers.items()
    }
    for name, attribution in found.items():
        for i, target, one in zip(rows, chosen, attribution, strict=True):
            print(
                f"  {name}, image {options.index[i]}, class {dataset.class_names[target]} "
                f"(logit {scores[i, target]:.4f}): for {one[one > 0].sum():.4f}, "
                f"against {one[one < 0].sum():.4f}, sum {one.sum():.4f}"
            )
        explainer = explainers[name]
        if options.conservation and isinstance(explainer, LRP):
            report = conservation_report(model, images[rows], classes, explainer.composite)
            many = f", mean over {len(rows)} explanations" if len(rows) > 1 else ""
            print(f"\nwhere the relevance of {name} goes{many}:\n{report}\n")
        elif options.conservation:
            print(f"  ({name} has no relevance pass, so nothing to conserve)")
    config, epoch = meta["config"], meta.get("epoch", "unknown")
    figure = plot_heatmaps(
        found,
        images[rows],
        rows=titles,
        shared=options.shared,
        title=f"{config['model']} on {dataset.name}, {trained_with(config)}, epoch {epoch}",
        colorblind=options.colorblind,
    )
    save_figure(figure, options.out)
    print(f"wrote {options.out}")
    return 0


def trained_with(options: Mapping[str, Any]) -> str:
    """The regularizer of a checkpoint's network, for the title of the picture."""
    from minifbi.training import TrainConfig
    from minifbi.training.config import describe_regularizer

    try:
        config = TrainConfig.from_dict(options)
    except ConfigError:  # a regularizer, a model or a data set of the user's own
        return str(options.get("regularizer", "another regularizer"))
    if not config.penalty_weight:
        return "conventional training"
    return describe_regularizer(config).replace("lambda ", "lambda = ")


def pick(
    dataset: Dataset, split: str, indices: Sequence[int], dtype: Any
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The images at these indices, with their labels."""
    part = getattr(dataset, split)
    for index in indices:
        if not 0 <= index < len(part):
            raise ConfigError(
                f"index {index}: the {split} split of {dataset.name} has {len(part):,} images; "
                f"expected 0 to {len(part) - 1}"
            )
    images, labels = part.batch(list(indices), dtype)
    return images, labels


def which_class(wanted: str, label: int, predicted: int, dataset: Dataset) -> int:
    """The class that the user named."""
    if wanted in ("label", "predicted"):
        return label if wanted == "label" else predicted
    if wanted in dataset.class_names:
        return dataset.class_names.index(wanted)
    # a number of thousands of digits would be an error of int's own
    if wanted.isdecimal() and len(wanted) < 20 and int(wanted) < dataset.num_classes:
        return int(wanted)
    raise ConfigError(
        f"class {wanted!r}: expected 'label', 'predicted', 0 to {dataset.num_classes - 1}, or one "
        f"of {', '.join(dataset.class_names)}"
    )


if __name__ == "__main__":
    sys.exit(main())
