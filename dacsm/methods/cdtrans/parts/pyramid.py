"""Cross-Scale Matching, in the loss of a pair: patch tokens meet at the resolutions that match.

Our reconstruction from the abstract of DACSM (arXiv 2603.17474), see docs/method.md.
"""

import torch
from torch import Tensor

from dacsm.config.kinds.cdtrans import Pyramid
from dacsm.methods.cdtrans.resolutions import scale_choice
from dacsm.runtime.together import gathered


def pyramid_loss(source_patches: Tensor, target_patches: Tensor, settings: Pyramid) -> Tensor:
    r"""Distance of a pair over the pairs of scales that match best: patch tokens (B, n, D) each, to a scalar.

    $$
    \sum_{a,b}\,\alpha_{ab}\,d_{ab} - \eta\,H(\alpha), \qquad \alpha = \mathrm{softmax}(-d / \tau)
    $$

    Both patch grids are pooled to several resolutions. The distance of source resolution a and target resolution b is
    the mean, over source cells, of the distance to the closest target cell. A softmax over all (a, b) chooses softly;
    its entropy is rewarded, so that the choice does not lock on one pair early.
    """
    distance, choice = scale_choice(source_patches, target_patches, settings.temperature)
    entropy = -(choice * torch.log(choice + 1e-8)).sum(dim=1)
    return gathered((choice * distance).sum(dim=1) - settings.entropy * entropy).mean()
