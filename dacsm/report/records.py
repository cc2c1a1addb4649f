"""The run records behind a table, and what they say in words: short hashes, commits, times and memory."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from dacsm.config.paths import Paths
from dacsm.report.measured import Evaluated
from dacsm.report.tables import distinct
from dacsm.runtime.files import read_json, reading
from dacsm.runtime.hashes import digest

HASH = 12  # digits of a hash that are shown
STAGES = ("pretrain", "adapt", "evaluate")
KEYS = ("settings", "code", "inputs", "versions", "device", "seconds")  # that others are asked for

Record = Mapping[str, Any]
Grouped = Mapping[tuple[str, str], Sequence[Record]]  # by stage and method; pretraining is of none


def grouped_records(runs: Evaluated, paths: Paths, stages: Sequence[str] = STAGES) -> Grouped:
    """The run records of the trainings and evaluations behind a table, as far as they are there.

    Raises InputError where one cannot be read, or lacks what is asked of it.
    """
    experiment, dataset = runs.experiment, runs.dataset
    sources = dict.fromkeys(dataset.split_task(task)[0] for task in experiment.tasks)
    folders = {("pretrain", ""): [paths.pretrained(dataset.name, *of) for of in product(sources, experiment.seeds)]}
    for method in experiment.methods:
        of_method = [(dataset.name, method, *of) for of in product(experiment.tasks, experiment.seeds)]
        folders["adapt", method] = [paths.adapted(*run) for run in of_method]
        folders["evaluate", method] = [paths.evaluated(*run) for run in of_method]
    files = {name: map(paths.record, of) for name, of in folders.items() if name[0] in stages}
    records = {name: [_read(file, name[0]) for file in of if file.is_file()] for name, of in files.items()}
    return {name: of for name, of in records.items() if of}


def _read(path: Path, stage: str) -> Record:
    record = read_json(path, f"dacsm {stage}")
    with reading(path, f"dacsm {stage}"):
        commit_of(record)
        memory_of(record["peak_memory_mb"])
        _ = [record[key] for key in KEYS]
        _ = [record["measured"][key] for key in ("training_seconds", "images_per_second") if stage == "adapt"]
    return record


def made_from(records: Sequence[Record]) -> tuple[str, str, str]:
    """The short hashes of the settings and of the code of some runs, and their commits; several where runs differ."""
    settings, code = (distinct(digest(one[section])[:HASH] for one in records) for section in ("settings", "code"))
    return settings, code, distinct(map(commit_of, records))


def data_of(records: Iterable[Record]) -> dict[str, str]:
    """The short hash of the index of each domain that the runs read, by the path of the index."""
    inputs = dict(entry for record in records for entry in record["inputs"].items())
    return {path: sha256[:HASH] for path, sha256 in inputs.items() if path.endswith("index.json")}


def commit_of(record: Record) -> str:
    """The commit of the code, and whether it had changes."""
    git = record["git"]
    return f"commit {git['commit'][:HASH]}{'' if git['clean'] else ' with changes'}" if git["commit"] else "no commit"


def memory_of(peak: Mapping[str, int], of_memory: str = "") -> str:
    """The most memory that a run held."""
    return f"{peak['ram']} MiB{of_memory}" + (f", {peak['cuda']} MiB on the GPU" if peak.get("cuda") else "")


def most_memory(records: Iterable[Record]) -> dict[str, int]:
    """The most of any run, in MiB, by where: ram and cuda."""
    peaks = [record["peak_memory_mb"] for record in records]
    return {where: max(peak.get(where, 0) for peak in peaks) for where in ("ram", "cuda")}


def duration(seconds: float) -> str:
    """12.3 s, 5 min or 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
