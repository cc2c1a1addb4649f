"""In what precision a network computes, and with how many CPU threads: both change roundings, so they are settings."""

from contextlib import AbstractContextManager, nullcontext

import torch


def set_threads(threads: int) -> None:
    """Use that many CPU threads for the sums inside an operation."""
    torch.set_num_threads(threads)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Matrix products in `precision` (float32 or bfloat16); losses and the BN neck stay float32 by their own casts."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
