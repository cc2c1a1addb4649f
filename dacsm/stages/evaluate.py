"""Stage: evaluation, the only one that joins predictions with the target's labels.

Validators select an epoch from what `adapt` stored, without labels; the labels only say how good that choice was. A
target without labels is described, and not measured: predictions and label-free scores, no accuracy.
"""

import math
import sys
import time
from collections.abc import Mapping

import numpy as np
from scipy.special import softmax

from dacsm.adaptation.scores import CRITERIA, VALIDATORS, score_epochs
from dacsm.config.params import SOURCE_ONLY
from dacsm.config.project import Project
from dacsm.data.shards import read_index, read_names
from dacsm.evaluation.evaluated_model import SELECTED, EvaluatedModel, evaluated_model, evaluated_on, predict_domain
from dacsm.evaluation.metrics import Epochs, measure_run, read_epochs
from dacsm.evaluation.outputs import best_epoch, sample_outputs
from dacsm.evaluation.predictions import Predictions
from dacsm.evaluation.unlabelled import COLUMNS, describe_run
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_csv, write_json

# Another device may flip the few images that lie on a border between classes; more than this fraction is another model.
MAX_FLIPPED = 0.005


def evaluate(project: Project, method: str, task: str, seed: int, compute: Compute) -> dict[str, float]:
    """Evaluate one run on its target; write predictions.csv and metrics.json; return the speed for its record.

    The classes of an adapted run are those that `adapt` recorded, so that the numbers do not depend on the device that
    evaluates; running the checkpoint proves that it is the recorded one, and gives the probabilities. Raises InputError
    where a file is missing, or checkpoint, epochs.npz and shards do not belong together.
    """
    dataset, classes = project.dataset, project.dataset.classes
    model = evaluated_model(project, method, task, seed)
    adapted_on = project.paths.shards(dataset.name, dataset.split_task(task)[1])
    labelled = dataset.has_labels(task)
    # What is known of each image: the class that is right, or else where it came from
    shards, known = evaluated_on(project, task) if labelled else (adapted_on, np.array(read_names(adapted_on)))
    shape = len(known), len(classes)

    started = time.perf_counter()
    predictions, backbone = predict_domain(model, shards, shape, compute)
    seconds = time.perf_counter() - started
    predicted, probabilities = predictions.predicted, _probabilities(predictions)
    epochs = _recorded(project, model, method, task)
    scores: Mapping[str, np.ndarray] = {}
    if epochs is not None and shards == adapted_on:
        scores = score_epochs(epochs)
        predicted, probabilities = _at_selected(model, epochs, scores, predicted, probabilities)

    header: tuple[str, ...]
    if labelled:
        last = predicted
        if epochs is not None and not scores:
            last = predict_domain(model, shards, shape, compute, "last.safetensors")[0].predicted
        results = measure_run(known, predicted, last, epochs, scores, model.recipe, dataset)
        header, columns = ("index", "label", "predicted", "probability"), [known, predicted]
    else:
        if epochs is None:
            outputs = sample_outputs(model.recipe.epochs, predictions, math.nan)
            scores = {name: np.array([outputs.scored_by(VALIDATORS[name])]) for name in CRITERIA}
        results = describe_run(predicted, probabilities, epochs, scores, model.recipe, classes)
        header, columns = COLUMNS, [known, predicted, np.array(classes)[predicted]]
    folder = project.paths.evaluated(dataset.name, method, task, seed)
    write_csv(folder / "predictions.csv", header, zip(range(len(known)), *columns, probabilities, strict=True))
    facts = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "backbone": backbone}
    write_json(folder / "metrics.json", {**facts, "protocol": dataset.protocol, "images": len(known), **results})
    return {"images_per_second": round(len(known) / max(seconds, 1e-9), 1)}


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
        # The validator has been edited since the adaptation, which kept the weights of the epoch that it selected then.
        print(
            f"{model.folder / SELECTED} is of epoch {epochs.kept}, but {model.recipe.validator} now selects epoch "
            f"{selected}, of which the metrics are; make the checkpoint anew with `snakemake --forcerun adapt`.",
            file=sys.stderr,
        )
        probabilities = [""] * len(predicted)
    return epochs.predicted[selected - 1], probabilities


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
