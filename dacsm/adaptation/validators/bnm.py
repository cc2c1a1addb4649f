"""Batch nuclear-norm maximisation (Cui et al., arXiv 2003.12237)."""

import torch

from dacsm.evaluation.outputs import Outputs


def score(epoch: Outputs) -> float:
    r"""Nuclear norm of the predictions (M, K).

    In units of its bound $\sqrt{M \cdot \min(M, K)}$, which confident predictions in equal fractions reach.
    """
    probabilities = epoch.probabilities
    bound = (len(probabilities) * min(probabilities.shape)) ** 0.5
    return (torch.linalg.matrix_norm(probabilities, "nuc") / bound).item()
