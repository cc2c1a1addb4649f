"""Write a domain's images into tar shards, which WebDataset streams too, and which can be read by index.

Images are permuted with a fixed seed first, so that a shuffle buffer over neighbours is a sound shuffle and no shard's
name tells a class. Labels, names and counts lie beside the shards, never in them or in index.json: who adapts on a
target domain reads the images only.
"""

import sys
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Shard
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.config.validation import validate
from dacsm.data.encoding import JPEG, RESAMPLE, Encoder, Stored, encoded_images
from dacsm.data.index import FORMAT_VERSION, read_index, verify
from dacsm.data.raw import Samples, reader_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import transfer
from dacsm.runtime.files import exchanged, read_json, sha256, whole_file, write_csv, write_json
from dacsm.runtime.hashes import Hashes
from dacsm.runtime.identity import Expected
from dacsm.runtime.workers import require_workers

ORDER_SEED = 0
OWN = ("index.json", "*.tar", "unreadable.csv")  # of an earlier set; without the first, nothing looks whole


def shard(project: Project, domain: str, workers: int = 0) -> None:
    """Write a domain's shards, offsets.npy, labels.csv, counts.csv and, last, index.json; or copy all but the shards.

    `workers` processes decode and encode; the bytes are the same for any number. Images that cannot be read are left
    out: index.json has their reasons, unreadable.csv beside the labels their names. An earlier set stays until the new
    one is whole.

    Raises:
        InputError: where the raw files are missing or changed, or the domain has not the images it should have.
    """
    require_workers(workers)
    dataset, paths = project.dataset, project.paths
    settings: Shard = project.params.recipe("shard", dataset.name)
    if settings.url is not None:
        _copy(f"{settings.url.rstrip('/')}/{domain}", settings, dataset, domain, paths)
        return
    _require_raw(dataset, domain, paths)
    samples: Samples = reader_of(dataset).samples(dataset, domain, paths)
    _require_counts(dataset, domain, samples, paths)
    order = _part(_permutation(len(samples)), dataset, domain)
    images = _Readable(encoded_images(Encoder(samples, settings, dataset.channels), order, workers), dataset, domain)
    place = paths.shards(dataset.name, domain)
    with exchanged(place, OWN) as folder:
        shards, offsets = _write_shards(folder, images, settings)
        with whole_file(folder / "offsets.npy") as partial, partial.open("wb") as file:
            np.save(file, offsets)
        left_out = [index for index, _ in images.unreadable]
        kept = np.setdiff1d(np.arange(len(order)), left_out, assume_unique=True)
        _write_labels(folder, samples, order[kept], dataset.classes)
        content: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "dataset": dataset.name,
            "domain": domain,
            "classes": dataset.classes,
            "images": len(kept),
            "image_size": settings.image_size,
            "channels": dataset.channels,
            "encoding": settings.encoding,
            "offsets": sha256(folder / "offsets.npy"),
            "shards": shards,
        }
        if settings.encoding == "jpeg":
            content |= {**JPEG, "resample": RESAMPLE.name.lower()}
        if images.unreadable:
            content["unreadable"] = [{"index": index, "reason": stored.reason} for index, stored in images.unreadable]
            rows = ((index, stored.label, stored.name, stored.reason) for index, stored in images.unreadable)
            write_csv(folder / "unreadable.csv", ("index", "label", "name", "reason"), rows)
        write_json(folder / "index.json", content)
    if images.unreadable:
        print(f"{len(left_out)} images cannot be read; {place / 'unreadable.csv'} lists them.", file=sys.stderr)


def _copy(url: str, settings: Shard, dataset: DatasetSpec, domain: str, paths: Paths) -> None:
    """Copy what lies beside the shards at `url`; the shards themselves are fetched as they are read."""
    dataset.require_domain(domain)
    with exchanged(paths.shards(dataset.name, domain), OWN) as folder:
        for name in ("offsets.npy", "labels.csv", "counts.csv", "index.json"):
            transfer([f"{url}/{name}"], folder / name, Expected())
        content = read_json(folder / "index.json", "dacsm shard")
        write_json(folder / "index.json", {**content, "url": url} if isinstance(content, dict) else content)
        index = read_index(folder)
        wanted = {"dataset": dataset.name, "domain": domain, "classes": dataset.classes, "channels": dataset.channels}
        wanted |= {"image_size": settings.image_size, "encoding": settings.encoding}
        for key, value in wanted.items():
            if (found := getattr(index, key)) != value:
                raise InputError(
                    f"{url}/index.json has {key} {found!r}, expected {value!r}; correct shard.{dataset.name}.url or "
                    "the setting in params.yaml."
                )
        verify(folder)


class Receipt(BaseModel):
    """What a receipt says of its raw file; the rest of it is for people."""

    file: str
    bytes: int
    sha256: str


def _require_raw(dataset: DatasetSpec, domain: str, paths: Paths) -> None:
    """Raise InputError unless each raw file of a domain is the one that its receipt was written for."""
    hashes = Hashes(paths.hashes(dataset.raw_name))
    for archive in dataset.require_domain(domain).archives:
        command = f"dacsm download {dataset.name} {archive}"
        path = paths.receipt(dataset.name, archive)
        receipt = validate(Receipt, read_json(path, command), path)
        file = paths.raw(dataset.name) / receipt.file
        size = file.stat().st_size if file.is_file() else None
        if size != receipt.bytes:
            state = "was not found" if size is None else f"has {size} bytes"
            raise InputError(f"{file} {state}, expected {receipt.bytes} bytes; make it again with `{command}`.")
        found = hashes(file)
        if found != receipt.sha256:
            raise InputError(
                f"the sha256 of {file} begins with {found[:16]}, expected {receipt.sha256[:16]}; "
                f"make it again with `{command}`."
            )
    hashes.save()


def _permutation(count: int) -> np.ndarray:
    """A fixed order of `count` images, from the raw bits of PCG64, which no release of NumPy changes."""
    return np.argsort(np.random.PCG64(ORDER_SEED).random_raw(count), kind="stable")


def _part(order: np.ndarray, dataset: DatasetSpec, domain: str) -> np.ndarray:
    """The part of the order (N,) that is this domain's: where a fraction is held out, that is its beginning."""
    facts = dataset.domains[domain]
    held_out = round((facts.held_out or 0) * len(order))
    return order[:held_out] if facts.held_out_of else order[held_out:]


def _require_counts(dataset: DatasetSpec, domain: str, samples: Samples, paths: Paths) -> None:
    """Raise InputError unless there are as many images, in all and of each class, as the dataset's file says."""
    facts, file = dataset.domains[domain], f"workflow/datasets/{dataset.name}.yaml"
    outside = np.flatnonzero((samples.labels < 0) | (samples.labels >= len(dataset.classes)))
    if len(outside):
        raise InputError(
            f"{samples.name(int(outside[0]))} has label {samples.labels[outside[0]]}, expected 0 to "
            f"{len(dataset.classes) - 1}; correct classes in {file}."
        )
    counts = np.bincount(samples.labels, minlength=len(dataset.classes))
    empty = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    of_classes = [] if facts.per_class is None else np.flatnonzero(counts != facts.per_class)
    what = f"{paths.raw(dataset.raw_name)} has {len(samples)} images of {domain}, expected {facts.images}"
    if missing := [name for name in empty if name not in facts.absent]:
        what += f", and none of class {', '.join(missing)}"
    elif len(of_classes):
        first = of_classes[0]
        what += f", and {counts[first]} of class {dataset.classes[first]}, expected {facts.per_class[first]}"
    elif len(samples) == facts.images:
        return
    command = f"dacsm download {dataset.name} {facts.archives[0]}"
    raise InputError(f"{what}; make it again with `{command}`, or correct domains.{domain}.images in {file}.")


class _Readable:
    """The readable ones of a domain's images, one after the other; the others are set aside with their indices."""

    def __init__(self, images: Iterator[Stored], dataset: DatasetSpec, domain: str) -> None:
        self.images, self.dataset, self.domain = images, dataset, domain
        self.unreadable: list[tuple[int, Stored]] = []
        self.allowed = dataset.domains[domain].max_unreadable * dataset.domains[domain].stored

    def __iter__(self) -> Iterator[bytes]:
        for index, stored in enumerate(self.images):
            if stored.encoded is not None:
                yield stored.encoded
                continue
            self.unreadable.append((index, stored))
            if len(self.unreadable) > self.allowed:
                fraction = self.dataset.domains[self.domain].max_unreadable
                raise InputError(
                    f"{len(self.unreadable)} of the first {index + 1} images of {self.domain} cannot be read, more "
                    f"than the {fraction:.1%} of all that may be, such as {stored.name} ({stored.reason}); fetch "
                    f"the archive again, or raise domains.{self.domain}.max_unreadable in "
                    f"workflow/datasets/{self.dataset.name}.yaml."
                )


def _write_shards(folder: Path, images: Iterable[bytes], settings: Shard) -> tuple[list[dict[str, object]], np.ndarray]:
    """Write the tars, one image in memory at a time.

    Returns:
        The shards' name, bytes and sha256, and the offsets (N, 3) int64: shard, byte offset of the image, its bytes.
    """
    from webdataset import TarWriter

    shards, offsets, waiting = [], array("q"), enumerate(images)
    while batch := list(islice(waiting, 1)):
        name = f"{len(shards):06d}.tar"
        with whole_file(folder / name) as partial:
            # Without mtime=0 the same images would give other bytes each time.
            with partial.open("wb") as file, TarWriter(file, mtime=0, encoder=False) as tar:
                for index, encoded in chain(batch, islice(waiting, settings.images_per_shard - 1)):
                    tar.write({"__key__": f"{index:09d}", settings.encoding: encoded})
            for place in _places(partial):
                offsets.extend((len(shards), *place))
        shards.append({"name": name, "bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)})
    return shards, np.array(offsets, dtype=np.int64).reshape(-1, 3)


def _places(tar: Path) -> Iterator[tuple[int, int]]:
    """Byte offset and size of each file in a tar."""
    with tarfile.open(tar) as members:
        for member in members:
            members.members = []  # tarfile would keep a kilobyte a file
            yield member.offset_data, member.size


def _write_labels(folder: Path, samples: Samples, order: np.ndarray, classes: Sequence[str]) -> None:
    labels = samples.labels[order]
    rows = ((index, labels[index], samples.name(int(position))) for index, position in enumerate(order))
    write_csv(folder / "labels.csv", ("index", "label", "name"), rows)
    counts = np.bincount(labels, minlength=len(classes))
    write_csv(
        folder / "counts.csv", ("label", "class", "images"), zip(range(len(classes)), classes, counts, strict=True)
    )
