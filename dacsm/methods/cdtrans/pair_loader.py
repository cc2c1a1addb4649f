"""The pairs of an epoch, in order, as batches of views."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.adaptation.pairing import Pairs
from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages
from dacsm.data.transforms import TrainViews, train_views


class PairViews(Dataset):
    """At each position: a source view, a target view, the source label and the pseudo label."""

    def __init__(
        self,
        images: tuple[ShardedImages, ShardedImages],
        views: tuple[TrainViews, TrainViews],
        pairs: Pairs,
        order: np.ndarray,
    ):
        self.source_images, self.target_images = images
        self.source_views, self.target_views = views
        self.pairs, self.order = pairs, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, int, int]:
        pair = self.order[position]
        source = self.source_views(self.source_images[int(self.pairs.source[pair])], position)
        target = self.target_views(self.target_images[int(self.pairs.target[pair])], position)
        return source, target, int(self.pairs.source_labels[pair]), int(self.pairs.pseudo_labels[pair])


def epoch_order(pairs: int, recipe: AdaptRecipe, *names: int | str) -> np.ndarray:
    """Which pairs an epoch takes, and in what order: whole batches, drawn without repeats.

    Fewer pairs than a batch are repeated to fill one, so that a run with few agreeing labels goes on.
    """
    order = numpy_generator("pairs", *names).permutation(pairs)[: recipe.max_pairs]
    if len(order) < recipe.batch_size:
        return np.resize(order, recipe.batch_size)
    return order[: len(order) // recipe.batch_size * recipe.batch_size]


def few_pairs(found: int, in_use: int, recipe: AdaptRecipe) -> str:
    """What to say where a refresh found no pair, or an epoch has fewer than a batch; else nothing."""
    taken, batch_size = min(in_use, recipe.max_pairs or in_use), recipe.batch_size
    repeated = f"{taken} pairs are fewer than a batch of {batch_size}, and are repeated to fill one"
    remarks = ["" if found else "no image and its nearest agree in label, so that the former pairs are kept"]
    remarks.append(repeated if taken < batch_size else "")
    return "; ".join(filter(None, remarks))


def pair_batches(
    images: tuple[ShardedImages, ShardedImages],
    pairs: Pairs,
    model: Model,
    recipe: AdaptRecipe,
    seed: int,
    epoch: int,
    workers: int,
    start: int = 0,
) -> tuple[DataLoader, int]:
    """Batches of (source (B, C, H, W) uint8, target likewise, source labels (B,), pseudo labels (B,)).

    The first `start` batches are left out, as done before. Beside the batches comes how many the whole epoch has.
    """
    order = epoch_order(len(pairs), recipe, seed, epoch)
    views = tuple(
        train_views(model, recipe.augment, len(order), seed, epoch, stream) for stream in ("source", "target")
    )
    dataset = PairViews(images, views, pairs, order)
    loader = DataLoader(
        dataset,
        recipe.batch_size,
        sampler=range(start * recipe.batch_size, len(order)),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that loading takes nothing from the generator of the drop paths
    )
    return loader, len(order) // recipe.batch_size
