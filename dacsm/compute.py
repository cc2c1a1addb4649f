"""Where a run computes. Neither the device nor the number of loader workers is a setting of the experiment."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from dacsm.errors import InputError


@dataclass(frozen=True)
class Compute:
    """A device, and how many processes read images for it (0: the training process reads them itself)."""

    device: torch.device
    workers: int = 0


def choose_compute(device: str = "auto", workers: int = 0) -> Compute:
    """The device by name; `auto` takes a GPU where there is one.

    Raises:
        InputError: where this machine has no such device.
    """
    if workers < 0:
        raise InputError(f"--workers is {workers}, expected 0 or more; correct it.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device is {device!r}, which this machine does not offer; use auto or cpu.") from error
    return Compute(chosen, workers)


def set_threads(threads: int) -> None:
    """Use that many CPU threads for the sums inside an operation; they change rounding, so they are a setting."""
    torch.set_num_threads(threads)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Matrix products in `precision`; losses and the BN neck stay float32 by their own casts."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
