"""One number of a table, and all that it rests on: seeds, selection, settings, data, code, and how to make it again."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Experiment
from dacsm.config.paths import Paths
from dacsm.report.measured import metrics_path, read_metrics
from dacsm.report.published import AVERAGE
from dacsm.report.shapes import MEAN, MEASURES, arrow
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json

MOST_LISTED = 12  # runs whose times are listed one by one; of more, the sums
HASH = 12  # digits of a hash that are shown


@dataclass(frozen=True)
class Cell:
    """A place in a table: a measure of one task, or its mean over several."""

    name: str
    measure: str  # a class, mean_per_class or overall
    tasks: tuple[str, ...]

    def value(self, choice: Mapping[str, Any]) -> float | None:
        """The number in one of the choices of a metrics.json."""
        return choice[self.measure] if self.measure in MEASURES else choice["per_class"][self.measure]


def find_cell(dataset: DatasetSpec, experiment: Experiment, name: str, task: str | None) -> Cell:
    """The cell of that name: a class or a mean of a task, or a task or a mean over tasks.

    Raises:
        InputError: for a name that the table has not, with names that are close.
    """
    if task is not None:
        task = _closest(task, experiment.tasks, f"--task: {experiment.name} has no task")
    if task is None and (dataset.table_form == "classes" and len(experiment.tasks) == 1):
        task = experiment.tasks[0]
    of_task = (*dataset.classes, *MEASURES)
    if task is not None:
        found = _closest(name, of_task, f"{arrow(task)} of {experiment.name} has no cell")
        return Cell(f"{MEASURES.get(found, found)} of {arrow(task)}", found, (task,))
    found = _matching(name, of_task)
    if found is not None:
        raise InputError(
            f"{found!r} is a cell of each task of {experiment.name}; "
            f"say of which, as in `--task {experiment.tasks[0]}`."
        )
    return _over_tasks(dataset, experiment, name)


def _over_tasks(dataset: DatasetSpec, experiment: Experiment, name: str) -> Cell:
    """A task, a mean of a line or a column of the matrix, or the average of all tasks."""
    measure = dataset.headline
    means = {AVERAGE: experiment.tasks}
    if dataset.table_form == "matrix":
        for domain in dataset.domains:
            means[f"{domain}-{MEAN}"] = tuple(
                task for task in experiment.tasks if dataset.split_task(task)[0] == domain
            )
            means[f"{MEAN}-{domain}"] = tuple(
                task for task in experiment.tasks if dataset.split_task(task)[1] == domain
            )
    known = (*experiment.tasks, *(mean for mean, tasks in means.items() if tasks))
    found = _closest(name, known, f"{experiment.name} has no cell")
    tasks = tuple(means.get(found, (found,)))
    of = f"the mean of {len(tasks)} tasks ({found})" if found in means else arrow(found)
    return Cell(f"{MEASURES[measure]} of {of}", measure, tasks)


def _matching(name: str, known: Sequence[str]) -> str | None:
    """The known name that is meant, whatever its case and its spaces."""
    plain = {candidate.lower().replace(" ", "_"): candidate for candidate in known}
    return plain.get(name.lower().replace(" ", "_"))


def _closest(name: str, known: Sequence[str], problem: str) -> str:
    found = _matching(name, known)
    if found is None:
        close = get_close_matches(name.lower(), [candidate.lower() for candidate in known], n=3, cutoff=0.5)
        near = [candidate for candidate in known if candidate.lower() in close]
        shown = f"near are {', '.join(near)}" if near else f"it has {', '.join(known[:12])}{', …' * (len(known) > 12)}"
        raise InputError(f"{problem} {name!r}; {shown}; name one of these.")
    return found


def describe_cell(
    dataset: DatasetSpec,
    experiment: Experiment,
    method: str,
    name: str,
    task: str | None,
    paths: Paths,
    file: Path,
) -> Iterator[str]:
    """The lines that `dacsm cell` prints.

    Raises:
        InputError: where the table has no such cell, or a run of it is not made.
    """
    method = _closest(method, experiment.methods, f"experiments.{experiment.name}.methods has no")
    cell = find_cell(dataset, experiment, name, task)
    command = again(cell, dataset, method, experiment, paths, file)
    runs = {(seed, one): _metrics(dataset, method, one, seed, paths, command)
            for seed in experiment.seeds for one in cell.tasks}  # fmt: skip
    yield f"{experiment.name}, {method}, {cell.name}: {_over_seeds(cell, runs, experiment.seeds, 'selected')}"
    over = f"over seeds {', '.join(map(str, experiment.seeds))}" if len(experiment.seeds) > 1 else "of a single seed"
    yield f"percent on the target, mean ± sample standard deviation {over}; protocol: {dataset.protocol}"
    yield from _seeds(cell, runs, experiment.seeds)
    for kind, what in (("last", "last epoch"), ("oracle", "oracle, with target labels")):
        if all(kind in metrics for metrics in runs.values()):
            yield f"  {what}: {_over_seeds(cell, runs, experiment.seeds, kind)}"
    records = _cards(dataset, method, list(runs), paths)
    yield from _made_with(records)
    yield from _costs(records)
    yield "make it again"
    yield f"  {command}"


def again(cell: Cell, dataset: DatasetSpec, method: str, experiment: Experiment, paths: Paths, file: Path) -> str:
    """The command that makes every run of a cell anew, from its source model, or that for source-only."""
    targets = [metrics_path(dataset, method, task, seed, paths) for task in cell.tasks for seed in experiment.seeds]
    stage = "pretrain" if method == SOURCE_ONLY else "adapt"
    settings = "" if file == Path("params.yaml") else f" --configfile {file}"
    return f"snakemake --cores all{settings} --forcerun {stage} evaluate -- {' '.join(map(str, targets))}"


def _metrics(dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths, command: str) -> dict[str, Any]:
    path = metrics_path(dataset, method, task, seed, paths)
    if not path.is_file():
        plain = command.split(" --forcerun")[0]
        raise InputError(f"{path} is not made yet, so that the cell has no number; make it with `{plain} {path}`.")
    return read_metrics(dataset, method, task, seed, paths)


Runs = Mapping[tuple[int, str], Mapping[str, Any]]  # metrics by seed and task


def _value(cell: Cell, runs: Runs, seed: int, kind: str) -> float | None:
    values = [cell.value(runs[seed, task][kind]) for task in cell.tasks]
    return None if None in values else mean(values)


def _over_seeds(cell: Cell, runs: Runs, seeds: Sequence[int], kind: str) -> str:
    values = [_value(cell, runs, seed, kind) for seed in seeds]
    if None in values:
        return "– (no image of this class)"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _seeds(cell: Cell, runs: Runs, seeds: Sequence[int]) -> Iterator[str]:
    for seed in seeds:
        value = _value(cell, runs, seed, "selected")
        chosen = [runs[seed, task]["selected"] for task in cell.tasks]
        how = ", ".join(dict.fromkeys(choice["selection"] for choice in chosen))
        epochs = ", ".join(str(choice["epoch"]) for choice in chosen[:MOST_LISTED]) + ", …" * (
            len(chosen) > MOST_LISTED
        )
        where = f"epoch {epochs}" if len(chosen) == 1 else f"epochs {epochs} of {len(chosen)} tasks"
        shown = "–" if value is None else f"{value:.2f}"
        yield f"  seed {seed}: {shown}, {where}, selected by {how}"


def _cards(
    dataset: DatasetSpec, method: str, runs: Sequence[tuple[int, str]], paths: Paths
) -> dict[Path, dict[str, Any]]:
    """The records of all runs that a cell rests on, stage by stage; those that are missing are left out."""
    places: dict[Path, None] = {}
    for seed, task in runs:
        places[paths.pretrained(dataset.name, dataset.split_task(task)[0], seed)] = None
    for seed, task in runs:
        if method != SOURCE_ONLY:
            places[paths.adapted(dataset.name, method, task, seed)] = None
    for seed, task in runs:
        places[paths.evaluated(dataset.name, method, task, seed)] = None
    paths = {place: paths.record(place) for place in places}
    return {place: read_json(path, "snakemake") for place, path in paths.items() if path.is_file()}


def _made_with(records: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """Hashes of settings, data and code, from the records; more than one where runs differ."""
    yield "made with" if records else "its runs left no records"
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for record in records.values():
        stages.setdefault(record["stage"], []).append(record)
    for stage, found in stages.items():
        settings = _distinct(_hash(record["settings"]) for record in found)
        commits = _distinct(
            "no commit" if record["git"]["commit"] is None
            else f"commit {record['git']['commit'][:HASH]}{'' if record['git']['clean'] else ' with changes'}"
            for record in found
        )  # fmt: skip
        files = _distinct(_hash(record["code"]) for record in found if "code" in record)
        code = f"{files} ({commits})" if files else commits
        yield f"  {stage}: settings {settings}; code {code}; {_distinct(record['device'] for record in found)}"
    data = {
        path: digest
        for record in records.values()
        for path, digest in record["inputs"].items()
        if path.endswith("index.json")
    }
    for path, digest in data.items():
        yield f"  data: {Path(path).parent.name} {digest[:HASH]}"


def _costs(records: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """Time and memory, run by run or in sum."""
    if not records:
        return
    total = sum(record["seconds"] for record in records.values())
    peaks = {
        where: max(record["peak_memory_mb"].get(where, 0) for record in records.values()) for where in ("ram", "cuda")
    }
    memory = f"{peaks['ram']} MiB of memory" + (f", {peaks['cuda']} MiB on the GPU" if peaks["cuda"] else "")
    yield f"took {_duration(total)} in {len(records)} runs, with at most {memory}"
    if len(records) <= MOST_LISTED:
        for place, record in records.items():
            peak = record["peak_memory_mb"]
            memory = f"{peak['ram']} MiB" + (f", {peak['cuda']} MiB on the GPU" if "cuda" in peak else "")
            yield f"  {record['stage']} {'/'.join(place.parts[-3:])}: {_duration(record['seconds'])}, {memory}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:HASH]


def _distinct(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))
