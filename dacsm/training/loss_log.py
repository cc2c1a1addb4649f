"""What the losses of an epoch were, and a stop where one is not a number."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from dacsm.runtime.errors import InputError


class LossLog:
    """The losses of an epoch's steps: their means, and a stop at the first that is not a number.

    A look at a loss waits for the GPU, so that the check comes only every so many steps there (`INTERVALS`). The first
    step has every loss; one that is absent from a later step counts there as it last was.
    """

    INTERVALS: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 50}  # steps between two checks, by the device

    def __init__(self, epoch: int):
        self.epoch = epoch
        self.names: tuple[str, ...] = ()
        self.rows: list[Tensor] = []
        self.checked = 0

    def append(self, losses: dict[str, Tensor]) -> None:
        """Record one step.

        Raises:
            InputError: naming the loss, the epoch and the step, where one is NaN or infinite.
        """
        if self.rows:
            losses = dict(zip(self.names, self.rows[-1].to(next(iter(losses.values())).device), strict=True)) | losses
        self.names = tuple(losses)
        self.rows.append(torch.stack([loss.detach().float() for loss in losses.values()]))
        if len(self.rows) - self.checked >= self.INTERVALS.get(self.rows[-1].device.type, 1):
            self.check()

    def check(self) -> None:
        """Look at every step that was not looked at yet; raises as `append` does."""
        table = self._stacked(self.checked)
        if not torch.isfinite(table).all():
            self._refuse(table.tolist())
        self.checked = len(self.rows)

    def _refuse(self, rows: list[list[float]]) -> NoReturn:  # type: ignore[misc]  # its loop ends only in an error
        """Name the first bad loss among rows that were not looked at yet."""
        for step, row in enumerate(rows, self.checked + 1):
            values = zip(self.names, row, strict=True)
            if bad := ", ".join(f"{name} is {value}" for name, value in values if not math.isfinite(value)):
                raise InputError(
                    f"the loss {bad} in epoch {self.epoch}, step {step}, expected a finite number; "
                    "lower the learning rate or that loss's weight in params.yaml."
                )

    def latest(self) -> dict[str, float]:
        """Each loss of the last step; waits for the GPU."""
        return dict(zip(self.names, self.rows[-1].tolist(), strict=True))

    def means(self) -> dict[str, float]:
        """The mean of each loss over the epoch."""
        self.check()
        return dict(zip(self.names, self._stacked().mean(dim=0).tolist(), strict=True))

    def _stacked(self, first: int = 0) -> Tensor:
        """The rows from `first` on, (steps, losses), on one device: a run that goes on has earlier ones on the CPU."""
        rows = self.rows[first:]
        return torch.stack([row.to(rows[-1].device) for row in rows]) if rows else torch.empty(0, len(self.names))

    def state_dict(self) -> dict[str, Any]:
        """For a run that is saved inside an epoch; raises as `append` does, so that no bad step is ever saved."""
        self.check()
        return {"names": list(self.names), "rows": self._stacked()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.names, self.rows = tuple(state["names"]), list(state["rows"])
        self.checked = len(self.rows)
