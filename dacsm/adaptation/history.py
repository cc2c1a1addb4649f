"""What an adaptation leaves, gathered epoch by epoch."""

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dacsm.evaluation.outputs import Outputs, best_epoch
from dacsm.models.classifier import Description, save_checkpoint
from dacsm.runtime.files import whole_file, write_csv

STATE = ("gathered", "rows", "scores", "kept_state")


class AdaptationHistory:
    """What evaluation reads: each epoch's predictions and outputs, and the weights of the best epoch so far.

    That is the epoch which the recipe's validator likes best, the first where several tie.
    """

    def __init__(self, validator: str):
        self.validator = validator
        self.score = import_module(f"dacsm.adaptation.validators.{validator}").score
        self.gathered: dict[str, list[Tensor]] = {}  # epoch by epoch, for epochs.npz
        self.rows: list[dict[str, float]] = []  # of log.csv
        self.scores: list[float] = []  # of the validator
        self.kept_state: dict[str, Tensor] = {}

    def add(
        self,
        predicted: np.ndarray,
        pseudo_labels: Tensor | None,
        outputs: Outputs,
        row: Mapping[str, float],
        state: Mapping[str, Tensor],
    ) -> None:
        """Add an epoch: predictions and pseudo labels (N,), outputs of a sample, a row of log.csv, and the weights.

        A method without pseudo labels has -1 in their place.
        """
        epoch = {
            "predicted": torch.from_numpy(predicted),
            "pseudo_labels": torch.full((len(predicted),), -1) if pseudo_labels is None else pseudo_labels,
            "logits": outputs.logits,
            "features": outputs.features,
            "source_accuracy": torch.tensor(outputs.source_accuracy, dtype=torch.float64),
        }
        for name, value in epoch.items():
            self.gathered.setdefault(name, []).append(value)
        self.scores.append(outputs.scored_by(self.score))
        self.rows.append({"epoch": outputs.number, **row, self.validator: self.scores[-1]})
        if best_epoch(self.scores) == outputs.number:
            self.kept_state = {key: value.detach().cpu().clone() for key, value in state.items()}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state[name])

    def write(
        self, folder: Path, description: Description, last: Mapping[str, Tensor], of_method: Mapping[str, Tensor]
    ) -> None:
        """Write log.csv, epochs.npz (no labels in it) and both checkpoints.

        That of the last epoch also has what the method leaves besides the classifier.
        """
        header = list(self.rows[0])
        write_csv(folder / "log.csv", header, [[_shown(row[key]) for key in header] for row in self.rows])
        with whole_file(folder / "epochs.npz") as partial, partial.open("wb") as file:
            gathered = {name: torch.stack(values).numpy() for name, values in self.gathered.items()}
            np.savez_compressed(file, **gathered, kept=np.array(best_epoch(self.scores)))
        save_checkpoint(folder / "last.safetensors", description, last, of_method)
        save_checkpoint(folder / "model.safetensors", description, self.kept_state)


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
