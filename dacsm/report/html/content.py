"""What the sections of the page are made of. Text is plain: `page.py` alone makes HTML of it, and escapes it."""

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from dacsm.report.tables import Table


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG; `alt` says in words what it shows."""

    data: bytes
    alt: str
    caption: str = ""
    narrow: bool = False  # so that others like it stand beside it

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        with Image.open(io.BytesIO(self.data)) as image:
            return image.size

    @property
    def address(self) -> str:
        """The picture itself, as an address."""
        kind = "png" if self.data.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{b64encode(self.data).decode()}"


def drawn(draw: Any, *arguments: Any, **options: Any) -> bytes:
    """The PNG that a function of dacsm.report.plots draws."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        draw(path, *arguments, **options)
        return path.read_bytes()


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side, each with its caption below."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Facts:
    """Names, each with what is to be said of it, in one line or in several."""

    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Commands:
    """Lines to type into a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Folded:
    """What a reader sees once the title is clicked; printed open."""

    title: str
    parts: Sequence["Part"]


# A string is a paragraph, or a heading as in Markdown: `## …` below the section's own, `### …` below that.
Part = str | Table | Picture | Gallery | Facts | Commands | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an entry in its contents."""

    title: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        """What a link to the section ends in."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.title.lower()).split())


def section(title: str, parts: Iterable[Part]) -> list[Section]:
    """The section, or nothing where it has no part; without a title, the first part is a heading, and becomes it."""
    found = list(parts)
    if found and not title:
        first, *found = found
        title = str(first).lstrip("# ")
    return [Section(title, found)] if found else []
