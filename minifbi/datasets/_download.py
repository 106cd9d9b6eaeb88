"""Download the files of a data set into a cache folder."""

import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from minifbi.errors import DataError

TIMEOUT = 30.0  # seconds in which a server must say something
ABANDONED = 3600.0  # seconds after which an unfinished file is that of a killed download
THIS_COMPUTER = ("localhost", "127.0.0.1", "::1")


class _Bounded:
    """A file that accepts at most `limit` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file, self.left = file, limit

    def write(self, content: bytes) -> None:
        self.left -= len(content)
        if self.left < 0:
            raise DataError("the server sends more bytes than the whole data set has")
        self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def check_url(url: str) -> None:
    """Raise DataError unless it is an https address, or one of this computer."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in THIS_COMPUTER):
        raise DataError(f"{url} is no https address; expected https://...")


def _fetch(url: str, path: str, limit: int) -> None:
    """Download one file, of at most `limit` bytes."""
    from pooch import HTTPDownloader

    def check(response: Any, **_: Any) -> None:  # also where a redirection leads
        check_url(response.url)

    downloader = HTTPDownloader(timeout=TIMEOUT, hooks={"response": check})
    with open(path, "wb") as file:
        downloader(url, _Bounded(file, limit), None)


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed downloads left behind, but not what another process is writing."""
    for path in folder.glob("tmp*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder for downloaded data sets; nothing is made or downloaded here.

    Parameters
    ----------
    cache_dir : path, optional
        By default the folder named by the environment variable ``MINIFBI_CACHE_DIR``, or the
        user's cache folder.

    Returns
    -------
    Path
        It holds one folder per data set; it may not exist yet.
    """
    import pooch  # here, because nothing else needs it

    root = cache_dir or os.environ.get("MINIFBI_CACHE_DIR") or pooch.os_cache("minifbi")
    return Path(os.path.expanduser(root))


def download(
    name: str,
    base_url: str,
    checksums: dict[str, str],
    cache_dir: str | os.PathLike[str] | None,
    progress: bool,
    megabytes: int,
) -> list[Path]:
    """Download the files that are not in the cache yet.

    Parameters
    ----------
    name : str
        The data set, and the folder inside the cache.
    base_url : str
        What comes before the file names, with a slash at the end.
    checksums : dict of str to str
        File names and their SHA-256 sums.
    cache_dir : path, optional
        See :func:`cache_folder`.
    progress : bool
        Whether to announce a download on standard error.
    megabytes : int
        The announced size of all files, in 2^20 bytes; no file may exceed it.

    Returns
    -------
    list of Path
        Where the files are now, in the order of `checksums`.

    Raises
    ------
    DataError
        If a file cannot be downloaded, has another check sum, or the address is not https.
    """
    import pooch

    folder = cache_folder(cache_dir) / name
    if progress and not all((folder / filename).is_file() for filename in checksums):
        print(f"Downloading {name} ({megabytes} MB) from {base_url} to {folder}", file=sys.stderr)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch reports every file otherwise
    try:
        paths = []
        _remove_abandoned(folder)
        for filename, checksum in checksums.items():
            check_url(base_url)
            # retrieve() downloads to a temporary file and moves it into place only if the
            # check sum is right.
            path = pooch.retrieve(
                url=base_url + filename,
                known_hash=f"sha256:{checksum}",
                fname=filename,
                path=folder,
                downloader=lambda url, path, _: _fetch(url, path, megabytes * 2**20),
            )
            paths.append(Path(path))
        return paths
    # A wrong check sum is a ValueError; failures of network and disk are OSErrors.
    except (OSError, ValueError) as error:
        raise DataError(
            f"{base_url}{filename}: could not be downloaded to {folder} ({error}); expected a "
            f"file with the SHA-256 sum {checksum}. Check the network and try again. Without a "
            f"network: copy {', '.join(checksums)} into a folder and give that folder with "
            "--data-dir (data_dir=... in Python)."
        ) from error
    finally:
        logger.setLevel(level)
