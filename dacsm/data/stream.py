"""What training reads at a step: views of images that were chosen beforehand, or of an epoch in a shuffled order."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.data.shards import Picture, ShardedImages
from dacsm.runtime.device import Compute
from dacsm.runtime.processes import own

SHUFFLE_BUFFER = 2000  # images among which the next one is drawn, so that reads stay within a few shards

View = Callable[[Picture, int], Tensor]
Batch = tuple[Tensor, Tensor]  # image indices (B,) int64 and their views (B, C, H, W)


def stream(
    images: ShardedImages,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    view: View,
    keep: np.ndarray | None = None,
    workers: int = 0,
    start: int = 0,
    pinned: bool = False,
) -> Iterator[Batch]:
    """One epoch of a domain's images in an order shuffled for (seed, epoch).

    Each batch is read and decoded by one worker, and batches come in their order: no bit depends on `workers`. Raises
    InputError where an image cannot be decoded.

    Args:
        view: makes a tensor (C, H, W) of an image and its position in the order; what it draws must come from
            (seed, epoch, position) alone. Workers that are not forked need it to be picklable.
        keep: (N,) bool, the images to use; all where it is None.
        start: batches to skip, when a run is resumed.
        pinned: whether batches lie where a GPU can fetch them while the program goes on.

    Yields:
        Image indices (B,) int64 and their views (B, C, H, W); of several processes each makes its part of the views.
    """
    batches = _Batches(images, shuffled(images, seed, epoch, keep), batch_size, view)
    options = {"num_workers": workers, "pin_memory": pinned, "generator": torch.Generator()}  # as in load_steps
    return iter(DataLoader(batches, batch_size=None, sampler=range(start, len(batches)), **options))


def shuffled(images: ShardedImages, seed: int, epoch: int, keep: np.ndarray | None = None) -> np.ndarray:
    """The image indices (N,) int64 in an order for (seed, epoch): shards are shuffled, then images within a buffer.

    Images were permuted before they were sharded, so that this is a sound shuffle.
    """
    import webdataset as wds

    if keep is not None and keep.shape != (len(images),):
        raise ValueError(f"keep has shape {keep.shape}, expected ({len(images)},)")
    shards = list(range(len(images.index.shards)))
    random.Random(f"shards {seed} {epoch}").shuffle(shards)
    bounds = np.searchsorted(images.offsets[:, 0], np.arange(len(shards) + 1))
    by_shard = np.concatenate([np.arange(bounds[shard], bounds[shard + 1]) for shard in shards])
    used = by_shard if keep is None else by_shard[keep[by_shard]]
    shuffle = wds.shuffle(SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER, rng=random.Random(f"images {seed} {epoch}"))
    return np.fromiter(shuffle(iter(used.tolist())), dtype=np.int64, count=len(used))


class _Batches(Dataset):
    """The batches of an epoch by their index."""

    def __init__(self, images: ShardedImages, order: np.ndarray, batch_size: int, view: View) -> None:
        self.images, self.order, self.batch_size, self.view = images, order, batch_size, view

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, batch: int) -> Batch:
        first = batch * self.batch_size
        indices = self.order[first : first + self.batch_size]
        return torch.from_numpy(indices), stack_views(self.view, self.images, indices, first)


def stack_views(views: View, images: ShardedImages, indices: np.ndarray, first: int) -> Tensor:
    """Views (B, C, H, W) uint8 of the images with these indices (B,), which are at the positions from `first` on.

    Of several processes, each makes its part of them.
    """
    mine = own(len(indices))
    chosen = enumerate(indices[mine], first + mine.start)
    return torch.stack([views(images[int(index)], position) for position, index in chosen])


def load_steps(steps: Dataset[Any], start: int, compute: Compute) -> DataLoader:
    """The steps from `start` on, made by the run's workers, or by this process where it has none."""
    return DataLoader(
        steps,
        batch_size=None,  # an item is a whole step, so that one set of workers makes all of it
        sampler=range(start, len(steps)),
        num_workers=compute.workers,
        pin_memory=compute.device.type == "cuda",
        generator=torch.Generator(),  # so that loading takes nothing from the generator of the drop paths
    )
