"""Cross-Scale Matching, in predictions: they stay the same where objects appear smaller or larger.

Our reconstruction from the abstract of DACSM (arXiv 2603.17474), see docs/method.md.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.config.kinds.cdtrans import Consistency
from dacsm.config.params import AdaptRecipe, Model
from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages
from dacsm.data.transforms import train_views
from dacsm.methods.cdtrans.batches import stack_views
from dacsm.models.classifier import Classifier


class TargetScaleViews:
    """Views of target images at other scales, for every so many steps of an epoch; the images need no pair.

    Images come in a random order, all of them before one comes again.
    """

    def __init__(
        self,
        images: ShardedImages,
        model: Model,
        recipe: AdaptRecipe,
        settings: Consistency,
        seed: int,
        epoch: int,
        steps: int,
    ):
        self.images, self.every, self.batch_size = images, settings.every, recipe.batch_size
        positions = sum(self.comes_at(step) for step in range(steps)) * self.batch_size
        self.order = np.resize(numpy_generator("scales", seed, epoch).permutation(len(images)), positions)
        self.views = train_views(model, recipe.augment, positions, seed, epoch, "scales", scales=settings.scales)

    def comes_at(self, step: int) -> bool:
        """Whether a step, counted from 0 in its epoch, has such views."""
        return step % self.every == 0

    def __call__(self, step: int) -> tuple[Tensor, Tensor] | None:
        """Views (B, C, H, W) uint8 and the indices of their images (B,), or None for a step without."""
        if not self.comes_at(step):
            return None
        first = step // self.every * self.batch_size
        indices = self.order[first : first + self.batch_size]
        return stack_views(self.views, self.images, indices, first), torch.from_numpy(indices)


def scale_loss(classifier: Classifier, images: Tensor, log_probabilities: Tensor) -> Tensor:
    """KL from what is known of the images to the prediction on them at another scale: (B, C, H, W), (B, K) to a scalar.

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
