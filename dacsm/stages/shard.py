"""Write a domain's images into tar shards, which WebDataset streams too, and which can be read by index.

Images are permuted with a fixed seed first, so that a shuffle buffer over neighbours is a sound shuffle and no shard's
name tells a class. Labels, names and counts lie beside the shards, never in them or in index.json: who adapts on a
target domain reads the images only. Of a domain without labels, labels.csv has the names alone.
"""

import sys
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from dacsm.config.datasets import DatasetSpec, Domain
from dacsm.config.params import Shard
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.config.validation import validate
from dacsm.data.encoding import JPEG, RESAMPLE, Encoded, Encoder, encoded_images
from dacsm.data.raw import Samples, reader_of
from dacsm.data.shards import FORMAT_VERSION, UNLABELLED, read_index, verify
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import transfer
from dacsm.runtime.files import exchanged, read_json, sha256, whole_file, write_csv, write_json
from dacsm.runtime.hashes import Expected, Hashes, require_file, require_sha256
from dacsm.runtime.workers import require_workers

ORDER_SEED = 0
OWN = ("index.json", "*.tar", "unreadable.csv")  # of an earlier set; without the first, nothing looks whole


def shard(project: Project, domain: str, workers: int = 0) -> None:
    """Write a domain's shards, offsets.npy, labels.csv, counts.csv and, last, index.json; or copy all but the shards.

    `workers` processes decode and encode; the bytes are the same for any number. Images that cannot be read are left
    out: index.json has their reasons, unreadable.csv beside the labels their names. An earlier set stays until the new
    one is whole. Raises InputError where the raw files are missing or changed, or the domain has not the images it
    should have.
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
    order = _order(samples.labels, dataset.domains[domain])
    encoded = encoded_images(Encoder(samples, settings, dataset.channels), order, workers)
    unreadable: dict[int, str] = {}  # why, by index in the order
    images = _readable(encoded, unreadable, samples, order, dataset, domain)
    place = paths.shards(dataset.name, domain)
    with exchanged(place, OWN) as folder:
        shards, offsets = _write_shards(folder, images, settings)
        with whole_file(folder / "offsets.npy") as partial, partial.open("wb") as file:
            np.save(file, offsets)
        kept = np.delete(order, list(unreadable))
        _write_labels(folder, samples, kept, dataset.classes)
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
        if unreadable:
            content["unreadable"] = [{"index": index, "reason": reason} for index, reason in unreadable.items()]
            found = ((index, int(order[index]), reason) for index, reason in unreadable.items())
            rows = ((index, _label(samples, image), samples.name(image), reason) for index, image, reason in found)
            write_csv(folder / "unreadable.csv", ("index", "label", "name", "reason"), rows)
        write_json(folder / "index.json", content)
    if unreadable:
        print(f"{len(unreadable)} images cannot be read; {place / 'unreadable.csv'} lists them.", file=sys.stderr)


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
        require_file(file, receipt.bytes, command)
        require_sha256(file, receipt.sha256, command, hashes)
    hashes.save()


def _order(labels: np.ndarray, facts: Domain) -> np.ndarray:
    """A fixed order of a domain's images among those with `labels` (N,): of held-out or thinned ones, the beginning."""
    # From the raw bits of PCG64, which no release of NumPy changes.
    order = np.argsort(np.random.PCG64(ORDER_SEED).random_raw(len(labels)), kind="stable")
    if facts.part_of and facts.thinned:
        kept = facts.kept(np.bincount(labels, minlength=len(facts.thinned)).tolist())
        places = [np.flatnonzero(labels[order] == label)[:count] for label, count in enumerate(kept)]
        return order[np.sort(np.concatenate(places))]
    held_out = round((facts.held_out or 0) * len(labels))
    return order[:held_out] if facts.part_of else order[held_out:]


def _require_counts(dataset: DatasetSpec, domain: str, samples: Samples, paths: Paths) -> None:
    """Raise InputError unless there are as many images, in all and of each class, as the dataset's file says."""
    facts, file = dataset.domains[domain], f"workflow/datasets/{dataset.name}.yaml"
    what = f"{paths.raw(dataset.raw_name)} has {len(samples.labels)} images of {domain}, expected {facts.images}"
    of_class = _wrong_class(dataset, facts, samples, file) if facts.labelled else ""
    if of_class or len(samples.labels) != facts.images:
        command = f"dacsm download {dataset.name} {facts.archives[0]}"
        raise InputError(
            f"{what}{of_class}; make it again with `{command}`, or correct domains.{domain}.images in {file}."
        )


def _wrong_class(dataset: DatasetSpec, facts: Domain, samples: Samples, file: str) -> str:
    """What is said of a class that has not the images that it should have; raises InputError for one that is none."""
    outside = np.flatnonzero((samples.labels < 0) | (samples.labels >= len(dataset.classes)))
    if len(outside):
        raise InputError(
            f"{samples.name(int(outside[0]))} has label {samples.labels[outside[0]]}, expected 0 to "
            f"{len(dataset.classes) - 1}; correct classes in {file}."
        )
    counts = np.bincount(samples.labels, minlength=len(dataset.classes))
    empty = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    expected = counts if facts.per_class is None else np.array(facts.per_class)
    if missing := [name for name in empty if name not in facts.absent]:
        return f", and none of class {', '.join(missing)}"
    for name, count, right in zip(dataset.classes, counts, expected, strict=True):
        if count != right:
            return f", and {count} of class {name}, expected {right}"
    return ""


def _readable(
    images: Iterable[Encoded],
    unreadable: dict[int, str],
    samples: Samples,
    order: np.ndarray,
    dataset: DatasetSpec,
    domain: str,
) -> Iterator[bytes]:
    """The readable ones of a domain's images; the reasons of the others go into `unreadable`, by index."""
    facts = dataset.domains[domain]
    for index, image in enumerate(images):
        if isinstance(image, bytes):
            yield image
            continue
        unreadable[index] = image
        if len(unreadable) > facts.max_unreadable * facts.stored:
            raise InputError(
                f"{len(unreadable)} of the first {index + 1} images of {domain} cannot be read, more than the "
                f"{facts.max_unreadable:.1%} of all that may be, such as {samples.name(int(order[index]))} ({image}); "
                f"fetch the archive again, or raise domains.{domain}.max_unreadable in "
                f"workflow/datasets/{dataset.name}.yaml."
            )


def _write_shards(folder: Path, images: Iterable[bytes], settings: Shard) -> tuple[list[dict[str, object]], np.ndarray]:
    """Write the tars, one image in memory at a time.

    Returns:
        The shards' name, bytes and sha256, and the offsets (N, 3) int64: shard, byte offset of the image, its bytes.
    """
    from webdataset import TarWriter

    shards: list[dict[str, Any]] = []
    offsets, waiting = array("q"), enumerate(images)
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
            members.members = []  # type: ignore[attr-defined]  # tarfile would keep a kilobyte a file
            yield member.offset_data, member.size


def _write_labels(folder: Path, samples: Samples, order: np.ndarray, classes: Sequence[str]) -> None:
    """Write labels.csv, in which an image without label has an empty one, and counts.csv, of known labels."""
    rows = ((index, _label(samples, position), samples.name(position)) for index, position in enumerate(order.tolist()))
    write_csv(folder / "labels.csv", ("index", "label", "name"), rows)
    labels = samples.labels[order]
    counts = np.bincount(labels[labels != UNLABELLED], minlength=len(classes))
    of_classes = zip(range(len(classes)), classes, counts, strict=True)
    write_csv(folder / "counts.csv", ("label", "class", "images"), of_classes if counts.any() else ())


def _label(samples: Samples, position: int) -> int | str:
    """An image's label as it is written: empty where it has none."""
    label = int(samples.labels[position])
    return "" if label == UNLABELLED else label
