"""Images as a person has them, in a folder or packed as a tar, tar.gz or zip: listed and read, never changed."""

import os
import stat
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dacsm.data.raw import is_text
from dacsm.data.raw.archives import unpack
from dacsm.data.raw.members import open_members
from dacsm.runtime.errors import InputError, printable
from dacsm.runtime.files import unwritable

GZIP = b"\x1f\x8b"
MOST_FILES = 1_000_000
MOST_DEEP = 8  # folders in folders
APPLE = "__MACOSX"  # what macOS adds to a zip


@dataclass(frozen=True)
class Collection:
    """The files of a folder or an archive; hidden ones, and folders that are hidden, are counted and left out."""

    path: Path
    sizes: dict[str, int]  # bytes of each file by its path, with / between the parts
    hidden: int
    folders: frozenset[str]  # the folders at the top, empty ones included; of an archive none is known to be empty
    packed: bool
    read: Callable[[str], bytes]  # raises OSError or DamagedMemberError


@contextmanager
def opened(path: Path, scratch: Path) -> Iterator[Collection]:
    """The collection at a path; a tar.gz is unpacked into a temporary tar in the folder `scratch` for as long.

    Raises InputError where there is none, where it cannot be read, or where an archive is not to be trusted.
    """
    if not path.exists():
        raise InputError(f"{path} was not found; name a folder, a tar, a tar.gz or a zip of images.")
    if path.is_dir():
        yield _folder(path)
        return
    try:
        with path.open("rb") as file:
            gzipped = file.read(len(GZIP)) == GZIP
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; mend that, or name another.") from error
    if not gzipped:
        yield _archive(path, path)
        return
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        plain = tempfile.NamedTemporaryFile(dir=scratch, prefix=f".{path.name}.", suffix=".partial")  # noqa: SIM115
    except OSError as error:
        raise unwritable(scratch, error) from error
    print(f"{printable(str(path))}: unpacking, to look at it", file=sys.stderr, flush=True)
    with plain:
        unpack(path, plain)  # type: ignore[arg-type]  # it is such a file
        plain.flush()
        yield _archive(path, Path(plain.name))


def _archive(path: Path, plain: Path) -> Collection:
    """The archive that was named `path`, and is read from `plain`."""
    if not (zipfile.is_zipfile(plain) or _is_plain_tar(plain)):
        raise InputError(f"{path} is no folder, tar, tar.gz or zip; unpack it, and name the folder of its images.")
    try:
        members = open_members(plain)
    except InputError as error:
        raise InputError(str(error).replace(str(plain), str(path))) from error
    sizes, hidden = {}, 0
    for name, place in zip(members.paths, members.places.tolist(), strict=True):
        if _is_hidden(name):
            hidden += 1
        else:
            sizes[name] = place[2]
    tops = frozenset(name.partition("/")[0] for name in sizes if "/" in name)

    def read(name: str) -> bytes:
        position = members.find(name)
        assert position is not None, name
        return members.read(position)

    return Collection(path, sizes, hidden, tops, packed=True, read=read)


def _is_plain_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except (tarfile.TarError, EOFError):
        return False
    return True


def _folder(root: Path) -> Collection:
    sizes, hidden = {}, 0
    tops: frozenset[str] = frozenset()
    try:
        for place, folders, names in os.walk(root, onerror=_raise, followlinks=True):
            inside = "" if place == str(root) else os.path.relpath(place, root) + "/"
            shown = [name for name in folders if not _is_hidden(name) and not _is_ring(place, name)]
            hidden += sum(_is_hidden(name) for name in (*folders, *names))
            tops = tops if inside else frozenset(name for name in folders if not name.startswith("."))
            folders[:] = shown if inside.count("/") < MOST_DEEP else []
            for name in names:
                if _is_hidden(name):
                    continue
                if not is_text(name):
                    raise InputError(
                        f"{f'{place}/{name}'!r} has a name that is no UTF-8 or has control characters; rename it."
                    )
                with suppress(FileNotFoundError):  # a link that leads nowhere
                    found = Path(place, name).stat()
                    if stat.S_ISREG(found.st_mode):
                        sizes[inside + name] = found.st_size
            if len(sizes) > MOST_FILES:
                raise InputError(f"{root} has more than {MOST_FILES:,} files; name the folder of the images alone.")
    except OSError as error:
        raise InputError(
            f"{error.filename or root} cannot be read: {error.strerror}; mend that, and run again."
        ) from error
    return Collection(root, sizes, hidden, tops, packed=False, read=lambda name: (root / name).read_bytes())


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == APPLE for part in path.split("/"))


def _is_ring(place: str, name: str) -> bool:
    """Whether a folder is a link to one that it is in."""
    path = Path(place, name)
    return path.is_symlink() and Path(place).resolve().is_relative_to(path.resolve())


def _raise(error: OSError) -> None:
    raise error
