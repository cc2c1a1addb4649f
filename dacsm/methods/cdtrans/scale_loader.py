"""The target's images as they look at other scales, whether they have a pair or not."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.config.kinds.cdtrans import Consistency
from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages
from dacsm.data.transforms import TrainViews, train_views


class ScaleViews(Dataset):
    """At each position: a view of a target image at some scale, and the image's number."""

    def __init__(self, images: ShardedImages, views: TrainViews, order: np.ndarray):
        self.images, self.views, self.order = images, views, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        number = int(self.order[position])
        return self.views(self.images[number], position), number


def scale_batches(
    images: ShardedImages,
    model: Model,
    recipe: AdaptRecipe,
    settings: Consistency,
    seed: int,
    epoch: int,
    steps: range,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor] | None]:
    """For each step of the epoch that is to be done: views (B, C, H, W) uint8 and numbers (B,), or None.

    There is a batch every so many steps (`settings.every`), and none at all where the weight is 0. Images come in an
    order of chance, all of them before one comes again.
    """
    with_views = [step for step in range(steps.stop) if settings.comes_at(step)]
    positions = len(with_views) * recipe.batch_size
    order = np.resize(numpy_generator("scales", seed, epoch).permutation(len(images)), positions)
    views = train_views(model, recipe.augment, positions, seed, epoch, "scales", scales=settings.scales)
    done = sum(step < steps.start for step in with_views)
    loader = DataLoader(
        ScaleViews(images, views, order),
        recipe.batch_size,
        sampler=range(done * recipe.batch_size, positions),
        num_workers=workers if positions else 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that loading takes nothing from the generator of the drop paths
    )
    batches = iter(loader)
    for step in steps:
        yield next(batches) if step in with_views else None
