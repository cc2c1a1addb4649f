"""InfoMax (Shi and Sha, ICML 2012; as a validator arXiv 2208.07360)."""

from dacsm.evaluation.outputs import Outputs, entropy


def score(epoch: Outputs) -> float:
    r"""Entropy of the mean prediction less the mean entropy: high where predictions are confident and varied.

    $H(\mathbb{E}_x\,p(x)) - \mathbb{E}_x\,H(p(x))$.
    """
    return (entropy(epoch.probabilities.mean(dim=0)) - entropy(epoch.probabilities).mean()).item()
