"""MIC for classification (arXiv 2212.01322): masked image consistency on CDAN and minimum class confusion.

It asks nothing of the backbone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.adversarial import Adversary
from dacsm.adaptation.certainty import confusion_loss
from dacsm.adaptation.masking import block_masks, masked, masked_loss, statistics_kept
from dacsm.adaptation.teacher import Teacher
from dacsm.adaptation.unpaired import Batch, made_up_batch, unpaired_batches
from dacsm.config.kinds.mic import Settings
from dacsm.methods import Method
from dacsm.models.precision import autocast

MaskedBatch = tuple[Batch, Tensor]  # and which blocks of the target images are kept, bool (B, 1, b, b)


class Kind(Method):
    """The base of MIC's classification, without its sharpness-aware steps, and a teacher that sees whole images."""

    settings: Settings

    def __init__(self, *given: Any):
        super().__init__(*given)
        settings, classes = self.settings, len(self.classifier.description.classes)
        adversary = Adversary(self.classifier.width, classes, settings.adversarial, self.seed)
        self.adversary = adversary.to(self.compute.device)
        self.modules = (self.adversary,)
        self.teacher = Teacher(self.classifier, settings.masking.decay)

    def batches(self, epoch: int, start: int) -> tuple[Iterator[MaskedBatch], int]:
        """Images of both domains in new orders, with new views and masks."""
        model, size = self.classifier.description.model, self.recipe.batch_size
        batches, steps = unpaired_batches(self.domains, model, self.recipe, self.seed, epoch, start, self.compute)
        keep = block_masks(steps * size, self.settings.masking, self.seed, epoch).to(self.compute.device)
        return zip(batches, keep.split(size)[start:], strict=True), steps

    def losses(self, batch: MaskedBatch, passed: float) -> tuple[dict[str, Tensor], Tensor]:
        """Those of CDAN, class confusion, and the masked images' cross-entropy to the teacher's classes."""
        (images, keep), settings = batch, self.settings
        self.teacher.follow(self.classifier)
        with autocast(self.compute.device, self.recipe.precision):
            taught = self.teacher(images.target)
            features = self.classifier.features(torch.cat([images.source, images.target]))
            with statistics_kept(self.classifier):
                of_masked = self.classifier(masked(images.target, keep))
        logits = self.classifier.classify(features)
        of_source, of_target = logits.chunk(2)
        source = F.cross_entropy(of_source, images.labels)
        weighted = {
            "adversarial": (settings.adversarial.weight, self.adversary(features, logits, passed)),
            "confusion": (settings.confusion.weight, confusion_loss(of_target, settings.confusion.temperature)),
            "masking": (settings.masking.weight, masked_loss(of_masked, taught)),
        }
        losses = {"source": source} | {name: loss for name, (_weight, loss) in weighted.items()}
        return losses, source + sum(weight * loss for weight, loss in weighted.values())

    def state_dict(self) -> dict[str, Any]:
        return {"adversary": self.adversary.state_dict(), "teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.adversary.load_state_dict(state["adversary"])
        self.teacher.load_state_dict(state["teacher"])

    def made_up_batches(self, size: int) -> list[MaskedBatch]:
        description, masking, device = self.classifier.description, self.settings.masking, self.compute.device
        batch = made_up_batch(size, description.model, len(description.classes), device)
        return [(batch, block_masks(size, masking, self.seed).to(device))]
