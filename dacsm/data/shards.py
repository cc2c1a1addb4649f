"""Read a domain's shards: by number for pairs, features and evaluation, or as a stream for pretraining.

Neither way ever opens labels.csv; `read_labels` does, and is for a source domain and for evaluation alone.
"""

import csv
import io
import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from dacsm.data.index import Index, made_by, read_index, read_offsets
from dacsm.runtime.errors import InputError

if TYPE_CHECKING:
    import torch

KEPT_BYTES = 256 * 2**20  # domains whose decoded pixels fit are decoded once
READ_AHEAD = 2**20  # bytes of a shard that the stream reads at a time
SHUFFLE_BUFFER = 2000  # images that the stream holds, still encoded, to draw the next from

Picture = Image.Image | np.ndarray  # of mode L or RGB, or uint8 (C, H, W)
View = Callable[[Picture, int], "torch.Tensor"]


def read_labels(folder: Path) -> np.ndarray:
    """The label of each image by number.

    Returns:
        Labels (N,) int64.

    Raises:
        InputError: where labels.csv is missing, or is not one row for each number in order.
    """
    path = folder / "labels.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(row["number"]), int(row["label"])) for row in csv.DictReader(file)]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} was not found; make it with `{made_by(folder)}`.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a table of number and label; make it again with `{made_by(folder)}`."
        ) from error
    numbers, labels = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    if not np.array_equal(numbers, np.arange(read_index(folder).images)):
        raise InputError(f"{path} does not number the images from 0 in order; make it again with `{made_by(folder)}`.")
    return labels


class ShardedImages:
    """The images of a domain by number, without labels: `len(images)`, `images[number]`.

    Positional reads make it safe to share with forked workers, and it can be pickled for the others. Where all decoded
    pixels fit in KEPT_BYTES, each image is decoded once and kept.

    Raises:
        InputError: at opening, as `read_index` does, or where offsets.npy does not fit the index; at reading, where an
            image cannot be decoded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = read_index(folder)
        self._offsets = read_offsets(folder, self.index)  # (N, 3)
        small = self.index.images * self.index.image_size**2 * self.index.channels <= KEPT_BYTES
        self._kept: dict[int, Picture] | None = {} if small else None
        self._files: dict[int, BinaryIO] = {}

    def __len__(self) -> int:
        return self.index.images

    def __getitem__(self, number: int) -> Picture:
        """The image; the caller may change it."""
        if self._kept is None:
            return self._decode(number)
        image = self._kept.get(number)
        if image is None:
            image = self._kept[number] = self._decode(number)
        return image.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_kept": None if self._kept is None else {}}

    def _decode(self, number: int) -> Picture:
        shard, offset, size = (int(value) for value in self._offsets[number])
        name = self.index.shards[shard].name
        if shard not in self._files:
            self._files[shard] = (self.folder / name).open("rb", buffering=0)
        encoded = os.pread(self._files[shard].fileno(), size, offset)
        return _decode(encoded, self.index, f"image {number} in {self.folder / name}", made_by(self.folder))


def require_size(images: ShardedImages, size: int) -> None:
    """Raise InputError unless the stored images have the size that the model's views start from (`resize`)."""
    found, dataset = images.index.image_size, images.index.dataset
    if found != size:
        raise InputError(
            f"{images.folder} holds images of {found} pixels, but pretrain.{dataset}.model.resize is {size}; set "
            f"shard.{dataset}.image_size and that to the same number in params.yaml."
        )


def stream(
    folder: Path,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    view: View,
    keep: np.ndarray | None = None,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    start: int = 0,
    drop_last: bool = False,
) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """One epoch of a domain's images in an order shuffled for (seed, epoch).

    Every process walks the same global order and decodes its own batches only: batch g of all goes to rank
    g % world_size, and that rank's batches to its workers in turn. So neither order nor bits depend on `workers`.

    Args:
        view: makes a tensor (C, H, W) of an image and its position in the global order; what it draws must come from
            (seed, epoch, position) alone. Workers that are not forked need it to be picklable.
        keep: (N,) bool, the image numbers to use; all where it is None.
        start: batches of this rank to skip, when a run is resumed.
        drop_last: leave out the tail that does not fill a batch on every rank.

    Yields:
        Image numbers (B,) int64 and their views (B, C, H, W).

    Raises:
        InputError: as `read_index` does, and where a shard is damaged.
    """
    import torch
    import webdataset as wds

    index = read_index(folder)
    if keep is not None and keep.shape != (index.images,):
        raise ValueError(f"keep has shape {keep.shape}, expected ({index.images},)")
    total = index.images if keep is None else int(keep.sum())
    whole = total // (batch_size * world_size) * world_size if drop_last else -(-total // batch_size)
    shards = list(range(len(index.shards)))
    random.Random(f"shards {seed} {epoch}").shuffle(shards)
    pipeline = wds.DataPipeline(
        [shards],
        partial(_numbered, index=index, folder=folder, offsets=read_offsets(folder, index), keep=keep),
        wds.shuffle(SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER, rng=random.Random(f"images {seed} {epoch}")),
        partial(_own_batches, batch_size=batch_size, batches=range(start * world_size + rank, whole, world_size)),
        partial(_viewed, view=view, index=index, folder=folder),
    )
    # A generator of its own: the loader would otherwise draw from the global one.
    loader = torch.utils.data.DataLoader(
        pipeline, batch_size=None, num_workers=workers, generator=torch.Generator().manual_seed(seed)
    )
    return _raised(loader)


def _numbered(
    shards: Iterable[int], index: Index, folder: Path, offsets: np.ndarray, keep: np.ndarray | None
) -> Iterator[tuple[int, bytes]]:
    """Image number and encoded image of the images to use, shard by shard from the first byte to the last.

    `offsets` (N, 3) tell where they lie: reading the headers of a tar takes a tenth of the time of decoding.
    """
    for shard in shards:
        first, end = np.searchsorted(offsets[:, 0], (shard, shard + 1))
        with (folder / index.shards[shard].name).open("rb", buffering=READ_AHEAD) as file:
            for number in range(first, end):
                if keep is None or keep[number]:
                    file.seek(offsets[number, 1])
                    yield number, file.read(offsets[number, 2])


def _own_batches(
    samples: Iterator[tuple[int, bytes]], batch_size: int, batches: range
) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """This worker's fraction of `batches` (numbers in the global order), each with the position of its first sample."""
    from torch.utils.data import get_worker_info

    worker = get_worker_info()
    own = batches if worker is None else batches[worker.id :: worker.num_workers]
    if not own:
        return
    for number in range(own[-1] + 1):
        batch = list(islice(samples, batch_size))
        if number in own:
            yield number * batch_size, batch


def _viewed(
    batches: Iterable[tuple[int, list[tuple[int, bytes]]]], view: View, index: Index, folder: Path
) -> Iterator[Any]:
    """Tensors of each batch; an InputError is handed on as a value, since a worker's exception loses its sentence."""
    import torch

    try:
        for first, batch in batches:
            images = [_decode(data, index, f"image {number} in {folder}", made_by(folder)) for number, data in batch]
            views = [view(image, first + place) for place, image in enumerate(images)]
            yield torch.tensor([number for number, _ in batch]), torch.stack(views)  # (B,), (B, C, H, W)
    except InputError as error:
        yield error


def _raised(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def _decode(data: bytes, index: Index, what: str, command: str) -> Picture:
    """Decode an image and check that it is as the index says.

    A JPEG becomes an array (C, H, W): the same numbers as Pillow's, in less time.
    """
    try:
        image = _decode_jpeg(data, index.channels) if index.encoding == "jpeg" else Image.open(io.BytesIO(data))
        if isinstance(image, Image.Image):
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{what} cannot be decoded ({reason}); make the shards again with `{command}`.") from error
    side = index.image_size
    if isinstance(image, Image.Image):
        found, expected = (image.mode, image.size), ("RGB" if index.channels == 3 else "L", (side, side))
    else:
        found, expected = tuple(image.shape), (index.channels, side, side)
    if found != expected:
        raise InputError(f"{what} is {found}, expected {expected}; make the shards again with `{command}`.")
    return image


def _decode_jpeg(data: bytes, channels: int) -> np.ndarray:
    from simplejpeg import decode_jpeg

    return decode_jpeg(data, colorspace="RGB" if channels == 3 else "GRAY").transpose(2, 0, 1)
