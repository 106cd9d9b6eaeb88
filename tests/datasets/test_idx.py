"""Reading and writing IDX files, good ones and damaged ones."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifbi.datasets import read_idx, write_idx
from minifbi.errors import ConfigError, DataError

# tmp_path is shared by the examples of one property; each example writes its file anew.
FILE_PROPERTY = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ARRAY = np.random.default_rng(0).integers(0, 256, size=(5, 4, 3), dtype=np.uint8)
RAW = b"\0\0\x08\x03" + struct.pack(">III", 5, 4, 3) + ARRAY.tobytes()
ZIPPED = gzip.compress(RAW, mtime=0)


def put(folder: Path, content: bytes, name: str = "some-file") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def header(*shape: int, code: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


def refused(path: Path, *expected: str, **options: int) -> str:
    """Read the file, which must fail with a message that has all these parts."""
    with pytest.raises(DataError) as caught:
        read_idx(path, **options)
    message = str(caught.value)
    for part in (str(path), "expected", *expected):
        assert part in message
    return message


@FILE_PROPERTY
@given(
    array=hnp.arrays(np.uint8, hnp.array_shapes(max_dims=5, min_side=0, max_side=6)),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_round_trip(tmp_path: Path, array: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"array{suffix}"
    write_idx(path, array)
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_layout_is_that_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", ARRAY)
    assert (tmp_path / "a").read_bytes() == RAW
    # a transposed array is written in the order of its indices, not of its memory
    write_idx(tmp_path / "b", ARRAY.T)
    np.testing.assert_array_equal(read_idx(tmp_path / "b"), ARRAY.T)


def test_compression_is_recognised_by_content_not_by_name(tmp_path: Path) -> None:
    for name, content in (("plain.gz", RAW), ("zipped", ZIPPED)):
        np.testing.assert_array_equal(read_idx(put(tmp_path, content, name)), ARRAY)
    np.testing.assert_array_equal(read_idx(str(tmp_path / "zipped")), ARRAY)


def test_gz_is_deterministic(tmp_path: Path) -> None:
    write_idx(tmp_path / "one.gz", ARRAY)
    write_idx(tmp_path / "another-name.gz", ARRAY)
    content = (tmp_path / "one.gz").read_bytes()
    assert content == (tmp_path / "another-name.gz").read_bytes()
    assert content[:2] == b"\x1f\x8b"
    assert content[4:8] == b"\0\0\0\0"  # the time


@pytest.mark.parametrize(
    "array",
    [ARRAY.astype(np.int64), ARRAY / 255, np.uint8(3), np.ones((2, 2), bool)],
    ids=["int64", "float64", "no dimension", "bool"],
)
def test_write_refuses_what_the_format_cannot_hold(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected"):
        write_idx(tmp_path / "a", array)
    assert not (tmp_path / "a").exists()


def test_write_into_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Create the folder"):
        write_idx(tmp_path / "missing" / "a", ARRAY)


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no such file", "Check the path")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    refused(put(tmp_path, RAW) / "below-a-file", "cannot be read")


def test_unreadable_file(tmp_path: Path) -> None:
    path = put(tmp_path, RAW)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    refused(path, "permissions")


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ("holds only 0 bytes",)),
        (RAW[:3], ("holds only 3 bytes",)),
        (RAW[:9], ("ends inside its header", "12 bytes", "found 5")),
        (b"\x89PNG" + RAW, ("0x89 0x50 0x4e 0x47", "0x00 0x00 0x08")),
        (b"\0\x01" + RAW[2:], ("0x00 0x01 0x08 0x03",)),
        (b"\0\0\x07" + RAW[3:], ("0x00 0x00 0x07 0x03",)),
        (header(2, code=0x09) + bytes(2), ("int8", "0x09")),
        (header(2, code=0x0B) + bytes(4), ("int16", "0x0b")),
        (header(2, code=0x0C) + bytes(8), ("int32", "0x0c")),
        (header(2, code=0x0D) + bytes(8), ("float32", "0x0d")),
        (header(2, code=0x0E) + bytes(16), ("float64", "0x0e")),
        (b"\0\0\x08\0\x05", ("0 dimensions",)),
        (b"\0\0\x08\xff" + bytes(4 * 255), ("255 dimensions",)),
        (RAW + b"\0", ("5 x 4 x 3 = 60 bytes",)),
        (RAW[:-1], ("5 x 4 x 3 = 60 bytes", "59 bytes")),
        (header(5, 4, 3), ("60 bytes", "holds 0 bytes")),
        (header(0, 2**31, 2**31, 2**31), ("max_bytes",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_content(
    tmp_path: Path, content: bytes, parts: tuple[str, ...], zipped: bool
) -> None:
    refused(put(tmp_path, gzip.compress(content) if zipped else content), *parts)


def test_length_of_a_plain_file_is_known_before_it_is_read(tmp_path: Path) -> None:
    refused(put(tmp_path, RAW + b"more"), "60 bytes of data", "holds 64 bytes")
    # a large file with a byte too few is refused without being read
    path = put(tmp_path, header(20_000_001) + bytes(20_000_000))
    assert peak_bytes(path) < 1_000_000


@FILE_PROPERTY
@given(cut=st.integers(0, len(ZIPPED) - 1))
def test_truncated_gzip(tmp_path: Path, cut: int) -> None:
    refused(put(tmp_path, ZIPPED[:cut]))


@FILE_PROPERTY
@given(cut=st.integers(0, len(RAW) - 1))
def test_truncated_plain(tmp_path: Path, cut: int) -> None:
    refused(put(tmp_path, RAW[:cut]))


@settings(FILE_PROPERTY, max_examples=300)
@given(bit=st.integers(0, 8 * len(ZIPPED) - 1))
def test_flipped_bit_in_gzip(tmp_path: Path, bit: int) -> None:
    """A flipped bit is noticed, or it was in a field that says nothing about the data."""
    content = bytearray(ZIPPED)
    content[bit // 8] ^= 1 << bit % 8
    path = put(tmp_path, bytes(content))
    try:
        found = read_idx(path)
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
        # Bytes 3 to 9 are flags, time and system; a text flag for example changes nothing.
        # The last byte before check sum and length (8 bytes) is filled up with unused bits.
        assert 3 <= bit // 8 <= 9 or bit // 8 == len(ZIPPED) - 9
        np.testing.assert_array_equal(found, ARRAY)
    assert str(path) in message


def test_wrong_check_sum_and_appended_bytes_in_gzip(tmp_path: Path) -> None:
    refused(put(tmp_path, ZIPPED[:-8] + b"\1\2\3\4" + ZIPPED[-4:]), "corrupt")
    refused(put(tmp_path, ZIPPED + b"rubbish"), "corrupt")
    refused(put(tmp_path, ZIPPED + gzip.compress(b"x")), "more bytes")


def test_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    path = put(tmp_path, gzip.compress(RAW[:30]) + gzip.compress(RAW[30:]))
    np.testing.assert_array_equal(read_idx(path), ARRAY)


def peak_bytes(path: Path, **options: int) -> int:
    """Return how much memory a refused read took at most."""
    tracemalloc.start()
    try:
        refused(path, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(2**31, 28, 28), (2**31,), (2**32 - 1,) * 4])
def test_huge_claim_takes_no_memory(tmp_path: Path, shape: tuple[int, ...], zipped: bool) -> None:
    content = header(*shape) + bytes(100)
    path = put(tmp_path, gzip.compress(content) if zipped else content)
    assert peak_bytes(path) < 2_000_000
    # also where the limit would allow the claim
    assert peak_bytes(path, max_bytes=2**200) < 2_000_000


def test_decompression_stops_after_what_the_header_promises(tmp_path: Path) -> None:
    bomb = gzip.compress(header(10) + bytes(50_000_000))
    assert len(bomb) < 100_000
    path = put(tmp_path, bomb)
    assert peak_bytes(path) < 2_000_000
    refused(path, "more bytes than that")


def test_max_bytes(tmp_path: Path) -> None:
    path = put(tmp_path, RAW)
    assert read_idx(path, max_bytes=60).shape == (5, 4, 3)
    refused(path, "60 bytes", "max_bytes = 59", max_bytes=59)
    with pytest.raises(ConfigError, match="max_bytes=0"):
        read_idx(path, max_bytes=0)
