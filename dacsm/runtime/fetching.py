"""Fetch a file from one of its addresses: resumed where it broke off, and taken for whole once it is checked.

What has arrived lies in `.<file>.partial`, which survives a kill; beside it `.<file>.partial.json` says where it came
from. Files of an object store are kept in a bounded cache on this machine. Where that is and how much it holds changes
no number, so that these are no settings: the environment says them, DACSM_CACHE (a folder) and DACSM_CACHE_GB.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import requests

from dacsm.runtime.addresses import Broken, Refused, Shrunk, Transfer, open_address, short
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import locked, unwritable, write_json
from dacsm.runtime.hashes import Expected, Mismatch, identify
from dacsm.runtime.progress import transfer_progress

ATTEMPTS = 4  # without a byte in between, before a mirror is given up
FIRST_PAUSE = 1.0  # seconds before the second attempt; it doubles with each
FOLDER, GIGABYTES = "~/.cache/dacsm", "50"  # where the environment says nothing
ABANDONED = 86_400.0  # seconds without a byte, after which a part of a file may go


def transfer(urls: Sequence[str], target: Path, expected: Expected) -> str:
    """Fetch `target` from the first of the mirrors that has it; returns its sha256.

    Raises InputError where no mirror has the file that is expected, or there is no room for it. What has arrived of it
    stays, and the next call goes on from there.
    """
    partial = target.with_name(f".{target.name}.partial")
    reasons = []
    for url in urls:
        try:
            _fetch(url, partial, target, expected)
            found = identify(partial, expected, kind=target.name)
        except Refused as error:
            reasons.append(f"{url} {error}")
        except Mismatch as error:
            reasons.append(f"what {url} sends {error}")
            _forget(partial)
        else:
            partial.replace(target)
            _forget(partial)
            return found
    kept = f" {_size(partial):,} bytes are kept, and the next run goes on from there;" if _size(partial) else ""
    by_hand = "try again later, or fetch it by hand"
    raise InputError(f"{target} could not be fetched, since {'; and '.join(reasons)};{kept} {by_hand}")


def _fetch(url: str, partial: Path, target: Path, expected: Expected) -> None:
    """Bring the partial file to its end, through as many connections as it takes."""
    attempts = 0
    with transfer_progress(target.name) as progress:
        while True:
            before = _size(partial)
            try:
                with open_address(url, *_resumable(url, partial, expected), target.name) as stream:
                    _require_room(partial, target, stream, expected)
                    progress.start(stream.start, stream.total or expected.bytes)
                    _write(stream, partial, url, progress.advance, expected.bytes)
                if stream.total is None or _size(partial) == stream.total:
                    return
                reason = "the server hung up"
            except (Broken, requests.RequestException) as error:
                reason = str(error) if isinstance(error, Broken) else short(error)
                if isinstance(error, Shrunk):
                    _forget(partial)
            attempts = 1 if _size(partial) > before else attempts + 1
            if attempts == ATTEMPTS:
                raise Refused(f"cannot be reached or breaks off ({reason})")
            time.sleep(FIRST_PAUSE * 2 ** (attempts - 1))


def _write(stream: Transfer, partial: Path, url: str, advance: Callable[[int], None], most: int | None) -> None:
    """Append what arrives; a stream that goes on after `most` bytes is refused, as it may have no end."""
    if stream.start == 0:
        write_json(_origin(partial), {"url": url, "validator": stream.validator})
    with partial.open("r+b" if stream.start else "wb", buffering=0) as file:
        file.truncate(stream.start)
        file.seek(stream.start)
        for chunk in stream.chunks:
            rest = memoryview(chunk)
            try:
                while rest:  # a nearly full disk takes a part first, and says so only then
                    rest = rest[file.write(rest) :]
            except OSError as error:  # the disk is full after all, since others write to it as well
                raise unwritable(partial, error) from error
            if most is not None and file.tell() > most:
                raise Mismatch(f"has at least {file.tell():,} bytes, expected {most:,}")
            advance(len(chunk))


def _resumable(url: str, partial: Path, expected: Expected) -> tuple[int, str | None]:
    """How many bytes of the partial file can be kept, and what the server may be asked about them.

    Bytes of another mirror are kept only where a hash will tell whether they fit together.
    """
    try:
        origin = json.loads(_origin(partial).read_text(encoding="utf-8"))
        same = origin["url"] == url
        validator = origin["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        same, validator = False, None
    if not same and not (expected.sha256 or expected.md5):
        return 0, None
    return _size(partial), validator if same else None


def _require_room(partial: Path, target: Path, stream: Transfer, expected: Expected) -> None:
    """Raise, before the first byte, Refused where the file is of another size, InputError where it has no room."""
    if None not in (expected.bytes, stream.total) and stream.total != expected.bytes:
        raise Refused(f"has a file of {stream.total:,} bytes, expected {expected.bytes:,}")
    missing = (stream.total or expected.bytes or 0) - stream.start
    room = shutil.disk_usage(partial.parent).free + (0 if stream.start else _size(partial))
    if missing > room:
        raise InputError(
            f"{target.parent} has room for {room:,} bytes, but {target.name} needs {missing:,} more; free the place, "
            "or set `root` in params.yaml to a larger disk, and run again."
        )


def _origin(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _origin(partial).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def open_cached(url: str, size: int, sha256: str) -> BinaryIO:
    """The file at an address, open for reading: fetched and compared with its hash where it is not in the cache.

    Raises InputError where it cannot be fetched, is another, or does not fit into the cache.
    """
    folder, most = _place()
    path = folder / f"{sha256}{Path(url).suffix}"
    while True:
        with suppress(FileNotFoundError, NotADirectoryError):
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
    folder = os.environ.get("DACSM_CACHE") or FOLDER
    try:
        return Path(folder).expanduser(), most
    except RuntimeError as error:
        raise InputError(f"DACSM_CACHE is {folder!r}, in the home folder of nobody; write the whole path.") from error


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
