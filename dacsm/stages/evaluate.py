"""Evaluation: the only stage that joins predictions with the target's labels.

Which epoch was selected was settled in `adapt`, without labels; here the labels only say how good that choice was.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import accuracy_score, recall_score

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Params
from dacsm.config.paths import Paths
from dacsm.evaluation.epochs import Epochs, read_epochs
from dacsm.evaluation.evaluated_model import (
    SELECTED,
    EvaluatedModel,
    evaluated_model,
    predict_domain,
    read_class_numbers,
)
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_csv, write_json

if TYPE_CHECKING:
    from dacsm.runtime.device import Compute

LAST = "last epoch"
ORACLE = "oracle (target labels)"
# Another device may flip the few images that lie on a border between classes; more than this fraction is another model.
MAX_FLIPPED = 0.005


def evaluate(
    params: Params, dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths, compute: "Compute"
) -> dict[str, float]:
    """Evaluate one run on its target; write predictions.csv and metrics.json.

    Returns what was measured, for the run's record.

    The classes of an adapted run are those that `adapt` recorded, so that the numbers do not depend on the device that
    evaluates; running the checkpoint proves that it is the recorded one, and gives the probabilities.

    Raises:
        InputError: where a file is missing, or checkpoint, epochs.npz and shards do not belong together.
    """
    _source, target = dataset.split_task(task)
    measured_on = dataset.evaluation_domain(target)
    shards = paths.shards(dataset.name, measured_on)
    labels = read_class_numbers(shards, dataset, measured_on)
    model = evaluated_model(params, dataset, method, task, seed, paths)
    shape = (len(labels), len(dataset.classes))
    started = time.perf_counter()
    predicted, logits, backbone = predict_domain(model, shards, shape, compute)
    seconds = time.perf_counter() - started
    if method == SOURCE_ONLY:
        results = measure_run(labels, predicted, None, model.recipe.epochs, dataset)
    elif measured_on != target:
        results = _measure_elsewhere(model, labels, predicted, dataset, target, shards, paths, compute)
    else:
        path = model.folder / "epochs.npz"
        epochs = read_epochs(path, model.made_by, images=len(labels), classes=len(dataset.classes))
        predicted = _require_same(predicted, epochs.predicted[epochs.selected - 1], model)
        results = measure_run(labels, predicted, epochs, model.recipe.epochs, dataset)

    rows = zip(range(len(labels)), labels, predicted, _probabilities(logits, predicted), strict=True)
    folder = paths.evaluated(dataset.name, method, task, seed)
    write_csv(folder / "predictions.csv", ("index", "label", "predicted", "probability"), rows)
    run_facts = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "backbone": backbone}
    write_json(folder / "metrics.json", {**run_facts, "protocol": dataset.protocol, "images": len(labels), **results})
    return {"images_per_second": round(len(labels) / max(seconds, 1e-9), 1)}


def measure_run(
    labels: np.ndarray, predicted: np.ndarray, epochs: Epochs | None, trained_epochs: int, dataset: DatasetSpec
) -> dict[str, Any]:
    """What metrics.json says of a run, from its class numbers `labels` and `predicted` (N,) and its epochs.

    Pretraining sees no target image, so that a source model has no epochs to choose among: no validators, no oracle.
    """
    if epochs is not None:
        return _measure_epochs(labels, epochs, dataset)
    last = {"selection": LAST, "epoch": trained_epochs, **measure(labels, predicted, dataset.classes)}
    return {"selected": last, "last": last}


def measure(labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracies of predictions, in percent with 2 decimals. Confusions are in predictions.csv, image by image.

    `labels` and `predicted` are class numbers (N,). A class without images has no accuracy: it is null in `per_class`
    and is left out of `mean_per_class`.
    """
    recalls = class_recalls(labels, predicted, len(classes))
    return {
        "mean_per_class": _percent(np.nanmean(recalls)),
        "overall": _percent(accuracy_score(labels, predicted)),
        "per_class": {
            name: None if np.isnan(recall) else _percent(recall) for name, recall in zip(classes, recalls, strict=True)
        },
    }


def class_recalls(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """The recall of each class, (K,) in 0..1; NaN for a class without images."""
    return recall_score(labels, predicted, labels=range(classes), average=None, zero_division=np.nan)


def _measure_epochs(labels: np.ndarray, epochs: Epochs, dataset: DatasetSpec) -> dict[str, Any]:
    """The selected epoch (the primary one), the last, the oracle's, and what other validators would have chosen.

    A validator without any score has chosen none: its epoch and its accuracies are null.
    """
    accuracy = {
        "mean_per_class": [
            np.nanmean(class_recalls(labels, predicted, len(dataset.classes))) for predicted in epochs.predicted
        ],
        "overall": (epochs.predicted == labels).mean(axis=1),
    }
    # Rounded, so that the last bit of a sum does not decide between equal epochs; argmax takes the first of them.
    oracle = int(np.round(accuracy[dataset.headline], 10).argmax()) + 1

    def measured(selection: str, epoch: int) -> dict[str, Any]:
        return {
            "selection": selection,
            "epoch": epoch,
            **measure(labels, epochs.predicted[epoch - 1], dataset.classes),
        }

    validators = {}
    for name, scores in zip(epochs.validators, epochs.scores.T, strict=True):
        known, epoch = np.isfinite(scores), None
        if known.any():
            best = int(np.where(known, scores, -np.inf).argmax()) + 1
            epoch = epochs.selected if name == epochs.validator else best
        of_choice = {key: None if epoch is None else _percent(all_[epoch - 1]) for key, all_ in accuracy.items()}
        every = [float(score) if finite else None for score, finite in zip(scores, known, strict=True)]
        validators[name] = {"epoch": epoch, **of_choice, "scores": every}
    return {
        "selected": measured(LAST if epochs.validator == "last" else epochs.validator, epochs.selected),
        "last": measured(LAST, len(epochs.predicted)),
        "oracle": measured(ORACLE, oracle),
        "validator": epochs.validator,
        "validators": validators,
        "accuracy_by_epoch": {
            key: [_percent(fraction) for fraction in fractions] for key, fractions in accuracy.items()
        },
        **_pseudo_labels(labels, epochs),
    }


def _pseudo_labels(labels: np.ndarray, epochs: Epochs) -> dict[str, Any]:
    """How many pseudo labels of each epoch are right, in percent; nothing for a method that has none."""
    if (epochs.pseudo_labels < 0).all():
        return {}
    return {"pseudo_label_accuracy": [_percent(right) for right in (epochs.pseudo_labels == labels).mean(axis=1)]}


def _measure_elsewhere(
    model: EvaluatedModel,
    labels: np.ndarray,
    predicted: np.ndarray,
    dataset: DatasetSpec,
    target: str,
    shards: Path,
    paths: Paths,
    compute: "Compute",
) -> dict[str, Any]:
    """The selected and the last epoch on images (N,) that were not adapted on.

    epochs.npz is about the images that were, so that there is no oracle, and nothing on the epochs between.
    """
    from dacsm.data.index import read_index

    adapted_on = read_index(paths.shards(dataset.name, target)).images
    path = model.folder / "epochs.npz"
    epochs = read_epochs(path, model.made_by, images=adapted_on, classes=len(dataset.classes))
    shape = (len(labels), len(dataset.classes))
    last, *_ = predict_domain(model, shards, shape, compute, "last.safetensors")
    name = LAST if epochs.validator == "last" else epochs.validator
    selected = {"selection": name, "epoch": epochs.selected, **measure(labels, predicted, dataset.classes)}
    last_epoch = {"selection": LAST, "epoch": len(epochs.predicted), **measure(labels, last, dataset.classes)}
    return {"selected": selected, "last": last_epoch}


def _require_same(predicted: np.ndarray, recorded: np.ndarray, model: EvaluatedModel) -> np.ndarray:
    """The recorded classes, once the checkpoint's (both (N,)) are seen to be the same but for a few."""
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
    return recorded


def _probabilities(logits: np.ndarray, predicted: np.ndarray) -> list[str]:
    """The softmax probability of each image's predicted class, with 4 decimals."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))  # (N, K)
    chosen = exponentials[np.arange(len(predicted)), predicted] / exponentials.sum(axis=1)  # (N,)
    return [f"{probability:.4f}" for probability in chosen]


def _percent(fraction: float) -> float:
    return round(100 * float(fraction), 2)
