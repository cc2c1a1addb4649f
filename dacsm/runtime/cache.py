"""Files of an object store in a bounded cache on this machine, by their sha256.

Where the cache is and how much it holds changes no number, so that these are no settings: the environment says them,
DACSM_CACHE (a folder) and DACSM_CACHE_GB.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import transfer
from dacsm.runtime.files import locked
from dacsm.runtime.hashes import Expected

FOLDER, GIGABYTES = "~/.cache/dacsm", "50"  # where the environment says nothing
ABANDONED = 86_400.0  # seconds without a byte, after which a part of a file may go


def open_cached(url: str, size: int, sha256: str) -> BinaryIO:
    """The file at an address, open for reading: fetched and compared with its hash where it is not in the cache.

    Raises InputError where it cannot be fetched, is another, or does not fit into the cache.
    """
    folder, most = _place()
    path = folder / f"{sha256}{Path(url).suffix}"
    while True:
        with suppress(FileNotFoundError):
            if path.stat().st_size == size:
                with suppress(PermissionError):  # in a cache of several users
                    os.utime(path, ns=(time.time_ns(), time.time_ns()))  # the longest unused goes first
                return path.open("rb", buffering=0)  # it can be read on when another process removes it
        with locked(folder / f".{sha256}.lock"):
            if not path.is_file() or path.stat().st_size != size:  # another process may have fetched it meanwhile
                with locked(folder / ".room.lock"):
                    _make_room(folder, url, size, most)
                transfer([url], path, Expected(size, sha256))


def _place() -> tuple[Path, float]:
    """The folder of the cache, and the bytes that it may hold."""
    text = os.environ.get("DACSM_CACHE_GB") or GIGABYTES
    try:
        most = float(text) * 1e9
    except ValueError:
        most = 0.0
    if not most > 0:
        raise InputError(f"DACSM_CACHE_GB is {text!r}, expected gigabytes, more than 0; correct it.")
    return Path(os.environ.get("DACSM_CACHE") or FOLDER).expanduser(), most


def _make_room(folder: Path, url: str, size: int, most: float) -> None:
    """Remove the files that were not used for longest until another one fits."""
    if size > most:
        raise InputError(f"DACSM_CACHE_GB allows {most:,.0f} bytes in {folder}, but {url} has {size:,}; allow more.")
    files = [file for file in folder.iterdir() if file.is_file() and file.suffix not in (".lock", ".json")]
    used = {file: file.stat() for file in files}
    total = sum(stat.st_size for stat in used.values())
    for file in sorted(files, key=lambda file: used[file].st_mtime):
        growing = file.suffix == ".partial" and time.time() - used[file].st_mtime < ABANDONED
        if total + size > most and not growing:
            file.unlink(missing_ok=True)
            total -= used[file].st_size
