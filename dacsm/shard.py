"""Write a domain's images into tar shards that WebDataset streams and that can be read by number.

Images are permuted with a fixed seed first, so that a shuffle buffer over neighbours is a sound shuffle and no shard's
name tells a class. Labels, names and counts lie beside the shards, never in them or in their index: who adapts on a
target domain reads the images only.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from dacsm.catalog import DatasetSpec
from dacsm.errors import InputError
from dacsm.files import read_json, sha256, whole_file, write_csv, write_json
from dacsm.layout import Layout
from dacsm.params import Params, Shard
from dacsm.sources import Sample, Samples, source_of
from dacsm.validation import validate

FORMAT_VERSION = 1  # raise it when the files below change in form; shard_index.FORMAT_VERSION must agree
ORDER_SEED = 0
JPEG = {"quality": 95, "subsampling": 0}


def shard(params: Params, dataset: DatasetSpec, domain: str, layout: Layout) -> None:
    """Write a domain's shards, offsets.npy, labels.csv, counts.csv and, last, index.json.

    Raises:
        InputError: where the raw files are missing or changed, or the domain has not the images it should have.
    """
    settings: Shard = params.recipe("shard", dataset.name)
    for archive in dataset.require_domain(domain).archives:
        _require_raw(dataset, archive, layout)
    samples: Samples = source_of(dataset).samples(dataset, domain, layout)
    expected = dataset.domains[domain].images
    if len(samples) != expected:
        raise InputError(
            f"{layout.raw(dataset.name)} has {len(samples)} images of {domain}, expected {expected}; make it again "
            f"with `dacsm download`, or correct domains.{domain}.images in workflow/datasets/{dataset.name}.yaml."
        )
    folder = _emptied(layout.shards(dataset.name, domain))
    order = _permutation(len(samples))
    shards, offsets = _write_shards(folder, samples, order, settings, dataset)
    with whole_file(folder / "offsets.npy") as partial, partial.open("wb") as file:
        np.save(file, offsets)
    index = {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.name,
        "domain": domain,
        "classes": dataset.classes,
        "images": len(samples),
        "image_size": settings.image_size,
        "channels": dataset.channels,
        "encoding": settings.encoding,
        "offsets": sha256(folder / "offsets.npy"),
        "shards": shards,
    }
    write_json(folder / "index.json", index)


class Receipt(BaseModel):
    """What a receipt says of its raw file; the rest of it is for people."""

    file: str
    bytes: int
    sha256: str


def _require_raw(dataset: DatasetSpec, archive: str, layout: Layout) -> None:
    """Raise InputError unless the raw file is the one that its receipt was written for."""
    command = f"dacsm download {dataset.name} {archive}"
    path = layout.receipt(dataset.name, archive)
    receipt = validate(Receipt, read_json(path, command), path)
    file = layout.raw(dataset.name) / receipt.file
    size = file.stat().st_size if file.is_file() else None
    if size != receipt.bytes:
        state = "was not found" if size is None else f"has {size} bytes"
        raise InputError(f"{file} {state}, expected {receipt.bytes} bytes; make it again with `{command}`.")
    found = sha256(file)
    if found != receipt.sha256:
        raise InputError(
            f"the sha256 of {file} begins with {found[:16]}, expected {receipt.sha256[:16]}; "
            f"make it again with `{command}`."
        )


def _emptied(folder: Path) -> Path:
    """Make the folder, or remove what an earlier run left in it, the index first: without it nothing looks whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.json").unlink(missing_ok=True)
        for leftover in (*folder.glob("*.tar"), *folder.glob(".*.partial")):
            leftover.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}; free the place and run again.") from error
    return folder


def _permutation(count: int) -> np.ndarray:
    """A fixed order of `count` images, from the raw bits of PCG64, which no release of NumPy changes."""
    return np.argsort(np.random.PCG64(ORDER_SEED).random_raw(count), kind="stable")


def _write_shards(
    folder: Path, samples: Samples, order: np.ndarray, settings: Shard, dataset: DatasetSpec
) -> tuple[list[dict[str, object]], np.ndarray]:
    """Write the tars and the labels, one image in memory at a time.

    Returns:
        The shards' name, bytes and sha256, and the offsets (N, 3) int64: shard, byte offset of the image, its bytes.
    """
    from webdataset import TarWriter

    shards, offsets, labels = [], [], []
    for first in range(0, len(order), settings.images_per_shard):
        name = f"{len(shards):06d}.tar"
        with whole_file(folder / name) as partial:
            # Without mtime=0 the same images would give other bytes each time.
            with partial.open("wb") as file, TarWriter(file, mtime=0, encoder=False) as tar:
                for number in range(first, min(first + settings.images_per_shard, len(order))):
                    sample = samples[int(order[number])]
                    labels.append((number, _checked_label(sample, dataset), sample.name))
                    encoded = _encode(sample.image, settings, dataset.channels)
                    tar.write({"__key__": f"{number:09d}", settings.encoding: encoded})
            offsets.extend((len(shards), *place) for place in _places(partial))
        shards.append({"name": name, "bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)})
    _write_labels(folder, labels, dataset.classes)
    return shards, np.array(offsets, dtype=np.int64)


def _encode(image: Image.Image, settings: Shard, channels: int) -> bytes:
    image = image.convert("RGB" if channels == 3 else "L")
    size = (settings.image_size, settings.image_size)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)  # squashed to the square, as CDTrans does
    file = io.BytesIO()
    image.save(file, settings.encoding, **(JPEG if settings.encoding == "jpeg" else {}))
    return file.getvalue()


def _places(tar: Path) -> Iterator[tuple[int, int]]:
    """Byte offset and size of each file in a tar."""
    with tarfile.open(tar) as members:
        for member in members:
            yield member.offset_data, member.size


def _checked_label(sample: Sample, dataset: DatasetSpec) -> int:
    if not 0 <= sample.label < len(dataset.classes):
        raise InputError(
            f"{sample.name} has label {sample.label}, expected 0 to {len(dataset.classes) - 1}; "
            f"correct classes in workflow/datasets/{dataset.name}.yaml."
        )
    return sample.label


def _write_labels(folder: Path, labels: Sequence[tuple[int, int, str]], classes: Sequence[str]) -> None:
    write_csv(folder / "labels.csv", ("number", "label", "name"), labels)
    counts = np.bincount([label for _, label, _ in labels], minlength=len(classes))
    write_csv(
        folder / "counts.csv", ("label", "class", "images"), zip(range(len(classes)), classes, counts, strict=True)
    )
