"""The model that a run is evaluated by, what it predicts of a domain, and the classes that are right there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Params, Training
from dacsm.config.paths import Paths
from dacsm.runtime.errors import InputError

if TYPE_CHECKING:
    from dacsm.runtime.device import Compute

SELECTED = "model.safetensors"  # the checkpoint that stands for a run: of the epoch selected without target labels


@dataclass(frozen=True)
class EvaluatedModel:
    """Where a run's checkpoints lie, the recipe that they were trained by, and the command that makes them."""

    folder: Path
    recipe: Training
    made_by: str


def evaluated_model(
    params: Params, dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths
) -> EvaluatedModel:
    """The model of a method on a task: the pretrained one for source_only.

    Raises:
        InputError: where the dataset has no such task, or params.yaml no such method or no recipe.
    """
    source, _target = dataset.split_task(task)
    folder = paths.trained(dataset.name, method, task, seed)
    if method == SOURCE_ONLY:
        made_by = f"dacsm pretrain {dataset.name} {source} --seed {seed}"
        return EvaluatedModel(folder, params.recipe("pretrain", dataset.name), made_by)
    params.method(method)
    made_by = f"dacsm adapt {dataset.name} {method} {task} --seed {seed}"
    return EvaluatedModel(folder, params.recipe("adapt", dataset.name), made_by)


def predict_domain(
    model: EvaluatedModel,
    shards: Path,
    shape: tuple[int, int],
    compute: "Compute",
    name: str = SELECTED,
    scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Classes (N,) and logits (N, K) of every image of a domain, and the name of the backbone.

    `shape` is the (N, K) expected; `name` is the checkpoint's; `scale` is how large objects are shown.

    Raises:
        InputError: where checkpoint and shards cannot be used, or the logits are of another shape or not finite.
    """
    from dacsm.data.shards import ShardedImages, require_size
    from dacsm.evaluation.predictions import predict
    from dacsm.models.classifier import load_checkpoint
    from dacsm.models.precision import set_threads  # these import torch, which reading metrics does not need

    set_threads(model.recipe.threads)  # as in training, so that sums are taken in the same order
    checkpoint = model.folder / name
    classifier = load_checkpoint(checkpoint, compute.device)
    images = ShardedImages(shards)
    require_size(images, classifier.description.model.resize)
    predictions = predict(classifier, images, compute, model.recipe.precision, scale=scale)
    logits = np.asarray(predictions.logits)
    if logits.shape != shape:
        raise InputError(
            f"{checkpoint} gives logits of shape {logits.shape} on {shards}, expected {shape} (images, classes); "
            f"make it again with `{model.made_by}`."
        )
    if not np.isfinite(logits).all():
        raise InputError(
            f"{checkpoint} gives logits that are not finite on {shards}, since its training diverged; "
            f"lower the learning rate and run `{model.made_by}`."
        )
    return predictions.predicted, logits, classifier.description.model.name


def read_class_indices(shards: Path, dataset: DatasetSpec, domain: str) -> np.ndarray:
    """The labels of a domain's images, as class indices, int64 (N,).

    Raises:
        InputError: where there are none, or they are not of the dataset's classes.
    """
    from dacsm.data.shards import read_labels

    labels = read_labels(shards)
    made_by = f"dacsm shard {dataset.name} {domain}"
    if not len(labels):
        raise InputError(f"{shards} has no labelled images; make it again with `{made_by}`.")
    if not 0 <= labels.min() <= labels.max() < len(dataset.classes):
        raise InputError(
            f"{shards} has class indices from {labels.min()} to {labels.max()}, expected 0 to "
            f"{len(dataset.classes) - 1}; make it again with `{made_by}`."
        )
    return labels
