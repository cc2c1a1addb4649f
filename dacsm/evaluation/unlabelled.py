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


def describe_run(
    predicted: np.ndarray,
    probabilities: Sequence[str],
    epochs: Epochs | None,
    scores: Mapping[str, np.ndarray],
    recipe: Any,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """What metrics.json says of a run: what it predicts at the selected epoch, and what validators say of each epoch.

    `predicted` and `probabilities` are as in `describe_predictions`; `scores` are (E,) by validator. `epochs` is None
    for a source model, whose last epoch alone has scores: there is none to choose among.
    """
    place = 0 if epochs is None else best_epoch(scores[recipe.validator]) - 1
    selected = {
        "selection": LAST if epochs is None else selection(recipe.validator),
        "epoch": recipe.epochs if epochs is None else place + 1,
        **describe_predictions(predicted, probabilities, classes),
        "scores": {name: if_known(of_epochs[place]) for name, of_epochs in scores.items() if name != "last"},
    }
    if epochs is None:
        return {"selected": selected}
    validators = {
        name: {"epoch": chosen_epoch(of_epochs), "scores": [if_known(score) for score in of_epochs]}
        for name, of_epochs in scores.items()
    }
    of_run = {"validator": recipe.validator, "checkpoint_epoch": epochs.kept}
    return {"selected": selected, **of_run, "validators": validators}
