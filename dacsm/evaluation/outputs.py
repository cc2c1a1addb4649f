"""What a model gives for a fixed sample of a domain's images after an epoch: what validators judge it by."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.data.seeding import numpy_generator
from dacsm.evaluation.predictions import Predictions

MOST_LOGITS = 20_000  # images
MOST_FEATURES = 4_000
MOST_VALUES = 2_000_000  # of each kind in an epoch, 4 MB; with many classes or wide features there are fewer images


@dataclass(frozen=True)
class Outputs:
    """Logits (M, K) and features (F, D) in float16, on the CPU; F ≤ M, and the features are of the first F images."""

    number: int  # of the epoch, counted from 1
    logits: Tensor
    features: Tensor
    source_accuracy: float  # on held-out source images, in 0..1; NaN without any

    @property
    def probabilities(self) -> Tensor:
        """Predicted probabilities, (M, K) in float64."""
        return F.softmax(self.logits.double(), dim=1)

    def scored_by(self, validator: Callable[["Outputs"], float]) -> float:
        """A validator's score; NaN where training has diverged."""
        finite = torch.isfinite(self.logits).all() and torch.isfinite(self.features).all()
        return float(validator(self)) if finite else math.nan


def sample_outputs(number: int, predictions: Predictions, source_accuracy: float) -> Outputs:
    """The outputs after an epoch, of the same random sample of images each time."""
    (images, classes), width = predictions.logits.shape, predictions.features.shape[1]
    sample = numpy_generator("validators").permutation(images)[: min(MOST_LOGITS, max(1, MOST_VALUES // classes))]
    few, others = np.split(sample, [min(MOST_FEATURES, max(1, MOST_VALUES // width))])
    few, others = np.sort(few), np.sort(others)  # so that features on disk are read in their order
    logits = predictions.logits[np.concatenate([few, others])]
    return Outputs(number, logits.half(), predictions.features[few].half(), source_accuracy)


def best_epoch(scores: Sequence[float] | np.ndarray) -> int:
    """The epoch with the highest score, counted from 1: the first of equals, and 1 where none has a score."""
    known = [score if math.isfinite(score) else -math.inf for score in scores]
    return known.index(max(known)) + 1


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each distribution: (…, K) to (…)."""
    return torch.special.entr(probabilities).sum(dim=-1)
