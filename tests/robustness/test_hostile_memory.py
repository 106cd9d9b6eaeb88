"""Files made to fill the memory, and arguments that ask for more than there is."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import pytest
from fuzz import commands, mutators
from hostile import described, members, pack, peak

from minifbi.datasets import load_idx_folder, read_idx
from minifbi.errors import CheckpointError, ConfigError, DataError
from minifbi.files.checkpoint import load_checkpoint
from minifbi.files.npz import read_npz
from minifbi.training import load_model


# ---- memory ------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", ["2147483648, 28, 28", "4611686018427387904", "0, 9" + "9" * 18])
def test_an_array_is_no_larger_than_its_bytes(tmp_path, shape):
    header = f"'<f8', 'fortran_order': False, 'shape': ({shape},), "
    (tmp_path / "checkpoint.npz").write_bytes(
        members(**{"parameters:x": mutators.npy(header, bytes(80))})
    )
    assert peak(lambda: load_checkpoint(tmp_path / "checkpoint.npz"), CheckpointError) < 1_000_000


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    huge = mutators.npy("'|u1', 'fortran_order': False, 'shape': (50000000,), ", bytes(50_000_000))
    content = pack({"meta.npy": huge}, zipfile.ZIP_DEFLATED)
    assert len(content) < 100_000
    (tmp_path / "checkpoint.npz").write_bytes(content)
    assert peak(lambda: load_checkpoint(tmp_path / "checkpoint.npz"), CheckpointError) < 2_000_000


def test_members_that_lie_over_each_other(tmp_path):
    """A small archive whose directory names the same megabyte 150 times."""
    body = mutators.npy("'|u1', 'fortran_order': False, 'shape': (1000000,), ", bytes(1_000_000))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.npy"), body)
        archive.filelist *= 150
        archive._didModify = True
    assert len(out.getvalue()) < 1_100_000
    path = tmp_path / "a.npz"
    path.write_bytes(out.getvalue())
    with path.open("rb") as file, pytest.raises(ValueError, match=r"same name|longer"):
        read_npz(file)
    content = bytearray(out.getvalue())  # each with a name of its own in the directory
    for i, place in enumerate(range(content.find(b"PK\x01\x02"), len(content) - 60, 51)):
        content[place + 46] = [*range(48, 58), *range(65, 91), *range(97, 123), *range(161, 255)][
            i % 156
        ]
    path.write_bytes(content)
    with path.open("rb") as file:
        assert peak(lambda: read_npz(file), ValueError) < 3_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 10**9},
        {"input_shape": [1, 10**6, 10**6]},
        {"input_shape": [10**9, 2, 2]},
        {"input_shape": [2**62, 2**62, 2**62]},
    ],
    ids=str,
)
def test_a_network_is_no_larger_than_its_checkpoint(tmp_path, changes):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(described(**changes))
    assert peak(lambda: load_model(path, backend="numpy"), CheckpointError) < 1_000_000


def test_gzip_bombs(tmp_path):
    path = tmp_path / "images"
    # 2 GiB of zeros in 9 MB: larger than the limit that any data need, and compressed too well
    block = gzip.compress(bytes(2**20), 9)
    head = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**31))
    path.write_bytes(head + 2048 * block)
    assert peak(lambda: read_idx(path), DataError) < 1_000_000
    # a claim that no gzip file of this size can keep
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**28) + bytes(100)))
    with pytest.raises(DataError, match="expected at most"):
        read_idx(path)
    # what is small is read, however well it is compressed
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**20) + bytes(2**20)))
    assert read_idx(path).shape == (2**20,)


@pytest.mark.parametrize("count", [257, 10**9, 2**63])
def test_classes_beyond_a_byte(tmp_path, count):
    assert peak(lambda: load_idx_folder(tmp_path, num_classes=count), ConfigError) < 100_000


@pytest.mark.parametrize("line", ["reproduce --quick --fashion-dir=--", "train --out=--"])
def test_two_dashes_are_no_value(line):
    """Found by the fuzzer: argparse makes an empty list of them."""
    assert commands.run(line.replace(" ", "\n").encode()) is False


@pytest.mark.parametrize(
    "line",
    [
        "train --resume run --epochs 99999999999999999999",
        "train --seed 999999999999999999999999999999",
        "train --threads 99999999999999999999",
        "bench --batch 1000000000000",
        "reproduce --plan --seeds 1000000000000",
        "reproduce --plan --epochs 99999999999999",
    ],
)
def test_numbers_beyond_reason(tmp_path, line):
    assert commands.run(line.replace(" ", "\n").encode()) is False
