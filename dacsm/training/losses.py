"""The losses of CDTrans (arXiv 2109.06165), in float32, and the log that watches them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.errors import InputError
from dacsm.models.three_stream import Streams


def cdtrans_losses(streams: Streams, source_labels: Tensor, pseudo_labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy on both domains and distillation from the mix stream; labels are (B,), each loss a scalar."""
    return {
        "source": F.cross_entropy(streams.source_logits, source_labels),
        "target": F.cross_entropy(streams.target_logits, pseudo_labels),
        "distillation": distillation(streams.mix_logits, streams.target_logits),
    }


def distillation(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Cross-entropy from the teacher's to the student's prediction, (B, K) each, to a scalar.

    The gradient flows into both, as in the public CDTrans: the teacher is not detached.
    """
    return -(F.softmax(teacher_logits, dim=1) * F.log_softmax(student_logits, dim=1)).sum(dim=1).mean()


class LossLog:
    """The losses of an epoch's steps: their means, and a stop at the first that is not a number.

    A look at a loss waits for the GPU, so that the check comes only every `INTERVAL` steps there.
    """

    INTERVAL = 50

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
        self.names = tuple(losses)
        self.rows.append(torch.stack([loss.detach().float() for loss in losses.values()]))
        if len(self.rows) - self.checked >= (self.INTERVAL if self.rows[-1].is_cuda else 1):
            self.check()

    def check(self) -> None:
        """Look at every step that was not looked at yet; raises as `append` does."""
        for step in range(self.checked, len(self.rows)):
            row = self.rows[step]
            if not torch.isfinite(row).all():
                values = zip(self.names, row.tolist(), strict=True)
                bad = ", ".join(f"{name} is {value}" for name, value in values if not math.isfinite(value))
                raise InputError(
                    f"the loss {bad} in epoch {self.epoch}, step {step + 1}, expected a finite number; "
                    "lower the learning rate or that loss's weight in params.yaml."
                )
        self.checked = len(self.rows)

    def means(self) -> dict[str, float]:
        """The mean of each loss over the epoch."""
        self.check()
        return dict(zip(self.names, torch.stack(self.rows).mean(dim=0).tolist(), strict=True))
