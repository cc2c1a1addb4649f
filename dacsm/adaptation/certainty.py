"""Losses on unlabelled predictions: how sure they are, and how they spread over the classes."""

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 1e-12  # of a sum that is divided by: a class that nothing is taken for has no confusion


def certainty(probabilities: Tensor) -> Tensor:
    r"""Weights $1 + e^{-H(p)}$ of predictions (N, K), of mean 1 over the batch: (N,). No gradient flows through them.

    CDAN's entropy conditioning (arXiv 1705.10667), which minimum class confusion takes up.
    """
    weights = 1 + torch.exp(-torch.special.entr(probabilities.detach()).sum(dim=1))
    return weights / weights.mean()


def information_loss(logits: Tensor) -> Tensor:
    r"""Mean entropy of predictions less the entropy of their mean, logits (N, K) to a scalar.

    $\mathbb{E}_x\,H(p(x)) - H(\mathbb{E}_x\,p(x))$.
    SHOT's information maximisation (arXiv 2002.08546): each prediction is sure, and all together are diverse.
    """
    logs = F.log_softmax(logits, dim=1)
    probabilities = logs.exp()
    each = -(probabilities * logs).sum(dim=1).mean()
    return each - torch.special.entr(probabilities.mean(dim=0)).sum()


def confusion_loss(logits: Tensor, temperature: float) -> Tensor:
    r"""How often predictions waver between two classes, logits (N, K) to a scalar.

    $$
    \frac{1}{K} \sum_k\,\sum_{l \neq k}\,\frac{C_{kl}}{\sum_j\,C_{kj}}, \qquad C_{kl} = \sum_n\,w_n\,p_{nk}\,p_{nl}
    $$

    Minimum class confusion (arXiv 1912.03699): the sum of the normed matrix of class correlations off its diagonal.
    """
    probabilities = F.softmax(logits / temperature, dim=1)
    correlations = (probabilities * certainty(probabilities)[:, None]).T @ probabilities  # (K, K)
    normed = correlations / correlations.sum(dim=1, keepdim=True).clamp(min=LEAST)
    return (normed.sum() - normed.trace()) / len(normed)
