"""The runs of the pipeline: the files that each reads and writes, and the record that it leaves.

A run record says what a run was made from and with, what it wrote, and what it took.
"""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from dacsm.config import SOURCE_ONLY
from dacsm.config.experiments import Experiment
from dacsm.config.project import Project
from dacsm.ledger import provenance
from dacsm.ledger.pipeline import STAGES
from dacsm.runtime.files import sha256, write_json
from dacsm.runtime.hashes import digest
from dacsm.runtime.processes import count
from dacsm.runtime.processor import CLEARED, VARIABLES, processor

# A tree is clean where these are as committed; results and notes may differ.
DECIDING = ("dacsm", "workflow", "profiles", "Snakefile", "dvc.yaml", "params.yaml", "requirements.lock")
PACKAGES = (*provenance.VERSIONS, "snakemake", "dvc")


@dataclass(frozen=True)
class Run:
    """One run of a stage. The first output stands for it."""

    stage: str
    arguments: Mapping[str, Any]  # those of its command
    place: Path  # the file or folder that people know it by
    record: Path
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    folders: tuple[Path, ...] = ()  # whose files are all the run's

    def written(self) -> list[Path]:
        """The outputs and every file of the run's folders; leftovers of interrupted writes are not among them."""
        inside = [file for folder in self.folders if folder.is_dir() for file in sorted(folder.iterdir())]
        found = [*self.outputs, *(file for file in inside if not file.name.startswith("."))]
        return list(dict.fromkeys(found))


def run_of(project: Project, stage: str, **arguments: Any) -> Run:
    """The run of a stage by its command's arguments; `dataset` may be left out.

    Raises InputError where there is no such archive, domain, task, method, recipe or experiment.
    """
    declared, paths = STAGES[stage], project.paths
    inputs = declared.inputs(project, **{name: value for name, value in arguments.items() if name != "dataset"})
    if "dataset" in declared.arguments:
        arguments = {**arguments, "dataset": project.dataset.name}
    arguments = {name: arguments[name] for name in declared.arguments}
    of = arguments.get("experiment")
    labelled = of is None or project.params.experiment(of).has_labels(project.dataset)
    return Run(
        stage=stage,
        arguments=arguments,
        place=declared.place_of(paths, arguments),
        record=declared.record_of(paths, arguments),
        inputs=tuple(inputs),
        outputs=tuple(declared.outputs_of(paths, arguments, labelled)),
        folders=tuple(declared.folders_of(paths, arguments)),
    )


def runs_of(project: Project, experiment: Experiment, stages: Sequence[str] | None = None) -> list[Run]:
    """Every run behind an experiment's table, in the order of the pipeline; with `stages`, the runs of these alone.

    Optional stages are only there where `stages` names them.
    """
    dataset = project.dataset
    domains = dataset.domains_of(experiment.tasks)
    evaluated = [
        {"method": method, "task": task, "seed": seed}
        for method, task, seed in product(experiment.methods, experiment.tasks, experiment.seeds)
    ]
    adapted = [run for run in evaluated if run["method"] != SOURCE_ONLY]
    sources = dict.fromkeys(dataset.split_task(task)[0] for task in experiment.tasks)
    archives = dict.fromkeys(archive for domain in domains for archive in dataset.domains[domain].archives)
    whole = [{"experiment": experiment.name}]
    arguments: dict[str, Sequence[Mapping[str, Any]]] = {
        "download": [{"archive": archive} for archive in archives],
        "shard": [{"domain": domain} for domain in domains],
        "pretrain": [{"source": source, "seed": seed} for source, seed in product(sources, experiment.seeds)],
        "adapt": adapted,
        "evaluate": evaluated,
        "table": whole,
        "summarise": whole,
        "rescale": evaluated,
        "scales": whole,
        "explain": [run for run in adapted if run["seed"] == experiment.seeds[0]],
        "export": [run for run in evaluated if run["seed"] == experiment.seeds[0]],
    }
    wanted = [name for name, stage in STAGES.items() if (not stage.optional if stages is None else name in stages)]
    return [run_of(project, stage, **run) for stage in wanted for run in arguments[stage]]


def run_key(run: Run, settings: Mapping[str, Any], code: Mapping[str, str], device: str) -> str:
    """A name for all that decides the bits of a run on a kind of device, by which a killed run is found again.

    Inputs are hashed; one that is missing counts as such, and the stage will say so.
    """
    inputs = {str(path): sha256(path) if path.is_file() else None for path in run.inputs}
    versions = {name: version(name) for name in provenance.VERSIONS}
    return digest([run.stage, dict(run.arguments), dict(settings), inputs, dict(code), versions, device])


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
        **({} if count() == 1 else {"processes": count()}),
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
    return f"{'cpu' if device is None else device.type} ({processor()}, {os.cpu_count()} cores)"


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
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "variables": {name: os.environ[name] for name in (*VARIABLES, *CLEARED) if name in os.environ},
    }


def _peak_memory(device: Any) -> dict[str, int]:
    """The most memory that this process and its finished workers held, and that torch held on the GPU, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    peaks = [resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {"ram": max(peaks) >> 20}
    if device is not None and device.type == "cuda":
        import torch

        found["cuda"] = torch.cuda.max_memory_allocated(device) >> 20
    return found
