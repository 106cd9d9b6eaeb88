"""Read .npz files that somebody else may have made.

``np.load(..., allow_pickle=False)`` runs no code either, but it believes what a file says of
itself: it makes an array of the size in the header before it looks whether the numbers are there,
and unpacks a compressed member whatever comes out of it.  :func:`read_npz` reads what ``np.savez``
writes, which is simple, and nothing else:

- members are stored, not compressed, so that what comes out is no longer than the file; or, if
  the caller allows compression, no more comes out than a limit;
- the header of a member is compared with a pattern, not evaluated;
- a shape must account for exactly the bytes that follow.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_MEMBERS = 10_000
MAX_NAME = 1_000  # characters
MAX_DIMENSIONS = 32  # as many as every NumPy version can hold
_LARGE_BYTES = 512 * 1024**2  # from here on, compression must be believable
_GOOD_RATIO = 100  # photographs and digits reach 1.5 to 15

# What np.save writes, version 1.0: 6 bytes of magic, the version, the header's length, and a
# header such as {'descr': '<f4', 'fortran_order': False, 'shape': (16, 1, 5, 5), }
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([|<>][biuf][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n"
)
_DEFLATED = zipfile.ZIP_DEFLATED
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,  # a later version of the format, or another compression
    RuntimeError,  # encrypted
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


def read_npz(
    file: IO[bytes], *, names: Collection[str] | None = None, max_bytes: int | None = None
) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file that ``np.savez`` wrote.

    Parameters
    ----------
    file : binary file
        A regular file, opened for reading.
    names : collection of str, optional
        Only these arrays, where they are there; the others are not looked at.
    max_bytes : int, optional
        Allows what ``np.savez_compressed`` writes too, as long as all the arrays together take
        no more than this.

    Returns
    -------
    dict of str to ndarray
        New arrays of booleans, whole numbers or floats.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is anything but a whole file of such arrays.  Memory for the arrays is taken only
        for bytes that the file holds, or up to `max_bytes`.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise ValueError(f"{len(members):,} members; expected at most {MAX_MEMBERS:,}")
            if names is not None:
                members = [m for m in members if m.filename.removesuffix(".npy") in names]
            _check_members(members, size, max_bytes)
            return {
                member.filename.removesuffix(".npy"): _array(_content(archive, member), member)
                for member in members
            }
    except _BROKEN_ZIP as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """What a member holds, and no more of it than it says."""
    with archive.open(member) as unpacked:
        return unpacked.read(member.file_size)


def _check_members(members: list[zipfile.ZipInfo], size: int, max_bytes: int | None) -> None:
    """Names that are arrays, each once; and together no longer than the file, or than allowed."""
    names = [member.filename for member in members]
    allowed = [zipfile.ZIP_STORED] if max_bytes is None else [zipfile.ZIP_STORED, _DEFLATED]
    for member in members:
        name = member.filename
        if not name.endswith(".npy") or len(name) > MAX_NAME or not name.isprintable():
            raise ValueError(f"a member named {name[:80]!r}; expected the name of an array, .npy")
        if member.compress_type not in allowed or member.flag_bits & 1:
            raise ValueError(
                f"{name} is compressed or encrypted; expected it as np.savez writes it"
            )
    if len(set(names)) < len(names):
        raise ValueError("two members have the same name")
    total = sum(member.file_size for member in members)
    # Members of a crafted file may lie over each other, so that many large ones fit into a
    # small file.
    if max_bytes is None and total > size:
        raise ValueError("its members are together longer than the file")
    if max_bytes is not None and total > max_bytes:
        raise ValueError(f"its arrays take {total:,} bytes; the limit is {max_bytes:,}")
    if total > _LARGE_BYTES and total > _GOOD_RATIO * size:
        raise ValueError(
            f"its arrays take {total:,} bytes, more than {_GOOD_RATIO} times the file, which no "
            "pictures do"
        )


def _array(content: bytes, member: zipfile.ZipInfo) -> NDArray[Any]:
    """The array of one member, from its bytes."""
    name = member.filename
    if content[:8] != _MAGIC or len(content) < 10:
        raise ValueError(f"{name} does not start like an array that np.savez wrote")
    begin = 10 + int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(content[10:begin])
    if header is None:
        raise ValueError(
            f"{name} does not describe an array of numbers: {content[10 : min(begin, 100)]!r}"
        )
    code, fortran, lengths = header.groups()
    try:
        dtype = np.dtype(code.decode("ascii"))
    except TypeError:
        raise ValueError(f"{name} has the type {code!r}; expected numbers") from None
    shape = tuple(int(length) for length in lengths.replace(b",", b" ").split())
    # A dimension of 0 makes the product 0 whatever the others are, and NumPy limits those too.
    claimed = math.prod(length for length in shape if length)
    if len(shape) > MAX_DIMENSIONS or claimed * dtype.itemsize > 2**62:
        raise ValueError(f"{name} has the shape {shape}, more than an array can have")
    if math.prod(shape) * dtype.itemsize != len(content) - begin:
        raise ValueError(
            f"{name} claims the shape {shape} of {dtype}, and {len(content) - begin:,} bytes follow"
        )
    if not all(shape):
        return np.zeros(shape, dtype)
    numbers = np.frombuffer(content, dtype, math.prod(shape), begin)
    return numbers.reshape(shape, order="F" if fortran == b"True" else "C").copy()
