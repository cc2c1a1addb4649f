"""Datasets that come as tar or zip archives from the internet, or from a person who has them already.

An image's class is that of its folder, or of its line in a list (`path label`).
"""

import gzip
import re
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from pydantic import Field

from dacsm.config.datasets import Archive, DatasetSpec
from dacsm.config.paths import Paths
from dacsm.config.validation import Frozen, validate
from dacsm.data.raw import IMAGE_SUFFIXES, Raw
from dacsm.data.raw.members import Members, common_folder, open_members
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import transfer
from dacsm.runtime.files import locked, whole_file, write_text
from dacsm.runtime.hashes import SHOWN, Expected, Mismatch, identify

MOST_RATIO = 40  # of an archive's unpacked size to its own: images are compressed already
MOST_UNPACKED = 2**26  # bytes that any archive may unpack to


class Options(Frozen):
    """Where a domain's images are in the first of its archives."""

    folder: str = Field("", description="they are <folder>/<class>/<image>, and a list's paths start there")
    lists: tuple[str, ...] = Field((), description="lists of `path label`: text archives, or paths inside the archive")


@dataclass
class ArchivedImages:
    """A domain's images by position, as they lie in their archive."""

    members: Members
    positions: np.ndarray  # (N,) int64, in members
    labels: np.ndarray  # (N,) int64

    def name(self, position: int) -> str:
        return self.members.paths[self.positions[position]]

    def image(self, position: int) -> bytes:
        return self.members.read(int(self.positions[position]))


def fetch(dataset: DatasetSpec, archive: str, paths: Paths) -> Raw:
    """Bring an archive into data/raw/, or check the one that lies there.

    Without a published hash, the sha256 of the first file seen is kept beside the receipts, and holds for later ones.
    Raises InputError where it cannot be fetched, or is not the one that it should be.
    """
    entry = dataset.archives[archive]
    path = paths.raw(dataset.raw_name) / entry.file
    seen = paths.receipt(dataset.raw_name, archive).with_suffix(".sha256")
    expected = Expected(entry.bytes, entry.sha256 or _first_seen(seen), entry.md5)
    by_hand = f" from {entry.page}" if entry.page else ""
    again = "remove it to have it fetched again, or " if entry.urls else ""
    remedy = f"{again}put the right one there{by_hand}"
    with locked(path.with_name(f".{path.name}.lock")):  # two datasets may share it
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file, expected an archive; {remedy}.")
        if path.exists():
            try:
                sha256 = identify(path, expected, kind=entry.file)
            except Mismatch as error:
                raise InputError(f"{path} {error}; {remedy}{_accept(seen, entry, error)}.") from error
        elif not entry.urls:
            raise InputError(f"{path} was not found; fetch it by hand{by_hand}, put it there, and run again.")
        else:
            try:
                sha256 = transfer(entry.urls, path, expected)
            except InputError as error:
                if "by hand" not in str(error):
                    raise
                rest = f"{by_hand}, put it there, and run again{_accept(seen, entry, error)}."
                raise InputError(f"{error}{rest}") from error
    if not seen.exists():
        write_text(seen, f"{sha256}  {entry.file}\n")
    return Raw(path, {}, sha256)


def samples(dataset: DatasetSpec, domain: str, paths: Paths) -> ArchivedImages:
    """The images of a domain, in the order of its lists or paths; raises InputError where any are not found."""
    facts = dataset.require_domain(domain)
    place = f"workflow/datasets/{dataset.name}.yaml: domains.{domain}.options"
    options = validate(Options, facts.options, place)
    archive = paths.raw(dataset.raw_name) / dataset.archives[facts.archives[0]].file
    members = open_members(_plain_tar(archive))
    folder = _folder(members, options.folder, place)
    if options.lists:
        found: Iterable[tuple[int, int]] = _listed(dataset, domain, members, folder, options.lists, paths)
    else:
        found = _in_folders(dataset, archive, members, folder)
    positions, labels = np.array(list(found), dtype=np.int64).reshape(-1, 2).T
    return ArchivedImages(members, positions, labels)


def _in_folders(dataset: DatasetSpec, archive: Path, members: Members, folder: str) -> Iterator[tuple[int, int]]:
    """Position and label of each image below `folder`, whose class is that of its folder."""
    label_of = {name: label for label, name in enumerate(dataset.classes)}
    for position in range(*_inside(members, folder)):
        inside = PurePosixPath(members.paths[position][len(folder) :])
        if inside.suffix.lower() not in IMAGE_SUFFIXES or inside.name.startswith("._"):
            continue
        if len(inside.parts) != 2 or inside.parts[0] not in label_of:
            raise InputError(
                f"{archive} has {members.paths[position]}, which is in no folder of a class; expected {folder}<class>/"
                f"<image> with the classes of workflow/datasets/{dataset.name}.yaml."
            )
        yield position, label_of[inside.parts[0]]


def _listed(
    dataset: DatasetSpec, domain: str, members: Members, folder: str, lists: tuple[str, ...], paths: Paths
) -> list[tuple[int, int]]:
    """Position and label of each image that the lists name, once all of them are there."""
    found: list[tuple[int, int]] = []
    held: Counter[Any] = Counter()
    missing: Counter[Any] = Counter()
    for name in lists:
        for line, path, label in _lines(dataset, members, folder, name, paths):
            if not 0 <= label < len(dataset.classes):
                raise InputError(
                    f"{line} has label {label}, expected 0 to {len(dataset.classes) - 1}; correct classes."
                )
            named = PurePosixPath(path).parent.name
            if named in dataset.classes and named != dataset.classes[label]:
                raise InputError(
                    f"{line} has label {label}, which is {dataset.classes[label]}, for an image of {named}; correct "
                    f"the order of classes in workflow/datasets/{dataset.name}.yaml."
                )
            position = members.find(folder + path.removeprefix("./"))
            if position is None:
                missing[dataset.classes[label]] += 1
            else:
                held[dataset.classes[label]] += 1
                found.append((position, label))
    if missing:
        gone = [name for name in missing if name not in held]
        what = f"every image of {', '.join(gone)}" if gone else f"images of {', '.join(missing)}"
        raise InputError(
            f"{members.archive} lacks {missing.total():,} of the {missing.total() + len(found):,} images that the "
            f"list of {domain} names, {what}; fetch it again, or correct domains.{domain} in "
            f"workflow/datasets/{dataset.name}.yaml."
        )
    return found


def _lines(
    dataset: DatasetSpec, members: Members, folder: str, name: str, paths: Paths
) -> Iterator[tuple[str, str, int]]:
    """Each line of a list: where it stands, its path, and its label."""
    if name in dataset.archives:
        source = str(paths.raw(dataset.raw_name) / dataset.archives[name].file)
        content = Path(source).read_bytes()
    else:
        root = common_folder(members.paths)
        found = [place for place in (members.find(name), members.find(root + name)) if place is not None]
        if not found:
            raise InputError(f"{members.archive} has no list {name}; correct workflow/datasets/{dataset.name}.yaml.")
        source, content = f"{members.archive}: {name}", members.read(found[0])
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        path, _, label = line.strip().rpartition(" ")
        if not path and not label:
            continue
        if not path or not label.isdecimal():
            raise InputError(f"{source}, line {number}, is {line!r}, expected `path label`; fetch it again.")
        yield f"{source}, line {number},", path, int(label)


def _folder(members: Members, folder: str, place: str) -> str:
    """The folder as it stands in the archive, whose top folder may be left out; with a slash at its end."""
    wanted = f"{folder}/" if folder else ""
    for found in (wanted, common_folder(members.paths) + wanted):
        if _inside(members, found) != (0, 0):
            return found
    raise InputError(f"{members.archive} has no folder {folder!r}; correct {place}.folder, or fetch the archive again.")


def _inside(members: Members, folder: str) -> tuple[int, int]:
    """The range of positions of the files in a folder, (0, 0) where there are none."""
    ends = bisect_left(members.paths, folder), bisect_left(members.paths, folder[:-1] + "0" if folder else "\U0010ffff")
    return ends if ends[0] < ends[1] else (0, 0)


def _plain_tar(archive: Path) -> Path:
    """A tar.gz cannot be read by offset: its plain tar is kept beside it, made once for what the archive is now."""
    if archive.suffix != ".gz":
        return archive
    seen = archive.stat()
    name = archive.stem.removesuffix(".tar")
    plain = archive.with_name(f".{name}.{seen.st_size}.{seen.st_mtime_ns}.tar")
    with locked(archive.with_name(f".{archive.name}.lock")):  # the domains of one archive are sharded at the same time
        if not plain.exists():
            with whole_file(plain) as partial, partial.open("wb") as file:
                unpack(archive, file)
            for old in archive.parent.iterdir():  # those of an earlier file
                if re.fullmatch(rf"\.{re.escape(name)}\.\d+\.\d+\.tar", old.name) and old != plain:
                    old.unlink()
    return plain


def unpack(archive: Path, file: BinaryIO) -> None:
    """Write what a gzip file holds; raises InputError where it is damaged, or holds more than images do."""
    try:
        with gzip.open(archive) as content:
            while piece := content.read(1 << 20):
                file.write(piece)
                require_images_size(archive, file.tell())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{archive} cannot be read as an archive ({error}); fetch it again.") from error


def require_images_size(archive: Path, unpacked: int) -> None:
    """Raise InputError where so many bytes are more than the images of an archive unpack to."""
    if unpacked > (most := max(MOST_UNPACKED, MOST_RATIO * archive.stat().st_size)):
        raise InputError(
            f"{archive} unpacks to more than {most:,} bytes, which no archive of images does; remove it, and fetch it "
            "from a source that you trust."
        )


def _first_seen(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").split()[0]
    except (FileNotFoundError, IndexError):
        return None


def _accept(seen: Path, entry: Archive, error: Exception) -> str:
    """How to accept another file than the first one, where that is all that is known against it."""
    held = entry.sha256 is None and seen.exists() and (_first_seen(seen) or " ")[:SHOWN] in str(error)
    return f"; if the publisher has changed it, remove {seen} to accept the new one" if held else ""
