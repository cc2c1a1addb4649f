"""CDAN (arXiv 1705.10667), and DANN (arXiv 1505.07818): features of which a discriminator cannot tell the domain.

It asks nothing of the backbone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.adversarial import Adversary
from dacsm.adaptation.unpaired import Batch, made_up_batch, unpaired_batches
from dacsm.config.kinds.cdan import Settings
from dacsm.methods import Method
from dacsm.models.precision import autocast


class Kind(Method):
    """Cross-entropy on the source, and an adversary between the domains. Both domains pass the network in one batch."""

    settings: Settings

    def __init__(self, *given: Any):
        super().__init__(*given)
        classes = len(self.classifier.description.classes)
        adversary = Adversary(self.classifier.width, classes, self.settings.adversarial, self.seed)
        self.adversary = adversary.to(self.compute.device)
        self.modules = (self.adversary,)

    def batches(self, epoch: int, start: int) -> tuple[Iterator[Batch], int]:
        """Images of both domains in new orders and with new views."""
        model = self.classifier.description.model
        return unpaired_batches(self.domains, model, self.recipe, self.seed, epoch, start, self.compute)

    def losses(self, batch: Batch, passed: float) -> tuple[dict[str, Tensor], Tensor]:
        """Those of the paper: on labelled source images, and between the domains."""
        with autocast(self.compute.device, self.recipe.precision):
            features = self.classifier.features(torch.cat([batch.source, batch.target]))
        logits = self.classifier.classify(features)
        losses = {
            "source": F.cross_entropy(logits.chunk(2)[0], batch.labels),
            "adversarial": self.adversary(features, logits, passed),
        }
        return losses, losses["source"] + self.settings.adversarial.weight * losses["adversarial"]

    def state_dict(self) -> dict[str, Any]:
        return {"adversary": self.adversary.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.adversary.load_state_dict(state["adversary"])

    def made_up_batches(self, size: int) -> list[Batch]:
        description = self.classifier.description
        return [made_up_batch(size, description.model, len(description.classes), self.compute.device)]
