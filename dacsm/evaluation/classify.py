"""Classify pictures of the user's own with any trained model: single files, or all in a folder and below."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dacsm.data.pictures import read_pictures
from dacsm.data.transforms import normalise
from dacsm.models.classifier import load_checkpoint
from dacsm.models.hub_folder import CONFIG, WEIGHTS, Trained, load_folder
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError

BATCH = 64


@dataclass(frozen=True)
class Classified:
    """A picture's most probable classes, with their probabilities, best first; or why it could not be read."""

    path: str
    classes: tuple[tuple[str, float], ...] = ()
    problem: str | None = None


def load_trained(path: Path) -> Trained:
    """The model of a checkpoint, or of a folder that `dacsm export` wrote or the weights in it, in evaluation mode.

    Raises InputError where it is none of these, or cannot be used.
    """
    folder = path.parent if path.name == WEIGHTS else path
    if (folder / CONFIG).is_file():
        return load_folder(folder)
    if path.is_dir():
        raise InputError(f"{path} is no folder of `dacsm export`, as it has no {CONFIG}; name one, or a {WEIGHTS}.")
    try:
        classifier = load_checkpoint(path)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:  # what it says of itself is not true
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} is no checkpoint of dacsm ({reason}); name another.") from error
    return Trained(classifier, classifier.description.model, classifier.description.classes, None)


def classify(trained: Trained, paths: Sequence[Path], top: int, compute: Compute) -> Iterator[Classified]:
    """The `top` classes of each picture, in the order of `paths`, a folder's sorted by name; read as they are needed.

    Raises InputError where a folder cannot be listed.
    """
    trained.network.to(compute.device)
    for batch in read_pictures(paths, trained.model, BATCH, compute.workers):
        best = iter(_best(trained, batch.views, top, compute))
        for path, problem in zip(batch.paths, batch.problems, strict=True):
            yield Classified(path, problem=problem) if problem is not None else Classified(path, next(best))


@torch.inference_mode()
def _best(trained: Trained, views: Tensor, top: int, compute: Compute) -> list[tuple[tuple[str, float], ...]]:
    """The most probable classes of each view (B, C, H, W), with their probabilities."""
    if not len(views):
        return []
    logits = trained.network(normalise(views.to(compute.device), trained.model)).double().cpu()  # (B, K)
    indices = logits.topk(min(top, len(trained.classes))).indices  # (B, top): of logits, so that no temperature counts
    probabilities = (logits / (trained.temperature or 1)).softmax(dim=1).gather(1, indices)
    return [
        tuple((trained.classes[index], probability) for index, probability in zip(*row, strict=True))
        for row in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]
