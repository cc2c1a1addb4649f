"""Masked image consistency (MIC, arXiv 2212.01322) on target images: an addition, which DACSM itself lacks."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dacsm.adaptation.masking import block_masks, masked, masked_loss, statistics_kept
from dacsm.adaptation.target_views import TargetViews
from dacsm.adaptation.teacher import Teacher
from dacsm.config.kinds.cdtrans import MaskedTarget
from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.shards import ShardedImages
from dacsm.models.classifier import Classifier


class MaskedConsistency:
    """Target images, which need no pair, are recognised where most of them is hidden."""

    def __init__(self, classifier: Classifier, settings: MaskedTarget):
        self.settings = settings
        self.teacher = Teacher(classifier, settings.decay) if settings.held_to == "teacher" else None

    def views(self, images: ShardedImages, model: Model, recipe: AdaptRecipe, *of_epoch: int) -> "ViewsToMask":
        """The views of an epoch: its seed, its number and its steps."""
        # For mypy: of_epoch are three numbers
        views = TargetViews(images, model, recipe, self.settings.every, *of_epoch, "masked")  # type: ignore[call-arg, arg-type]
        return ViewsToMask(views, block_masks(views.positions, self.settings, *of_epoch[:2]))

    def follow(self, classifier: Classifier) -> None:
        """At each step: the teacher moves towards the classifier."""
        if self.teacher is not None:
            self.teacher.follow(classifier)

    def loss(self, classifier: Classifier, images: Tensor, log_probabilities: Tensor | None, keep: Tensor) -> Tensor:
        """Whole images (B, C, H, W), or log probabilities (B, K), say what masked ones are held to; to a scalar."""
        held_to = log_probabilities if self.teacher is None else self.teacher(images)
        with statistics_kept(classifier):
            return masked_loss(classifier(masked(images, keep)), held_to)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.teacher is None else self.teacher.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.teacher is not None:
            self.teacher.load_state_dict(state)


class ViewsToMask:
    """Views of target images for every so many of an epoch's steps, and which of their blocks are kept."""

    def __init__(self, views: TargetViews, keep: Tensor):
        self.views, self.keep = views, keep

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Views (B, C, H, W) uint8, their images' indices (B,), the blocks that are kept (B, 1, b, b); or None."""
        found = self.views(step)
        return found and (*found, self.keep[self.views.positions_of(step)])
