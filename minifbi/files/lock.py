"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from minifbi.errors import RunFolderError

LOCK = ".lock"
# What a file system answers that has no locks; some network mounts are like that.
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)  # a link in a stranger's folder makes no file elsewhere


class FolderLock:
    """Keeps every other run out of a folder for as long as this process lives.

    To be used in a ``with``.  The lock belongs to the open file ``.lock`` and not to the
    file's being there: the operating system takes it away from a process that ends, however
    it ends.  A ``.lock`` that a killed process left behind keeps nobody out.

    Parameters
    ----------
    folder : Path
        It exists.

    Attributes
    ----------
    supported : bool
        False where the file system has no locks: then nobody is kept out.

    Raises
    ------
    RunFolderError
        If another run is in the folder.
    OSError
        If nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / LOCK
        self.supported = True
        self._handle = -1

    def __enter__(self) -> FolderLock:
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o666)
            except OSError as error:
                reason = f"cannot write: {error.strerror}"
                raise OSError(error.errno, reason, str(self.folder)) from error
            try:
                self.supported = _take(handle)
            except BlockingIOError:
                os.close(handle)
                raise RunFolderError(
                    f"another run is writing into {self.folder} now; nothing was changed. Wait "
                    f"until it has ended, or choose another --out"
                ) from None
            except BaseException:
                os.close(handle)
                raise
            self._handle = handle
            if self._is_named():
                self._identity = os.stat(self.folder)
                return self
            os.close(handle)  # its last owner deleted it while it was being opened

    def _is_named(self) -> bool:
        """Whether the open file is the one that is called .lock now."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except OSError:
            return False

    def is_ours(self) -> bool:
        """Whether the folder still is the one that was locked, and not gone or replaced."""
        if self._is_named():
            return True
        try:  # somebody may have deleted the lock alone
            same = os.path.samestat(self._identity, os.stat(self.folder))
        except OSError:
            return False
        return same and not self.path.exists()

    def __exit__(self, *_: object) -> None:
        if sys.platform == "win32":  # deletes no open file
            os.close(self._handle)
            with contextlib.suppress(OSError):
                self.path.unlink()
        else:
            if self._is_named():  # not that of whoever made the folder anew
                with contextlib.suppress(OSError):
                    self.path.unlink()
            os.close(self._handle)


def is_locked(folder: Path) -> bool:
    """Whether a living run is in a folder; False where this cannot be known.

    Parameters
    ----------
    folder : Path
        A run folder, which need not be one's own.
    """
    try:
        # a pipe of this name is not waited for
        flags = os.O_RDONLY | NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(folder / LOCK, flags)
    except OSError:
        return False
    try:
        _take(handle)  # and given back at once
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _take(handle: int) -> bool:
    """Lock an open file; False where there are no locks, BlockingIOError if it is taken."""
    try:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except PermissionError as error:
                raise BlockingIOError(error.errno, error.strerror) from error
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True
