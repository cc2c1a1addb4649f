"""The pairs of an epoch, in order, as batches of views."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.adaptation.pairing import Pairs
from dacsm.config.params import AdaptRecipe
from dacsm.data.domains import Domains
from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages
from dacsm.data.transforms import TrainViews
from dacsm.runtime.device import Compute

# Of a step: views (B, C, H, W) uint8 of target images at other scales and the images' indices (B,), or None.
ScaleViews = Callable[[int], tuple[Tensor, Tensor] | None]


@dataclass(frozen=True)
class Batch:
    """The pairs of a step: images (B, C, H, W), normalised, of both domains, and their labels (B,).

    Some steps also have views (B, C, H, W) of target images at other scales, with the log probabilities (B, K) that
    the predictions on them are held to.
    """

    source: Tensor
    target: Tensor
    labels: Tensor
    pseudo_labels: Tensor
    at_scale: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Steps(Dataset):
    """At each step: source and target views (B, C, H, W) uint8, labels and pseudo labels (B,), and its scale views.

    Scale views come with what is known of their images, so that all of a step can be pinned together.
    """

    domains: Domains
    source_views: TrainViews
    target_views: TrainViews
    pairs: Pairs
    order: np.ndarray  # of the epoch's pairs: those of a step follow each other
    batch_size: int
    scale_views: ScaleViews | None
    soft_targets: Tensor | None  # log probabilities (T, K) of the target images

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        first = step * self.batch_size
        chosen = self.order[first : first + self.batch_size]
        source = stack_views(self.source_views, self.domains.source, self.pairs.source[chosen], first)
        target = stack_views(self.target_views, self.domains.target, self.pairs.target[chosen], first)
        labels = (torch.from_numpy(of[chosen]) for of in (self.pairs.source_labels, self.pairs.pseudo_labels))
        at_scale = None if self.scale_views is None else self.scale_views(step)
        if at_scale is not None:
            views, indices = at_scale
            at_scale = views, self.soft_targets[indices]
        return source, target, *labels, at_scale


def stack_views(views: TrainViews, images: ShardedImages, indices: np.ndarray, first: int) -> Tensor:
    """Views (B, C, H, W) uint8 of the images with these indices (B,), which are at the positions from `first` on."""
    return torch.stack([views(images[int(index)], position) for position, index in enumerate(indices, first)])


def load_steps(steps: Steps, start: int, compute: Compute) -> DataLoader:
    """The steps from `start` on, made by the run's workers, or by this process where it has none."""
    return DataLoader(
        steps,
        batch_size=None,  # an item is a whole step, so that one set of workers makes all of it
        sampler=range(start, len(steps)),
        num_workers=compute.workers,
        pin_memory=compute.device.type == "cuda",
        generator=torch.Generator(),  # so that loading takes nothing from the generator of the drop paths
    )


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
    remarks = []
    if not found:
        remarks.append("no image and its nearest agree in label, so that the former pairs are kept")
    if taken < batch_size:
        remarks.append(f"{taken} pairs are fewer than a batch of {batch_size}, and are repeated to fill one")
    return "; ".join(remarks)
