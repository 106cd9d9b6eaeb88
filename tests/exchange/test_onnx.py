"""ONNX files compute what the network computes, by ONNX's own reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import command

from minifbi import build_model, mlp, no_grad
from minifbi.errors import ConfigError
from minifbi.exchange import ONNX_NODES, export_onnx
from minifbi.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.models import MODELS

onnx = pytest.importorskip("onnx")


def logits(path, images, by="reference"):
    if by == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})[0]
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(str(path)).run(None, {"images": images})
    return found


def check(model, path, tolerance, batch=3, by="reference"):
    export_onnx(model, path)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    rng = np.random.default_rng(0)
    images = rng.random((batch, *model.input_shape)).astype(model.dtype)
    with no_grad():
        expected = model.eval()(images).numpy()
    found = logits(path, images, by)
    assert found.dtype == model.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    assert expected.std() > 0.01
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", MODELS)
def test_networks(tmp_path, name, dtype, tolerance):
    model = build_model(name, seed=1, backend="numpy", dtype=np.dtype(dtype))
    if model.buffers():  # with running statistics that are not 0 and 1
        with no_grad():
            model.train()(np.random.default_rng(1).random((8, *model.input_shape)))
        tolerance = max(tolerance, 1e-8)  # ONNX has the eps of BatchNormalization in float32
    made = check(model, tmp_path / "net.onnx", tolerance, batch=2)
    names = {constant.name for constant in made.graph.initializer}
    assert names == set(model.state_dict())


@pytest.mark.parametrize("by", ["reference", "onnxruntime"])
def test_layers_and_branches(tmp_path, backend, by):
    if by == "onnxruntime":
        pytest.importorskip("onnxruntime")
    # the reference takes the four paddings of MaxPool in another order than ONNX says
    padding, features = (1, 36) if by == "reference" else ((1, 0), 18)
    options = {"rng": 0, "backend": backend}
    block = Residual({"conv": Conv2d(4, 4, 3, padding=1, **options), "relu": ReLU()})
    aside = Residual(
        {"conv": Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 0), bias=False, **options)},
        shortcut=Conv2d(4, 6, (1, 3), stride=(2, 1), **options),
    )
    net = Sequential(
        {
            "conv": Conv2d(2, 4, (3, 5), stride=(1, 2), padding=(2, 0), **options),
            "drop": Dropout(0.5, rng=0),
            "block": block,
            "aside": aside,
            "leaky": LeakyReLU(0.2),
            "max": MaxPool2d((3, 2), 1, padding=padding),
            "avg": AvgPool2d(3, 2, padding=1),
            "flatten": Flatten(),
            "out": Dense(features, 5, bias=False, **options),
        }
    )
    net.input_shape = (2, 9, 12)
    check(net, tmp_path / "net.onnx", 1e-5, by=by)


class Shifted(ReLU):
    """Looks like a ReLU, and is none."""

    def forward(self, backend, x):
        return super().forward(backend, x + 1)


def test_an_unknown_layer_is_named(tmp_path, monkeypatch):
    net = Sequential({"a": Dense(2, 2), "own": Shifted()})
    with pytest.raises(ConfigError, match="shape of one image is not known"):
        export_onnx(net, tmp_path / "net.onnx")
    net.input_shape = (2,)
    with pytest.raises(ConfigError, match=r"layer 'own': .*ONNX_NODES\[Shifted\] = "):
        export_onnx(net, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
    monkeypatch.setitem(ONNX_NODES, Shifted, lambda layer: ("Softplus", {}))
    export_onnx(net, tmp_path / "net.onnx")
    x = np.float32([[1, -2]])
    z = x @ net["a"].weight.numpy().T
    np.testing.assert_allclose(logits(tmp_path / "net.onnx", x), np.log1p(np.exp(z)), rtol=1e-5)


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'minifbi\[onnx\]'"):
        export_onnx(mlp(backend="numpy"), tmp_path / "net.onnx")


def test_every_layer_of_ours_is_known():
    from minifbi import layers

    found = {
        value
        for value in vars(layers).values()
        if isinstance(value, type) and issubclass(value, Layer) and "forward" in vars(value)
    }
    assert found - {Layer} <= ONNX_NODES.keys()


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "onnx"])
def test_the_command(tiny_run, tmp_path, suffix):
    from minifbi.exchange import read_weights
    from minifbi.training import load_model

    path = tmp_path / f"net.{suffix}"
    done = command("export", tiny_run / "best.npz", "--out", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mlp after epoch" in done.stdout
    model, meta = load_model(tiny_run / "best.npz", backend="numpy")
    if suffix == "onnx":
        made = onnx.load(path)
        metadata = {prop.key: prop.value for prop in made.metadata_props}
        images = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
        with no_grad():
            np.testing.assert_allclose(logits(path, images), model(images).numpy(), atol=1e-5)
    else:
        arrays, metadata = read_weights(path)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(arrays[name], array)
    if suffix != "npz":
        assert json.loads(metadata["class_names"]) == meta["class_names"]
        assert json.loads(metadata["input_shape"]) == [1, 28, 28]
        assert metadata["model"] == "mlp"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.npz"], "there is no checkpoint gone.npz"),
        (["gone.npz", "--out", "net.pt"], "expected .safetensors, .npz or .onnx"),
    ],
)
def test_errors_of_the_command_are_one_line(tmp_path, arguments, message):
    done = command("export", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own(tmp_path, tiny_config):
    source = tmp_path / "net.py"
    source.write_text(
        "from minifbi.layers import Dense, Flatten, Sequential\n\n\n"
        "def build(input_shape, num_classes, **options):\n"
        "    return Sequential({'flat': Flatten(), 'out': Dense(784, num_classes)})\n"
    )
    flags = ["--data-dir", tiny_config.data_dir, "--epochs=1", "--backend=numpy", "--quiet"]
    own = ["--model", f"{source}:build"]
    assert command("train", *flags, *own, "--out=run", cwd=tmp_path).returncode == 0
    without = command("export", "run", "--out=net.onnx", cwd=tmp_path)
    assert without.returncode == 1
    assert without.stderr.count("\n") == 1
    done = command("export", "run", "--out=net.onnx", *own, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    images = np.zeros((3, 1, 28, 28), np.float32)
    assert logits(tmp_path / "net.onnx", images).shape == (3, 10)
