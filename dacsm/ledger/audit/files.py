"""The sha256 of files, remembered between audits, and the large files that an index or a receipt vouches for."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dacsm.config.project import Project
from dacsm.data.index import verify
from dacsm.ledger.audit.finding import Finding
from dacsm.ledger.runs import Run
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, sha256, write_json

SETTLED = 2.0  # seconds: a file changed more recently could change again without its times telling


class Hashes:
    """sha256 by path; a file with the device, inode, size and times of an earlier audit is not read again.

    Unlike its modification time, a file's change time (ctime) cannot be set back, so that a byte changed behind the
    back of Snakemake and DVC is noticed all the same.
    """

    def __init__(self, memory: Path, trust: bool) -> None:
        self.memory = memory
        self.known: dict[str, list] = _remembered(memory) if trust else {}
        self.changed = False

    def __call__(self, path: Path) -> str:
        stat = path.stat()
        state = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = self.known.get(str(path))
        if known is not None and known[:-1] == state:
            return known[-1]
        found = sha256(path)
        if time.time() - max(stat.st_ctime, stat.st_mtime) > SETTLED:
            self.known[str(path)] = [*state, found]
            self.changed = True
        return found

    def save(self) -> None:
        """Remember for the next audit, where that can be written."""
        if self.changed:
            with suppress(InputError):  # a read-only copy can be audited too
                write_json(self.memory, self.known)


def _remembered(memory: Path) -> dict[str, list]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return {path: entry for path, entry in known.items() if isinstance(entry, list) and len(entry) == 6}
    except (OSError, ValueError, AttributeError):
        return {}


def files_findings(run: Run, project: Project, hashes: Hashes) -> Iterator[Finding]:
    """Compare shards with their index, and an archive that is here with its receipt; neither is in any record."""
    if not run.outputs[0].is_file():
        return
    try:
        if run.stage == "shard":
            verify(run.place, hashes)
        elif run.stage == "download":
            command = f"dacsm download {project.dataset.name} {run.place.stem}"
            _verify_raw(run.place, project.paths.raw(project.dataset.name), command, hashes)
    except InputError as error:
        yield Finding(str(run.place), "data", str(error))


def _verify_raw(receipt: Path, folder: Path, command: str, hashes: Hashes) -> None:
    """An archive that is not here is no finding: it is needed to shard anew, and to nothing else."""
    content = read_json(receipt, command)
    archive = folder / content["file"]
    if archive.is_file() and hashes(archive) != content["sha256"]:
        raise InputError(f"{archive} is not the file that its receipt describes; make both again with `{command}`.")
