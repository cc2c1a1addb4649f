"""Accuracy on the part of the source that is kept out of training."""

from dacsm.evaluation.outputs import Outputs


def score(epoch: Outputs) -> float:
    """In 0..1; NaN where nothing was kept out."""
    return epoch.source_accuracy
