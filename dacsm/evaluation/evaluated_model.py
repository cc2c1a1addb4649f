"""The model that a run is evaluated by, what it predicts of a domain, and the classes that are right there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dacsm.config.params import SOURCE_ONLY
from dacsm.config.project import Project
from dacsm.data.shards import ShardedImages, read_labels, require_size
from dacsm.evaluation.predictions import Predictions, predict
from dacsm.models.arithmetic import choose_arithmetic
from dacsm.models.classifier import load_checkpoint
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError

SELECTED = "model.safetensors"  # the checkpoint that stands for a run: of the epoch selected without target labels


@dataclass(frozen=True)
class EvaluatedModel:
    """Where a run's checkpoints lie, the recipe that they were trained by, and the command that makes them."""

    folder: Path
    recipe: Any  # Pretrain, or AdaptRecipe
    made_by: str


def evaluated_model(project: Project, method: str, task: str, seed: int) -> EvaluatedModel:
    """The model of a method on a task: the pretrained one for source_only.

    Raises InputError where the dataset has no such task, or params.yaml no such method or no recipe.
    """
    dataset = project.dataset.name
    source, _target = project.dataset.split_task(task)
    folder = project.paths.trained(dataset, method, task, seed)
    if method == SOURCE_ONLY:
        recipe, made_by = project.params.recipe("pretrain", dataset), f"dacsm pretrain {dataset} {source}"
    else:
        project.params.method(method)
        recipe, made_by = project.params.recipe("adapt", dataset), f"dacsm adapt {dataset} {method} {task}"
    return EvaluatedModel(folder, recipe, f"{made_by} --seed {seed}")


def predict_domain(
    model: EvaluatedModel,
    shards: Path,
    shape: tuple[int, int],
    compute: Compute,
    name: str = SELECTED,
    scale: float = 1.0,
) -> tuple[Predictions, str]:
    """What the model says of every image of a domain, and the name of the backbone.

    `shape` is the (N, K) expected; `name` is the checkpoint's; `scale` is how large objects are shown. Raises
    InputError where checkpoint and shards cannot be used, or the logits are of another shape or not finite.
    """
    choose_arithmetic(model.recipe.arithmetic, model.recipe.threads)  # as in training
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
    return predictions, classifier.description.model.name


def evaluated_on(project: Project, task: str) -> tuple[Path, np.ndarray]:
    """The shards of the images that measure an adaptation on a task, and their labels as class indices, int64 (N,).

    Raises InputError where there are no labels, or they are not of the dataset's classes.
    """
    dataset = project.dataset
    domain = dataset.evaluation_domain(dataset.split_task(task)[1])
    shards = project.paths.shards(dataset.name, domain)
    labels, again = read_labels(shards), f"make it again with `dacsm shard {dataset.name} {domain}`."
    if not len(labels):
        raise InputError(f"{shards} has no labelled images; {again}")
    least, most, expected = labels.min(), labels.max(), len(dataset.classes) - 1
    if not 0 <= least <= most <= expected:
        raise InputError(f"{shards} has class indices from {least} to {most}, expected 0 to {expected}; {again}")
    return shards, labels
