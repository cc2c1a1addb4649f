"""index.json of a domain's shards: what they hold, and whether they are all there."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from dacsm.config.validation import Frozen, validate
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, reading, sha256
from dacsm.runtime.hashes import require_file, require_sha256

FORMAT_VERSION = 2  # of the files of a set of shards, as they are written and read; raise it when their form changes


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
