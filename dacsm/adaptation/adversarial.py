"""Adversarial alignment of two domains: CDAN (arXiv 1705.10667), and DANN (arXiv 1505.07818) without conditioning."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dacsm.adaptation.certainty import certainty
from dacsm.config.losses import Adversarial
from dacsm.data.seeding import torch_generator

DELTA = 10.0  # how steeply the reversal sets in


class Adversary(nn.Module):
    r"""A discriminator of the domains, and the loss through which the features come to deceive it.

    It sees features and predicted probabilities as their product, outer where that is not too wide, and else
    $(R_f f \odot R_g p) / \sqrt{d}$ with two fixed random matrices: CDAN's multilinear and randomized multilinear maps.
    """

    def __init__(self, width: int, classes: int, settings: Adversarial, seed: int):
        super().__init__()
        self.settings = settings
        self.at_random = settings.conditioned and width * classes > settings.widest
        joint = width * classes if settings.conditioned else width
        if self.at_random:
            joint = settings.random_width
            generator = torch_generator(torch.device("cpu"), seed, "random product")
            for name, rows in (("of_features", width), ("of_classes", classes)):
                self.register_buffer(name, torch.randn(rows, joint, generator=generator), persistent=False)
        layers = []
        for inputs in (joint, settings.hidden):
            layers += [nn.Linear(inputs, settings.hidden), nn.BatchNorm1d(settings.hidden), nn.ReLU()]
        self.discriminator = nn.Sequential(*layers, nn.Linear(settings.hidden, 1))

    def forward(self, features: Tensor, logits: Tensor, progress: float) -> Tensor:
        """The discriminator's cross-entropy, a scalar; features (2 B, D) and logits (2 B, K), the source's first.

        `progress` in 0..1 is how much of training is over. No gradient flows through the probabilities.
        """
        probabilities = logits.detach().softmax(dim=1)
        joint = _Reversal.apply(self.joint(features, probabilities), reversal(progress))
        scores = self.discriminator(joint)[:, 0]
        half = len(scores) // 2
        domains = torch.cat([scores.new_ones(half), scores.new_zeros(len(scores) - half)])
        weights = certainty(probabilities) if self.settings.entropy_conditioning else None
        return F.binary_cross_entropy_with_logits(scores, domains, weights)

    def joint(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """What the discriminator sees, (N, J): of features (N, D) and probabilities (N, K)."""
        if not self.settings.conditioned:
            return features
        if self.at_random:
            return (
                features @ self.of_features * (probabilities @ self.of_classes) / math.sqrt(self.of_features.shape[1])
            )
        return (probabilities[:, :, None] * features[:, None]).flatten(1)


def reversal(progress: float) -> float:
    r"""The factor on the reversed gradient: from 0 to nearly 1 over training, $2 / (1 + e^{-10 u}) - 1$."""
    return 2 / (1 + math.exp(-DELTA * progress)) - 1


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is turned round and multiplied by a factor."""

    @staticmethod
    def forward(context: Any, values: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.factor * gradient, None
