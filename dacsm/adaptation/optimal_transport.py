"""Pseudo labels by entropic optimal transport from images to class centres, with a relaxed class marginal."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.pairing import BLOCK, extended, labelled_centres

EPSILON = 1e-8
ROUNDS = 2  # centres of the images with a label by prediction, then of those that these give, as in CDTrans
ITERATIONS = 50  # the offsets settle in fewer
KEPT_BYTES = 2 * 2**30  # scores of all images stay on the device where they take no more


def transport(
    features: Tensor,
    logits: Tensor,
    fractions: Tensor,
    marginal_relaxation: float,
    temperature: float,
    device: torch.device | None = None,
) -> Tensor:
    """Log probabilities (N, K) for target features (N, D) and logits (N, K), where classes have the `fractions` (K,).

    As `dacsm.adaptation.pairing.centre_labels`, but images are sent to centres by entropic transport. Its `temperature`
    is in units of how much closer an image is to its closest centre than to the average one: so the labels follow
    features that lie close together too, whose cosines are all nearly 1. With a `marginal_relaxation` of 0 classes have
    exactly these fractions; with 1 every image takes its closest centre; in between the fractions pull, and the
    features may outweigh them (unbalanced transport, Chizat et al. 2018). A class whose fraction is 0, or that no image
    is labelled as, gets none: its log probability is minus infinity.

    Features are copied to `device` (by default where they are) in blocks, and never as a whole.
    """
    device = device or features.device
    starts = range(0, len(features), BLOCK)
    kept = device if logits.numel() * logits.element_size() <= KEPT_BYTES else torch.device("cpu")
    fractions = fractions.to(device)
    scores = [F.log_softmax(logits[start : start + BLOCK].to(kept), dim=1) for start in starts]
    for _ in range(ROUNDS):
        offsets = class_offsets(scores, fractions, marginal_relaxation)
        labels = torch.cat([(block.to(device) + offsets).argmax(dim=1) for block in scores])
        centres = labelled_centres(features, labels, len(fractions))
        fractions = torch.where(centres.any(dim=1), fractions, 0)  # a class without images has no centre
        blocks = (extended(features[start : start + BLOCK].to(device)) for start in starts)
        cosines = [(block @ centres.T).to(kept) for block in blocks]
        unit = temperature * mean_lead(cosines, fractions > 0)
        scores = [block / unit for block in cosines]
    offsets = class_offsets(scores, fractions, marginal_relaxation)
    return torch.cat([F.log_softmax(block.to(device) + offsets, dim=1).to(logits.device) for block in scores])


def mean_lead(cosines: list[Tensor], present: Tensor) -> Tensor:
    """How far images' largest cosine is above their average one, over the classes `present` (K,): a mean, ().

    Cosines (N, K) come in blocks of rows.
    """
    of_present = [block[:, present.to(block.device)] for block in cosines]
    leads = [(block.amax(dim=1) - block.mean(dim=1)).sum() for block in of_present]
    return torch.stack(leads).sum() / sum(map(len, cosines)) + EPSILON


def class_offsets(scores: list[Tensor], fractions: Tensor, marginal_relaxation: float) -> Tensor:
    r"""What to add to the classes' scores so that their softmax comes closer to the fractions (K,): (K,).

    With the fractions $\pi$, the relaxation $\rho$, and the softmax $p_{nk}$ of the scores with the offsets $b$:

    $$
    b_k \leftarrow (1 - \rho)\left(b_k + \log \pi_k - \log \frac{1}{N} \sum_n\,p_{nk}\right)
    $$

    Scores (N, K) come in blocks of rows, and are read where the fractions are.
    """
    device = fractions.device
    images = torch.tensor(sum(map(len, scores)), device=device)
    fractions = fractions.to(scores[0].dtype)
    wanted = torch.log(fractions)
    offsets = torch.where(fractions > 0, 0.0, -torch.inf).to(fractions.dtype)
    for _ in range(ITERATIONS):
        found = [torch.logsumexp(F.log_softmax(block.to(device) + offsets, dim=1), dim=0) for block in scores]
        mass = torch.logsumexp(torch.stack(found), dim=0) if len(found) > 1 else found[0]
        pulled = (1 - marginal_relaxation) * (wanted - (mass - torch.log(images)) + offsets)
        offsets = torch.where(fractions > 0, pulled, -torch.inf)  # a class without a fraction stays without
    return offsets
