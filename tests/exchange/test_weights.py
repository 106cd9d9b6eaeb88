"""Weights in files: what goes out comes back, and files of strangers are checked."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from minifbi import alexnet, build_model, lenet, mlp
from minifbi.errors import CheckpointError, ConfigError
from minifbi.exchange import checksum, load_weights, read_weights, save_weights
from minifbi.files.tensors import read_safetensors, write_safetensors
from minifbi.layers import Dense, Sequential
from minifbi.models import MODELS


def small(seed=0, dtype=np.float32, **options):
    return mlp((1, 4, 4), 3, widths=(5,), seed=seed, dtype=dtype, backend="numpy", **options)


def raw(header, data=b"", length=None):
    """A .safetensors file byte by byte."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("name", MODELS)
def test_what_goes_out_comes_back(tmp_path, name, suffix, backend):
    path = tmp_path / f"net.{suffix}"
    model, other = (build_model(name, backend=backend, seed=seed) for seed in (0, 1))
    save_weights(model, path)
    loaded = load_weights(other, path)
    assert loaded == ([], [], {})
    assert str(loaded) == "all names and types agree"
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], array)


def test_the_same_weights_make_the_same_file(tmp_path):
    for name in ("one", "two"):
        save_weights(small(), tmp_path / f"{name}.safetensors", metadata={"b": "1", "a": "2"})
    assert checksum(tmp_path / "one.safetensors") == checksum(tmp_path / "two.safetensors")


def test_names_and_metadata_in_the_file(tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(alexnet(backend="numpy"), path, metadata={"class_names": '["é", "b"]'})
    arrays, metadata = read_weights(path)
    assert arrays["conv2.weight"].shape == (16, 16, 5, 5)
    assert arrays["dense8.weight"].shape == (10, 128)
    assert metadata["input_shape"] == "[1, 28, 28]"
    assert metadata["class_names"] == '["é", "b"]'
    assert metadata["minifbi"]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from("f8 f4 f2 i8 i2 u1".split()).flatmap(
            lambda kind: arrays_of.arrays(
                f"<{kind}", arrays_of.array_shapes(min_dims=0, min_side=0)
            )
        ),
        max_size=4,
    )
)
def test_any_arrays_come_back_bit_for_bit(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("any") / "net.safetensors"
    write_safetensors(path, arrays, {"a": "b"})
    theirs = safetensors.numpy.load_file(path)  # the package agrees
    assert {n: a.tobytes() for n, a in theirs.items()} == {
        n: a.tobytes() for n, a in arrays.items()
    }
    found, metadata, types = read_safetensors(path)
    assert metadata == {"a": "b"}
    assert found.keys() == arrays.keys() == types.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_precisions_are_converted_and_named(tmp_path, kind):
    source, path = small(), tmp_path / "net.safetensors"
    state = source.state_dict()
    if kind == "bfloat16":  # by hand: NumPy has no such type
        header, data = {}, b""
        for name, array in state.items():
            upper = (array.view("<u4") >> 16).astype("<u2").tobytes()
            ends = [len(data), len(data) + len(upper)]
            header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": ends}
            data += upper
        path.write_bytes(raw(header, data))
        expected = {n: (a.view("<u4") & 0xFFFF0000).view("<f4") for n, a in state.items()}
    else:
        write_safetensors(path, {n: a.astype(kind) for n, a in state.items()}, {})
        expected = {n: a.astype(kind).astype(np.float32) for n, a in state.items()}
    model = small(seed=1)
    loaded = load_weights(model, path)
    assert loaded.converted == dict.fromkeys(state, kind)
    assert f"4 arrays converted from {kind}" in str(loaded)
    for name, array in model.state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name])


def test_names_that_differ(tmp_path):
    path, model = tmp_path / "net.safetensors", small(seed=1)
    before = model.state_dict()
    state = small().state_dict()
    del state["dense1.bias"]
    write_safetensors(path, {**state, "extra.weight": np.ones(2), "x.num_batches_tracked": 3}, {})
    with pytest.raises(CheckpointError, match=r"dense1\.bias; not in this model extra\.weight"):
        load_weights(model, path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    loaded = load_weights(model, path, strict=False)
    assert loaded.missing == ["dense1.bias"]
    assert loaded.surplus == ["extra.weight"]
    assert str(loaded) == "kept as they were: dense1.bias; not used: extra.weight"
    np.testing.assert_array_equal(model.state_dict()["dense1.weight"], state["dense1.weight"])
    np.testing.assert_array_equal(model.state_dict()["dense1.bias"], before["dense1.bias"])


def test_a_layer_may_be_left_out(tmp_path):
    """Fine-tuning to other classes: the last layer starts anew."""
    path = tmp_path / "net.safetensors"
    source = small()
    save_weights(source, path)
    other = mlp((1, 4, 4), 7, widths=(5,), seed=1, backend="numpy")
    last = other.state_dict()["dense2.weight"]
    with pytest.raises(CheckpointError, match=r"dense2\.weight has shape \(3, 5\).*\(7, 5\)"):
        load_weights(other, path, strict=False)
    loaded = load_weights(other, path, skip=["dense2"])
    assert loaded.missing == ["dense2.weight", "dense2.bias"]
    state = other.state_dict()
    np.testing.assert_array_equal(state["dense1.weight"], source.state_dict()["dense1.weight"])
    np.testing.assert_array_equal(state["dense2.weight"], last)
    with pytest.raises(ConfigError, match=r"skip='dense': .* dense1, dense2"):
        load_weights(other, path, skip=["dense"])


def test_a_run_is_a_weights_file(tiny_run, tmp_path):
    model, state = mlp(backend="numpy"), read_weights(tiny_run)[0]
    load_weights(model, tiny_run)
    np.testing.assert_array_equal(model.state_dict()["dense1.weight"], state["dense1.weight"])
    assert checksum(tiny_run) == checksum(tiny_run / "checkpoint.npz")
    damaged = tmp_path / "best.npz"
    content = bytearray((tiny_run / "best.npz").read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(damaged)


F4 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 a pickle in a zip file", "torch.save must be converted"),
        (raw({"a": F4}, b"12345678")[:-1], "damaged"),
        (raw({"a": F4}, b"12345678more"), "damaged"),
        (raw(b"{}", length=2**62), "damaged"),
        (raw(b"{}", length=90_000_000), "damaged"),
        (raw({"a": {**F4, "data_offsets": [4, 12]}}, b"123456789012"), "damaged"),
        (raw({"a": {**F4, "shape": [2**61, 8]}}, b"12345678"), "damaged"),
        (raw({"a": {**F4, "dtype": "F8_E4M3", "shape": [8]}}, b"12345678"), "type F8_E4M3"),
        (raw({"a": {**F4, "dtype": "BOOL", "shape": [8]}}, b"\1" * 8), "type BOOL"),
        (raw({"a": {**F4, "dtype": "C64", "shape": [1]}}, b"12345678"), "type C64"),
        (raw(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": 1}'), "damaged"),
        (raw(b"[" * 100_000), "damaged"),
    ],
)
def test_files_of_strangers(tmp_path, content, message):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite(tmp_path, value):
    path, model = tmp_path / "net.safetensors", small()
    state = {n: a.astype(np.float64) for n, a in model.state_dict().items()}
    state["dense2.bias"][1] = value
    write_safetensors(path, state, {})
    with pytest.raises(CheckpointError, match=r"dense2\.bias holds values that are not finite"):
        load_weights(model, path)


def test_other_files(tmp_path):
    model = small()
    with pytest.raises(ConfigError, match=r"\.safetensors or \.npz"):
        save_weights(model, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="text by text"):
        save_weights(model, tmp_path / "net.safetensors", metadata={"a": 1})
    pickled = tmp_path / "net.pt"
    pickled.write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match="can run code"):
        load_weights(model, pickled)
    for suffix in ("safetensors", "npz"):
        with pytest.raises(CheckpointError, match="there is no file"):
            load_weights(model, tmp_path / f"gone.{suffix}")
        with pytest.raises(CheckpointError, match="there is no file"):
            checksum(tmp_path / f"gone.{suffix}")
    objects = tmp_path / "objects.npz"
    np.savez(objects, a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(model, objects)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pt", "objects.npz"]


def test_a_variance_below_zero(tmp_path):
    net = Sequential({"norm": Dense(2, 2, bias=False)})
    net.layers["norm"].add_buffer("running_var", np.ones(2), "numpy", np.float32)
    path = tmp_path / "net.safetensors"
    save_weights(net, path)
    assert load_weights(net, path).missing == []
    arrays = {**net.state_dict(), "norm.running_var": np.float32([1, -1])}
    write_safetensors(path, arrays, {})
    with pytest.raises(CheckpointError, match=r"norm\.running_var is a variance"):
        load_weights(net, path)


def test_lenet_and_alexnet_do_not_mix(tmp_path):
    save_weights(lenet(backend="numpy"), tmp_path / "lenet.npz")
    with pytest.raises(CheckpointError, match=r"lenet\.npz: .*another model"):
        load_weights(alexnet(backend="numpy"), tmp_path / "lenet.npz")
