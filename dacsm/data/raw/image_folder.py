"""Your own images: a folder <domain>/<class>/<image>, read where it lies and never changed.

What stands for a domain in data/raw/ is a list of its files with sizes and hashes, so that a later change is noticed.
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.paths import Paths
from dacsm.config.validation import Frozen, validate
from dacsm.data.raw import IMAGE_SUFFIXES, Raw, Sample
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

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, position: int) -> str:
        return self.paths[position]

    def __getitem__(self, position: int) -> Sample:
        path = self.folder / self.paths[position]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; put it back, and run again.") from error
        if hashlib.sha256(content).hexdigest() != self.hashes[position]:
            raise InputError(f"{path} has changed since its domain was listed; put it back, or list the domain again.")
        return Sample(self.paths[position], int(self.labels[position]), content)


def image_files(folder: Path) -> list[tuple[str, int]]:
    """Path (<class>/<image>) and size of each image in a domain's folder, sorted by path.

    Raises:
        InputError: where the folder cannot be read, or has an image outside of a class's folder.
    """
    try:
        found = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        listed = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in found)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; correct its path.") from error
    odd = next((path for path, _ in listed if path.count("/") != 1), None)
    if odd is not None:
        raise InputError(f"{folder / odd} is not where images are expected, {folder}/<class>/<image>; move it there.")
    return listed


def listing(files: list[tuple[str, int]]) -> str:
    """A hash of paths and sizes: quick to take, and another as soon as images come or go."""
    return hashlib.sha256("".join(f"{path} {size}\n" for path, size in files).encode()).hexdigest()[:16]


def fetch(dataset: DatasetSpec, archive: str, paths: Paths) -> Raw:
    """List a domain's files with their hashes, once they are those that the dataset's file describes.

    Raises:
        InputError: where images have come or gone since.
    """
    options = _options(dataset, archive)
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
    """The images of a domain, as they were listed.

    Raises:
        InputError: where one is in the folder of no class.
    """
    (archive,) = dataset.require_domain(domain).archives
    with (paths.raw(dataset.name) / dataset.archives[archive].file).open(newline="", encoding="utf-8") as file:
        rows = [(row["path"], row["sha256"]) for row in csv.DictReader(file)]
    numbers = {name: number for number, name in enumerate(dataset.classes)}
    folder = Path(_options(dataset, archive).folder)
    for path, _ in rows:
        if path.partition("/")[0] not in numbers:
            raise InputError(
                f"{folder / path} is in the folder of no class; correct classes in "
                f"workflow/datasets/{dataset.name}.yaml, or move it."
            )
    labels = np.array([numbers[path.partition("/")[0]] for path, _ in rows], dtype=np.int64)
    return FolderImages(folder, [path for path, _ in rows], [found for _, found in rows], labels)


def _options(dataset: DatasetSpec, archive: str) -> Options:
    domain, content = next((name, d.options) for name, d in dataset.domains.items() if archive in d.archives)
    return validate(Options, content, f"workflow/datasets/{dataset.name}.yaml: domains.{domain}.options")
