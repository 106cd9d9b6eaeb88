"""Download the files of a data set into a cache folder."""

import logging
import os
import sys
from pathlib import Path

from minifbi.errors import DataError


def download(
    name: str,
    base_url: str,
    checksums: dict[str, str],
    cache_dir: str | os.PathLike[str] | None,
    progress: bool,
    megabytes: int,
) -> list[Path]:
    """Bring the files into the cache, where they are not there yet.

    Parameters
    ----------
    name : str
        The data set, and the folder inside the cache.
    base_url : str
        What comes before the file names, with a slash at the end.
    checksums : dict of str to str
        File names and their SHA-256 sums.
    cache_dir : path, optional
        By default ``MINIFBI_CACHE_DIR`` or the user's cache folder.
    progress : bool
        Whether to announce a download on standard error.
    megabytes : int
        The size that is announced.

    Returns
    -------
    list of Path
        Where the files are now, in the order of `checksums`.

    Raises
    ------
    DataError
        If a file cannot be brought there, or has another check sum.
    """
    # Imported here, because nothing else needs it.
    import pooch

    root = cache_dir or os.environ.get("MINIFBI_CACHE_DIR") or pooch.os_cache("minifbi")
    folder = Path(root).expanduser() / name
    if progress and not all((folder / filename).is_file() for filename in checksums):
        print(f"Downloading {name} ({megabytes} MB) from {base_url} to {folder}", file=sys.stderr)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch reports every file otherwise
    try:
        paths = []
        for filename, checksum in checksums.items():
            # retrieve() downloads to a temporary file and moves it into place only if the
            # check sum is right.
            path = pooch.retrieve(
                url=base_url + filename,
                known_hash=f"sha256:{checksum}",
                fname=filename,
                path=folder,
            )
            paths.append(Path(path))
        return paths
    # A wrong check sum is a ValueError; failures of network and disk are OSErrors.
    except (OSError, ValueError) as error:
        raise DataError(
            f"{base_url}{filename}: could not be downloaded to {folder} ({error}); expected a "
            f"file with the SHA-256 sum {checksum}. Check the network and try again. Without a "
            f"network: get {', '.join(checksums)} in another way, put them into a folder and "
            "give that folder with --data-dir (data_dir=... in Python)."
        ) from error
    finally:
        logger.setLevel(level)
