"""Read and write IDX files, the format in which MNIST is published.

An IDX file is a header followed by the numbers::

    byte 0, 1   0x00 0x00
    byte 2      the type of the numbers: 0x08 is uint8, the only one used here
    byte 3      the number of dimensions, D
    4 * D bytes the D dimensions, each a big-endian unsigned 32-bit integer
    the rest    the numbers, last dimension fastest (NumPy's C order)

For example, the images of MNIST's training set are 16 bytes of header (type 8,
3 dimensions: 60000, 28, 28) and 60000 * 28 * 28 pixels.

A file from elsewhere may be damaged or hostile, so its header is not trusted:
memory is allocated only for numbers that the file really holds.
"""

import gzip
import math
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import whole
from minifbi.errors import DataError

__all__ = ["DEFAULT_MAX_BYTES", "read_idx", "write_idx"]

DEFAULT_MAX_BYTES = 4 * 1024**3
"""Default limit of :func:`read_idx` on the size of an array, in bytes: 4 GiB."""

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1024 * 1024
_DEFLATE_BEST = 1032  # no data compress better than that
_LARGE_BYTES = 512 * 1024**2
_GOOD_RATIO = 100  # photographs and digits reach 1.5 to 15
_MAX_DIMENSIONS = 32  # as many as every NumPy version can hold
_UINT8_CODE = 0x08
_TYPE_NAMES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
_DOWNLOAD_AGAIN = "Download or copy the file again."


def read_idx(
    path: str | os.PathLike[str], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or compressed with gzip.

    Compression is recognised by the file's first two bytes, not by its name.

    Parameters
    ----------
    path : str or path
        The file.
    max_bytes : int
        Largest array to read, in bytes.  A header that promises more is
        refused before anything is read.

    Returns
    -------
    ndarray of uint8
        A new array with the dimensions of the header, for example
        ``(60000, 28, 28)`` for images and ``(60000,)`` for labels.

    Raises
    ------
    DataError
        If the file is missing, is not an IDX file of uint8, promises more than
        `max_bytes`, or holds fewer or more bytes than its header promises.
    ConfigError
        If `max_bytes` is not positive.
    """
    max_bytes = whole("max_bytes", max_bytes, 1)
    path = Path(path)
    try:
        # Opening a pipe would wait forever, so check the kind of file first.
        _require_regular_file(path)
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            if start == _GZIP_MAGIC:
                # GzipFile decompresses on demand, a few kilobytes at a time.
                with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
                    return _read_stream(cast(IO[bytes], unzipped), path, max_bytes, size, True)
            return _read_stream(file, path, max_bytes, size, False)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; expected an IDX file. Check the path, or download the file."
        ) from error
    # These three are what gzip raises for damaged data.  BadGzipFile is an OSError, so it must
    # come before the errors of the operating system.
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the gzip data is truncated or corrupt ({error}); expected a complete "
            f"gzip file. {_DOWNLOAD_AGAIN}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a readable IDX file. "
            "Check the path and its permissions."
        ) from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(  # a NUL character
            f"{str(path)!r}: {error}; expected the name of an IDX file. Check the path."
        ) from error


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array of unsigned bytes as an IDX file.

    The file is compressed with gzip if its name ends in ``.gz``.  It stores no
    time and no name, so the same array gives the same bytes.

    Parameters
    ----------
    path : str or path
        The file to create or replace; its folder must exist.
    array : ndarray of uint8
        1 to 32 dimensions, each below 2**32.

    Raises
    ------
    DataError
        If the array is not uint8 or has no dimension, or if the file cannot
        be written.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise DataError(
            f"{path}: the array's dtype is {array.dtype}; expected uint8, the only type "
            "that write_idx stores. Convert it first, for example with array.astype(np.uint8)."
        )
    if not 1 <= array.ndim <= _MAX_DIMENSIONS or max(array.shape) >= 2**32:
        raise DataError(
            f"{path}: the array's shape is {array.shape}; expected 1 to {_MAX_DIMENSIONS} "
            "dimensions, each below 2**32. Reshape the array."
        )
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, _UINT8_CODE, array.ndim, *array.shape)
    content = header + array.tobytes()  # tobytes() is in C order whatever the strides
    try:
        with path.open("wb") as file:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
                    zipped.write(content)
            else:
                file.write(content)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); expected a file name in an "
            "existing, writable folder. Create the folder or choose another one."
        ) from error


def _require_regular_file(path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise DataError(f"{path}: is {kind}; expected an IDX file. Give the path of the file.")


def _read_stream(
    stream: IO[bytes], path: Path, max_bytes: int, file_size: int, zipped: bool
) -> NDArray[np.uint8]:
    """Read header and numbers; `file_size` is that of the file, compressed if it is `zipped`."""
    shape = _read_header(stream, path)
    promised = math.prod(shape)
    dimensions = " x ".join(str(length) for length in shape)
    # A dimension of 0 makes the product 0 whatever the others are, and NumPy limits the product
    # of the others too; so they are what is held against the limit.
    if math.prod(length for length in shape if length > 0) > max_bytes:
        raise DataError(
            f"{path}: the header promises {dimensions} = {promised:,} bytes; expected at most "
            f"max_bytes = {max_bytes:,}. If the file is what you want, call read_idx with a "
            f"larger max_bytes; otherwise it is damaged. {_DOWNLOAD_AGAIN}"
        )
    header_bytes = 4 + 4 * len(shape)
    if zipped:
        _check_ratio(path, dimensions, promised, file_size)
    elif file_size != header_bytes + promised:
        raise _wrong_length(path, dimensions, promised, f"{file_size - header_bytes:,} bytes")

    # The header may be false, so memory grows with the bytes that exist, not with its numbers.
    content = bytearray()
    while len(content) < promised:
        chunk = stream.read(min(_CHUNK_BYTES, promised - len(content)))
        if not chunk:
            raise _wrong_length(path, dimensions, promised, f"{len(content):,} bytes")
        content += chunk
    # One byte more tells "complete" from "goes on"; it also makes gzip compare its check sum.
    if stream.read(1):
        raise _wrong_length(path, dimensions, promised, "more bytes than that")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _check_ratio(path: Path, dimensions: str, promised: int, zipped_size: int) -> None:
    """Refuse a small compressed file that would fill the memory."""
    if promised > _DEFLATE_BEST * zipped_size:
        raise DataError(
            f"{path}: the header promises {dimensions} = {promised:,} bytes; expected at most "
            f"{_DEFLATE_BEST * zipped_size:,}, as the compressed file has only {zipped_size:,}. "
            f"It is truncated or corrupt. {_DOWNLOAD_AGAIN}"
        )
    if promised > max(_LARGE_BYTES, _GOOD_RATIO * zipped_size):
        raise DataError(
            f"{path}: {zipped_size:,} compressed bytes promise {dimensions} = {promised:,}; "
            f"expected at most {_GOOD_RATIO} times as many for so large an array. Real images do "
            "not compress better, and files made to fill a memory do. If this one is what you "
            "want, decompress it (gunzip) and give the plain file."
        )


def _read_header(stream: IO[bytes], path: Path) -> tuple[int, ...]:
    """Read the magic number and return the dimensions."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(
            f"{path}: holds only {len(magic)} bytes; expected an IDX file, whose header alone "
            f"has 8 or more. {_DOWNLOAD_AGAIN}"
        )
    found = " ".join(f"0x{byte:02x}" for byte in magic)
    if magic[:2] != b"\0\0" or magic[2] not in _TYPE_NAMES:
        raise DataError(
            f"{path}: starts with {found}; expected 0x00 0x00 0x08 and the number of dimensions, "
            "as in every IDX file of uint8. It is another kind of file, or damaged: check the path."
        )
    if magic[2] != _UINT8_CODE:
        raise DataError(
            f"{path}: starts with {found}, an IDX file of {_TYPE_NAMES[magic[2]]} (type code "
            f"0x{magic[2]:02x}); expected uint8 (type code 0x08). Convert the numbers to uint8 "
            "(pixels 0..255, labels 0..255) and write them with minifbi.datasets.write_idx."
        )
    ndim = magic[3]
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise DataError(
            f"{path}: the header promises {ndim} dimensions; expected 1 to {_MAX_DIMENSIONS} "
            f"(labels have 1, grey images 3). {_DOWNLOAD_AGAIN}"
        )
    packed = stream.read(4 * ndim)
    if len(packed) < 4 * ndim:
        raise DataError(
            f"{path}: ends inside its header; expected {4 * ndim} bytes for its {ndim} "
            f"dimensions and found {len(packed)}. {_DOWNLOAD_AGAIN}"
        )
    return tuple(struct.unpack(f">{ndim}I", packed))


def _wrong_length(path: Path, dimensions: str, promised: int, found: str) -> DataError:
    return DataError(
        f"{path}: the header promises {dimensions} = {promised:,} bytes of data, and the file "
        f"holds {found}; expected exactly what the header promises. The file is truncated, "
        f"corrupt or has something appended. {_DOWNLOAD_AGAIN}"
    )
