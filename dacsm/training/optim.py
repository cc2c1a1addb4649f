"""Optimisers and learning-rate schedules, CDTrans' own among them."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dacsm.config.params import Optimiser
from dacsm.runtime.together import average_gradients

FLOOR = 0.002  # of the base rate: where CDTrans' cosine ends
WARMUP_START = 0.01  # of the base rate: where its warm-up starts
BIAS_FACTOR = 2  # CDTrans doubles the rate of every parameter whose name contains "bias"


def build_optimiser(settings: Optimiser, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
    """An optimiser over all trainable parameters, in two groups: biases, with the double rate, and the rest."""
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if "bias" not in name], "factor": 1},
        {"params": [p for name, p in named if "bias" in name], "factor": BIAS_FACTOR},
    ]
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, **options)
    return torch.optim.AdamW(groups, fused=True, **options)  # fused: one pass over each tensor


def set_learning_rate(
    optimiser: torch.optim.Optimizer, settings: Optimiser, epochs: int, epoch: int, fraction: float
) -> None:
    """Set each group's rate for epoch 1..epochs, of which `fraction` in [0, 1) has passed."""
    base = settings.learning_rate
    for group in optimiser.param_groups:
        if settings.schedule == "cdtrans":
            group["lr"] = cdtrans_rate(base, base * group["factor"], settings.warmup_epochs, epochs, epoch)
        else:
            group["lr"] = cosine_rate(base * group["factor"], settings.warmup_epochs, epochs, epoch - 1 + fraction)


def descend(
    loss: Tensor, optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], clip_norm: float
) -> None:
    """A step along the gradient of a loss, scaled down to `clip_norm`; its norm is summed in the parameters' order."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimiser.step()


def cdtrans_rate(base: float, group: float, warmup_epochs: float, epochs: int, epoch: int) -> float:
    r"""CDTrans' rate in an epoch: linear warm-up from 1 % of the base rate, then an unshifted cosine to 0.2 % of it.

    With the base rate $\eta$, that of the group $\eta_g$, and $W$ epochs of warm-up, in epoch $e$ of $E$:

    $$
    0.01\,\eta + \frac{e}{W}\left(\eta_g - 0.01\,\eta\right) \quad (e < W), \qquad
    0.002\,\eta + \frac{\eta_g - 0.002\,\eta}{2}\left(1 + \cos\frac{\pi e}{E}\right) \quad (W \leq e < E)
    $$

    Ten epochs of warm-up in ten epochs of pretraining, as CDTrans has it, never reach the base rate, and the last epoch
    falls to the floor; that is the original's way, and kept.
    """
    floor = FLOOR * base
    if epoch >= epochs:
        return floor
    if epoch < warmup_epochs:
        start = WARMUP_START * base
        return start + epoch * (group - start) / warmup_epochs
    return floor + (group - floor) / 2 * (1 + math.cos(math.pi * epoch / epochs))


def cosine_rate(group: float, warmup_epochs: float, epochs: int, passed: float) -> float:
    r"""A linear warm-up to the group's rate, then a cosine to zero; `passed` counts epochs, with fractions.

    After $W$ epochs of warm-up it is $\frac{\eta_g}{2}\left(1 + \cos\frac{\pi (e - W)}{E - W}\right)$.
    """
    if passed < warmup_epochs:
        return group * max(passed, 0.02 * warmup_epochs) / warmup_epochs
    return group / 2 * (1 + math.cos(math.pi * (passed - warmup_epochs) / (epochs - warmup_epochs)))
