"""Files that survive a crash: written beside the old one, then put in its place.

A checkpoint is an .npz file of plain arrays and one JSON text, and ends with the SHA-256
sum of all that stands before it.  Reading never unpickles anything, so a checkpoint from
a stranger cannot run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from minifbi.errors import CheckpointError
from minifbi.strict_json import check_regular, parse_json
from minifbi.training.npz import read_npz

FORMAT = "minifbi-checkpoint-2"
UNSEALED = "minifbi-checkpoint-1"  # written by earlier versions, without a sum; still read
SEAL = b"minifbi sha256 "  # the .npz file's last bytes: this and 64 hexadecimal digits
DIGITS = 64
ADVICE = "; take another one, for example previous.npz or best.npz of the same run"


def write_atomically(
    path: Path, write: Callable[[IO[bytes]], None], previous: Path | None = None
) -> None:
    """Write a file so that `path` is at every moment either the old or the new one, whole.

    The bytes go to a temporary file in the same folder, are forced to the
    disk, and the file is renamed.  If anything fails (a full disk), the
    temporary file is removed, the old file stays, and the error goes on.

    Parameters
    ----------
    path : Path
    write : callable
        Writes the content into an open binary file.
    previous : Path, optional
        Where the old file is kept, in the same folder; it moves there when the new one is
        complete.

    Raises
    ------
    OSError
        If it cannot be written; its filename is `path`.
    """
    try:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; a result is to be shared
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        if previous is not None:
            keep_copy(path, previous)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # a failed write names no file by itself
            reason = f"{error.strerror or error}; what was there before is kept"
            raise OSError(error.errno, reason, str(path)) from error
        raise
    with contextlib.suppress(OSError):  # not every file system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def keep_copy(path: Path, copy: Path) -> None:
    """Give a file a second name, which stays when the first goes to another file.

    Nothing happens if there is no such file.  `path` itself is never touched.
    """
    spare = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}.tmp")
    try:
        if not path.exists():
            return
        try:
            os.link(path, spare)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, spare)
        os.replace(spare, copy)
    finally:
        # also after success: renaming between two names of one file does nothing
        with contextlib.suppress(OSError):
            os.unlink(spare)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""

    def write(file: IO[bytes]) -> None:
        file.write(text.encode("utf-8"))

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN is refused, since it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
    arrays : mapping of group to mapping of name to array
        For example ``{"parameters": model.state_dict()}``.
    meta : mapping
        Everything else; must be JSON.
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
    if not isinstance(meta, dict) or meta.get("format") not in (FORMAT, UNSEALED):
        raise CheckpointError(f"{path} is not a checkpoint of the format {FORMAT!r}")
    if meta["format"] == FORMAT and not sealed:
        raise CheckpointError(f"{path} is damaged: its end, with the SHA-256 sum, is gone{ADVICE}")
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for key, array in flat.items():
        group, _, name = key.partition(":")
        arrays.setdefault(group, {})[name] = array
    return arrays, meta
