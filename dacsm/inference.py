"""Features and logits of a whole domain, through the plain network and the centre view."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.compute import Compute, autocast
from dacsm.models.classifier import Classifier
from dacsm.reading import ShardedImages
from dacsm.views import centre_view, normalise, resized


@dataclass(frozen=True)
class Predictions:
    """What the model says of N images, on the CPU in float32: features (N, D) after the neck, logits (N, K)."""

    features: Tensor
    logits: Tensor

    @property
    def predicted(self) -> np.ndarray:
        """The class of highest probability, (N,) int64."""
        return self.logits.argmax(dim=1).numpy()


class CentreViews(Dataset):
    """The centre view of each image, or of the images with the given numbers."""

    def __init__(self, images: ShardedImages, classifier: Classifier, numbers: np.ndarray | None = None):
        self.images, self.model = images, classifier.description.model
        self.numbers = np.arange(len(images)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> Tensor:
        return centre_view(self.images[int(self.numbers[position])], self.model)


@torch.inference_mode()
def predict(
    classifier: Classifier,
    images: ShardedImages,
    compute: Compute,
    precision: str = "float32",
    batch_size: int = 256,
    size: int | None = None,
    numbers: np.ndarray | None = None,
) -> Predictions:
    """Features and logits of a domain's images, in evaluation mode; the classifier's mode is put back.

    `size` is the resolution that the model sees, in pixels, if not its own; `numbers` picks images.
    """
    training = classifier.training
    classifier.eval()
    views = CentreViews(images, classifier, numbers)
    model = classifier.description.model
    features, logits = [], []
    loader = DataLoader(views, batch_size, num_workers=compute.workers, generator=torch.Generator())
    for pixels in loader:  # uint8 (B, C, H, W)
        pixels = resized(normalise(pixels.to(compute.device, non_blocking=True), model), size or model.image_size)
        with autocast(compute.device, precision):
            batch = classifier.features(pixels)
        features.append(batch.cpu())
        logits.append(classifier.classify(batch).cpu())
    classifier.train(training)
    return Predictions(torch.cat(features), torch.cat(logits))
