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


def match_scales(
    target: Predictions,
    predict_target: Callable[..., Predictions],
    domains: Domains,
    settings: Matching,
    epoch: int,
    device: torch.device,
) -> tuple[list[Predictions], Tensor, Tensor]:
    """The target's predictions at each scale in use, pseudo labels (T,) and log probabilities (T, K) from all of them.

    `target` are its predictions at scale 1; `predict_target(scale=…)` gives them at another. By transport, classes are
    expected as often as in the part of the source that is trained on. That is a guess: an image of which the classifier
    is `sure` keeps the label of its nearest centre, and what the classifier says of it.
    """
    others = settings.scales if epoch > settings.after_epochs else ()
    scales = [target, *(predict_target(scale=scale) for scale in others)]
    features, logits = fuse_scales([seen.features for seen in scales], [seen.logits for seen in scales])
    labels, predicted = centre_labels(features, logits), F.log_softmax(logits, dim=1)
    if settings.marginal_relaxation == 1:
        return scales, labels, predicted
    counts = torch.bincount(domains.source_labels[domains.training], minlength=logits.shape[1])
    marginal = counts / counts.sum(), settings.marginal_relaxation
    plan = transport(features, logits, *marginal, settings.temperature, device)
    sure = predicted.amax(dim=1).exp() > settings.sure  # (T,)
    return scales, torch.where(sure, labels, plan.argmax(dim=1)), torch.where(sure[:, None], predicted, plan)


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
