"""Stage: evaluation, the only one that joins predictions with the target's labels.

Validators select an epoch from what `adapt` stored, without labels; the labels only say how good that choice was. A
target without labels is described, and not measured: predictions and label-free scores, no accuracy.
"""

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from dacsm.adaptation.scores import CRITERIA, VALIDATORS, score_epochs
from dacsm.config.params import SOURCE_ONLY
from dacsm.config.project import Project
from dacsm.data.shards import read_index, read_names
from dacsm.evaluation.evaluated_model import SELECTED, EvaluatedModel, evaluated_model, evaluated_on, predict_domain
from dacsm.evaluation.metrics import Epochs, measure_elsewhere, measure_epochs, measure_source_model, read_epochs
from dacsm.evaluation.outputs import best_epoch, sample_outputs
from dacsm.evaluation.predictions import Predictions
from dacsm.evaluation.unlabelled import COLUMNS, describe_epochs, describe_predictions, describe_source_model
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_csv, write_json

# Another device may flip the few images that lie on a border between classes; more than this fraction is another model.
MAX_FLIPPED = 0.005


def evaluate(project: Project, method: str, task: str, seed: int, compute: Compute) -> dict[str, float]:
    """Evaluate one run on its target; write predictions.csv and metrics.json; return the speed for its record.

    The classes of an adapted run are those that `adapt` recorded, so that the numbers do not depend on the device that
    evaluates; running the checkpoint proves that it is the recorded one, and gives the probabilities.

    Raises:
        InputError: where a file is missing, or checkpoint, epochs.npz and shards do not belong together.
    """
    run = method, task, seed
    model = evaluated_model(project, *run)
    if not project.dataset.has_labels(task):
        return _evaluate_unlabelled(project, run, model, compute)
    dataset = project.dataset
    shards, labels = evaluated_on(project, task)
    adapted_on = project.paths.shards(dataset.name, dataset.split_task(task)[1])
    shape = (len(labels), len(dataset.classes))
    started = time.perf_counter()
    predictions, backbone = predict_domain(model, shards, shape, compute)
    seconds = time.perf_counter() - started
    predicted, probabilities = predictions.predicted, _probabilities(predictions)
    epochs = _recorded(project, model, method, task)
    if epochs is None:
        results = measure_source_model(labels, predicted, model.recipe.epochs, dataset.classes)
    elif shards != adapted_on:
        last, _ = predict_domain(model, shards, shape, compute, "last.safetensors")
        results = measure_elsewhere(labels, predicted, last.predicted, epochs, model.recipe.validator, dataset)
    else:
        scores = score_epochs(epochs)
        predicted, probabilities = _at_selected(model, epochs, scores, predicted, probabilities)
        results = measure_epochs(labels, epochs, scores, model.recipe.validator, dataset)
    rows = zip(range(len(labels)), labels, predicted, probabilities, strict=True)
    _write(project, run, (backbone, len(labels), results), ("index", "label", "predicted", "probability"), rows)
    return _speed(len(labels), seconds)


def _evaluate_unlabelled(
    project: Project, run: tuple[str, str, int], model: EvaluatedModel, compute: Compute
) -> dict[str, float]:
    """What `evaluate` does on a target without labels: it names each image's class, and scores without labels."""
    dataset, (method, task, _seed) = project.dataset, run
    shards = project.paths.shards(dataset.name, dataset.split_task(task)[1])
    names, classes = read_names(shards), dataset.classes
    started = time.perf_counter()
    predictions, backbone = predict_domain(model, shards, (len(names), len(classes)), compute)
    seconds = time.perf_counter() - started
    predicted, probabilities = predictions.predicted, _probabilities(predictions)
    epochs = _recorded(project, model, method, task)
    if epochs is None:
        outputs = sample_outputs(model.recipe.epochs, predictions, math.nan)
        scores = {name: outputs.scored_by(VALIDATORS[name]) for name in CRITERIA}
        described = describe_predictions(predicted, probabilities, classes)
        results = describe_source_model(described, model.recipe.epochs, scores)
    else:
        of_epochs = score_epochs(epochs)
        predicted, probabilities = _at_selected(model, epochs, of_epochs, predicted, probabilities)
        described = describe_predictions(predicted, probabilities, classes)
        results = describe_epochs(described, epochs, of_epochs, model.recipe.validator)
    named = [classes[index] for index in predicted]
    rows = zip(range(len(names)), names, predicted, named, probabilities, strict=True)
    _write(project, run, (backbone, len(names), results), COLUMNS, rows)
    return _speed(len(names), seconds)


def _recorded(project: Project, model: EvaluatedModel, method: str, task: str) -> Epochs | None:
    """What the adaptation recorded of its epochs; None for source-only, which has adapted to nothing."""
    if method == SOURCE_ONLY:
        return None
    dataset = project.dataset
    images = read_index(project.paths.shards(dataset.name, dataset.split_task(task)[1])).images
    return read_epochs(model.folder / "epochs.npz", model.made_by, images=images, classes=len(dataset.classes))


def _at_selected(
    model: EvaluatedModel,
    epochs: Epochs,
    scores: Mapping[str, np.ndarray],
    predicted: np.ndarray,
    probabilities: list[str],
) -> tuple[np.ndarray, list[str]]:
    """The recorded classes (N,) of the selected epoch, and their probabilities; empty if another epoch was kept.

    Raises InputError unless the checkpoint's classes, `predicted`, are nearly those that were recorded of its epoch.
    """
    _require_same(predicted, epochs.predicted[epochs.kept - 1], model)
    selected = best_epoch(scores[model.recipe.validator])
    if selected != epochs.kept:
        _say_other_epoch(model, epochs.kept, selected)
        probabilities = [""] * len(predicted)
    return epochs.predicted[selected - 1], probabilities


def _write(
    project: Project,
    run: tuple[str, str, int],
    found: tuple[str, int, Mapping[str, Any]],
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write predictions.csv, and what was found, with the backbone and the number of images, as metrics.json."""
    dataset, (method, task, seed), (backbone, images, results) = project.dataset, run, found
    folder = project.paths.evaluated(dataset.name, *run)
    write_csv(folder / "predictions.csv", header, rows)
    facts = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "backbone": backbone}
    write_json(folder / "metrics.json", {**facts, "protocol": dataset.protocol, "images": images, **results})


def _speed(images: int, seconds: float) -> dict[str, float]:
    return {"images_per_second": round(images / max(seconds, 1e-9), 1)}


def _say_other_epoch(model: EvaluatedModel, kept: int, selected: int) -> None:
    """The validator has been edited since the adaptation, which kept the weights of the epoch that it selected then."""
    print(
        f"{model.folder / SELECTED} is of epoch {kept}, but {model.recipe.validator} now selects epoch {selected}, of "
        "which the metrics are; make the checkpoint anew with `snakemake --forcerun adapt`.",
        file=sys.stderr,
    )


def _require_same(predicted: np.ndarray, recorded: np.ndarray, model: EvaluatedModel) -> None:
    """Raise InputError unless the classes by the checkpoint and the recorded ones, both (N,), are nearly the same."""
    flipped = int((predicted != recorded).sum())
    if flipped > MAX_FLIPPED * len(recorded):
        raise InputError(
            f"{model.folder / SELECTED} and epochs.npz beside it do not belong together: {flipped} of "
            f"{len(recorded)} images get another class; make both again with `{model.made_by}`."
        )
    if flipped:
        print(
            f"{flipped} of {len(recorded)} images get another class here than on the device that adapted; "
            "the recorded classes are kept.",
            file=sys.stderr,
        )


def _probabilities(predictions: Predictions) -> list[str]:
    """The softmax probability of each image's predicted class, with 4 decimals."""
    logits, predicted = np.asarray(predictions.logits, dtype=np.float64), predictions.predicted
    chosen = softmax(logits, axis=1)[np.arange(len(predicted)), predicted]  # (N,)
    return [f"{probability:.4f}" for probability in chosen]
