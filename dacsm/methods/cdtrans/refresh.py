"""New pseudo labels and pairs from what the model now sees in both domains, the target at one scale or several."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.optimal_transport import transport
from dacsm.adaptation.pairing import agreeing_pairs, centre_labels, fuse_scales, nearest_over_scales
from dacsm.config.kinds.cdtrans import Matching
from dacsm.data.domains import Domains
from dacsm.data.shards import ShardedImages
from dacsm.evaluation.predictions import Predictions, predict
from dacsm.methods.cdtrans.matches import Matches
from dacsm.methods.cdtrans.pair_loader import few_pairs
from dacsm.methods.cdtrans.run import Run
from dacsm.runtime.errors import InputError
from dacsm.runtime.progress import TrainingProgress


def refresh(run: Run, domains: Domains, epoch: int, matches: Matches, progress: TrainingProgress) -> None:
    """Renew `matches`, which has the former pairs and, where they are known, the target's predictions.

    Raises:
        InputError: where no pair is found, and none was before.
    """

    def see(images: ShardedImages, **options) -> Predictions:
        return predict(run.evaluated, images, run.compute, run.recipe.precision, keep=run.recipe.features, **options)

    matching = run.method.matching
    others = matching.scales if epoch > matching.after_epochs else ()
    scales = [matches.predictions or see(domains.target), *(see(domains.target, scale=scale) for scale in others)]
    source = see(domains.source, numbers=domains.training.numpy())
    features, logits = fuse_scales([seen.features for seen in scales], [seen.logits for seen in scales])
    pseudo_labels, soft_targets = _labels(features, logits, domains, matching, run.compute.device)
    neighbours = nearest_over_scales(source.features, [seen.features for seen in scales], run.compute.device)
    target_of_source, source_of_target = (index.cpu() for index in neighbours)
    labels = domains.source_labels[domains.training]
    found = agreeing_pairs(target_of_source, source_of_target, labels, pseudo_labels)
    if not len(found) and matches.pairs is None:
        raise InputError(
            "no source image and its nearest target image agree in label, so that there is no pair to adapt on; "
            "pretrain longer, or look whether source and target have the same classes."
        )
    if len(found):
        matches.pairs = found.with_source(domains.training.numpy())
    if remark := few_pairs(len(found), len(matches.pairs), run.recipe):
        progress.note(epoch, remark)
    matches.pseudo_labels, matches.predictions = pseudo_labels, None
    matches.soft_targets = soft_targets if run.method.consistency.weight else None


def _labels(
    features: Tensor, logits: Tensor, domains: Domains, matching: Matching, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pseudo labels (T,) and log probabilities (T, K); classes are expected as often as in the source."""
    if matching.marginal_relaxation == 1:
        return centre_labels(features, logits), F.log_softmax(logits, dim=1)
    counts = torch.bincount(domains.source_labels[domains.training], minlength=logits.shape[1])
    plan = transport(features, logits, counts / counts.sum(), matching.marginal_relaxation, matching.temperature, device)
    return plan.argmax(dim=1), plan
