"""The target's images as they would look at other scales, paired or not, for the consistency of their predictions."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.params import AdaptRecipe, Consistency, Model
from dacsm.reading import ShardedImages
from dacsm.seeding import numpy_generator
from dacsm.views import TrainViews, train_views


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
    steps: int,
    workers: int,
    start: int = 0,
) -> DataLoader:
    """A batch of (views (B, C, H, W) uint8, numbers (B,)) for each step from `start` on; images are drawn without repeats."""
    batch_size = max(2, round(settings.images * recipe.batch_size))
    order = numpy_generator("scales", seed, epoch).permutation(len(images))
    order = np.resize(order, steps * batch_size)
    views = train_views(model, recipe.augment, len(order), seed, epoch, "scales", scales=settings.scales)
    return DataLoader(
        ScaleViews(images, views, order),
        batch_size,
        sampler=range(start * batch_size, len(order)),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that loading takes nothing from the generator of the drop paths
    )
