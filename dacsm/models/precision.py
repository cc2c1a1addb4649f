"""In what precision a network computes, which changes roundings, so that it is a setting."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Matrix products in `precision` (float32 or bfloat16); losses and the BN neck stay float32 by their own casts."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
