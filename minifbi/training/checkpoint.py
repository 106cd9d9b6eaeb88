"""Files that survive a crash: written beside the old one, then put in its place.

A checkpoint is an .npz file of plain arrays and one JSON text.  Reading never
unpickles anything, so a checkpoint from a stranger cannot run code.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from minifbi.errors import CheckpointError

FORMAT = "minifbi-checkpoint-1"


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that `path` is at every moment either the old or the new one, whole.

    The bytes go to a temporary file in the same folder, are forced to the
    disk, and the file is renamed.  If anything fails (a full disk), the
    temporary file is removed, the old file stays, and the error goes on.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; a result is to be shared
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # a failed write names no file by itself
            reason = f"{error.strerror}; what was there before is kept"
            raise OSError(error.errno, reason, str(path)) from error
        raise
    with contextlib.suppress(OSError):  # not every file system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""

    def write(file: IO[bytes]) -> None:
        file.write(text.encode("utf-8"))

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN is refused, since it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def save_checkpoint(
    path: str | Path, arrays: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]
) -> None:
    """Write groups of arrays and a JSON-able mapping to one .npz file, atomically.

    Parameters
    ----------
    path : path
    arrays : mapping of group to mapping of name to array
        For example ``{"parameters": model.state_dict()}``.
    meta : mapping
        Everything else; must be JSON.

    Raises
    ------
    OSError
        If the file cannot be written; a file that was there before is kept.
    """
    text = json.dumps({"format": FORMAT, **meta}, allow_nan=False)
    flat = {f"{group}:{name}": a for group, named in arrays.items() for name, a in named.items()}
    flat["meta"] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    write_atomically(Path(path), lambda file: np.savez(file, **flat))


def load_checkpoint(path: str | Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote.

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
        with np.load(path, allow_pickle=False) as file:
            flat = {key: file[key] for key in file.files}
        meta = json.loads(flat.pop("meta").tobytes().decode("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    except (
        AttributeError,  # np.load gives a bare array for an .npy file
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise CheckpointError(
            f"{path} is not a minifbi checkpoint, or it is damaged ({error}); "
            f"take another one, for example best.npz of the same run"
        ) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of the format {FORMAT!r}")
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for key, array in flat.items():
        group, _, name = key.partition(":")
        arrays.setdefault(group, {})[name] = array
    return arrays, meta
