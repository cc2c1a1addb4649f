"""What pretraining leaves, gathered epoch by epoch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dacsm.models.classifier import Description, save_checkpoint
from dacsm.runtime.files import write_csv


class PretrainingHistory:
    """Each epoch's loss and accuracy."""

    def __init__(self) -> None:
        self.rows: list[list[int | str]] = []

    def add(self, loss: float, accuracy: float) -> None:
        """Add an epoch: its mean loss, and the percent of held-out source images classified right, NaN without any."""
        self.rows.append([len(self.rows) + 1, f"{loss:.6g}", "" if math.isnan(accuracy) else f"{accuracy:.2f}"])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = state["rows"]

    def write(self, folder: Path, description: Description, last_state: dict[str, Tensor]) -> None:
        """Write log.csv and the checkpoint."""
        write_csv(folder / "log.csv", ["epoch", "loss", "held_out_accuracy"], self.rows)
        save_checkpoint(folder / "model.safetensors", description, last_state)
