"""Fetch a file from one of its addresses: resumed where it broke off, and taken for whole once it is checked.

What has arrived lies in `.<file>.partial`, which survives a kill; beside it `.<file>.partial.json` says where it came
from.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from dacsm.runtime.addresses import Broken, Refused, Shrunk, Transfer, open_address, short
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import unwritable, write_json
from dacsm.runtime.hashes import Expected, Mismatch, identify
from dacsm.runtime.progress import transfer_progress

ATTEMPTS = 4  # without a byte in between, before a mirror is given up
FIRST_PAUSE = 1.0  # seconds before the second attempt; it doubles with each


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
