"""The Cross-Scale Matching module: features meet at the scales that match, and predictions survive a change of scale.

Our reconstruction from the paper's abstract (arXiv 2603.17474), see docs/method.md.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.config.kinds.cdtrans import Pyramid
from dacsm.models.classifier import Classifier


def pyramid_loss(source_patches: Tensor, target_patches: Tensor, settings: Pyramid) -> Tensor:
    """Distance of a pair over the pairs of scales that match best: patch tokens (B, n, D) each, to a scalar.

    Both patch grids are pooled to several resolutions. The distance of source resolution a and target resolution b is
    the mean, over source cells, of the distance to the closest target cell. A softmax over all (a, b) chooses softly;
    its entropy is rewarded, so that the choice does not lock on one pair early.
    """
    distance, choice = scale_choice(source_patches, target_patches, settings.temperature)
    entropy = -(choice * torch.log(choice + 1e-8)).sum(dim=1)
    return ((choice * distance).sum(dim=1) - settings.entropy * entropy).mean()


def scale_choice(source_patches: Tensor, target_patches: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Distance and soft choice of every pair of resolutions, the source's first: (B, n, D) each, to (B, S · S) each.

    Resolutions are those of `pyramid_sides`, in their order.
    """
    source, target = (_pyramid(patches) for patches in (source_patches, target_patches))
    distance = torch.stack([_cell_distance(a, b) for a in source for b in target], dim=1)  # (B, scale pairs)
    return distance, torch.softmax(-distance / temperature, dim=1)


def pyramid_sides(patches: int) -> list[int]:
    """The S resolutions of a square grid of that many patches, as cells a side: full, half, … down to one."""
    sides = [int(patches**0.5)]
    while sides[-1] > 1:
        sides.append(sides[-1] // 2)
    return sides


def _pyramid(patches: Tensor) -> list[Tensor]:
    """Unit-length cells (B, cells, D) of the patch grid at full, half, … resolution, down to one cell."""
    patches = patches.float()
    sides = pyramid_sides(patches.shape[1])
    grid = patches.transpose(1, 2).unflatten(2, (sides[0], sides[0]))  # (B, D, h, w)
    return [F.normalize(F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2), dim=-1) for side in sides]


def _cell_distance(source: Tensor, target: Tensor) -> Tensor:
    """1 − cosine from each source cell to its closest target cell, averaged: (B, a, D), (B, b, D) to (B,)."""
    similarity = source @ target.transpose(1, 2)  # (B, a, b)
    return 1 - similarity.amax(dim=2).mean(dim=1)


def scale_loss(classifier: Classifier, images: Tensor, log_probabilities: Tensor) -> Tensor:
    """KL from what is known of the images to the prediction on them at another scale: (B, C, H, W), (B, K) to a scalar.

    Each image counts by how sure the first is. The neck takes the batch's statistics but does not learn from them, so
    that evaluation is untouched.
    """
    neck = classifier.neck
    token = classifier.class_token(images).float()
    features = F.batch_norm(token, None, None, neck.weight, neck.bias, training=True, eps=neck.eps)
    predicted = F.log_softmax(classifier.classify(features), dim=1)
    # A class that the source lacks is at minus infinity, of which 0 times is not a number.
    log_probabilities = log_probabilities.clamp(min=torch.finfo(log_probabilities.dtype).min)
    divergence = F.kl_div(predicted, log_probabilities, reduction="none", log_target=True).sum(dim=1)  # (B,)
    return (log_probabilities.amax(dim=1).exp() * divergence).mean()
