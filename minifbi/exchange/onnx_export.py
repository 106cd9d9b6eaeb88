"""A network as an ONNX file, which ONNX Runtime, browsers and phones run.

The network is run once, and each of its steps becomes a node.  So branches need no care: a node's
inputs are the tensors that the step had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minifbi import __version__
from minifbi.autograd import no_grad
from minifbi.errors import ConfigError
from minifbi.files.atomic import write_bytes
from minifbi.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
)
from minifbi.layers.sequential import Sum
from minifbi.switch import evaluating

OPSET = 17
"""Version of ONNX's operators; of 2022, so that older programs read the files too."""


def _window(layer: Any) -> dict[str, Any]:
    """Window, stride and padding, as ONNX has them; padding above, left, below, right."""
    kernel, stride, padding = layer.window
    return {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*padding, *padding]}


ONNX_NODES: dict[type[Layer], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    Conv2d: lambda layer: ("Conv", _window(layer)),
    Dense: lambda layer: ("Gemm", {"transB": 1}),
    BatchNorm2d: lambda layer: ("BatchNormalization", {"epsilon": layer.eps}),
    ReLU: lambda layer: ("Relu", {}),
    LeakyReLU: lambda layer: ("LeakyRelu", {"alpha": layer.negative_slope}),
    MaxPool2d: lambda layer: ("MaxPool", _window(layer)),
    AvgPool2d: lambda layer: ("AveragePool", {**_window(layer), "count_include_pad": 1}),
    GlobalAvgPool2d: lambda layer: ("GlobalAveragePool", {}),
    Flatten: lambda layer: ("Flatten", {}),
    Dropout: lambda layer: ("Identity", {}),
    Sum: lambda layer: ("Add", {}),
}
"""Operator and attributes of each kind of layer.  Add those of your own layers; a layer's
parameters and buffers become inputs of the node, after its own, in their order."""


def export_onnx(
    model: Layer, path: str | Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a network to an ONNX file, as it is in evaluation mode.

    The input is called "images", of shape (batch, C, H, W) with any batch, the output "logits".
    Both have the dtype of the model.

    Parameters
    ----------
    model : Layer
        Its ``input_shape`` must be known, as it is of all networks of :mod:`minifbi.models`.
    path : path
        The ``.onnx`` file; its folder exists.
    metadata : mapping of str to str, optional
        Goes into the file.

    Raises
    ------
    ConfigError
        If the package ``onnx`` is missing, the input's shape is not known, or there is a layer
        for which :data:`ONNX_NODES` has no operator.
    OSError
        If the file cannot be written.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError as error:
        raise ConfigError(
            f"ONNX files need the package onnx ({error}); `pip install 'minifbi[onnx]'`"
        ) from error
    shape = getattr(model, "input_shape", None)
    if shape is None:
        raise ConfigError(
            "the shape of one image is not known; set model.input_shape, for example (1, 28, 28)"
        )
    with evaluating(model), no_grad():
        x = model.as_input(np.zeros((1, *shape)))
        steps = model.trace(x)
    names = {id(x): "images", id(steps[-1].z): "logits"}
    nodes, constants = [], {}
    for number, step in enumerate(steps):
        layer = step.layer
        # no isinstance: a class derived from ReLU may compute something else
        if type(layer) not in ONNX_NODES:
            raise ConfigError(
                f"layer {step.name!r}: no ONNX operator is known for {layer!r}; add one, "
                f"for example minifbi.exchange.ONNX_NODES[{type(layer).__name__}] = "
                "lambda layer: ('Relu', {})"
            )
        operator, attributes = ONNX_NODES[type(layer)](layer)
        held = {name: p.data for name, p in layer.own_parameters.items()} | layer.own_buffers
        for name, array in held.items():
            constants[f"{step.name}.{name}"] = model.backend.to_numpy(array)
        inputs = [names[id(tensor)] for tensor in step.inputs]
        inputs += [f"{step.name}.{name}" for name in held]
        output = names.setdefault(id(step.z), f"z{number}")
        nodes.append(helper.make_node(operator, inputs, [output], step.name, **attributes))
    kind = helper.np_dtype_to_tensor_dtype(model.dtype)
    graph = helper.make_graph(
        nodes,
        "minifbi",
        [helper.make_tensor_value_info("images", kind, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", kind, ["batch", *steps[-1].z.shape[1:]])],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # of the same year
        producer_name="minifbi",
        producer_version=__version__,
    )
    helper.set_model_props(made, dict(metadata or {}))
    onnx.checker.check_model(made, full_check=True)
    write_bytes(Path(path), made.SerializeToString())
