"""``python -m minifbi.export``: a trained network for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from minifbi.cli import Parser, printable, run_command
from minifbi.errors import ConfigError
from minifbi.exchange import describe_run, export_onnx, save_weights
from minifbi.training import load_model

PROG = "minifbi.export"
NOTE = """\
.safetensors and .npz hold the weights, by the names and in the shapes of PyTorch; .onnx holds the
network too (needs `pip install 'minifbi[onnx]'`)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the command line if left out.

    Returns
    -------
    int
        The exit code.
    """
    parser = Parser(
        prog=f"python -m {PROG}",
        description="Write a trained network to a file that PyTorch, ONNX Runtime and other "
        f"programs read. {NOTE}.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint.npz or best.npz of a run, or its folder, which stands for checkpoint.npz",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="network.safetensors",
        help="the file to write; its ending says the format: .safetensors, .npz or .onnx",
    )
    parser.add_argument(
        "--model",
        metavar="FILE.py:function",
        default=argparse.SUPPRESS,
        help="the network of your own, of a run that was trained with it",
    )
    arguments = parser.parse_args(argv)
    own = getattr(arguments, "model", None)
    out = Path(arguments.out)

    def command() -> int:
        if out.suffix not in (".safetensors", ".npz", ".onnx"):
            raise ConfigError(f"--out {out}: expected .safetensors, .npz or .onnx at its end")
        model, meta = load_model(arguments.checkpoint, backend="numpy", model=own)
        if getattr(model, "input_shape", None) is None:
            model.input_shape = tuple(meta["input_shape"])
        write = export_onnx if out.suffix == ".onnx" else save_weights
        write(model, out, metadata=describe_run(meta))
        count = sum(array.size for array in model.state_dict().values())
        print(
            f"{printable(str(out))}: {meta['config']['model']} after epoch {meta.get('epoch')}, "
            f"{count:,} numbers; images are {tuple(meta['input_shape'])}, pixels from 0 to 1"
        )
        return 0

    return run_command(command, PROG)


if __name__ == "__main__":
    sys.exit(main())
