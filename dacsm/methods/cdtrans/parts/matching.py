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
    scales: list[Predictions], agreement: float, domains: Domains, settings: Matching, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pseudo labels (T,) and log probabilities (T, K) from the target's predictions at several scales.

    By transport, classes are expected as often as in the part of the source that is trained on; less strictly so the
    more often the source model's own labels agree with those of the nearest source images, `agreement` in 0..1.
    """
    features, logits = fuse_scales([seen.features for seen in scales], [seen.logits for seen in scales])
    relaxation = settings.marginal_relaxation
    if settings.hold_back is not None:
        relaxation += (1 - relaxation) * agreement**settings.hold_back
    if relaxation == 1:
        return centre_labels(features, logits), F.log_softmax(logits, dim=1)
    counts = torch.bincount(domains.source_labels[domains.training], minlength=logits.shape[1])
    plan = transport(features, logits, counts / counts.sum(), relaxation, settings.temperature, device)
    return plan.argmax(dim=1), plan


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
