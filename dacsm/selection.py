"""Choosing an epoch without target labels: each validator scores the target's logits, higher is better."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.seeding import numpy_generator


def entropy(target_logits: Tensor) -> float:
    """Minus the mean entropy of the predictions (N, K) (Morerio et al., arXiv 1711.10288)."""
    return -_entropy(F.softmax(target_logits.double(), dim=1)).mean().item()


def infomax(target_logits: Tensor) -> float:
    """Entropy of the mean prediction less the mean entropy (Shi and Sha, ICML 2012; as a validator arXiv 2208.07360).

    Confident predictions are good, but not if they are all the same.
    """
    probabilities = F.softmax(target_logits.double(), dim=1)
    return (_entropy(probabilities.mean(dim=0)) - _entropy(probabilities).mean()).item()


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


# Those that need nothing but the target's logits; source accuracy is measured where a part of the source was held out.
VALIDATORS: dict[str, Callable[[Tensor], float]] = {"infomax": infomax, "entropy": entropy}
NAMES = (*VALIDATORS, "source_accuracy", "last")


def scores(
    epoch: int, target_logits: Tensor, held_out_logits: Tensor | None, held_out_labels: Tensor | None
) -> list[float]:
    """The score of every validator in `NAMES` for an epoch; source accuracy is NaN where nothing was held out."""
    accuracy = float("nan")
    if held_out_logits is not None:
        accuracy = (held_out_logits.argmax(dim=1) == held_out_labels).double().mean().item()
    return [*(score(target_logits) for score in VALIDATORS.values()), accuracy, float(epoch)]


def held_out(images: int, share: float) -> np.ndarray:
    """Which of a source's images are kept out of training, (images,) bool; the same for every seed and stage."""
    mask = np.zeros(images, dtype=bool)
    mask[numpy_generator("held out").permutation(images)[: round(share * images)]] = True
    return mask
