"""The Cross-Scale Matching module: features meet at the scales that match, and predictions survive a change of scale.

Our reconstruction from the paper's abstract (arXiv 2603.17474), see docs/method.md.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.models.classifier import Classifier
from dacsm.params import Pyramid
from dacsm.views import resized


def pyramid_loss(source_tokens: Tensor, target_tokens: Tensor, settings: Pyramid) -> Tensor:
    """Distance of a pair over the pairs of scales that match best: tokens (B, 1 + n, D) each, to a scalar.

    Both patch grids are pooled to several resolutions. The distance of source resolution a and target resolution b is
    the mean, over source cells, of the distance to the closest target cell. A softmax over all (a, b) chooses softly;
    its entropy is rewarded, so that the choice does not lock on one pair early.
    """
    source, target = (_pyramid(tokens) for tokens in (source_tokens, target_tokens))
    distance = torch.stack([_cell_distance(a, b) for a in source for b in target], dim=1)  # (B, scale pairs)
    choice = torch.softmax(-distance / settings.temperature, dim=1)
    entropy = -(choice * torch.log(choice + 1e-8)).sum(dim=1)
    return ((choice * distance).sum(dim=1) - settings.entropy * entropy).mean()


def _pyramid(tokens: Tensor) -> list[Tensor]:
    """Unit-length cells (B, cells, D) of the patch grid at full, half, … resolution, down to one cell."""
    patches = tokens[:, 1:].float()
    side = int(patches.shape[1] ** 0.5)
    grid = patches.transpose(1, 2).unflatten(2, (side, side))  # (B, D, h, w)
    levels = []
    while True:
        levels.append(F.normalize(F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2), dim=-1))
        if side == 1:
            return levels
        side //= 2


def _cell_distance(source: Tensor, target: Tensor) -> Tensor:
    """1 − cosine from each source cell to its closest target cell, averaged: (B, a, D), (B, b, D) to (B,)."""
    similarity = source @ target.transpose(1, 2)  # (B, a, b)
    return 1 - similarity.amax(dim=2).mean(dim=1)


def scaled_size(classifier: Classifier, scale: float) -> int:
    """The model's image size times `scale`, in pixels, rounded to whole patches."""
    patch = classifier.backbone.patch_embed.patch_size[0]
    return max(1, round(scale * classifier.description.model.image_size / patch)) * patch


def resolution_loss(classifier: Classifier, images: Tensor, target_logits: Tensor, size: int) -> Tensor:
    """KL from the prediction at full size, without gradient, to the one at `size`: (B, C, H, W), (B, K) to a scalar.

    Each image counts by how sure the prediction at full size is. The neck takes the batch's statistics but does not
    learn from them, so that evaluation at full size is untouched.
    """
    token = classifier.class_token(resized(images, size))
    features = F.batch_norm(
        token.float(),
        None,
        None,
        classifier.neck.weight,
        classifier.neck.bias,
        training=True,
        eps=classifier.neck.eps,
    )
    other = F.log_softmax(classifier.classify(features), dim=1)
    full = F.softmax(target_logits.detach(), dim=1)
    divergence = F.kl_div(other, full, reduction="none").sum(dim=1)  # (B,)
    return (full.amax(dim=1) * divergence).mean()
