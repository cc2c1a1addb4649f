"""The losses of one step of adaptation: those of CDTrans, and what a method adds to them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.methods.cdtrans.parts.cross_scale import pyramid_loss, scale_loss
from dacsm.methods.cdtrans.run import Run
from dacsm.models.precision import autocast
from dacsm.models.three_stream import three_stream


@dataclass(frozen=True)
class Batch:
    """Pairs: images (B, C, H, W), normalised, of both domains, and their labels (B,).

    In some steps also views (B, C, H, W) of target images at other scales, with the log probabilities (B, K) that they
    are held to.
    """

    source: Tensor
    target: Tensor
    labels: Tensor
    pseudo_labels: Tensor
    at_scale: tuple[Tensor, Tensor] | None = None


def step_losses(run: Run, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Every loss of a step by name, and their weighted sum; a part whose weight is 0 is not computed."""
    method, classifier = run.method, run.classifier
    with autocast(run.compute.device, run.recipe.precision):
        streams = three_stream(classifier, batch.source, batch.target, run.noise, patches=False)
    losses = cdtrans_losses(streams, batch.labels, batch.pseudo_labels, method.teacher_detached)
    total = losses["source"] + losses["target"] + losses["distillation"]
    added: dict[str, tuple[float, Tensor]] = {}
    if method.mix_cross_entropy:
        added["mix"] = method.mix_cross_entropy, F.cross_entropy(streams.mix_logits, batch.labels)
    if run.noise is not None and (divergence := run.noise.divergence()) is not None:
        added["noise_divergence"] = method.noise.divergence, divergence
    if method.pyramid.weight:
        loss = pyramid_loss(streams.source_patches, streams.target_patches, method.pyramid)
        added["pyramid"] = method.pyramid.weight, loss
    if batch.at_scale is not None:
        with autocast(run.compute.device, run.recipe.precision):
            loss = scale_loss(classifier, *batch.at_scale)
        added["consistency"] = method.consistency.weight, loss
    for name, (weight, loss) in added.items():
        losses[name] = loss
        total = total + weight * loss
    return losses, total


@torch.no_grad()
def noise_gain(run: Run, batch: Batch) -> float:
    """Task entropy of the mix stream without noise less that with it, in nats, on a batch.

    Positive means that the noise helps the task: I(T; E) = H(T) - H(T|E), as in arXiv 2212.09541.
    """
    run.classifier.eval()
    plain, noisy = (
        three_stream(run.classifier, batch.source, batch.target, noise).mix_logits for noise in (None, run.noise)
    )
    run.classifier.train()
    return (F.cross_entropy(plain, batch.labels) - F.cross_entropy(noisy, batch.labels)).item()
