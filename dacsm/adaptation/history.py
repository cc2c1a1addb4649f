"""What an adaptation leaves, gathered epoch by epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dacsm.adaptation.validators import NAMES
from dacsm.models.classifier import Description, save_checkpoint
from dacsm.runtime.files import whole_file, write_csv

PREDICTIONS = ("predicted", "pseudo_labels")  # what AdaptationHistory gathers in arrays,
GATHERED = ("scores", "rows", "selected", "selected_state")  # and in plain values and tensors


class AdaptationHistory:
    """What evaluation reads: each epoch's predictions and scores, and the weights of the selected epoch.

    That is the epoch that the validator likes best (the first, where several tie).
    """

    def __init__(self, validator: str):
        self.validator = validator
        self.predicted: list[np.ndarray] = []
        self.pseudo_labels: list[np.ndarray] = []
        self.scores: list[list[float]] = []
        self.rows: list[dict[str, float]] = []
        self.selected = 0
        self.selected_state: dict[str, Tensor] = {}

    def add(
        self,
        predicted: np.ndarray,
        pseudo_labels: Tensor | None,
        scores: list[float],
        row: Mapping[str, float],
        state: Mapping[str, Tensor],
    ) -> None:
        """Add an epoch: predictions and pseudo labels (N,), the validators' scores, a log row, and the weights.

        A method without pseudo labels has -1 in their place.
        """
        self.predicted.append(predicted)
        self.pseudo_labels.append(np.full(len(predicted), -1) if pseudo_labels is None else pseudo_labels.numpy())
        self.scores.append(scores)
        self.rows.append({"epoch": len(self.predicted), **row, **dict(zip(NAMES, scores, strict=True))})
        column = NAMES.index(self.validator)
        if not self.selected or scores[column] > self.scores[self.selected - 1][column]:
            self.selected = len(self.predicted)
            self.selected_state = {key: value.detach().cpu().clone() for key, value in state.items()}

    def state_dict(self) -> dict[str, Any]:
        predictions = {name: [torch.from_numpy(row) for row in getattr(self, name)] for name in PREDICTIONS}
        return {**predictions, **{name: getattr(self, name) for name in GATHERED}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in PREDICTIONS:
            setattr(self, name, [row.numpy() for row in state[name]])
        for name in GATHERED:
            setattr(self, name, state[name])

    def write(
        self, folder: Path, description: Description, last: Mapping[str, Tensor], of_method: Mapping[str, Tensor]
    ) -> None:
        """Write log.csv, epochs.npz (no labels in it) and both checkpoints.

        That of the last epoch also has what the method leaves besides the classifier.
        """
        header = list(self.rows[0])
        write_csv(folder / "log.csv", header, [[f"{row[key]:.6g}" for key in header] for row in self.rows])
        with whole_file(folder / "epochs.npz") as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                predicted=np.stack(self.predicted).astype(np.int64),  # (E, N)
                pseudo_labels=np.stack(self.pseudo_labels).astype(np.int64),  # (E, N)
                validators=np.array(NAMES),
                scores=np.array(self.scores, dtype=np.float64),  # (E, V)
                selected=np.array(self.selected),
                validator=np.array(self.validator),
            )
        save_checkpoint(folder / "last.safetensors", description, last, of_method)
        save_checkpoint(folder / "model.safetensors", description, self.selected_state)
