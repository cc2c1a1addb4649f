"""What an adaptation knows of the target from one refresh of its pairs to the next."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from dacsm.adaptation.pairing import Pairs
from dacsm.evaluation.predictions import Predictions


@dataclass
class Matches:
    """The pairs, the target's pseudo labels (T,), and where they are wanted:

    the log probabilities (T, K) that predictions at other scales are held to, and what the next refresh will see.
    """

    pairs: Pairs = None  # type: ignore[assignment]  # there are none before the first refresh
    pseudo_labels: Tensor | None = None
    soft_targets: Tensor | None = None
    predictions: Predictions | None = None
    reverse: Mapping[str, float] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        pairs = self.pairs and {name: torch.from_numpy(column) for name, column in asdict(self.pairs).items()}
        predictions = self.predictions and vars(self.predictions)
        whole = ("pseudo_labels", "soft_targets", "reverse")
        return {"pairs": pairs, "predictions": predictions, **{name: getattr(self, name) for name in whole}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pairs, predictions = state["pairs"], state["predictions"]
        self.pairs = pairs and Pairs(**{name: column.numpy() for name, column in pairs.items()})
        self.pseudo_labels, self.soft_targets = state["pseudo_labels"], state["soft_targets"]
        self.predictions = predictions and Predictions(**predictions)
        self.reverse = state["reverse"]
