"""Masked image consistency (MIC, arXiv 2212.01322): what is hidden of an image is inferred from what is around it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dacsm.config.losses import Masking
from dacsm.data.seeding import numpy_generator
from dacsm.models.classifier import Classifier
from dacsm.runtime.together import part


def block_masks(positions: int, settings: Masking, *names: int | str) -> Tensor:
    """Which blocks of the image at each position of an epoch are kept, bool (positions, 1, b, b).

    Each block is hidden with probability `ratio`, by draws that depend on the names and the position alone.
    """
    shape = positions, 1, settings.blocks, settings.blocks
    draws = numpy_generator("masks", *names).random(shape, dtype="float32")
    return torch.from_numpy(draws > settings.ratio)


def masked(images: Tensor, keep: Tensor) -> Tensor:
    """Images (B, C, H, W), normalised, with the blocks that are not kept at their mean, 0.

    `keep` is (B, 1, b, b), of the whole batch where processes have parts of it.
    """
    return images * F.interpolate(part(keep).to(images.dtype), size=images.shape[2:], mode="nearest")


def masked_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy from the class that the teacher takes whole images for to the prediction on masked ones; scalar.

    Both are (B, K); each image counts by the probability of that class. Log probabilities may stand for the teacher's
    logits.
    """
    quality, labels = teacher_logits.softmax(dim=1).max(dim=1)  # (B,)
    return (quality * F.cross_entropy(logits, labels, reduction="none")).mean()


@contextmanager
def statistics_kept(classifier: Classifier) -> Iterator[None]:
    """Norms take the batch's statistics but do not learn from them: evaluation sees whole images alone."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
