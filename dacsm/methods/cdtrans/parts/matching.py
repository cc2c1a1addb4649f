"""Cross-Scale Matching, in pseudo labels and pairs: the target seen at several scales, labels by optimal transport.

Our reconstruction from the abstract of DACSM (arXiv 2603.17474), see docs/method.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.optimal_transport import transport
from dacsm.adaptation.pairing import BLOCK, EPSILON, centre_labels, unit, widened
from dacsm.adaptation.reverse_validation import reverse_accuracy
from dacsm.config.kinds.cdtrans import Matching
from dacsm.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Labelled:
    """The target at each scale in use, its pseudo labels (T,), log probabilities (T, K) from all scales,

    and where they are by transport, `reverse`: how much of the source they bring back, and CDTrans' labels would.
    """

    scales: list[Predictions]
    pseudo_labels: Tensor
    soft_targets: Tensor
    reverse: dict[str, float]


def match_scales(
    target: Predictions,
    predict_target: Callable[..., Predictions],
    source: Predictions,
    source_labels: Tensor,
    settings: Matching,
    epoch: int,
    device: torch.device,
) -> Labelled:
    """Label the target by what it looks like at several scales, by transport or as CDTrans does.

    `target` are its predictions at scale 1; `predict_target(scale=…)` gives them at another; `source` are those of the
    images that are trained on. By transport, classes are expected about as often as in the source.
    """
    others = settings.scales if epoch > settings.after_epochs else ()
    scales = [target, *(predict_target(scale=scale) for scale in others)]
    features, logits = fuse_scales([seen.features for seen in scales], [seen.logits for seen in scales])
    centred = centre_labels(features, logits)
    if settings.marginal_relaxation == 1:
        return Labelled(scales, centred, F.log_softmax(logits, dim=1), {})
    classes = logits.shape[1]
    fractions = source_labels.bincount(minlength=classes) / len(source_labels)
    plan = transport(features, logits, fractions, settings.marginal_relaxation, settings.temperature, device)
    transported = plan.argmax(dim=1)
    reverse = {
        name: reverse_accuracy(features, labels, source.features, source_labels, classes)
        for name, labels in (("reverse_by_centre", centred), ("reverse_by_transport", transported))
    }
    return Labelled(scales, transported, plan, reverse)


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
