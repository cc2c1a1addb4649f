"""Two-way, centre-aware pseudo labels and pairs (CDTrans, arXiv 2109.06165, section 3.1)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-8
BLOCK = 16384  # images at a time where classes are few
CHUNK = 64  # a tile's sides are multiples of it
# Source rows × target rows of a tile of similarities, by measurement: 64 MB keep a CPU's matrix product at its full
# rate, and the caches help the search for maxima; 268 MB on a GPU, and on any other device.
TILES = {"cpu": (2048, 8192), "cuda": (2048, 32768)}


@dataclass(frozen=True)
class Pairs:
    """Index pairs and their labels, (P,) int64 each; mutual nearest neighbours appear twice, as in CDTrans."""

    source: np.ndarray
    target: np.ndarray
    source_labels: np.ndarray
    pseudo_labels: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def with_source(self, indices: np.ndarray) -> "Pairs":
        """The same pairs, with source image `indices[i]` for the i-th that was searched."""
        return replace(self, source=indices[self.source])


def unit(features: Tensor) -> Tensor:
    """Features (N, D) over their length."""
    return features / (features.norm(dim=1, keepdim=True) + EPSILON)


def widened(features: Tensor) -> Tensor:
    """Features as they are computed with: float16 is for keeping them only."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def centre_labels(features: Tensor, logits: Tensor) -> Tensor:
    r"""Pseudo labels (N,) by the nearest class centre, for target features (N, D) and logits (N, K).

    $$
    c_k = \frac{\sum_n\,w_{nk}\,\tilde{f}_n}{\sum_n\,w_{nk}}, \qquad \hat{y}_n = \arg\max_k\,\cos(\tilde{f}_n, c_k)
    $$

    Centres are first means weighted by probability, then means of the labels that these give; classes that no image is
    predicted as take no part. A constant 1 is appended to the features before they are scaled to unit length.
    """
    probabilities = F.softmax(logits, dim=1)
    classes = torch.bincount(probabilities.argmax(dim=1), minlength=logits.shape[1]).nonzero().flatten()
    labels = closest_class(features, _centres(features, (probabilities[block] for block in _blocks(features))), classes)
    return closest_class(features, labelled_centres(features, labels, logits.shape[1]), classes)


def labelled_centres(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The centres (K, D + 1) of features (N, D) with labels (N,), on the labels' device; zeros for an empty class."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    return _centres(features, (F.one_hot(labels[block], classes).to(dtype) for block in _blocks(features)))


def closest_class(features: Tensor, centres: Tensor, classes: Tensor) -> Tensor:
    """The class (N,), among `classes`, whose centre, of (K, D + 1), is closest in angle to the features (N, D)."""
    nearest = [(extended(features[block]) @ centres[classes].T).argmax(dim=1) for block in _blocks(features)]
    return classes[torch.cat(nearest)]


def _centres(features: Tensor, members: Iterable[Tensor]) -> Tensor:
    """Means of the features, weighted by memberships (block, K) and where these are, at unit length: (K, D + 1)."""
    total: Any = 0
    weight: Any = 0
    for block, membership in zip(_blocks(features), members, strict=True):
        total = total + membership.T @ extended(features[block].to(membership.device))  # (K, D + 1)
        weight = weight + membership.sum(dim=0)
    return F.normalize(total / (EPSILON + weight[:, None]), dim=1)


def _blocks(features: Tensor) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]


def extended(features: Tensor) -> Tensor:
    """Features (N, D) with a constant 1 appended, at unit length: (N, D + 1)."""
    features = widened(features)
    return F.normalize(torch.cat([features, features.new_ones(len(features), 1)], dim=1), dim=1)


def nearest_over_scales(
    source: Tensor, targets: list[Tensor], device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """For each source row its nearest target row, and the reverse, by cosine: (S, D), [(T, D), …] to (S,), (T,).

    `targets` has the target's features at one size or several; an image counts at the size at which it is closest.
    The S × T matrix never exists: tiles of it are made on `device` (by default where `source` is) and looked through,
    in float32. The features may be kept in float16, or on disk, and are never copied whole. The first index wins on
    ties, as in the dense form.
    """
    found = [_nearest(source, target, device or source.device) for target in targets]
    # the similarities and indices of the source's nearest, (sizes, S) each, then those of the target's, (sizes, T)
    source_best, of_source, target_best, of_target = (torch.stack(parts) for parts in zip(*found, strict=True))
    target_of_source = of_source.gather(0, source_best.argmax(dim=0, keepdim=True))[0]
    source_of_target = of_target.gather(0, target_best.argmax(dim=0, keepdim=True))[0]
    return target_of_source, source_of_target


def _nearest(source: Tensor, target: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The largest similarity of each source row and where it is, then the same of each target row."""
    source_best, source_index = _nothing_yet(source, device)
    target_best, target_index = _nothing_yet(target, device)
    rows, columns = TILES.get(device.type, TILES["cuda"])
    rows, columns = min(rows, _round_up(len(source))), min(columns, _round_up(len(target)))
    for left in range(0, len(target), columns):
        target_tile = _tile(target, left, columns, device)
        target_range = slice(left, left + len(target_tile))
        buffer = target_tile.new_full((rows, _round_up(len(target_tile))), -torch.inf)  # what is not filled loses
        for top in range(0, len(source), rows):
            source_tile = _tile(source, top, rows, device)
            source_range = slice(top, top + len(source_tile))
            buffer[len(source_tile) :] = -torch.inf
            similarities(source_tile, target_tile, out=buffer[: len(source_tile), : len(target_tile)])
            across = buffer[: len(source_tile)].unflatten(1, (-1, CHUNK))  # (s, t / CHUNK, CHUNK)
            _improve(source_best[source_range], source_index[source_range], across, across.amax(dim=2), left)
            down = buffer[:, : len(target_tile)].unflatten(0, (-1, CHUNK))  # (s / CHUNK, CHUNK, t)
            peaks = down.amax(dim=1).T
            _improve(target_best[target_range], target_index[target_range], down.permute(2, 0, 1), peaks, top)
    return source_best, source_index, target_best, target_index


def similarities(source: Tensor, target: Tensor, out: Tensor) -> None:
    """Cosines of rows at unit length, (s, D) and (t, D), into `out` (s, t)."""
    torch.mm(source, target.T, out=out)


def _improve(best: Tensor, index: Tensor, chunks: Tensor, peaks: Tensor, start: int) -> None:
    """Where the similarities of a row exceed `best` (n,), put the largest there, and `start` + its place in `index`.

    A row's similarities come in chunks (n, c, CHUNK) with their maxima (n, c): a maximum together with its index takes
    several times as long as the bare one, so that the index is sought in one chunk, and only where there is something
    new. An equal similarity is nothing new, since earlier tiles come first.
    """
    found, chunk = peaks.max(dim=1)
    closer = (found > best).nonzero()[:, 0]
    chunk = chunk[closer]
    best[closer] = found[closer]
    index[closer] = start + chunk * CHUNK + chunks[closer, chunk].argmax(dim=1)


def _nothing_yet(features: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    least = torch.full((len(features),), -torch.inf, dtype=widened(features[:0]).dtype, device=device)
    return least, torch.zeros(len(features), dtype=torch.int64, device=device)


def _tile(features: Tensor, start: int, rows: int, device: torch.device) -> Tensor:
    return unit(widened(features[start : start + rows].to(device)))


def _round_up(length: int) -> int:
    return -(-length // CHUNK) * CHUNK


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
