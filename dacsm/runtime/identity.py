"""Whether a raw file is the one that the catalog means: by its kind, size and hashes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

SHOWN = 16  # hexadecimal digits of a hash in a sentence
PIECE = 1 << 22  # bytes
# What files begin with, by the end of their names: the bytes, and where they stand.
MAGIC = {".zip": (b"PK", 0), ".tar": (b"ustar", 257), ".gz": (b"\x1f\x8b", 0)}


class Mismatch(Exception):
    """A file is not the expected one; its text goes on after the file's name."""


@dataclass(frozen=True)
class Expected:
    """What is known of a file; None is unknown. Without a published sha256 it is that of the first file seen."""

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def hashed(self) -> bool:
        return self.sha256 is not None or self.md5 is not None


def identify(path: Path, expected: Expected, kind: str) -> str:
    """The sha256 of a file that is what `expected` says and of the kind that the name `kind` ends in.

    Raises:
        Mismatch: where it is another.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if is_page(head) and not kind.endswith(".html"):
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


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is HTML."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
