"""The large files that an index or a receipt vouches for."""

from collections.abc import Iterator
from pathlib import Path

from dacsm.config.project import Project
from dacsm.data.index import verify
from dacsm.ledger.audit.finding import Finding
from dacsm.ledger.runs import Run
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json
from dacsm.runtime.hashes import Hashes


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
