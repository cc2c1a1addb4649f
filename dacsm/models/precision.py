"""In what precision a network computes, which changes roundings, so that it is a setting."""

import torch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in `precision` (float32 or bfloat16); losses and the BN neck stay float32 by their own casts."""
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
