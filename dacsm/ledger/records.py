"""The run record that each run leaves: what it was made from and with, what it wrote, and what it took."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dacsm.ledger import provenance
from dacsm.ledger.runs import Run
from dacsm.runtime.files import sha256, write_json

# A tree is clean where these are as committed; results and notes may differ.
DECIDING = ("dacsm", "workflow", "profiles", "Snakefile", "dvc.yaml", "params.yaml", "requirements.lock")
PACKAGES = (*provenance.VERSIONS, "snakemake", "dvc")


@contextmanager
def recorded(
    run: Run, settings: Mapping[str, Any], code: Mapping[str, str], device: Any = None
) -> Iterator[dict[str, float]]:
    """Write the run record of what happens inside the `with` block, once it has succeeded.

    Yields the dict of what the run measures. Inputs are hashed before it, so that an edit during a long run is not
    taken for what ran, and outputs after it. `device` is a torch.device, or None for a stage that runs no model. Times
    and memory go into run records alone, so that everything else is the same at each repetition.

    A run that fails leaves an earlier record alone: it still vouches for the files that it names, and for no others.
    """
    measured: dict[str, float] = {}
    commit, clean = git_state()
    inputs = {str(file): sha256(file) for file in run.inputs if file.is_file()}  # the stage says what is missing
    started, clock = datetime.now(UTC), time.perf_counter()
    yield measured
    content = {
        "stage": run.stage,
        "arguments": dict(run.arguments),
        "settings": dict(settings),
        "git": {"commit": commit, "clean": clean},
        "code": dict(code),
        "inputs": inputs,
        "outputs": {str(file): sha256(file) for file in run.written()},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "device": _device_name(device),
        **({} if device is None else {"arithmetic": _arithmetic()}),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 2),
        "peak_memory_mb": _peak_memory(device),
        "measured": measured,
    }
    write_json(run.record, content)


def git_state() -> tuple[str | None, bool | None]:
    """The commit of the project, and whether all that decides a number is as committed; (None, None) outside git."""
    try:
        folder, commit = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        if not provenance.PACKAGE.parent.samefile(folder):  # a copy that merely lies inside another repository
            return None, None
        return commit, not _git("status", "--porcelain", "--", *DECIDING).strip()
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=provenance.PACKAGE.parent).stdout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: Any) -> str:
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{'cpu' if device is None else device.type} ({_processor()}, {os.cpu_count()} cores)"


def _arithmetic() -> dict[str, Any]:
    """How torch computed: what may change a number without being a setting of the experiment."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul": torch.get_float32_matmul_precision(),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _peak_memory(device: Any) -> dict[str, int]:
    """The most memory that this process and its finished workers held, and that torch held on the GPU, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    peaks = [resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {"ram": max(peaks) >> 20}
    if device is not None and device.type == "cuda":
        import torch

        found["cuda"] = torch.cuda.max_memory_allocated(device) >> 20
    return found
