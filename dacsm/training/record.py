"""What an adaptation leaves for evaluation: each epoch's predictions and scores, and the selected epoch's weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from dacsm.files import whole_file, write_csv
from dacsm.models.classifier import Description, save_checkpoint
from dacsm.selection import NAMES


class AdaptationRecord:
    """Epoch by epoch; keeps the weights of the epoch that the validator likes best (the first, where several tie)."""

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
        pseudo_labels: np.ndarray,
        scores: list[float],
        row: Mapping[str, float],
        state: Mapping[str, Tensor],
    ) -> None:
        """Record an epoch: predictions and pseudo labels (N,), the validators' scores, a log row, and the weights."""
        self.predicted.append(predicted)
        self.pseudo_labels.append(pseudo_labels)
        self.scores.append(scores)
        self.rows.append({"epoch": len(self.predicted), **row, **dict(zip(NAMES, scores, strict=True))})
        column = NAMES.index(self.validator)
        if not self.selected or scores[column] > self.scores[self.selected - 1][column]:
            self.selected = len(self.predicted)
            self.selected_state = {key: value.detach().cpu().clone() for key, value in state.items()}

    def write(self, folder: Path, description: Description, last_state: dict[str, Tensor]) -> None:
        """Write log.csv, epochs.npz (no labels in it) and both checkpoints."""
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
        save_checkpoint(folder / "last.safetensors", description, last_state)
        save_checkpoint(folder / "model.safetensors", description, self.selected_state)
