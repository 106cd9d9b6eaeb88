"""Weights and networks to and from other programs: ``.safetensors``, ``.npz``, ONNX.

PyTorch's users get the same names and shapes as in PyTorch for the same architecture:
``conv1.weight`` (out, in, height, width), ``dense6.weight`` (out, in), and for BatchNorm
``weight``, ``bias``, ``running_mean`` and ``running_var``.
"""

from minifbi.exchange.onnx_export import ONNX_NODES, export_onnx
from minifbi.exchange.weights import (
    LoadedWeights,
    checksum,
    describe_run,
    load_weights,
    read_weights,
    save_weights,
)

__all__ = ["ONNX_NODES", "LoadedWeights", "checksum", "describe_run", "export_onnx"]
__all__ += ["load_weights", "read_weights", "save_weights"]
