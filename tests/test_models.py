"""The networks: shapes, numbers of parameters, initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minifbi import models
from minifbi.backends import get_backend
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Flatten, Sequential
from minifbi.models import MODELS, alexnet, build_model, lenet, mlp

ALEXNET_MAPS = {
    "conv1": (16, 28, 28),
    "relu_conv1": (16, 28, 28),
    "pool1": (16, 14, 14),
    "conv2": (16, 14, 14),
    "relu_conv2": (16, 14, 14),
    "pool2": (16, 7, 7),
    "conv3": (32, 7, 7),
    "relu_conv3": (32, 7, 7),
    "conv4": (32, 7, 7),
    "relu_conv4": (32, 7, 7),
    "conv5": (32, 7, 7),
    "relu_conv5": (32, 7, 7),
    "pool5": (32, 3, 3),
    "flatten": (288,),
    "dense6": (128,),
    "relu_dense6": (128,),
    "dense7": (128,),
    "relu_dense7": (128,),
    "dense8": (10,),
}


NORMED = ("vgg", "resnet")  # with batch normalisation


def shapes(model, shape=(1, 28, 28)):
    assert model.dtype == np.float32
    return {step.name: step.z.shape[1:] for step in model.trace(np.zeros((2, *shape)))}


def count(model):
    return sum(p.size for p in model.parameters().values())


def test_alexnet(backend):
    model = alexnet(backend=backend)
    assert shapes(model) == ALEXNET_MAPS
    assert list(shapes(model)) == list(ALEXNET_MAPS)
    assert {k: p.shape for k, p in model.parameters().items()} == {
        "conv1.weight": (16, 1, 5, 5),
        "conv1.bias": (16,),
        "conv2.weight": (16, 16, 5, 5),
        "conv2.bias": (16,),
        "conv3.weight": (32, 16, 3, 3),
        "conv3.bias": (32,),
        "conv4.weight": (32, 32, 3, 3),
        "conv4.bias": (32,),
        "conv5.weight": (32, 32, 3, 3),
        "conv5.bias": (32,),
        "dense6.weight": (128, 288),
        "dense6.bias": (128,),
        "dense7.weight": (128, 128),
        "dense7.bias": (128,),
        "dense8.weight": (10, 128),
        "dense8.bias": (10,),
    }
    assert list(model.parameters())[:3] == ["conv1.weight", "conv1.bias", "conv2.weight"]
    assert list(model.parameters())[-2:] == ["dense8.weight", "dense8.bias"]
    conv = (25 + 1) * 16 + (16 * 25 + 1) * 16 + (16 * 9 + 1) * 32 + 2 * (32 * 9 + 1) * 32
    assert count(model) == conv + (288 + 1) * 128 + (128 + 1) * 128 + (128 + 1) * 10 == 84_762
    functional = [s.name for s in model.trace(np.zeros((1, 1, 28, 28))) if s.layer.functional]
    assert len(functional) == 8  # the K of Eq. (3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_vgg(shape, backend):
    model = build_model("vgg", input_shape=shape, backend=backend)
    found = shapes(model, shape)
    side = shape[1]
    assert found["conv1_2"] == (16, side, side)
    assert found["conv2_1"] == (32, side // 2, side // 2)
    assert found["pool3"] == (64, side // 8, side // 8)
    functional = [s.name for s in model.trace(np.zeros((2, *shape))) if s.layer.functional]
    convs = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2"]
    assert functional == [*convs, "dense4", "dense5"]
    assert "conv1_1.bias" not in model.parameters()
    assert model.parameters()["bn1_1.bias"].shape == (16,)
    assert list(model.buffers())[:2] == ["bn1_1.running_mean", "bn1_1.running_var"]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_resnet(shape, backend):
    model = build_model("resnet", input_shape=shape, backend=backend)
    found = shapes(model, shape)
    side = shape[1]
    assert found["conv1"] == (16, side, side)
    assert found["block1"] == (16, side // 2, side // 2)
    assert found["block2.shortcut.conv"] == found["block2"] == (32, side // 4, side // 4)
    assert found["block3"] == (64, math.ceil(side / 8), math.ceil(side / 8))
    assert found["pool"] == (64, 1, 1)
    functional = [s.name for s in model.trace(np.zeros((2, *shape))) if s.layer.functional]
    assert functional == [
        *("conv1", "block1.conv1", "block1.conv2"),
        *("block2.conv1", "block2.conv2", "block2.shortcut.conv"),
        *("block3.conv1", "block3.conv2", "block3.shortcut.conv", "dense2"),
    ]
    assert count(build_model("resnet", width=2)) > 3.5 * count(model)


def test_alexnet_with_overlapping_pooling(backend):
    model = build_model("alexnet-overlapping", backend=backend)
    found = shapes(model)
    assert [found[k] for k in ("pool1", "pool2", "pool5", "flatten")] == [
        (16, 13, 13),
        (16, 6, 6),
        (32, 2, 2),
        (128,),
    ]
    assert list(found) == list(ALEXNET_MAPS)
    assert model["pool1"].kernel_size == (3, 3)
    assert model["pool1"].stride == (2, 2)


def test_lenet(backend):
    model = lenet(backend=backend)
    found = shapes(model)
    assert found["pool1"] == (6, 14, 14)
    assert found["conv2"] == (16, 10, 10)
    assert found["flatten"] == (400,)
    assert count(model) == 61_706  # the number that every text on LeNet-5 gives
    assert [n.split(".")[0] for n in list(model.parameters())[::2]] == [
        "conv1",
        "conv2",
        "dense3",
        "dense4",
        "dense5",
    ]


def test_mlp(backend):
    model = mlp(backend=backend)
    assert shapes(model)["flatten"] == (784,)
    assert count(model) == 785 * 256 + 257 * 128 + 129 * 10
    assert count(mlp(widths=(), backend=backend)) == 785 * 10
    assert count(mlp((2, 3, 4), 5, widths=(7,), backend=backend)) == 25 * 7 + 8 * 5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("shape", "classes"), [((3, 32, 32), 100), ((2, 40, 28), 3)])
def test_other_images(name, shape, classes, backend):
    model = build_model(name, input_shape=shape, num_classes=classes, backend=backend)
    assert model(np.zeros((2, *shape))).shape == (2, classes)


@pytest.mark.parametrize("name", MODELS)
def test_without_biases(name, backend):
    model = build_model(name, bias=False, backend=backend)
    biases = [key for key in model.parameters() if not key.endswith("weight")]
    assert all("bn" in key for key in biases)  # BatchNorm2d shifts, with biases or without
    assert bool(biases) == (name in NORMED)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *(("alexnet", 8), ("alexnet-overlapping", 15), ("lenet", 12)),
        *(("mlp", 1), ("vgg", 8), ("resnet", 2)),
    ],
)
def test_smallest_image(name, least, backend):
    model = build_model(name, input_shape=(1, least, least), backend=backend)
    assert model.eval()(np.zeros((1, 1, least, least))).shape == (1, 10)
    if least > 1:
        small = rf"images of {least - 1} x 28 are too small.*\d x \d+.*window of \d x \d"
        with pytest.raises(ShapeError, match=small):
            build_model(name, input_shape=(1, least - 1, 28), backend=backend)


# ---- initial weights -------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_he_initialisation(name, backend):
    model = build_model(name, seed=3, backend=backend, dtype=np.float64)
    for key, p in model.parameters().items():
        values = p.numpy()
        if "bn" in key and key.endswith("weight"):
            assert (values == 1).all()
            continue
        if key.endswith("bias"):
            assert (values == 0).all()
            continue
        fan_in = math.prod(p.shape[1:])
        normal = values / math.sqrt(2 / fan_in)
        n = normal.size
        assert abs(normal.mean()) < 5 / math.sqrt(n), key  # five standard errors each
        assert abs(normal.std() - 1) < 5 / math.sqrt(2 * n), key
        within = (abs(normal) < 1).mean()
        assert abs(within - 0.6827) < 5 * math.sqrt(0.6827 * 0.3173 / n), key


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_one_set_of_weights(name, backend):
    reference = build_model(name, seed=7, backend="numpy", dtype=np.float64).state_dict()
    double = build_model(name, seed=7, backend=backend, dtype=np.float64).state_dict()
    single = build_model(name, seed=7, backend=backend, dtype=np.float32).state_dict()
    other = build_model(name, seed=8, backend=backend, dtype=np.float64).state_dict()
    shared = build_model(name, seed=np.random.default_rng(7), backend=backend, dtype=np.float64)
    assert list(reference) == list(double) == list(single)
    for key, values in reference.items():
        np.testing.assert_array_equal(double[key], values)
        np.testing.assert_array_equal(single[key], values.astype(np.float32))
        np.testing.assert_array_equal(shared.state_dict()[key], values)
        if key.endswith("weight") and "bn" not in key:  # BatchNorm2d begins with ones
            assert (other[key] != values).any()


def test_layers_differ_from_each_other(backend):
    model = alexnet(backend=backend)
    assert (model["conv4"].weight.numpy() != model["conv5"].weight.numpy()).all()


def test_backend_and_dtype_of_a_model(backend):
    for dtype in (np.float32, np.float64):
        model = lenet(backend=backend, dtype=dtype)
        assert model.backend is get_backend(backend)
        assert model.dtype == dtype
        assert model(np.zeros((1, 1, 28, 28))).dtype == dtype


# ---- words -----------------------------------------------------------------------------------
def test_summary(backend):
    model = alexnet(backend=backend)
    lines = model.describe().splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "shape", "parameters"]
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:-2]}
    assert list(rows) == ["input", *ALEXNET_MAPS]
    assert rows["input"] == "(N, 1, 28, 28)"
    assert rows["conv1"] == (
        "Conv2d(1, 16, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2), bias=True) "
        "(N, 16, 28, 28) 416"
    )
    assert rows["relu_conv1"] == "ReLU() (N, 16, 28, 28)"
    assert rows["dense6"] == "Dense(288, 128, bias=True) (N, 128) 36,992"
    assert lines[-1] == f"84,762 parameters; K = 8 functional layers; float32, backend {backend}"
    assert model.training  # and the summary leaves the mode as it was
    model.eval().summary()
    assert not any(layer.training for _, layer in model.named_layers())
    with pytest.raises(ShapeError, match=r"layer 'dense6': .*\(N, 288\)"):
        model.summary((1, 32, 32))


def test_unknown_model():
    with pytest.raises(ConfigError, match=r"'densenet'.*overlapping, lenet, mlp, vgg, resnet"):
        build_model("densenet")
    assert models.MODELS["alexnet"] is alexnet


@pytest.mark.parametrize("wrong", [(28, 28), (1, 28), (0, 28, 28), (1, 2, 3, 4)])
def test_wrong_image_shapes(wrong):
    with pytest.raises(ConfigError, match=r"input_shape=.*\(channels, height, width\)"):
        alexnet(wrong, backend="numpy")


def test_no_classes():
    with pytest.raises(ConfigError, match="num_classes=0"):
        mlp(num_classes=0, backend="numpy")


def test_summary_prints(capsys):
    model = lenet((1, 28, 28), backend="numpy")
    assert model.summary() is None
    assert capsys.readouterr().out == model.describe((1, 28, 28)) + "\n"
    with pytest.raises(ConfigError, match="summary"):
        Sequential(Flatten()).summary()
