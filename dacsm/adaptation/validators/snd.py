"""Soft neighbourhood density (Saito et al., arXiv 2108.10860)."""

import torch
from torch.nn import functional as F

from dacsm.evaluation.outputs import Outputs, entropy

MOST_IMAGES = 4000  # which are compared with each other
TEMPERATURE = 0.05  # as in the paper


def score(epoch: Outputs) -> float:
    """Mean entropy of each image's similarities to the others.

    High where predictions form dense groups; that all images in one group score highest is known of it.
    """
    unit = F.normalize(epoch.probabilities[:MOST_IMAGES], dim=1)
    similarity = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf)  # (M, M)
    return entropy(F.softmax(similarity, dim=1)).mean().item()
