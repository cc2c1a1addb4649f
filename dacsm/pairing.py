"""Two-way, centre-aware pseudo labels and pairs (CDTrans, arXiv 2109.06165, section 3.1)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-8
BLOCK = 1024  # source rows a matrix product: bounds memory to BLOCK × targets


@dataclass(frozen=True)
class Pairs:
    """Index pairs and their labels, (P,) int64 each; mutual nearest neighbours appear twice, as in CDTrans."""

    source: np.ndarray
    target: np.ndarray
    source_labels: np.ndarray
    pseudo_labels: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def with_source(self, numbers: np.ndarray) -> "Pairs":
        """The same pairs, with source image `numbers[i]` for the i-th that was searched."""
        return replace(self, source=numbers[self.source])


def unit(features: Tensor) -> Tensor:
    """Features (N, D) over their length."""
    return features / (features.norm(dim=1, keepdim=True) + EPSILON)


def centre_labels(features: Tensor, logits: Tensor) -> Tensor:
    """Pseudo labels (N,) by the nearest class centre, for target features (N, D) and logits (N, K).

    Centres are first means weighted by probability, then means of the labels that these give; classes that no image is
    predicted as take no part. A constant 1 is appended to the features before they are scaled to unit length.
    """
    extended = F.normalize(torch.cat([features, features.new_ones(len(features), 1)], dim=1), dim=1)
    probabilities = F.softmax(logits, dim=1)
    predicted = probabilities.argmax(dim=1)
    classes = torch.bincount(predicted, minlength=logits.shape[1]).nonzero().flatten()
    labels = _nearest_centre(extended, probabilities, classes)
    return _nearest_centre(extended, F.one_hot(labels, logits.shape[1]).to(features.dtype), classes)


def _nearest_centre(features: Tensor, membership: Tensor, classes: Tensor) -> Tensor:
    """The class, among `classes`, whose centre is closest in angle: (N, D), (N, K) to (N,)."""
    centres = (membership.T @ features) / (EPSILON + membership.sum(dim=0)[:, None])  # (K, D)
    similarity = features @ F.normalize(centres[classes], dim=1).T
    return classes[similarity.argmax(dim=1)]


def fuse_sizes(features: list[Tensor], logits: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One view of each image from several sizes: features (N, D) and logits (N, K) for each size, to one of each.

    An image's sizes count by how sure the prediction is there. Features are fused at unit length, and probabilities
    rather than logits; what comes back are log probabilities. One size comes back as it is.
    """
    if len(features) == 1:
        return features[0], logits[0]
    probabilities = torch.stack([F.softmax(part, dim=1) for part in logits])  # (sizes, N, K)
    weights = probabilities.amax(dim=2, keepdim=True)
    weights = weights / weights.sum(dim=0)
    fused = (weights * torch.stack([unit(part) for part in features])).sum(dim=0)
    return fused, torch.log((weights * probabilities).sum(dim=0) + EPSILON)


def nearest_over_sizes(source: Tensor, targets: list[Tensor]) -> tuple[Tensor, Tensor]:
    """For each source row its nearest target row, and the reverse, by cosine: (S, D), [(T, D), …] to (S,), (T,).

    `targets` has the target's features at one size or several; an image counts at the size at which it is closest.
    Blockwise, so that the S × T matrix never exists; the first index wins on ties, as in the dense form.
    """
    source = unit(source)
    found = [_blockwise(source, unit(target)) for target in targets]
    source_similarity = torch.stack([similarity for _, _, similarity, _ in found])  # (sizes, S)
    target_similarity = torch.stack([similarity for _, _, _, similarity in found])  # (sizes, T)
    of_source = torch.stack([index for index, _, _, _ in found])
    of_target = torch.stack([index for _, index, _, _ in found])
    target_of_source = of_source.gather(0, source_similarity.argmax(dim=0, keepdim=True))[0]
    source_of_target = of_target.gather(0, target_similarity.argmax(dim=0, keepdim=True))[0]
    return target_of_source, source_of_target


def _blockwise(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    target_of_source = torch.empty(len(source), dtype=torch.int64, device=source.device)
    source_similarity = torch.empty(len(source), device=source.device)
    source_of_target = torch.zeros(len(target), dtype=torch.int64, device=source.device)
    target_similarity = torch.full((len(target),), -torch.inf, device=source.device)
    for start in range(0, len(source), BLOCK):
        similarity = source[start : start + BLOCK] @ target.T  # (block, T)
        rows = slice(start, start + len(similarity))
        source_similarity[rows], target_of_source[rows] = similarity.max(dim=1)
        best, row = similarity.max(dim=0)
        closer = best > target_similarity  # strictly: an earlier source row wins a tie
        target_similarity[closer] = best[closer]
        source_of_target[closer] = row[closer] + start
    return target_of_source, source_of_target, source_similarity, target_similarity


def agreeing_pairs(
    target_of_source: Tensor, source_of_target: Tensor, source_labels: Tensor, pseudo_labels: Tensor
) -> Pairs:
    """The pairs whose labels agree: first one for each target, then one for each source, by index."""
    targets = torch.arange(len(pseudo_labels), device=pseudo_labels.device)
    sources = torch.arange(len(source_labels), device=source_labels.device)
    source = torch.cat([source_of_target, sources])
    target = torch.cat([targets, target_of_source])
    agree = source_labels[source] == pseudo_labels[target]
    source, target = source[agree], target[agree]
    columns = (source, target, source_labels[source], pseudo_labels[target])
    return Pairs(*(column.cpu().numpy() for column in columns))
