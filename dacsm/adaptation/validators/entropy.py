"""Minus the mean entropy of the predictions (Morerio et al., arXiv 1711.10288)."""

from dacsm.evaluation.outputs import Outputs, entropy


def score(epoch: Outputs) -> float:
    """High where predictions are confident; that all images in one class score highest is known of it."""
    return -entropy(epoch.probabilities).mean().item()
