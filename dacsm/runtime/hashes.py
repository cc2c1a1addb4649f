"""The sha256 of files, remembered from one command to the next."""

import json
import time
from contextlib import suppress
from pathlib import Path

from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256, write_json

SETTLED = 2.0  # seconds: a file changed more recently could change again without its times telling


class Hashes:
    """sha256 by path; a file with the device, inode, size and times that the memory has of it is not read again.

    Unlike its modification time, a file's change time (ctime) cannot be set back, so that a byte changed behind the
    back of Snakemake and DVC is noticed all the same.
    """

    def __init__(self, memory: Path, trust: bool = True) -> None:
        self.memory = memory
        self.known: dict[str, list] = _remembered(memory) if trust else {}
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


def _remembered(memory: Path) -> dict[str, list]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return {path: entry for path, entry in known.items() if isinstance(entry, list) and len(entry) == 6}
    except (OSError, ValueError, AttributeError):
        return {}
