"""Choosing an epoch without target labels: each validator scores what a model says of the target, higher is better."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.data.seeding import numpy_generator
from dacsm.evaluation.predictions import Predictions

MOST_IMAGES = 4000  # for validators that compare images with each other: a fixed draw, where the target has more
TEMPERATURE = 0.05  # of soft neighbourhood density, as in its paper


def entropy(target: Predictions) -> float:
    """Minus the mean entropy of the predictions (Morerio et al., arXiv 1711.10288)."""
    return -_entropy(_probabilities(target)).mean().item()


def infomax(target: Predictions) -> float:
    """Entropy of the mean prediction less the mean entropy (Shi and Sha, ICML 2012; as a validator arXiv 2208.07360).

    Confident predictions are good, but not if they are all the same.
    """
    probabilities = _probabilities(target)
    return (_entropy(probabilities.mean(dim=0)) - _entropy(probabilities).mean()).item()


def bnm(target: Predictions) -> float:
    """Nuclear norm of the predictions (N, K), batch nuclear-norm maximisation (Cui et al., arXiv 2003.12237).

    In units of its bound sqrt(N · min(N, K)), which sure predictions in equal fractions reach.
    """
    probabilities = _probabilities(target)
    return (
        torch.linalg.matrix_norm(probabilities, "nuc") / (len(probabilities) * min(probabilities.shape)) ** 0.5
    ).item()


def snd(target: Predictions) -> float:
    """Soft neighbourhood density (Saito et al., arXiv 2108.10860): mean entropy of each image's similarities to others.

    High where predictions form dense groups; that all images in one group score highest is known of it.
    """
    unit = F.normalize(_probabilities(_drawn(target)), dim=1)
    similarity = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf)  # (M, M)
    return _entropy(F.softmax(similarity, dim=1)).mean().item()


def class_ami(target: Predictions) -> float:
    """Adjusted mutual information of the predicted classes and k-means clusters of the features (arXiv 2208.07360)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score
    from threadpoolctl import threadpool_limits

    target = _drawn(target)
    clusters = min(target.logits.shape[1], len(target.logits))
    with threadpool_limits(1):  # threads add up in the order in which they finish
        found = KMeans(clusters, n_init=1, random_state=0).fit_predict(F.normalize(target.features, dim=1).numpy())
    return float(adjusted_mutual_info_score(target.predicted, found))


def _probabilities(target: Predictions) -> Tensor:
    return F.softmax(target.logits.double(), dim=1)  # (N, K)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _drawn(target: Predictions) -> Predictions:
    """The same at most MOST_IMAGES images each time."""
    chosen = np.sort(numpy_generator("validators").permutation(len(target.logits))[:MOST_IMAGES])
    return Predictions(target.features[chosen], target.logits[chosen])


# Those that need the target alone; source accuracy is measured where a part of the source was held out.
VALIDATORS: dict[str, Callable[[Predictions], float]] = {
    "infomax": infomax,
    "entropy": entropy,
    "bnm": bnm,
    "snd": snd,
    "class_ami": class_ami,
}
NAMES = (*VALIDATORS, "source_accuracy", "last")


def scores(
    epoch: int, target: Predictions, held_out: Predictions | None, held_out_labels: Tensor | None
) -> list[float]:
    """The score of every validator in `NAMES` for an epoch; source accuracy is NaN where nothing was held out.

    Where training has diverged, all that look at the target are NaN.
    """
    finite = bool(torch.isfinite(target.logits).all() and torch.isfinite(target.features).all())
    seen = [score(target) if finite else float("nan") for score in VALIDATORS.values()]
    accuracy = float("nan")
    if held_out is not None:
        accuracy = (held_out.logits.argmax(dim=1) == held_out_labels).double().mean().item()
    return [*seen, accuracy, float(epoch)]
