"""Cross-Scale Matching, in predictions: they stay the same where objects appear smaller or larger.

Our reconstruction from the abstract of DACSM (arXiv 2603.17474), see docs/method.md.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.target_views import TargetViews
from dacsm.config.kinds.cdtrans import Consistency
from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.shards import ShardedImages
from dacsm.models.classifier import Classifier


def scale_views(
    settings: Consistency, images: ShardedImages, model: Model, recipe: AdaptRecipe, *of_epoch: int
) -> TargetViews:
    """Views at other scales for an epoch: its seed, its number and its steps; the images need no pair."""
    # For mypy: of_epoch are three numbers
    return TargetViews(images, model, recipe, settings.every, *of_epoch, "scales", settings.scales)  # type: ignore[call-arg, arg-type]


def scale_loss(classifier: Classifier, images: Tensor, log_probabilities: Tensor) -> Tensor:
    r"""KL from what is known of images to the prediction on them at another scale: (B, C, H, W), (B, K) to a scalar.

    $\mathbb{E}_x [\max_k q_k \cdot \mathrm{KL}(q \,\|\, p(\tilde{x}))]$.
    Each image counts by how sure the first is. The neck takes the batch's statistics but does not learn from them, so
    that evaluation is untouched.
    """
    neck = classifier.neck
    token = classifier.class_token(images).float()
    features = F.batch_norm(token, None, None, neck.weight, neck.bias, training=True, eps=neck.eps)
    predicted = F.log_softmax(classifier.classify(features), dim=1)
    # A class that the source lacks is at minus infinity, of which 0 times is not a number.
    log_probabilities = log_probabilities.clamp(min=torch.finfo(log_probabilities.dtype).min)
    divergence = F.kl_div(predicted, log_probabilities, reduction="none", log_target=True).sum(dim=1)  # (B,)
    return (log_probabilities.amax(dim=1).exp() * divergence).mean()
