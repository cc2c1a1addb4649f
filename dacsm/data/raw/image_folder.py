"""Your own images: a folder <domain>/<class>/<image>, read where it lies and never changed.

A domain whose images lie directly in its folder, <domain>/<image>, has no labels.

What stands for a domain in data/raw/ is a list of its files with sizes and hashes, so that a later change is noticed.
"""

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.paths import Paths
from dacsm.config.validation import Frozen
from dacsm.data.raw import IMAGE_SUFFIXES, Raw, is_text, options_of
from dacsm.data.shards import UNLABELLED
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256, write_csv

COLUMNS = ("path", "bytes", "sha256")


class Options(Frozen):
    """The options of a domain in a folder."""

    folder: str
    listing: str  # what `listing` says of its files: with other files, this is another domain


@dataclass
class FolderImages:
    """A domain's images by position, in the order of their paths."""

    folder: Path
    paths: list[str]
    hashes: list[str]
    labels: np.ndarray  # (N,) int64
    receipt: Path

    def name(self, position: int) -> str:
        return self.paths[position]

    def image(self, position: int) -> bytes:
        path = self.folder / self.paths[position]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; put it back, and run again.") from error
        if hashlib.sha256(content).hexdigest() != self.hashes[position]:
            raise _changed(path, self.receipt)
        return content


def image_files(folder: Path) -> list[tuple[str, int]]:
    """Path and size of each image in a domain's folder, sorted by path; hidden ones do not count.

    A path is <class>/<image>, or all are <image>. Raises InputError where the folder cannot be read, has images at both
    places or elsewhere, or one whose name is not UTF-8.
    """
    listed = []
    try:
        for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            inside = Path(place).relative_to(folder)
            deep = len(inside.parts) > 3  # far enough to find an image out of its place; a ring of links has no end
            folders[:] = [] if deep else [name for name in folders if not name.startswith(".")]
            shown = (name for name in names if not name.startswith("."))  # macOS adds files such as ._photo.jpg
            found = (name for name in shown if Path(name).suffix.lower() in IMAGE_SUFFIXES)
            images = [name for name in found if Path(place, name).is_file()]
            if images and len(inside.parts) > 1:
                raise InputError(
                    f"{Path(place, images[0])} is not where images are expected, {folder}/<class>/<image>; move it "
                    f"there, or, if {folder.name} has no labels, all of its images directly into {folder}."
                )
            listed += [((inside / name).as_posix(), Path(place, name).stat().st_size) for name in images]
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror}; correct its path.") from error
    direct, in_classes = ([path for path, _ in listed if ("/" in path) == deep] for deep in (False, True))
    if direct and in_classes:
        raise InputError(
            f"{folder / min(direct)} is not where images are expected, since {folder} has others in folders of "
            f"classes, such as {folder / min(in_classes)}; move it into one of these, or, if {folder.name} has no "
            f"labels, all of its images directly into {folder}."
        )
    no_text = next((name for name, _ in listed if not is_text(name)), None)
    if no_text is not None:
        raise InputError(f"{str(folder / no_text)!r} has a name that is no UTF-8 or has control characters; rename it.")
    return sorted(listed)


def listing(files: list[tuple[str, int]]) -> str:
    """A hash of paths and sizes: quick to take, and another as soon as images come or go."""
    return hashlib.sha256("".join(f"{path} {size}\n" for path, size in files).encode()).hexdigest()[:16]


def fetch(dataset: DatasetSpec, archive: str, paths: Paths) -> Raw:
    """List a domain's files with their hashes; raises InputError where images have come or gone."""
    options = options_of(Options, dataset, archive)
    folder = Path(options.folder)
    files = image_files(folder)
    if listing(files) != options.listing:
        raise InputError(
            f"{folder} has other images than when workflow/datasets/{dataset.name}.yaml was written; remove that file "
            "to have the folder described again."
        )
    path = paths.raw(dataset.name) / dataset.archives[archive].file
    write_csv(path, COLUMNS, ((name, size, sha256(folder / name)) for name, size in files))
    return Raw(path, {"images": len(files)})


def samples(dataset: DatasetSpec, domain: str, paths: Paths) -> FolderImages:
    """The images of a domain, as they were listed; raises InputError where one is in the folder of no class."""
    facts = dataset.require_domain(domain)
    (archive,) = facts.archives
    rows = _rows(paths.raw(dataset.name) / dataset.archives[archive].file)
    label_of = {name: label for label, name in enumerate(dataset.classes)}
    folder = Path(options_of(Options, dataset, archive).folder)
    labels = np.full(len(rows), UNLABELLED, dtype=np.int64)
    for position, path in enumerate(rows if facts.labelled else ()):
        if (name := path.partition("/")[0]) not in label_of:
            raise InputError(
                f"{folder / path} is in the folder of no class; correct classes in "
                f"workflow/datasets/{dataset.name}.yaml, or move it."
            )
        labels[position] = label_of[name]
    return FolderImages(
        folder, list(rows), [digest for _, digest in rows.values()], labels, paths.receipt(dataset.name, archive)
    )


def require_unchanged(dataset: DatasetSpec, archive: str, paths: Paths) -> None:
    """Raise InputError where an image of a domain that is listed already was written to since, and is another now.

    A list of the images that were there before images came or went says nothing: `fetch` writes another.
    """
    listed, receipt = paths.raw(dataset.name) / dataset.archives[archive].file, paths.receipt(dataset.name, archive)
    if not (listed.is_file() and receipt.is_file()):
        return
    options, since, rows = options_of(Options, dataset, archive), listed.stat().st_mtime_ns, _rows(listed)
    if listing([(path, size) for path, (size, _) in rows.items()]) != options.listing:
        return
    folder = Path(options.folder)
    for path, (_, expected) in rows.items():
        if (folder / path).stat().st_mtime_ns > since and sha256(folder / path) != expected:
            raise _changed(folder / path, receipt)


def _rows(listed: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of each image by its path, from the list of a domain's files."""
    with listed.open(newline="", encoding="utf-8") as file:
        return {row["path"]: (int(row["bytes"]), row["sha256"]) for row in csv.DictReader(file)}


def _changed(path: Path, receipt: Path) -> InputError:
    return InputError(
        f"{path} has changed since its domain was listed; put it back, or remove {receipt} and run `snakemake` to have "
        "the domain listed again."
    )


def _raise(error: OSError) -> None:
    raise error
