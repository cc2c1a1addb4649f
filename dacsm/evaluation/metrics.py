"""What an adaptation wrote about its epochs, and what metrics.json says of predictions joined with the labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, recall_score

from dacsm.config.datasets import DatasetSpec
from dacsm.evaluation.outputs import best_epoch
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import reading

LAST = "last epoch"
ORACLE = "oracle (target labels)"


@dataclass(frozen=True)
class Epochs:
    """What an adaptation wrote about its E epochs, on N target images of K classes; no labels among it.

    Logits and features are of a sample of the images, as dacsm/evaluation/outputs.py draws it.
    """

    predicted: np.ndarray  # (E, N) class after each epoch
    pseudo_labels: np.ndarray  # (E, N) class in use during each epoch; -1 for a method without
    logits: np.ndarray  # (E, M, K) float16
    features: np.ndarray  # (E, F, D) float16, of the first F images of the sample
    source_accuracy: np.ndarray  # (E,) on held-out source images; NaN without any
    kept: int  # the epoch, counted from 1, whose weights model.safetensors has


def read_epochs(path: Path, made_by: str, images: int, classes: int) -> Epochs:
    """Read epochs.npz of an adaptation onto `images` target images of `classes` classes.

    Raises InputError where it is missing, unreadable, or made for other images or classes.
    """
    again = f"make it again with `{made_by}`."
    with reading(path, made_by), np.load(path, allow_pickle=False) as file:
        arrays = {field.name: file[field.name] for field in fields(Epochs)}
        epochs = Epochs(**arrays | {"kept": int(arrays["kept"])})
    count = len(epochs.predicted) if epochs.predicted.ndim else 0
    shapes = {  # None is any number
        "predicted": (count, images),
        "pseudo_labels": (count, images),
        "logits": (count, None, classes),
        "features": (count, None, None),
        "source_accuracy": (count,),
    }
    for name, expected in shapes.items():
        found = getattr(epochs, name).shape
        sizes = [size if wanted is None else wanted for size, wanted in zip(found, expected, strict=False)]
        if tuple(sizes) != found or len(found) != len(expected):
            shown = str(expected).replace("None", "any")
            raise InputError(f"{path}: {name} has shape {found}, expected {shown}; {again}")
    if not 1 <= epochs.kept <= count:
        raise InputError(f"{path}: kept is epoch {epochs.kept}, expected one of 1 to {count}; {again}")
    if epochs.predicted.size and not 0 <= epochs.predicted.min() <= epochs.predicted.max() < classes:
        raise InputError(
            f"{path}: predicted has class indices from {epochs.predicted.min()} to {epochs.predicted.max()}, expected "
            f"0 to {classes - 1}; {again}"
        )
    return epochs


def measure(labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracies of predictions, in percent with 2 decimals. Confusions are in predictions.csv, image by image.

    `labels` and `predicted` are class indices (N,). A class without images has no accuracy: it is null in `per_class`
    and is left out of `mean_per_class`.
    """
    recalls = class_recalls(labels, predicted, len(classes))
    return {
        "mean_per_class": percent(np.nanmean(recalls)),
        "overall": percent(accuracy_score(labels, predicted)),
        "per_class": {
            name: None if np.isnan(recall) else percent(recall) for name, recall in zip(classes, recalls, strict=True)
        },
    }


def class_recalls(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """The recall of each class, (K,) in 0..1; NaN for a class without images."""
    return recall_score(labels, predicted, labels=range(classes), average=None, zero_division=np.nan)


def measure_run(
    labels: np.ndarray,
    predicted: np.ndarray,
    last: np.ndarray,
    epochs: Epochs | None,
    scores: Mapping[str, np.ndarray],
    recipe: Any,
    dataset: DatasetSpec,
) -> dict[str, Any]:
    """What metrics.json says of a run: how good the selected and the last epoch are, and others as far as is known.

    `labels`, and the classes that the checkpoints of both epochs predict, are (N,); `recipe` trained them. `epochs` is
    None for a source model: pretraining sees no target image, so that it has no epochs to choose among. `scores`, (E,)
    by validator, is empty where other images were adapted on: then there is no oracle, and nothing on other epochs.
    """
    if epochs is not None and scores:
        return measure_epochs(labels, epochs, scores, recipe.validator, dataset)

    def measured(name: str, epoch: int, classes: np.ndarray) -> dict[str, Any]:
        return {"selection": name, "epoch": epoch, **measure(labels, classes, dataset.classes)}

    if epochs is None:
        found = measured(LAST, recipe.epochs, predicted)
        return {"selected": found, "last": found}
    selected = measured(selection(recipe.validator), epochs.kept, predicted)
    return {"selected": selected, "last": measured(LAST, len(epochs.predicted), last)}


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
        epoch = chosen_epoch(of_epochs)
        of_choice = {key: None if epoch is None else percent(all_[epoch - 1]) for key, all_ in accuracy.items()}
        validators[name] = {"epoch": epoch, **of_choice, "scores": [if_known(score) for score in of_epochs]}
    pseudo_labels = {}  # a method may have none
    if (epochs.pseudo_labels >= 0).any():
        right = (epochs.pseudo_labels == labels).mean(axis=1)
        pseudo_labels = {"pseudo_label_accuracy": [percent(fraction) for fraction in right]}
    return {
        "selected": measured(selection(validator), best_epoch(scores[validator])),
        "last": measured(LAST, len(epochs.predicted)),
        "oracle": measured(ORACLE, oracle),
        "validator": validator,
        "checkpoint_epoch": epochs.kept,
        "validators": validators,
        "accuracy_by_epoch": {key: [percent(right) for right in each] for key, each in accuracy.items()},
        **pseudo_labels,
    }


def selection(validator: str) -> str:
    """What an epoch that a validator selects is called."""
    return LAST if validator == "last" else validator


def chosen_epoch(scores: np.ndarray) -> int | None:
    """The epoch that a validator chooses by its scores (E,); None where it has none of any epoch."""
    return best_epoch(scores) if np.isfinite(scores).any() else None


def if_known(score: float) -> float | None:
    """A score for JSON: None for one that is not known."""
    return float(score) if np.isfinite(score) else None


def percent(fraction: float | np.floating[Any]) -> float:
    """A fraction in percent, with 2 decimals."""
    return round(100 * float(fraction), 2)
