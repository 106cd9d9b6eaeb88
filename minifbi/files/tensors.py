"""Read and write ``.safetensors``, the format in which PyTorch users exchange weights.

A file is a JSON header with names, types, shapes and offsets, and then the plain numbers; there is
nothing in it that could run.  The package ``safetensors`` reads it and checks that the offsets fit
the file; what the file may hold besides is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.errors import CheckpointError
from minifbi.files.atomic import write_bytes
from minifbi.files.strict_json import check_regular, parse_json

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"} | {
    f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)
}
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_safetensors(
    path: str | Path,
) -> tuple[dict[str, NDArray[Any]], dict[str, str], dict[str, str]]:
    """All arrays of a ``.safetensors`` file, its metadata, and the types in the file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    arrays : dict of str to ndarray
        New arrays.  NumPy has no bfloat16; such numbers come as float32, which holds them exactly.
    metadata : dict of str to str
        Empty if the file has none.
    types : dict of str to str
        Of each array in the file, for example "bfloat16".

    Raises
    ------
    CheckpointError
        If there is no such file, or it is damaged, or holds something else than numbers.
    """
    from safetensors import SafetensorError, deserialize

    path = Path(path)
    try:
        check_regular(path)
        content = path.read_bytes()
        found = deserialize(content)
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no .safetensors file, or it is damaged ({error}); weights that PyTorch "
            "wrote by torch.save must be converted first"
        ) from error
    arrays, types = {}, {}
    for name, entry in found:
        kind = entry["dtype"]
        if kind not in TYPES:
            raise CheckpointError(
                f"{path}: {name[:100]!r} holds numbers of the type {kind}; expected floats of 16 "
                "to 64 bits, or integers; convert them before saving"
            )
        array = np.frombuffer(entry["data"], TYPES[kind]).reshape(entry["shape"])
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        arrays[name] = array.astype(array.dtype.newbyteorder("="))
        types[name] = NAMES.get(kind, str(arrays[name].dtype))
    return arrays, dict(header.get("__metadata__") or {}), types


def write_safetensors(
    path: str | Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write arrays and texts to a ``.safetensors`` file, whole or not at all.

    The same arrays and texts make the same bytes.

    Parameters
    ----------
    path : path
        The file to write; its folder exists.
    arrays : mapping of str to ndarray
        Of floats or integers.
    metadata : mapping of str to str
        Goes into the header.

    Raises
    ------
    OSError
        If it cannot be written; a file that was there before is kept.
    """
    # by hand, since the package writes the metadata in another order each time
    header: dict[str, Any] = {"__metadata__": {name: metadata[name] for name in sorted(metadata)}}
    codes = {kind: code for code, kind in TYPES.items() if code != "BF16"}
    parts, begin = [], 0
    # the largest numbers first, so that each array starts at a multiple of its numbers' size
    for name in sorted(arrays, key=lambda name: -np.asarray(arrays[name]).itemsize):
        array = np.asarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"))
        data = little.tobytes()
        header[name] = {
            "dtype": codes[f"<{little.dtype.kind}{little.itemsize}"],
            "shape": list(array.shape),
            "data_offsets": [begin, begin + len(data)],
        }
        parts.append(data)
        begin += len(data)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    write_bytes(Path(path), b"".join([len(text).to_bytes(8, "little"), text, *parts]))
