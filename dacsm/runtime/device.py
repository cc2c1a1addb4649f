"""Where a run computes: its device, its loader workers, and where features are kept."""

import fcntl
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import count, count_here, rank_here
from dacsm.runtime.workers import require_workers

_HELD: list[BinaryIO] = []  # locks of GPUs, until the process ends
EXACT = "DACSM_DETERMINISTIC"  # 1: see _be_exact
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # who set one of these has chosen the GPU already


@dataclass(frozen=True)
class Compute:
    """A device; how many processes read images for it (0: the training process reads them itself); where features are.

    Features of whole domains are kept in memory, or, where a folder is named, in files there.
    """

    device: torch.device
    workers: int = 0
    features_folder: Path | None = None


def choose_compute(device: str = "auto", workers: int | None = None, features_folder: Path | None = None) -> Compute:
    """The device by name; `auto` takes a GPU where there is one, and `cuda` one that no other run has taken.

    Where no number of workers is given, there is none on a CPU, and for a GPU one a core, but one core, up to 8. Raises
    InputError where this machine has no such device, or there is no such folder.
    """
    require_workers(workers or 0)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", free_gpu())
        if chosen.type == "cuda" and os.environ.get(EXACT) == "1":
            _be_exact()
        torch.ones(1, device=chosen).item()  # a device gives numbers back, which `meta` does not
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device is {device!r}, which this machine does not offer; use auto or cpu.") from error
    if features_folder is not None and not features_folder.is_dir():
        raise InputError(f"--features-folder is {features_folder}, which is not a folder; make it, or name another.")
    if workers is None:
        workers = max(0, min(8, cores() // count_here() - 1)) if chosen.type == "cuda" else 0
    return Compute(chosen, workers, features_folder)


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # which macOS lacks
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _be_exact() -> None:
    """Let the same run on the same GPU give the same bits each time, which takes longer."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # these two forms of attention add up as they come
    torch.backends.cuda.enable_cudnn_sdp(False)


def free_gpu() -> int:
    """The index of a GPU that no other run on this machine has taken; it is this process's until that ends.

    Each process of a run takes one. It locks a file for each GPU that it takes, and the system lets go of the lock
    however the process ends. Where a scheduler hands out the GPUs, its choice stands. Where all are taken, runs of one
    process share the first. Raises InputError where a run of several processes finds too few that are free.
    """
    if any(name in os.environ for name in SCHEDULERS):
        return rank_here()
    for index in range(torch.cuda.device_count()):
        lock = Path(tempfile.gettempdir(), f"dacsm-gpu-{torch.cuda.get_device_properties(index).uuid}.lock")
        file = lock.open("ab")  # it stays open as long as the process lives
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _HELD.append(file)
        return index
    if count() > 1:
        raise InputError(
            f"{count_here()} processes of this run want a GPU each on this machine, where fewer are free; wait for the "
            "other runs, or set the dataset's gpus under resources in params.yaml to what is there."
        )
    if torch.cuda.device_count():
        print("every GPU is taken by another run; this one shares the first.", file=sys.stderr)
    return 0
