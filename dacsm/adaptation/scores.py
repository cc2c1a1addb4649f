"""Every validator's score of every epoch of an adaptation."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from dacsm.adaptation.validators import bnm, class_ami, entropy, infomax, last, snd, source_accuracy
from dacsm.evaluation.metrics import Epochs
from dacsm.evaluation.outputs import Outputs

VALIDATORS: dict[str, Callable[[Outputs], float]] = {
    "infomax": infomax.score,
    "entropy": entropy.score,
    "bnm": bnm.score,
    "snd": snd.score,
    "class_ami": class_ami.score,
    "source_accuracy": source_accuracy.score,
    "last": last.score,
}
CRITERIA = tuple(name for name in VALIDATORS if name != "last")  # which scores an epoch by its number alone


def score_epochs(epochs: Epochs, names: Iterable[str] | None = None) -> Mapping[str, np.ndarray]:
    """The scores (E,) of these validators, or of all, by name; NaN where a validator has none."""
    stored = zip(epochs.logits, epochs.features, epochs.source_accuracy, strict=True)
    outputs = [
        Outputs(number, torch.from_numpy(logits), torch.from_numpy(features), float(accuracy))
        for number, (logits, features, accuracy) in enumerate(stored, 1)
    ]
    return {name: np.array([epoch.scored_by(VALIDATORS[name]) for epoch in outputs]) for name in names or VALIDATORS}
