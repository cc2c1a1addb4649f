"""Features and logits of a whole domain, through the plain network and the centre view."""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.config.params import Model
from dacsm.data.shards import ShardedImages
from dacsm.data.transforms import centre_view, normalise
from dacsm.models.classifier import Classifier
from dacsm.models.precision import autocast
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import own
from dacsm.runtime.together import complete


@dataclass(frozen=True)
class Predictions:
    """What the model says of N images, on the CPU: features (N, D) after the neck, logits (N, K) in float32."""

    features: Tensor
    logits: Tensor

    @property
    def predicted(self) -> np.ndarray:
        """The class of highest probability, (N,) int64."""
        return self.logits.argmax(dim=1).numpy()


class CentreViews(Dataset):
    """The centre view of each image, or of those with the given indices, with objects at some scale."""

    def __init__(self, images: ShardedImages, model: Model, indices: np.ndarray | None = None, scale: float = 1.0):
        self.images, self.model, self.scale = images, model, scale
        self.indices = np.arange(len(images)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor:
        return centre_view(self.images[int(self.indices[position])], self.model, self.scale)


@torch.inference_mode()
def predict(
    classifier: Classifier,
    images: ShardedImages,
    compute: Compute,
    precision: str = "float32",
    batch_size: int = 256,
    indices: np.ndarray | None = None,
    keep: str = "float32",
    scale: float = 1.0,
) -> Predictions:
    """Features and logits of a domain's images, in evaluation mode; the classifier's mode is put back.

    `indices` picks images; `keep` is what features are kept in, float32 or float16; `scale` enlarges the objects in the
    images. Of several processes each sees a part of the images, and all get the whole. Raises InputError where the
    folder for features, if one is named, has no room for them.
    """
    training = classifier.training
    classifier.eval()
    model = classifier.description.model
    views = CentreViews(images, model, indices, scale)
    features = _array(len(views), classifier.width, getattr(torch, keep), compute.features_folder)
    logits = torch.empty(len(views), len(classifier.description.classes))

    def rows_of(process: int | None = None) -> slice:
        """What a process sees, in the batches of a run of one process, so that no bit differs."""
        batches = own(-(-len(views) // batch_size), process)
        return slice(batches.start * batch_size, min(batches.stop * batch_size, len(views)))

    pinned, mine = compute.device.type == "cuda", rows_of()
    options = {"num_workers": compute.workers, "pin_memory": pinned, "generator": torch.Generator()}
    loader = DataLoader(views, batch_size, sampler=range(mine.start, mine.stop), **options)
    start = mine.start
    for batch, batch_logits in _outputs(classifier, loader, compute.device, precision):
        rows = slice(start, start + len(batch))
        features[rows], logits[rows] = batch, batch_logits
        start += len(batch)
    complete(features, rows_of)
    complete(logits, rows_of)
    classifier.train(training)
    return Predictions(features, logits)


def _outputs(
    classifier: Classifier, batches: Iterable[Tensor], device: torch.device, precision: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (B, D) and logits (B, K), on the CPU, of batches (B, C, H, W) uint8.

    A GPU is given the next batch before the outputs of one are waited for, so that it is never idle.
    """
    before = None
    for pixels in batches:
        pixels = normalise(pixels.to(device, non_blocking=True), classifier.description.model)
        with autocast(device, precision):
            features = classifier.features(pixels)
        copies = features.to("cpu", non_blocking=True), classifier.classify(features).to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None
        if before is not None:
            yield _arrived(*before)
        before = copies, copied
    if before is not None:
        yield _arrived(*before)


def _arrived(copies: tuple[Tensor, Tensor], copied: torch.cuda.Event | None) -> tuple[Tensor, Tensor]:
    """Copies from a GPU, once they are there."""
    if copied is not None:
        copied.synchronize()
    return copies


def accuracy(
    classifier: Classifier, images: ShardedImages, labels: Tensor, indices: Tensor, compute: Compute, precision: str
) -> float:
    """Of the images with these indices, the fraction that is classified as the labels (N,) say; NaN for none."""
    if not len(indices):
        return math.nan
    seen = predict(classifier, images, compute, precision, indices=indices.numpy())
    return (seen.logits.argmax(dim=1) == labels[indices]).double().mean().item()


def _array(rows: int, columns: int, dtype: torch.dtype, folder: Path | None) -> Tensor:
    """An empty array, in memory, or in a temporary file in the folder, which is removed once nothing uses it."""
    array = torch.empty(0 if folder else rows, columns, dtype=dtype)
    if folder is None or not rows:
        return array
    size = rows * columns * array.element_size()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full says so here, not in the midst of writing
            return torch.from_numpy(np.memmap(file, array.numpy().dtype, "r+", shape=(rows, columns)))
    except OSError as error:
        raise InputError(
            f"the features folder {folder} cannot take {size / 1e6:,.0f} MB ({error.strerror}); "
            "name a folder on a disk with room, or none, so that features stay in memory."
        ) from error
