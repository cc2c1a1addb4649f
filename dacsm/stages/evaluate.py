"""Stage: evaluation, the only one that joins predictions with the target's labels.

Validators select an epoch from what `adapt` stored, without labels; the labels only say how good that choice was.
"""

import sys
import time

import numpy as np
from scipy.special import softmax

from dacsm.adaptation.scores import score_epochs
from dacsm.config.params import SOURCE_ONLY
from dacsm.config.project import Project
from dacsm.data.shards import read_index
from dacsm.evaluation.evaluated_model import SELECTED, EvaluatedModel, evaluated_model, evaluated_on, predict_domain
from dacsm.evaluation.metrics import measure_elsewhere, measure_epochs, measure_source_model, read_epochs
from dacsm.evaluation.outputs import best_epoch
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
    dataset = project.dataset
    model = evaluated_model(project, method, task, seed)
    shards, labels = evaluated_on(project, task)
    adapted_on = project.paths.shards(dataset.name, dataset.split_task(task)[1])
    shape = (len(labels), len(dataset.classes))
    started = time.perf_counter()
    predicted, logits, backbone = predict_domain(model, shards, shape, compute)
    seconds = time.perf_counter() - started
    probabilities = _probabilities(logits, predicted)
    epochs = None
    if method != SOURCE_ONLY:
        images, classes = read_index(adapted_on).images, len(dataset.classes)
        epochs = read_epochs(model.folder / "epochs.npz", model.made_by, images=images, classes=classes)
    if epochs is None:
        results = measure_source_model(labels, predicted, model.recipe.epochs, dataset.classes)
    elif shards != adapted_on:
        last, *_ = predict_domain(model, shards, shape, compute, "last.safetensors")
        results = measure_elsewhere(labels, predicted, last, epochs, model.recipe.validator, dataset)
    else:
        _require_same(predicted, epochs.predicted[epochs.kept - 1], model)
        scores = score_epochs(epochs)
        selected = best_epoch(scores[model.recipe.validator])
        predicted = epochs.predicted[selected - 1]
        if selected != epochs.kept:
            _say_other_epoch(model, epochs.kept, selected)
            probabilities = [""] * len(labels)
        results = measure_epochs(labels, epochs, scores, model.recipe.validator, dataset)

    rows = zip(range(len(labels)), labels, predicted, probabilities, strict=True)
    folder = project.paths.evaluated(dataset.name, method, task, seed)
    write_csv(folder / "predictions.csv", ("index", "label", "predicted", "probability"), rows)
    run_facts = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "backbone": backbone}
    write_json(folder / "metrics.json", {**run_facts, "protocol": dataset.protocol, "images": len(labels), **results})
    return {"images_per_second": round(len(labels) / max(seconds, 1e-9), 1)}


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


def _probabilities(logits: np.ndarray, predicted: np.ndarray) -> list[str]:
    """The softmax probability of each image's predicted class, with 4 decimals."""
    chosen = softmax(logits.astype(np.float64), axis=1)[np.arange(len(predicted)), predicted]  # (N,)
    return [f"{probability:.4f}" for probability in chosen]
