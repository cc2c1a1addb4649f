"""Views of target images beside a step's own, for every so many steps."""

import numpy as np
import torch
from torch import Tensor

from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages
from dacsm.data.stream import stack_views
from dacsm.data.transforms import train_views


class TargetViews:
    """Views of target images for every so many of an epoch's steps; the images need no pair.

    Images come in a random order, all of them before one comes again. `stream` names what is drawn; with `scales`,
    objects come at scales from the least to the largest.
    """

    def __init__(
        self,
        images: ShardedImages,
        model: Model,
        recipe: AdaptRecipe,
        every: int,
        seed: int,
        epoch: int,
        steps: int,
        stream: str,
        scales: tuple[float, float] | None = None,
    ):
        self.images, self.every, self.batch_size = images, every, recipe.batch_size
        self.positions = sum(self.comes_at(step) for step in range(steps)) * self.batch_size
        self.order = np.resize(numpy_generator(stream, seed, epoch).permutation(len(images)), self.positions)
        self.views = train_views(model, recipe.augment, self.positions, seed, epoch, stream, scales=scales)

    def comes_at(self, step: int) -> bool:
        """Whether a step, counted from 0 in its epoch, has such views."""
        return step % self.every == 0

    def positions_of(self, step: int) -> slice:
        """The places in the epoch's order of those images that such a step has."""
        first = step // self.every * self.batch_size
        return slice(first, first + self.batch_size)

    def __call__(self, step: int) -> tuple[Tensor, Tensor] | None:
        """Views (B, C, H, W) uint8 and the indices of their images (B,), or None for a step without."""
        if not self.comes_at(step):
            return None
        positions = self.positions_of(step)
        indices = self.order[positions]
        return stack_views(self.views, self.images, indices, positions.start), torch.from_numpy(indices)
