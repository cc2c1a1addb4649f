"""Where a run computes. Device, loader workers and where features are kept are no settings: they change no number."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from dacsm.runtime.errors import InputError
from dacsm.runtime.workers import require_workers


@dataclass(frozen=True)
class Compute:
    """A device; how many processes read images for it (0: the training process reads them itself); where features are.

    Features of whole domains are kept in memory, or, where a folder is named, in files there.
    """

    device: torch.device
    workers: int = 0
    features_folder: Path | None = None


def choose_compute(device: str = "auto", workers: int = 0, features_folder: Path | None = None) -> Compute:
    """The device by name; `auto` takes a GPU where there is one.

    Raises:
        InputError: where this machine has no such device, or there is no such folder.
    """
    require_workers(workers)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device is {device!r}, which this machine does not offer; use auto or cpu.") from error
    if features_folder is not None and not features_folder.is_dir():
        raise InputError(f"--features-folder is {features_folder}, which is not a folder; make it, or name another.")
    return Compute(chosen, workers, features_folder)


def set_threads(threads: int) -> None:
    """Use that many CPU threads for the sums inside an operation; they change rounding, so they are a setting."""
    torch.set_num_threads(threads)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Matrix products in `precision`; losses and the BN neck stay float32 by their own casts."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
