"""Batches in which source and target images are drawn each for itself, for methods without pairs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.domains import Domains
from dacsm.data.seeding import numpy_generator
from dacsm.data.stream import load_steps, stack_views
from dacsm.data.transforms import normalise, train_views
from dacsm.runtime.device import Compute


@dataclass(frozen=True)
class Batch:
    """The images of a step, (B, C, H, W) each, normalised, and which of the target's they are, (B,).

    Source images, and their labels (B,), are absent where a method reads no source data.
    """

    target: Tensor
    indices: Tensor
    source: Tensor | None = None
    labels: Tensor | None = None


class UnpairedSteps(Dataset):
    """The steps of an epoch: the larger domain comes once, the smaller as often as it takes, in whole batches.

    `max_pairs` of the recipe bounds the images of each domain.
    """

    def __init__(self, domains: Domains, model: Model, recipe: AdaptRecipe, seed: int, epoch: int):
        self.domains, self.batch_size = domains, recipe.batch_size
        indices = {"target": np.arange(len(domains.target))}
        if domains.source is not None:
            indices["source"] = domains.training.numpy()
        largest = max(map(len, indices.values()))
        self.steps = max(1, min(largest, recipe.max_pairs or largest) // recipe.batch_size)
        positions = self.steps * recipe.batch_size
        self.orders, self.views = {}, {}
        for domain, of_domain in indices.items():
            order = numpy_generator("unpaired", domain, seed, epoch).permutation(of_domain)
            self.orders[domain] = np.resize(order, positions)
            self.views[domain] = train_views(model, recipe.augment, positions, seed, epoch, domain)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The views (B, C, H, W) uint8 and the rest of a `Batch`, by name."""
        first = step * self.batch_size
        chosen = {domain: order[first : first + self.batch_size] for domain, order in self.orders.items()}
        found = {
            domain: stack_views(self.views[domain], getattr(self.domains, domain), of_domain, first)
            for domain, of_domain in chosen.items()
        }
        if "source" in chosen:
            found["labels"] = self.domains.source_labels[chosen["source"]]
        return found | {"indices": torch.from_numpy(chosen["target"])}


def unpaired_batches(
    domains: Domains, model: Model, recipe: AdaptRecipe, seed: int, epoch: int, start: int, compute: Compute
) -> tuple[Iterator[Batch], int]:
    """The batches of an epoch, on the device, without the first `start`, and how many the whole epoch has."""

    def batch(step: dict[str, Tensor]) -> Batch:
        moved = {name: part.to(compute.device, non_blocking=True) for name, part in step.items()}
        return Batch(**{name: normalise(part, model) if part.ndim == 4 else part for name, part in moved.items()})

    steps = UnpairedSteps(domains, model, recipe, seed, epoch)
    return map(batch, load_steps(steps, start, compute)), len(steps)


def made_up_batch(size: int, model: Model, classes: int, device: torch.device) -> Batch:
    """A batch of random images of both domains, to measure the speed of a step."""
    images = torch.randn(2, size, model.channels, model.image_size, model.image_size, device=device)
    labels = torch.arange(size, device=device) % classes
    return Batch(images[0], torch.arange(size, device=device), images[1], labels)
