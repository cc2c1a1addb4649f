"""A teacher that is the weight average of its student (arXiv 1703.01780), as MIC has it (arXiv 2212.01322)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dacsm.models.classifier import Classifier


class Teacher:
    """A copy of a classifier that follows it and is not trained; it drops nothing, and its norms take the batch's
    statistics.
    """

    def __init__(self, student: Classifier, decay: float):
        self.model = deepcopy(student).requires_grad_(False)
        self.decay, self.updates = decay, 0
        for module in self.model.modules():
            module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
        self.weights = list(self.model.parameters())

    @torch.no_grad()
    def follow(self, student: Classifier) -> None:
        """Move the weights towards the student's: w ← α w + (1 − α) s with α = min(1 − 1 / (t + 1), decay).

        t counts these calls from 0, so that the first copies the student.
        """
        keep = min(1 - 1 / (self.updates + 1), self.decay)
        torch._foreach_lerp_(self.weights, list(student.parameters()), 1 - keep)
        self.updates += 1

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.model(images)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]
