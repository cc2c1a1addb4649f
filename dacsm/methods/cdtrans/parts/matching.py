"""Cross-Scale Matching, in pseudo labels and pairs: the target seen at several scales, labels by optimal transport.

Our reconstruction from the abstract of DACSM (arXiv 2603.17474), see docs/method.md.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.optimal_transport import transport
from dacsm.adaptation.pairing import BLOCK, EPSILON, centre_labels, unit, widened
from dacsm.config.kinds.cdtrans import Matching
from dacsm.data.domains import Domains
from dacsm.evaluation.predictions import Predictions


def see_scales(
    target: Predictions, predict_target: Callable[..., Predictions], settings: Matching, epoch: int
) -> list[Predictions]:
    """The target's predictions at each scale in use: at scale 1, and as `predict_target(scale=…)` gives them."""
    others = settings.scales if epoch > settings.after_epochs else ()
    return [target, *(predict_target(scale=scale) for scale in others)]


def label_scales(
    scales: list[Predictions], neighbour_labels: Tensor, domains: Domains, settings: Matching, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pseudo labels (T,) and log probabilities (T, K) from the target's predictions at several scales.

    By transport, classes are expected as often as in the part of the source that is trained on. With `hold_back`, the
    plain labels of the nearest centre stay where the labels (T,) of the nearest source images agree with them more
    often than with those by transport.
    """
    features, logits = fuse_scales([seen.features for seen in scales], [seen.logits for seen in scales])
    plain = F.log_softmax(logits, dim=1)
    if settings.marginal_relaxation == 1:
        return centre_labels(features, logits), plain
    counts = torch.bincount(domains.source_labels[domains.training], minlength=logits.shape[1])
    marginal = counts / counts.sum(), settings.marginal_relaxation
    plan = transport(features, logits, *marginal, settings.temperature, device)
    labels = plan.argmax(dim=1)
    if settings.hold_back:
        centre = centre_labels(features, logits)
        if (centre == neighbour_labels).sum() >= (labels == neighbour_labels).sum():
            return centre, plain
    return labels, plan


def fuse_scales(features: list[Tensor], logits: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One view of each image from several sizes: features (N, D) and logits (N, K) for each size, to one of each.

    An image's sizes count by how sure the prediction is there. Features are fused at unit length, and probabilities
    rather than logits; what comes back are log probabilities. One size comes back as it is.
    """
    if len(features) == 1:
        return features[0], logits[0]
    probabilities = torch.stack([F.softmax(part, dim=1) for part in logits])  # (sizes, N, K)
    weights = probabilities.amax(dim=2, keepdim=True)
    weights = weights / weights.sum(dim=0)
    fused = torch.empty_like(features[0])
    for start in range(0, len(fused), BLOCK):
        block = slice(start, start + BLOCK)
        units = torch.stack([unit(widened(part[block])) for part in features])  # (sizes, block, D)
        fused[block] = (weights[:, block] * units).sum(dim=0)
    return fused, torch.log((weights * probabilities).sum(dim=0) + EPSILON)
