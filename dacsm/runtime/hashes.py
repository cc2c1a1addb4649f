"""Hashes, and whether a file is the one that is meant: by its kind, size and hashes, remembered between commands."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256, write_json

SETTLED = 2.0  # seconds: a file changed more recently could change again without its times telling
SHOWN = 16  # hexadecimal digits of a hash in a sentence
PIECE = 1 << 22  # bytes
# What files begin with, by the end of their names: the bytes, and where they stand.
MAGIC = {".zip": (b"PK", 0), ".tar": (b"ustar", 257), ".gz": (b"\x1f\x8b", 0)}


def digest(value: Any) -> str:
    """A short hash of plain values: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class Mismatch(Exception):
    """A file is not the expected one; its text goes on after the file's name."""


@dataclass(frozen=True)
class Expected:
    """What is known of a file; None is unknown. Without a published sha256 it is that of the first file seen."""

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None


def identify(path: Path, expected: Expected, kind: str) -> str:
    """The sha256 of a file; raises Mismatch unless it is as `expected`, and of the kind that `kind` ends in."""
    with path.open("rb") as file:
        head = file.read(512)
    page = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
    if page and not kind.endswith(".html"):
        raise Mismatch("is a web page, such as a host shows that wants a person to click, and not the archive")
    size = path.stat().st_size
    if expected.bytes is not None and size != expected.bytes:
        raise Mismatch(f"has {size:,} bytes, expected {expected.bytes:,}")
    magic, place = MAGIC.get(Path(kind).suffix, (b"", 0))
    if head[place : place + len(magic)] != magic:
        raise Mismatch(f"is no {Path(kind).suffix} archive")
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            sha256.update(piece)
            if expected.md5 is not None:
                md5.update(piece)
    for name, found, wanted in (("sha256", sha256, expected.sha256), ("md5", md5, expected.md5)):
        if wanted is not None and found.hexdigest() != wanted:
            raise Mismatch(f"has a {name} that begins with {found.hexdigest()[:SHOWN]}, expected {wanted[:SHOWN]}")
    return sha256.hexdigest()


def require_file(path: Path, size: int, command: str) -> None:
    """Raise InputError unless a file that `command` makes is there with `size` bytes."""
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        state = "was not found" if found is None else f"has {found} bytes"
        raise InputError(f"{path} {state}, expected {size} bytes; make it again with `{command}`.")


def require_sha256(path: Path, expected: str, command: str, hash_of: Callable[[Path], str]) -> None:
    """Raise InputError unless a file that `command` makes has the sha256 that is expected."""
    found = hash_of(path)
    if found != expected:
        raise InputError(
            f"the sha256 of {path} begins with {found[:SHOWN]}, expected {expected[:SHOWN]}; make it again with "
            f"`{command}`."
        )


class Hashes:
    """sha256 by path; a file with the device, inode, size and times that the memory has of it is not read again.

    Unlike its modification time, a file's change time (ctime) cannot be set back, so that a byte changed behind the
    back of Snakemake and DVC is noticed all the same.
    """

    def __init__(self, memory: Path, trust: bool = True) -> None:
        self.memory = memory
        self.known: dict[str, list] = {}
        with suppress(OSError, ValueError, AttributeError):  # there is no memory, or none that is whole
            known = json.loads(memory.read_text(encoding="utf-8")) if trust else {}
            self.known = {path: entry for path, entry in known.items() if isinstance(entry, list) and len(entry) == 6}
        self.changed = False

    def __call__(self, path: Path) -> str:
        state, known = _state(path), self.known.get(str(path.resolve()))
        if known is not None and known[:-1] == state:
            return known[-1]
        found = sha256(path)
        if _state(path) == state:
            self.remember(path, found)
        return found

    def remember(self, path: Path, found: str) -> None:
        """Take `found` for the sha256 of a file that was just hashed, unless it changed a moment ago."""
        stat = path.stat()
        if time.time() - max(stat.st_ctime, stat.st_mtime) > SETTLED:
            self.known[str(path.resolve())] = [*_state(path), found]
            self.changed = True

    def save(self) -> None:
        """Remember for the next command, where that can be written."""
        if self.changed:
            with suppress(InputError):  # a read-only copy can be read too
                write_json(self.memory, self.known)


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
