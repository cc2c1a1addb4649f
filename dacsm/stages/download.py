"""Fetch or make a dataset's raw archives, each with a receipt that stands for it in the pipeline's graph."""

import os

from dacsm.config.project import Project
from dacsm.data.raw import reader_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import unwritable, write_json
from dacsm.runtime.hashes import Hashes


def download(project: Project, archive: str) -> None:
    """Fetch or make one archive; its receipt (file, bytes, sha256, what it was made of) is written last.

    Raises InputError where the dataset has no such archive, or it is not what the dataset's file expects.
    """
    dataset, paths = project.dataset, project.paths
    if archive not in dataset.archives:
        raise InputError(f"{dataset.name} has no archive {archive!r}; it has {', '.join(dataset.archives)}.")
    receipt = paths.receipt(dataset.name, archive)
    try:
        receipt.unlink(missing_ok=True)  # an old receipt must not vouch for a new file
    except OSError as error:
        raise unwritable(receipt, error) from error
    raw = reader_of(dataset).fetch(dataset, archive, paths)
    hashes = Hashes(paths.hashes(dataset.raw_name))
    if raw.sha256 is not None:
        hashes.remember(raw.path, raw.sha256)
    sha256 = raw.sha256 or hashes(raw.path)
    hashes.save()  # so that no shard hashes it again
    file = os.path.relpath(raw.path, paths.raw(dataset.name))  # elsewhere, where another dataset's archive is used
    write_json(receipt, {"file": file, "bytes": raw.path.stat().st_size, "sha256": sha256, **raw.details})
