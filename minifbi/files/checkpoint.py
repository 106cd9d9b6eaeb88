"""A checkpoint as a file: an .npz of plain arrays and one JSON text, sealed by a check sum.

It ends with the SHA-256 sum of all that stands before it.  Reading never unpickles anything,
so a checkpoint from a stranger cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from minifbi.errors import CheckpointError
from minifbi.files.atomic import write_atomically
from minifbi.files.npz import read_npz
from minifbi.files.strict_json import check_regular, parse_json

FORMAT = "minifbi-checkpoint-3"
SEAL = b"minifbi sha256 "  # the .npz file's last bytes: this and 64 hexadecimal digits
DIGITS = 64
ADVICE = "; take another one, for example previous.npz or best.npz of the same run"


def save_checkpoint(
    path: str | Path,
    arrays: Mapping[str, Mapping[str, Any]],
    meta: Mapping[str, Any],
    *,
    previous: str | Path | None = None,
) -> None:
    """Write groups of arrays and a JSON-able mapping to one .npz file, atomically.

    Parameters
    ----------
    path : path
        The ``.npz`` file to write; its folder exists.
    arrays : mapping of group to mapping of name to array
        For example ``{"parameters": model.state_dict()}``.
    meta : mapping
        Everything else, as JSON can hold it; "format" is added.
    previous : path, optional
        Where the file that was there before is kept, in the same folder.

    Raises
    ------
    OSError
        If the file cannot be written; a file that was there before is kept.
    """
    text = json.dumps({**meta, "format": FORMAT}, allow_nan=False)
    flat = {f"{group}:{name}": a for group, named in arrays.items() for name, a in named.items()}
    flat["meta"] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **flat)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = SEAL + b"0" * DIGITS  # stands at the very end of the file
    content = buffer.getbuffer()[:-DIGITS]
    digest = hashlib.sha256(content).hexdigest().encode("ascii")

    def write(file: IO[bytes]) -> None:
        file.write(content)
        file.write(digest)

    write_atomically(Path(path), write, None if previous is None else Path(previous))


def _is_sealed(file: IO[bytes], path: Path) -> bool:
    """Whether the file ends with a sum; CheckpointError if that is not the sum of its bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(SEAL) - DIGITS))
    seal = file.read()
    if not seal.startswith(SEAL):
        return False
    file.seek(0)
    digest, left = hashlib.sha256(), size - DIGITS
    while left > 0 and (chunk := file.read(min(left, 2**20))):
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest().encode("ascii") != seal[len(SEAL) :]:
        raise CheckpointError(
            f"{path} is damaged: its content does not have the SHA-256 sum at its end{ADVICE}"
        )
    return True


def load_checkpoint(path: str | Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote.

    Parameters
    ----------
    path : str or Path
        An ``.npz`` file, such as ``best.npz`` of a run.

    Returns
    -------
    arrays : dict of group to dict of name to array
    meta : dict

    Raises
    ------
    CheckpointError
        If there is no such file, or it is damaged, or not one of ours.
    """
    path = Path(path)
    try:
        check_regular(path)
        with path.open("rb") as stream:
            sealed = _is_sealed(stream, path)
            flat = read_npz(stream)
        meta = parse_json(flat.pop("meta").tobytes())
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    except CheckpointError:
        raise
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a minifbi checkpoint, or it is damaged ({error}){ADVICE}"
        ) from error
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has the format {str(found)[:40]!r}, expected {FORMAT!r}; a checkpoint of "
            "another version of minifbi is read by that version only"
        )
    if not sealed:
        raise CheckpointError(f"{path} is damaged: its end, with the SHA-256 sum, is gone{ADVICE}")
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for key, array in flat.items():
        group, _, name = key.partition(":")
        arrays.setdefault(group, {})[name] = array
    return arrays, meta
