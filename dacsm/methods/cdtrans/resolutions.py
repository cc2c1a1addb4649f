"""How far a pair's patch tokens are apart at each pair of resolutions, and which pair of resolutions matches."""

import torch
from torch import Tensor
from torch.nn import functional as F


def scale_choice(source_patches: Tensor, target_patches: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Distance and soft choice of every pair of resolutions, the source's first: (B, n, D) each, to (B, S · S) each.

    Resolutions are those of `pyramid_sides`, in their order.
    """
    source, target = (_pyramid(patches) for patches in (source_patches, target_patches))
    distance = torch.stack([_cell_distance(a, b) for a in source for b in target], dim=1)  # (B, scale pairs)
    return distance, torch.softmax(-distance / temperature, dim=1)


def pyramid_sides(patches: int) -> list[int]:
    """The S resolutions of a square grid of that many patches, as cells a side: full, half, … down to one."""
    sides = [int(patches**0.5)]
    while sides[-1] > 1:
        sides.append(sides[-1] // 2)
    return sides


def _pyramid(patches: Tensor) -> list[Tensor]:
    """Unit-length cells (B, cells, D) of the patch grid at full, half, … resolution, down to one cell."""
    patches = patches.float()
    sides = pyramid_sides(patches.shape[1])
    grid = patches.transpose(1, 2).unflatten(2, (sides[0], sides[0]))  # (B, D, h, w)
    exact = grid.is_cuda and torch.are_deterministic_algorithms_enabled()  # where PyTorch's own gradient is not
    pooled = [(pooled_by_products if exact else F.adaptive_avg_pool2d)(grid, side) for side in sides]
    return [F.normalize(cells.flatten(2).transpose(1, 2), dim=-1) for cells in pooled]


def pooled_by_products(grid: Tensor, side: int) -> Tensor:
    """What `adaptive_avg_pool2d` gives of a square grid, (B, D, h, h) to (B, D, side, side): pooling is linear."""
    weights = F.adaptive_avg_pool1d(torch.eye(grid.shape[-1], device=grid.device), side)  # (h, side)
    return weights.T @ grid @ weights


def _cell_distance(source: Tensor, target: Tensor) -> Tensor:
    """1 − cosine from each source cell to its closest target cell, averaged: (B, a, D), (B, b, D) to (B,)."""
    similarity = source @ target.transpose(1, 2)  # (B, a, b)
    return 1 - similarity.amax(dim=2).mean(dim=1)
