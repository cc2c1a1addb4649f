"""SHOT (arXiv 2002.08546): the source model alone is adapted, with its head as it is, and no source data.

It asks nothing of the backbone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.certainty import information_loss
from dacsm.adaptation.pairing import centre_labels
from dacsm.adaptation.unpaired import made_up_batch, unpaired_batches
from dacsm.config.kinds.shot import Settings
from dacsm.evaluation.predictions import Predictions, predict
from dacsm.methods import Method
from dacsm.models.classifier import Classifier
from dacsm.models.precision import autocast
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.together import of_first

Batch = tuple[Tensor, Tensor]  # target images (B, C, H, W) and their pseudo labels (B,)


class Kind(Method):
    """Information maximisation, and pseudo labels by the nearest class centre, renewed in each epoch."""

    settings: Settings
    refresh_epochs = 1

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.classifier.head.requires_grad_(False)
        self.next_labels: Tensor | None = None  # (T,), by what the model predicted at the end of an epoch

    def refresh(self, epoch: int, model: Classifier, progress: TrainingProgress) -> None:
        """The labels of the last epoch's end; before the first epoch, those of what the source model predicts."""
        if self.next_labels is None:
            precision, keep = self.recipe.precision, self.recipe.features
            self._label(predict(model, self.domains.target, self.compute, precision, keep=keep))
        self.pseudo_labels, self.next_labels = self.next_labels, None

    def end_epoch(self, epoch: int, target: Predictions) -> dict[str, float]:
        self._label(target)
        return {}

    def _label(self, target: Predictions) -> None:
        self.next_labels = of_first(centre_labels(target.features, target.logits))

    def batches(self, epoch: int, start: int) -> tuple[Iterator[Batch], int]:
        """Target images in a new order and with new views."""
        labels = self.pseudo_labels.to(self.compute.device)  # type: ignore[union-attr]  # refreshed before
        model = self.classifier.description.model
        batches, steps = unpaired_batches(self.domains, model, self.recipe, self.seed, epoch, start, self.compute)
        return ((batch.target, labels[batch.indices]) for batch in batches), steps

    def losses(self, batch: Batch, passed: float) -> tuple[dict[str, Tensor], Tensor]:
        """Those of the paper, on target images alone."""
        images, labels = batch
        with autocast(self.compute.device, self.recipe.precision):
            logits = self.classifier(images)
        losses = {"information": information_loss(logits), "pseudo_labels": F.cross_entropy(logits, labels)}
        weights = self.settings.information, self.settings.pseudo_labels
        return losses, sum(weight * loss for weight, loss in zip(weights, losses.values(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"pseudo_labels": self.pseudo_labels, "next_labels": self.next_labels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.pseudo_labels, self.next_labels = state["pseudo_labels"], state["next_labels"]

    def made_up_batches(self, size: int) -> list[Batch]:
        description = self.classifier.description
        batch = made_up_batch(size, description.model, len(description.classes), self.compute.device)
        return [(batch.target, batch.labels)]
