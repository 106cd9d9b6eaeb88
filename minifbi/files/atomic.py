"""Files that survive a crash: written beside the old one, then put in its place."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


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
        The file; its folder exists.
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


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically."""

    def write(file: IO[bytes]) -> None:
        file.write(content)

    write_atomically(path, write)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN is refused, since it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
