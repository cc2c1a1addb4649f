"""What training reads at a step: views of images that were chosen beforehand, made by a loader's workers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.data.shards import ShardedImages
from dacsm.data.transforms import TrainViews
from dacsm.runtime.device import Compute


def stack_views(views: TrainViews, images: ShardedImages, indices: np.ndarray, first: int) -> Tensor:
    """Views (B, C, H, W) uint8 of the images with these indices (B,), which are at the positions from `first` on."""
    return torch.stack([views(images[int(index)], position) for position, index in enumerate(indices, first)])


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
