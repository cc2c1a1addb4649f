"""What metrics.json says of predictions on a target without labels: no accuracy, nor what could pass for one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dacsm.evaluation.metrics import LAST, Epochs, chosen_epoch, if_known, percent, selection
from dacsm.evaluation.outputs import best_epoch

COLUMNS = ("index", "name", "predicted", "class", "probability")  # of predictions.csv


def describe_predictions(
    predicted: np.ndarray, probabilities: Sequence[str], classes: tuple[str, ...]
) -> dict[str, Any]:
    """The fraction of images that each class is predicted for, and the mean confidence, in percent with 2 decimals.

    `predicted` are class indices (N,); `probabilities` are those of the predicted classes as they are written, (N,);
    where they are empty, the mean confidence is not known: null.
    """
    fractions = np.bincount(predicted, minlength=len(classes)) / len(predicted)  # (K,)
    known = all(probabilities)
    mean = float(np.mean([float(probability) for probability in probabilities])) if known else None
    return {
        "mean_confidence": None if mean is None else percent(mean),
        "predicted": {name: percent(fraction) for name, fraction in zip(classes, fractions, strict=True)},
    }


def describe_source_model(described: Mapping[str, Any], epochs: int, scores: Mapping[str, float]) -> dict[str, Any]:
    """The last of a source model's epochs, which has one score by each validator, and none to choose among."""
    return {"selected": {"selection": LAST, "epoch": epochs, **described, "scores": _plain(scores)}}


def describe_epochs(
    described: Mapping[str, Any], epochs: Epochs, scores: Mapping[str, np.ndarray], validator: str
) -> dict[str, Any]:
    """The epoch that `validator` selects, and what every validator says of each epoch; scores are (E,) by validator."""
    epoch = best_epoch(scores[validator])
    at_epoch = {name: float(of_epochs[epoch - 1]) for name, of_epochs in scores.items() if name != "last"}
    validators = {
        name: {"epoch": chosen_epoch(of_epochs), "scores": [if_known(score) for score in of_epochs]}
        for name, of_epochs in scores.items()
    }
    return {
        "selected": {"selection": selection(validator), "epoch": epoch, **described, "scores": _plain(at_epoch)},
        "validator": validator,
        "checkpoint_epoch": epochs.kept,
        "validators": validators,
    }


def _plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: if_known(score) for name, score in scores.items()}
