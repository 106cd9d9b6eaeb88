"""Changes an input: each takes bytes and a random generator and returns other bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


# ---- bytes -------------------------------------------------------------------------------
def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, insert, remove, repeat, overwrite: no idea of what the bytes mean."""
    found = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(found) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 16, 64))
        kind = rng.randrange(6)
        if kind == 0 and place < len(found):
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place:place] = rng.randbytes(length)
        elif kind == 2:
            del found[place : place + length]
        elif kind == 3:
            found[place:place] = found[place : place + length]
        elif kind == 4:
            code = rng.choice(("<H", "<I", "<Q", ">I"))
            found[place : place + struct.calcsize(code)] = struct.pack(
                code, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(code))
            )
        else:
            del found[place:]
        found = found or bytearray(b"\0")
    return bytes(found)


# ---- IDX ---------------------------------------------------------------------------------
def mutate_idx(data: bytes, rng: random.Random) -> bytes:
    """Change an IDX file, or what is inside its gzip."""
    zipped = data[:2] == b"\x1f\x8b"
    if zipped and rng.random() < 0.75:
        try:
            plain = zlib.decompressobj(31).decompress(data, 1 << 16)
        except zlib.error:
            return mutate_bytes(data, rng)
        return _zip_again(_mutate_plain_idx(plain, rng), rng)
    if zipped:
        return mutate_bytes(data, rng)
    found = _mutate_plain_idx(data, rng)
    return _zip_again(found, rng) if rng.random() < 0.2 else found


def _mutate_plain_idx(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0 and len(data) > 4:  # the type or the number of dimensions
        found = bytearray(data)
        found[rng.choice((2, 3))] = rng.choice((0, 1, 2, 3, 8, 9, 11, 12, 13, 14, 32, 33, 255))
        return bytes(found)
    if kind == 1 and len(data) > 8:  # a dimension
        found = bytearray(data)
        place = 4 + 4 * rng.randrange(max(1, min(found[3], (len(found) - 4) // 4)))
        found[place : place + 4] = struct.pack(">I", rng.choice((*NUMBERS, rng.randrange(64))))
        return bytes(found)
    if kind == 2:  # numbers that fit the header, or nearly
        shape = [rng.randrange(5) for _ in range(rng.randrange(1, 5))]
        size = 1
        for length in shape:
            size *= length
        head = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        return head + rng.randbytes(max(0, size + rng.choice((0, 0, 0, -1, 1))))
    if kind == 3:  # a bomb: many zeros
        size = rng.choice((1 << 14, 1 << 20))
        return struct.pack(">BBBBI", 0, 0, 8, 1, rng.choice((size, size + 1, 2**31))) + bytes(size)
    return mutate_bytes(data, rng)


def _zip_again(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2 and len(data) > 2:  # two members
        cut = rng.randrange(len(data))
        return gzip.compress(data[:cut], 1) + gzip.compress(data[cut:], 9)
    return gzip.compress(data, 6, mtime=0)


# ---- JSON --------------------------------------------------------------------------------
# What json.dumps cannot write goes in as a text between these, and they are taken off at the end.
RAW = ("\x02", "\x03")
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 0.5, -0.5, 1e308, -1e308, 5e-324, 2**31, 2**62, 2**62 + 1, 2**63, -(2**63)),
    *(10**99, 10**101, 10**400, True, False, None, "", [], {}, [1], {"": 0}),
    *(
        "a",
        "\ud800",
        "\udfff x",
        "\0",
        "../../x",
        "/etc/passwd",
        "__class__",
        "x" * 300,
        "$\\frac$",
    ),
    *("float64", "sgd", "l1", "none", "epsilon:0.1", "gamma:1e999", "alpha-beta:nan", "zero:"),
    *(f"\x02{text}\x03" for text in ("NaN", "Infinity", "-Infinity", "1e999", "-0", "1" * 5000)),
    *(f"\x02{text}\x03" for text in ('{"a": 1, "a": 2}', "[" * 2000, "[" * 500 + "]" * 500, "01")),
    "\x02" + '{"a":' * 400 + "1" + "}" * 400 + "\x03",
)


def _nodes(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place]
    if len(place) > 50:  # deeper than any of ours: made by a mutation before
        return found
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _nodes(item, (*place, key))
    return found


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Change a JSON value at a random place."""
    place = rng.choice(_nodes(value))
    if not place:
        return rng.choice(VALUES) if rng.random() < 0.3 else value
    parent = value
    for key in place[:-1]:
        parent = parent[key]
    key, kind = place[-1], rng.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("x", "", "__class__", "\ud83d", *map(str, parent)))] = parent[key]
    elif kind == 1:
        parent.append(parent[key])
    elif kind == 2 and isinstance(parent[key], (int, float)):
        parent[key] = rng.choice((parent[key] + 1, -parent[key], str(parent[key]), [parent[key]]))
    else:
        parent[key] = rng.choice(VALUES)
    return value


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Change a JSON text: mostly its values, sometimes its letters."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = mutate_value(value, rng)
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    text = text.replace('"\\u0002', "").replace('\\u0003"', "").replace('\\"a\\"', '"a"')
    return text.encode("utf-8")


# ---- CSV ---------------------------------------------------------------------------------
CELLS = (
    *(
        b"",
        b'"',
        b'""',
        b"\0",
        b"\xff",
        b"nan",
        b"-inf",
        b"1e999",
        b"-1",
        b"1.5",
        b"9" * 5000,
        b"\r",
    ),
    *(b"=cmd|' /C calc'!A0", b"x" * 200_000, b"lenet", b"mnist", b"0", b"none", b"a\nb", b'"a\nb"'),
)


def mutate_csv(data: bytes, rng: random.Random) -> bytes:
    """Change a cell, or the letters."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    cells = lines[place].split(b",")
    cells[rng.randrange(len(cells))] = rng.choice(CELLS)
    lines[place] = b",".join(cells)
    return b"\n".join(lines)


# ---- .npz --------------------------------------------------------------------------------
HEADERS = (
    b"'|O'", b"'<U4'", b"'<f2'", b"'<f16'", b"'>f8'", b"'|b1'", b"'<c16'", b"'<M8[s]'", b"'|V8'",
    b"[('a', '<f4')]", b"__import__('os').system('true')",
)  # fmt: skip
SHAPES = (
    b"()", b"(0,)", b"(1,)", b"(2147483648,)", b"(0, 9223372036854775807)", b"(4294967296,) * 2",
    b"(-1,)", b"(1" + b", 1" * 40 + b")", b"(99999999999999999999,)", b"[3]", b"(3.0,)", b"(True,)",
)  # fmt: skip


def mutate_npz(data: bytes, rng: random.Random) -> bytes:
    """Change an .npz file: its bytes, or its members with the check sums made right again."""
    if rng.random() < 0.3:
        found = mutate_bytes(data, rng)
        if SEAL in found and rng.random() < 0.8:
            found = seal(found[: found.index(SEAL)])
        return found
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(i.filename, archive.read(i)[: 1 << 16]) for i in archive.infolist()]
    except Exception:
        return mutate_bytes(data, rng)
    if not members:
        return mutate_bytes(data, rng)
    place = next((i for i, (name, _) in enumerate(members) if name == "meta.npy"), 0)
    if rng.random() < 0.5:
        place = rng.randrange(len(members))
    name, content = members[place]
    kind = rng.randrange(8)
    if kind == 0:
        name = rng.choice(
            ("meta.npy", "../../x.npy", "/x.npy", "x", "parameters:x.npy", "\x1b[2J.npy", ".npy")
        )
    elif kind == 1:
        members.append(rng.choice(members))
    elif kind == 2:
        del members[place]
        return _npz(members, rng)
    elif kind == 3:
        content = mutate_bytes(content, rng)
    elif kind == 4:
        content = _mutate_header(content, rng)
    elif name == "meta.npy":
        text = mutate_json(content[content.find(b"\n") + 1 :], rng)
        content = npy(f"'|u1', 'fortran_order': False, 'shape': ({len(text)},), ", text)
    elif content:  # numbers
        begin = min(len(content) - 1, 10 + int.from_bytes(content[8:10], "little"))
        numbers = bytearray(content)
        at = rng.randrange(begin, len(numbers))
        numbers[at : at + 4] = rng.choice(
            (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 4, b"\0\0\0\x7f")
        )[: len(numbers) - at]
        content = bytes(numbers)
    members[place] = (name, content)
    return _npz(members, rng)


def npy(description: str, content: bytes) -> bytes:
    """An .npy file with this header after ``'descr': ``."""
    text = ("{'descr': " + description + "}").encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def _mutate_header(content: bytes, rng: random.Random) -> bytes:
    begin = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:begin]
    if rng.random() < 0.5:
        start = header.find(b"'descr': ") + 9
        end = header.find(b", 'fortran", start)
        header = header[:start] + rng.choice(HEADERS) + header[end:]
    elif rng.random() < 0.8:
        start, end = header.find(b"("), header.find(b")")
        header = header[:start] + rng.choice(SHAPES) + header[end + 1 :]
    else:
        header = mutate_bytes(header, rng)
    return content[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + content[begin:]


SEAL = b"minifbi sha256 "


def seal(data: bytes) -> bytes:
    """A checkpoint without its seal, with the seal that belongs to it."""
    data += SEAL
    return data + hashlib.sha256(data).hexdigest().encode()


def _npz(members: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    out = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name are meant
        with zipfile.ZipFile(out, "w", packing) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name), content, packing)
            archive.comment = SEAL + b"0" * 64
    return seal(out.getvalue()[: -len(SEAL) - 64])
