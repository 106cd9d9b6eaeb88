"""PyTorch's networks of the same layers read our weights, and ours read theirs: equal logits."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi import build_model, no_grad
from minifbi.exchange import load_weights, read_weights, save_weights
from minifbi.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from minifbi.models import MODELS

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    """A chain with a shortcut around it, as PyTorch users write it."""

    def __init__(self, chain, shortcut):
        super().__init__()
        self.chain = list(chain)
        for name, layer in chain.items():
            self.add_module(name, layer)
        self.shortcut = shortcut

    def forward(self, x):
        z = x
        for name in self.chain:
            z = getattr(self, name)(z)
        return z + (x if self.shortcut is None else self.shortcut(x))


def named(layers):
    found = nn.Sequential()
    for name, layer in layers.items():
        found.add_module(name, twin(layer))
    return found


def twin(layer):
    """The same layer in PyTorch, by its own constructors."""
    window = [getattr(layer, name, None) for name in ("kernel_size", "stride", "padding")]
    match layer:
        case Residual():
            chain = {name: twin(part) for name, part in layer.chain.items()}
            return Block(chain, None if layer.shortcut is None else twin(layer.shortcut))
        case Sequential():
            return named(layer.layers)
        case Conv2d():
            outs, ins = layer.weight.shape[:2]
            return nn.Conv2d(ins, outs, *window, bias=layer.bias is not None)
        case Dense():
            return nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        case BatchNorm2d():
            return nn.BatchNorm2d(layer.num_features)
        case MaxPool2d():
            return nn.MaxPool2d(*window)
        case AvgPool2d():
            return nn.AvgPool2d(*window)
        case GlobalAvgPool2d():
            return nn.AdaptiveAvgPool2d(1)
        case LeakyReLU():
            return nn.LeakyReLU(layer.negative_slope)
        case ReLU():
            return nn.ReLU()
        case Flatten():
            return nn.Flatten()
        case Dropout():
            return nn.Dropout(layer.p)
    raise NotImplementedError(repr(layer))


def both(model, theirs, batch=4):
    """Logits of the two, each in evaluation mode."""
    images = np.random.default_rng(5).random((batch, *model.input_shape)).astype(model.dtype)
    with no_grad(), torch.no_grad():
        return model.eval()(images).numpy(), theirs.eval()(torch.from_numpy(images)).numpy()


def assert_close(found, expected, tolerance):
    """Equal to a fraction of the largest logit, which may be small in a fresh network."""
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_both_ways(tmp_path, name, bias, dtype, tolerance):
    from safetensors.torch import load_file, save_file

    shape = (3, 32, 32) if name in ("vgg", "resnet", "alexnet") else (1, 28, 28)
    options = {"backend": "numpy", "dtype": np.dtype(dtype), "bias": bias}
    model = build_model(name, input_shape=shape, num_classes=7, seed=3, **options)
    torch.manual_seed(0)
    theirs = twin(model).to(getattr(torch, dtype))

    # from PyTorch, after some of its own training mode
    theirs.train()
    with torch.no_grad():
        for _ in range(2):
            theirs(torch.rand(8, *shape, dtype=getattr(torch, dtype)))
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    assert load_weights(model, tmp_path / "theirs.safetensors") == ([], [], {})
    ours, expected = both(model, theirs)
    assert_close(ours, expected, tolerance)

    # to PyTorch
    fresh = build_model(name, input_shape=shape, num_classes=7, seed=4, **options)
    if fresh.buffers():
        with no_grad():
            fresh.train()(np.random.default_rng(1).random((8, *shape)))
    save_weights(fresh, tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"))  # strict
    ours, found = both(fresh, theirs)
    assert_close(found, ours, tolerance)
    assert np.abs(ours - expected).max() > 0.1 * np.abs(ours).max()  # other weights than before


def test_sizes_that_do_not_tile(tmp_path):
    """Both leave out what the last window cannot cover; padding counts in averages only."""
    net = Sequential(
        {
            "conv": Conv2d(1, 3, (5, 3), stride=(2, 3), padding=(1, 2)),
            "leaky": LeakyReLU(0.2),
            "max": MaxPool2d(3, 2, padding=1),
            "avg": AvgPool2d((3, 2), 2, padding=1),
            "drop": Dropout(0.5),
            "flatten": Flatten(),
        }
    )
    net.input_shape = (1, 23, 30)
    theirs = twin(net)
    save_weights(net, tmp_path / "net.npz")
    theirs.load_state_dict(
        {name: torch.from_numpy(a) for name, a in read_weights(tmp_path / "net.npz")[0].items()}
    )
    ours, found = both(net, theirs)
    assert_close(found, ours, 1e-5)


def test_half_precision(tmp_path):
    from safetensors.torch import save_file

    model = build_model("lenet", backend="numpy")
    for kind in (torch.float16, torch.bfloat16):
        theirs = twin(model).to(kind)
        save_file(theirs.state_dict(), tmp_path / "half.safetensors")
        loaded = load_weights(model, tmp_path / "half.safetensors")
        assert set(loaded.converted.values()) == {str(kind).removeprefix("torch.")}
        for name, tensor in theirs.state_dict().items():
            np.testing.assert_array_equal(model.state_dict()[name], tensor.float().numpy())
