"""What metrics.json says of predictions, once they are joined with the target's labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, recall_score

from dacsm.config.datasets import DatasetSpec
from dacsm.evaluation.epochs import Epochs
from dacsm.evaluation.outputs import best_epoch

LAST = "last epoch"
ORACLE = "oracle (target labels)"


def measure(labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracies of predictions, in percent with 2 decimals. Confusions are in predictions.csv, image by image.

    `labels` and `predicted` are class indices (N,). A class without images has no accuracy: it is null in `per_class`
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


def measure_source_model(
    labels: np.ndarray, predicted: np.ndarray, epochs: int, classes: tuple[str, ...]
) -> dict[str, Any]:
    """The last of a source model's epochs.

    Pretraining sees no target image, so that it has no epochs to choose among: no validators, no oracle.
    """
    last = {"selection": LAST, "epoch": epochs, **measure(labels, predicted, classes)}
    return {"selected": last, "last": last}


def measure_elsewhere(
    labels: np.ndarray, predicted: np.ndarray, last: np.ndarray, epochs: Epochs, validator: str, dataset: DatasetSpec
) -> dict[str, Any]:
    """The kept and the last epoch on images (N,) that were not adapted on.

    epochs.npz is about the images that were, so that there is no oracle, and nothing on the epochs between.
    """
    selected = {"selection": selection(validator), "epoch": epochs.kept, **measure(labels, predicted, dataset.classes)}
    count = len(epochs.predicted)
    return {"selected": selected, "last": {"selection": LAST, "epoch": count, **measure(labels, last, dataset.classes)}}


def measure_epochs(
    labels: np.ndarray, epochs: Epochs, scores: Mapping[str, np.ndarray], validator: str, dataset: DatasetSpec
) -> dict[str, Any]:
    """The selected epoch (the primary one), the last, the oracle's, and what every validator has chosen.

    Labels are (N,), scores (E,) by validator. A validator without any score has chosen none: its epoch and its
    accuracies are null.
    """
    accuracy = {
        "mean_per_class": [
            np.nanmean(class_recalls(labels, predicted, len(dataset.classes))) for predicted in epochs.predicted
        ],
        "overall": (epochs.predicted == labels).mean(axis=1),
    }
    # Rounded, so that the last bit of a sum does not decide between equal epochs; argmax takes the first of them.
    oracle = int(np.round(accuracy[dataset.headline], 10).argmax()) + 1

    def measured(name: str, epoch: int) -> dict[str, Any]:
        return {"selection": name, "epoch": epoch, **measure(labels, epochs.predicted[epoch - 1], dataset.classes)}

    validators = {}
    for name, of_epochs in scores.items():
        epoch = best_epoch(of_epochs) if np.isfinite(of_epochs).any() else None
        of_choice = {key: None if epoch is None else _percent(all_[epoch - 1]) for key, all_ in accuracy.items()}
        every = [float(score) if np.isfinite(score) else None for score in of_epochs]
        validators[name] = {"epoch": epoch, **of_choice, "scores": every}
    pseudo_labels = {}  # a method may have none
    if (epochs.pseudo_labels >= 0).any():
        right = (epochs.pseudo_labels == labels).mean(axis=1)
        pseudo_labels = {"pseudo_label_accuracy": [_percent(fraction) for fraction in right]}
    return {
        "selected": measured(selection(validator), best_epoch(scores[validator])),
        "last": measured(LAST, len(epochs.predicted)),
        "oracle": measured(ORACLE, oracle),
        "validator": validator,
        "checkpoint_epoch": epochs.kept,
        "validators": validators,
        "accuracy_by_epoch": {key: [_percent(right) for right in each] for key, each in accuracy.items()},
        **pseudo_labels,
    }


def selection(validator: str) -> str:
    """What an epoch that a validator selects is called."""
    return LAST if validator == "last" else validator


def _percent(fraction: float) -> float:
    return round(100 * float(fraction), 2)
