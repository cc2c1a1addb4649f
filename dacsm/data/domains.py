"""The two domains that an adaptation sees."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dacsm.data.shards import ShardedImages, read_labels, require_size
from dacsm.data.splits import held_out
from dacsm.runtime.errors import InputError


@dataclass(frozen=True)
class Domains:
    """Both domains' images, the source's labels, and which source images are for training."""

    source: ShardedImages
    target: ShardedImages
    source_labels: Tensor  # (S,)
    training: Tensor  # indices of the source images that are trained on
    held_out: Tensor  # indices of those kept out


def open_domains(source: Path, target: Path, fraction: float, size: int) -> Domains:
    """Open the shards in two folders, whose images are of `size` pixels; `fraction` of the source is not trained on.

    Raises:
        InputError: where the shards or the source's labels cannot be used, or no source image is left to train on.
    """
    source_images, target_images = ShardedImages(source), ShardedImages(target)
    for images in (source_images, target_images):
        require_size(images, size)
    kept_out = torch.from_numpy(held_out(len(source_images), fraction))
    if kept_out.all():
        dataset = source_images.index.dataset
        raise InputError(
            f"pretrain.{dataset}.held_out is {fraction}, which leaves none of the {len(kept_out):,} images in {source} "
            "to train on; lower it in params.yaml."
        )
    labels = torch.from_numpy(read_labels(source))
    return Domains(source_images, target_images, labels, (~kept_out).nonzero()[:, 0], kept_out.nonzero()[:, 0])
