"""The two domains that an adaptation sees, and which images of a source are kept apart."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages, read_labels, require_size
from dacsm.runtime.errors import InputError


def held_out(images: int, fraction: float) -> np.ndarray:
    """Which of a source's images are kept out of training, (images,) bool; the same for every seed and stage."""
    mask = np.zeros(images, dtype=bool)
    mask[numpy_generator("held out").permutation(images)[: round(fraction * images)]] = True
    return mask


@dataclass(frozen=True)
class Domains:
    """Both domains' images, the source's labels, and which source images are for training.

    A method that reads no source data has no source images: None, and empty tensors.
    """

    source: ShardedImages | None
    target: ShardedImages
    source_labels: Tensor  # (S,)
    training: Tensor  # indices of the source images that are trained on
    held_out: Tensor  # indices of those kept out


def open_domains(source: Path | None, target: Path, fraction: float, size: int) -> Domains:
    """Open the shards in two folders, whose images are of `size` pixels; `fraction` of the source is not trained on.

    Without a source folder the target alone is opened. Raises InputError where the shards or the source's labels cannot
    be used, or no source image is left to train on.
    """
    target_images = ShardedImages(target)
    require_size(target_images, size)
    if source is None:
        return Domains(None, target_images, *(torch.empty(0, dtype=torch.int64) for _ in range(3)))
    source_images = ShardedImages(source)
    require_size(source_images, size)
    kept_out = torch.from_numpy(held_out(len(source_images), fraction))
    if kept_out.all():
        dataset = source_images.index.dataset
        raise InputError(
            f"pretrain.{dataset}.held_out is {fraction}, which leaves none of the {len(kept_out):,} images in {source} "
            "to train on; lower it in params.yaml."
        )
    labels = torch.from_numpy(read_labels(source))
    return Domains(source_images, target_images, labels, (~kept_out).nonzero()[:, 0], kept_out.nonzero()[:, 0])
