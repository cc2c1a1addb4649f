"""CDTrans' pseudo labels, pairs and resized position embedding, restated plainly in float64, image by image."""

import torch
from cdtrans_reference import softmax
from torch import Tensor


def pseudo_labels(features: Tensor, logits: Tensor) -> list[int]:
    """Features (N, D) and logits (N, K) of the target, to a label for each image."""
    probabilities = softmax(logits.double())
    extended = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    extended = extended / extended.norm(dim=1, keepdim=True)
    kept = sorted({int(row.argmax()) for row in probabilities})
    labels = _nearest_centres(extended, probabilities, kept)
    return _nearest_centres(extended, torch.eye(logits.shape[1], dtype=torch.float64)[labels], kept)


def _nearest_centres(features: Tensor, weights: Tensor, kept: list[int]) -> list[int]:
    centres = {}
    for label in kept:
        total = sum(weight * feature for weight, feature in zip(weights[:, label], features, strict=True))
        centres[label] = total / (1e-8 + weights[:, label].sum())

    def distance(feature: Tensor, centre: Tensor) -> float:
        length = feature.norm() * centre.norm()  # zero where a class has lost all its images: no direction
        return 1 - (feature @ centre / length).item() if length else 1.0

    return [min(kept, key=lambda label: distance(feature, centres[label])) for feature in features]


def nearest(source: Tensor, target: Tensor) -> tuple[list[int], list[int]]:
    """The nearest target of each source and the nearest source of each target, by cosine; the first wins a tie."""
    source, target = (x.double() / (x.double().norm(dim=1, keepdim=True) + 1e-8) for x in (source, target))
    similarity = [[(s * t).sum().item() for t in target] for s in source]
    of_source = [max(range(len(target)), key=row.__getitem__) for row in similarity]
    of_target = [max(range(len(source)), key=lambda s: similarity[s][t]) for t in range(len(target))]
    return of_source, of_target


def pairs(
    of_source: list[int], of_target: list[int], source_labels: list[int], pseudo: list[int]
) -> list[tuple[int, int, int, int]]:
    """(source, target, source label, pseudo label): for each target, then for each source, where the labels agree."""
    both = [(s, t) for t, s in enumerate(of_target)] + [(s, t) for s, t in enumerate(of_source)]
    return [(s, t, source_labels[s], pseudo[t]) for s, t in both if source_labels[s] == pseudo[t]]


def resized(position: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A position embedding (1, 1 + h w, D) on another grid: bilinear, pixel centres aligned, borders repeated."""

    def between(place: int, before: int, after: int) -> list[tuple[int, float]]:
        at = max((place + 0.5) * before / after - 0.5, 0.0)
        low = min(int(at), before - 1)
        return [(low, 1 - (at - low)), (min(low + 1, before - 1), at - low)]

    grid = position[0, 1:].double().reshape(*old, -1)
    rows = [position[0, 0].double()]
    for y in range(new[0]):
        for x in range(new[1]):
            near = [(a, b, u * v) for a, u in between(y, old[0], new[0]) for b, v in between(x, old[1], new[1])]
            rows.append(sum(weight * grid[a, b] for a, b, weight in near))
    return torch.stack(rows)[None]
