"""Fetch or make a dataset's raw archives, each with a receipt that stands for it in the pipeline's graph."""

import os

from dacsm.catalog import DatasetSpec
from dacsm.errors import InputError
from dacsm.files import sha256, write_json
from dacsm.layout import Layout
from dacsm.sources import source_of


def download(dataset: DatasetSpec, archive: str, layout: Layout) -> None:
    """Fetch or make one archive; its receipt (file, bytes, sha256, what it was made of) is written last.

    Raises:
        InputError: where the dataset has no such archive, or it is not what the dataset's file expects.
    """
    if archive not in dataset.archives:
        raise InputError(f"{dataset.name} has no archive {archive!r}; it has {', '.join(dataset.archives)}.")
    receipt = layout.receipt(dataset.name, archive)
    receipt.unlink(missing_ok=True)  # an old receipt must not vouch for a new file
    raw = source_of(dataset).fetch(dataset, archive, layout)
    file = os.path.relpath(raw.path, layout.raw(dataset.name))  # elsewhere, where another dataset's archive is used
    sizes = {"file": file, "bytes": raw.path.stat().st_size, "sha256": raw.sha256 or sha256(raw.path)}
    write_json(receipt, {**sizes, **raw.details})
