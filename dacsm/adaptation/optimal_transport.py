"""Pseudo labels by optimal transport from images to class centres, the classes' fractions held more or less firmly."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.pairing import extended

EPSILON = 1e-8
ROUNDS = 2  # centres from predictions, then from the labels that these give, as in CDTrans
ITERATIONS = 50  # the offsets settle in fewer


def transport(features: Tensor, logits: Tensor, fractions: Tensor, firmness: float, temperature: float) -> Tensor:
    """Log probabilities (N, K) for target features (N, D) and logits (N, K), where classes have the `fractions` (K,).

    As `dacsm.adaptation.pairing.centre_labels`, but that images are sent to centres by entropic transport at
    `temperature` (of cosines), whose class marginal is held to the fractions by the power `firmness`: 0 takes the
    closest centre, 1 keeps to the fractions exactly, and in between they are a pull that the features may outweigh
    (unbalanced transport, Chizat et al. 2018). A class without a fraction takes no part.
    """
    extension = extended(features)  # (N, D + 1)
    scores = F.log_softmax(logits, dim=1)
    for _ in range(ROUNDS):
        plan = F.softmax(scores + class_offsets(scores, fractions, firmness), dim=1)  # (N, K)
        centres = F.normalize(plan.T @ extension / (plan.sum(dim=0)[:, None] + EPSILON), dim=1)
        scores = extension @ centres.T / temperature
    return F.log_softmax(scores + class_offsets(scores, fractions, firmness), dim=1)


def class_offsets(scores: Tensor, fractions: Tensor, firmness: float) -> Tensor:
    """What to add to the classes' scores (N, K) so that their softmax comes closer to the fractions (K,): (K,)."""
    wanted = torch.log(fractions.to(scores.dtype))  # a class without a fraction is at minus infinity, and stays there
    offsets = torch.where(fractions > 0, 0.0, -torch.inf).to(scores.dtype)
    for _ in range(ITERATIONS):
        found = torch.logsumexp(F.log_softmax(scores + offsets, dim=1), dim=0) - torch.log(torch.tensor(len(scores)))
        offsets = torch.where(fractions > 0, firmness * (wanted - found + offsets), -torch.inf)
    return offsets
