"""A domain's shards: what index.json says that they hold, whether they are all there, and their images by index.

Images are read without labels.csv, which only `read_labels` and `read_names` open.
"""

import csv
import io
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from dacsm.config.validation import Frozen, validate
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import open_cached
from dacsm.runtime.files import read_json, reading, sha256
from dacsm.runtime.hashes import require_file, require_sha256

FORMAT_VERSION = 2  # of the files of a set of shards, as they are written and read; raise it when their form changes
UNLABELLED = -1  # the label of an image of a domain without labels
KEPT_BYTES = 256 * 2**20  # domains whose decoded pixels fit are decoded once
MOST_OPEN = 64  # shard files that are open at a time

Picture = Image.Image | np.ndarray  # of mode L or RGB, or uint8 (C, H, W)


class ShardEntry(Frozen):
    """One tar of the index."""

    name: str = Field(pattern=r"^\w+\.tar$")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Unreadable(Frozen):
    """An image that was left out: its index in the order of all images, and why; its name would tell its class."""

    index: int
    reason: str


class Index(Frozen):
    """What index.json says of a domain's shards."""

    format_version: int
    dataset: str
    domain: str
    classes: tuple[str, ...]
    images: int = Field(ge=0)
    image_size: int = Field(ge=1, le=4096)
    channels: Literal[1, 3]
    encoding: Literal["png", "jpeg"]
    offsets: str
    shards: tuple[ShardEntry, ...]
    quality: int | None = None  # these three where the images are JPEGs
    subsampling: int | None = None
    resample: str | None = None
    unreadable: tuple[Unreadable, ...] = ()
    url: str | None = None  # where the tars lie, if not beside this file


def read_index(folder: Path) -> Index:
    """The index of a domain's shards; raises InputError unless the folder holds a whole set of this format."""
    if folder.is_file():
        raise InputError(f"{folder} is a file, expected a folder of shards; remove it and run `{made_by(folder)}`.")
    content = read_json(folder / "index.json", made_by(folder))
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise InputError(
            f"{folder / 'index.json'} has format_version {found}, expected {FORMAT_VERSION}; "
            f"make it again with `{made_by(folder)}`."
        )
    index = validate(Index, content, folder / "index.json")
    for shard in () if index.url else index.shards:
        require_file(folder / shard.name, shard.bytes, made_by(folder))
    return index


def verify(folder: Path, hash_of: Callable[[Path], str] = sha256) -> None:
    """Compare the sha256 of every shard with the index: once, after a copy or a download, not at every read.

    `hash_of` gives a file's sha256, from memory or anew. Raises InputError for the first file that differs.
    """
    index = read_index(folder)
    for shard in () if index.url else index.shards:  # those of a store are compared as they are fetched
        require_sha256(folder / shard.name, shard.sha256, made_by(folder), hash_of)
    require_sha256(folder / "offsets.npy", index.offsets, made_by(folder), hash_of)


def read_offsets(folder: Path, index: Index) -> np.ndarray:
    """Shard, byte offset and bytes of each image, (N, 3) int64; raises InputError where they do not fit `index`."""
    path, again = folder / "offsets.npy", f"make it again with `{made_by(folder)}`."
    with reading(path, made_by(folder)):
        offsets = np.load(path)
    if offsets.shape != (index.images, 3):
        raise InputError(f"{path} has shape {offsets.shape}, expected {(index.images, 3)}; {again}")
    sizes = np.array([shard.bytes for shard in index.shards], dtype=np.int64)
    shards, first, length = offsets.T
    inside = offsets.dtype == np.int64 and (offsets >= 0).all() and (shards < len(sizes)).all()
    if not (inside and (np.diff(shards) >= 0).all() and (first + length <= sizes[shards]).all()):
        raise InputError(f"{path} leads out of the shards; {again}")
    return offsets


def made_by(folder: Path) -> str:
    """The command that makes a folder of shards."""
    place = folder.parent if folder.name.startswith(".") else folder  # while a set is being made
    return f"dacsm shard {place.parent.name} {place.name}"


def read_labels(folder: Path) -> np.ndarray:
    """The label of each image by index, (N,) int64: for a source domain, and for evaluation.

    Raises InputError where labels.csv is missing, has no labels, or is not one row for each index in order.
    """
    path = folder / "labels.csv"
    index, found = _read_column(folder, "label", lambda text: np.int64(text) if text else UNLABELLED)
    labels = np.array(found, dtype=np.int64)
    if len(labels) and (labels == UNLABELLED).all():
        raise InputError(f"{path} has no labels: the domain {index.domain} can only be a target; name another.")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(index.classes):
        again = f"make it again with `{made_by(folder)}`."
        raise InputError(f"{path} has a label outside 0 to {len(index.classes) - 1}; {again}")
    return labels


def read_names(folder: Path) -> list[str]:
    """Where each image by index came from; raises InputError where labels.csv cannot be read, as `read_labels` does."""
    return _read_column(folder, "name", str)[1]


def _read_column(folder: Path, column: str, of_text: Callable[[str], Any]) -> tuple[Index, list[Any]]:
    """A column of labels.csv by index; raises InputError where it is not a row for each index in order."""
    path, again = folder / "labels.csv", f"make it again with `{made_by(folder)}`."
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(row["index"]), row[column]) for row in csv.DictReader(file)]
        if any(text is None for _, text in rows):
            raise ValueError("a row is too short")
        values = [of_text(text) for _, text in rows]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} was not found; make it with `{made_by(folder)}`.") from error
    except (OSError, KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise InputError(f"{path} is not a table of index and {column}; {again}") from error
    index = read_index(folder)
    if [number for number, _ in rows] != list(range(index.images)):
        raise InputError(f"{path} does not list the images from index 0 in order; {again}")
    return index, values


class ShardedImages:
    """The images of a domain by index, without labels: `len(images)`, `images[index]`.

    Positional reads make it safe to share with forked workers, and it can be pickled for the others. Where all decoded
    pixels fit in KEPT_BYTES, each image is decoded once and kept. Raises InputError at opening, as `read_index` does,
    or where offsets.npy does not fit the index; at reading, where an image cannot be decoded, or a shard of a store not
    be fetched.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = read_index(folder)
        self.offsets = read_offsets(folder, self.index)  # (N, 3)
        small = self.index.images * self.index.image_size**2 * self.index.channels <= KEPT_BYTES
        self._kept: dict[int, Picture] | None = {} if small else None
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # the longest unused comes first

    def __len__(self) -> int:
        return self.index.images

    def __getitem__(self, index: int) -> Picture:
        """The image; the caller may change it."""
        if self._kept is None:
            return self._read(index)
        image = self._kept.get(index)
        if image is None:
            image = self._kept[index] = self._read(index)
        return image.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict(), "_kept": None if self._kept is None else {}}

    def _read(self, index: int) -> Picture:
        shard, offset, size = (int(value) for value in self.offsets[index])
        encoded = os.pread(self._open(shard).fileno(), size, offset)
        what = f"image {index} in {self.folder / self.index.shards[shard].name}"
        return _decode(encoded, self.index, what, made_by(self.folder))

    def _open(self, shard: int) -> BinaryIO:
        if shard not in self._files:
            if len(self._files) >= MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            entry, url = self.index.shards[shard], self.index.url
            if url is None:
                self._files[shard] = (self.folder / entry.name).open("rb", buffering=0)
            else:
                self._files[shard] = open_cached(f"{url}/{entry.name}", entry.bytes, entry.sha256)
        self._files.move_to_end(shard)
        return self._files[shard]


def require_size(images: ShardedImages, size: int) -> None:
    """Raise InputError unless the stored images have the size that the model's views start from (`resize`)."""
    found, dataset = images.index.image_size, images.index.dataset
    if found != size:
        raise InputError(
            f"{images.folder} holds images of {found} pixels, but pretrain.{dataset}.model.resize is {size}; set "
            f"shard.{dataset}.image_size and that to the same number in params.yaml."
        )


def _decode(encoded: bytes, index: Index, what: str, command: str) -> Picture:
    """Decode an image and check that it is as the shards' index says.

    A JPEG becomes an array (C, H, W): the same values as Pillow's, in less time.
    """
    try:
        if index.encoding == "jpeg":
            from simplejpeg import decode_jpeg

            colours = "RGB" if index.channels == 3 else "GRAY"
            image = decode_jpeg(encoded, colorspace=colours).transpose(2, 0, 1)
        else:
            image = Image.open(io.BytesIO(encoded))
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{what} cannot be decoded ({reason}); make the shards again with `{command}`.") from error
    side = index.image_size
    found: tuple[object, ...]
    expected: tuple[object, ...]
    if isinstance(image, Image.Image):
        found, expected = (image.mode, image.size), ("RGB" if index.channels == 3 else "L", (side, side))
    else:
        found, expected = tuple(image.shape), (index.channels, side, side)
    if found != expected:
        raise InputError(f"{what} is {found}, expected {expected}; make the shards again with `{command}`.")
    return image
