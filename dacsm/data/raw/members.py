"""The files inside a plain tar or a zip, by position: indexed once, then read from where they lie, never extracted.

Positional reads let sharding take images in any order, in any number of processes, with one image in memory.
"""

import os
import stat
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dacsm.data.raw import is_text
from dacsm.runtime.errors import InputError

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
MOST_BYTES = 2**28  # of one file that is read: more than any image has
LOCAL_HEADER = struct.Struct("<26xHH")  # before a file in a zip: the lengths of its name and extra field come last


class DamagedMemberError(Exception):
    """A file inside an archive is not what the archive says of it."""


@dataclass
class Members:
    """Files of one archive, sorted by path."""

    archive: Path
    paths: list[str]
    places: np.ndarray  # (N, 5) int64: offset, stored bytes, bytes, method, CRC; the last two are for zips
    zipped: bool
    _file: Any = field(default=None, repr=False)

    def find(self, path: str) -> int | None:
        """The position of the file with that path, if there is one."""
        position = bisect_left(self.paths, path)
        return position if position < len(self.paths) and self.paths[position] == path else None

    def read(self, position: int) -> bytes:
        """The content of a file; raises DamagedMemberError where it is cut off or differs from its checksum."""
        offset, stored, size, method, crc = (int(value) for value in self.places[position])
        if max(stored, size) > MOST_BYTES:
            raise DamagedMemberError(f"of more than {MOST_BYTES:,} bytes")
        if self._file is None:
            self._file = self.archive.open("rb", buffering=0)
        handle = self._file.fileno()
        if self.zipped:
            header = os.pread(handle, LOCAL_HEADER.size, offset)
            if len(header) < LOCAL_HEADER.size:
                raise DamagedMemberError("cut off in the archive")
            offset += LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(header))
        content = os.pread(handle, stored, offset)
        if len(content) < stored:
            raise DamagedMemberError("cut off in the archive")
        if not self.zipped:
            return content
        try:
            if method == DEFLATED:  # no further than the size that the zip states
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
        except zlib.error as error:
            raise DamagedMemberError("damaged in the archive") from error
        if len(content) != size or zlib.crc32(content) != crc:
            raise DamagedMemberError("damaged in the archive")
        return content

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def open_members(archive: Path) -> Members:
    """Index an archive.

    Raises InputError where it is no tar or zip, or holds a file that would be written outside its folder, a link that
    leads out of it, or a device: an archive of images has none of these.
    """
    try:
        zipped = zipfile.is_zipfile(archive)
        found = sorted(_zip_members(archive) if zipped else _tar_members(archive))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError) as error:
        raise InputError(f"{archive} cannot be read as an archive ({error}); fetch it again.") from error
    except OSError as error:
        raise InputError(f"{archive} cannot be read: {error.strerror}; mend that, or fetch it again.") from error
    places = np.array([place for _, place in found], dtype=np.int64).reshape(-1, 5)
    return Members(archive, [path for path, _ in found], places, zipped)


def _tar_members(archive: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep a kilobyte a file
            try:
                tarfile.data_filter(member, str(archive.parent))
            except tarfile.FilterError as error:
                raise _unsafe(archive, member.name) from error
            if member.isreg() and not member.issparse():
                yield _plain(archive, member.name), (member.offset_data, member.size, member.size, STORED, 0)


def _zip_members(archive: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            path = PurePosixPath(member.orig_filename)
            if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(archive, member.orig_filename)
            if member.is_dir():
                continue
            if member.compress_type not in (STORED, DEFLATED) or member.flag_bits & 1:
                raise InputError(
                    f"{archive} has {member.filename} encrypted, or packed by a rare method; pack it anew."
                )
            place = (member.header_offset, member.compress_size, member.file_size, member.compress_type, member.CRC)
            yield _plain(archive, member.filename), place


def _unsafe(archive: Path, name: str) -> InputError:
    return InputError(
        f"{archive} holds {name!r}, which leads out of the archive's folder or is no plain file; nothing was taken "
        "from it: remove it, and fetch it from a source that you trust."
    )


def _plain(archive: Path, path: str) -> str:
    if not is_text(path):
        raise InputError(f"{archive} holds {path!r}, a name that is no UTF-8 or has control characters; pack it anew.")
    return path.removeprefix("./")


def common_folder(paths: Iterable[str]) -> str:
    """The one folder in which all paths lie, with a slash at its end; "" where there is none."""
    tops = {path.partition("/")[0] if "/" in path else "" for path in paths}
    return f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""
