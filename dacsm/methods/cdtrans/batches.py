"""The pairs of an epoch, in order, as batches of views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dacsm.adaptation.pairing import Pairs
from dacsm.config.params import AdaptRecipe
from dacsm.data.domains import Domains
from dacsm.data.seeding import numpy_generator
from dacsm.data.stream import stack_views
from dacsm.data.transforms import TrainViews

# Of a step: views (B, C, H, W) uint8 of target images, the images' indices (B,), and what else a part wants; or None.
StepViews = Callable[[int], tuple[Tensor, ...] | None]


@dataclass(frozen=True)
class Batch:
    """The pairs of a step: images (B, C, H, W), normalised, of both domains, and their labels (B,).

    Some steps also have views (B, C, H, W) of target images at other scales, with the log probabilities (B, K) that
    the predictions on them are held to; and some have views to be masked, with the same and the blocks (B, 1, b, b)
    that are kept.
    """

    source: Tensor
    target: Tensor
    labels: Tensor
    pseudo_labels: Tensor
    at_scale: tuple[Tensor, Tensor] | None = None
    to_mask: tuple[Tensor, Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Steps(Dataset):
    """At each step: source and target views (B, C, H, W) uint8, labels and pseudo labels (B,), and the parts' views.

    A part's views come with what is known of their images, so that all of a step can be pinned together.
    """

    domains: Domains
    source_views: TrainViews
    target_views: TrainViews
    pairs: Pairs
    order: np.ndarray  # of the epoch's pairs: those of a step follow each other
    batch_size: int
    beside: Mapping[str, StepViews]  # by the part's name
    soft_targets: Tensor | None  # log probabilities (T, K) of the target images

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, tuple[Tensor, ...] | None]]:
        first = step * self.batch_size
        chosen = self.order[first : first + self.batch_size]
        source = stack_views(self.source_views, self.domains.source, self.pairs.source[chosen], first)  # type: ignore[arg-type]  # not None here
        target = stack_views(self.target_views, self.domains.target, self.pairs.target[chosen], first)
        labels = (torch.from_numpy(of[chosen]) for of in (self.pairs.source_labels, self.pairs.pseudo_labels))
        return source, target, *labels, {part: self._known(views(step)) for part, views in self.beside.items()}

    def _known(self, found: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
        """A part's views, what is known of their images instead of the indices (B,), and what else the part has."""
        if found is None:
            return None
        views, indices, *others = found
        return views, self.soft_targets[indices], *others  # type: ignore[index]  # a part with views has them


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
