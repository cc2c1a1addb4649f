"""One number of a table, and all that it rests on: seeds, selection, settings, data, code, and how to make it again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dacsm.config import PARAMS_FILE, SOURCE_ONLY
from dacsm.config.experiments import Experiment
from dacsm.config.project import Project
from dacsm.ledger.provenance import digest
from dacsm.ledger.runs import Run, run_of
from dacsm.report.measured import metrics_path, read_metrics
from dacsm.report.published import AVERAGE
from dacsm.report.tables import MEAN, MEASURES, arrow
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json

MOST_LISTED = 12  # runs whose times are listed one by one; of more, the sums
HASH = 12  # digits of a hash that are shown
Metrics = Mapping[tuple[int, str], Mapping[str, Any]]  # metrics.json by seed and task
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A place in a table: a measure of one task, or its mean over several."""

    name: str
    measure: str  # a class, mean_per_class or overall
    tasks: tuple[str, ...]

    def value(self, metrics: Metrics, seed: int, kind: str) -> float | None:
        """The number of one seed under one choice of the checkpoint; None for a class without images."""
        chosen = [metrics[seed, task][kind] for task in self.tasks]
        found = [one if self.measure in MEASURES else one["per_class"] for one in chosen]
        values = [one[self.measure] for one in found]
        return None if None in values else mean(values)

    def over_seeds(self, metrics: Metrics, seeds: Sequence[int], kind: str) -> str:
        """Mean ± sample standard deviation."""
        values = [self.value(metrics, seed, kind) for seed in seeds]
        if None in values:
            return "– (no image of this class)"
        return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def find_cell(project: Project, experiment: Experiment, name: str, task: str | None) -> Cell:
    """The cell of that name: a class or a mean of a task, or a task or a mean over tasks.

    Raises InputError for a name that the table has not, with names that are close.
    """
    dataset = project.dataset
    of_task = (*dataset.classes, *MEASURES)
    if task is not None:
        task = _closest(task, experiment.tasks, f"--task: {experiment.name} has no task")
    elif dataset.table_form == "classes" and len(experiment.tasks) == 1:
        task = experiment.tasks[0]
    if task is not None:
        found = _closest(name, of_task, f"{arrow(task)} of {experiment.name} has no cell")
        return Cell(f"{MEASURES.get(found, found)} of {arrow(task)}", found, (task,))
    if found := _matching(name, of_task):
        raise InputError(
            f"{found!r} is a cell of each task of {experiment.name}; "
            f"say of which, as in `--task {experiment.tasks[0]}`."
        )
    return _over_tasks(project, experiment, name)


def _over_tasks(project: Project, experiment: Experiment, name: str) -> Cell:
    """A task, a mean of a line or a column of the matrix, or the average of all tasks."""
    dataset, means = project.dataset, {AVERAGE: experiment.tasks}
    if dataset.table_form == "matrix":
        ends = {task: dataset.split_task(task) for task in experiment.tasks}
        for domain in dataset.domains:
            means[f"{domain}-{MEAN}"] = tuple(task for task, (source, _) in ends.items() if source == domain)
            means[f"{MEAN}-{domain}"] = tuple(task for task, (_, target) in ends.items() if target == domain)
    known = (*experiment.tasks, *(mean for mean, tasks in means.items() if tasks))
    found = _closest(name, known, f"{experiment.name} has no cell")
    tasks = tuple(means.get(found, (found,)))
    of = f"the mean of {len(tasks)} tasks ({found})" if found in means else arrow(found)
    return Cell(f"{MEASURES[dataset.headline]} of {of}", dataset.headline, tasks)


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


def describe_cell(project: Project, table: str, method: str, name: str, task: str | None) -> Iterator[str]:
    """The lines that `dacsm cell` prints.

    Raises InputError where the table has no such cell, or a run of it is not made.
    """
    experiment = project.params.experiment(table)
    method = _closest(method, experiment.methods, f"experiments.{experiment.name}.methods has no")
    cell, seeds = find_cell(project, experiment, name, task), experiment.seeds
    command = again(cell, project, method, experiment)
    places = [(seed, one) for seed in seeds for one in cell.tasks]
    metrics = {(seed, one): _metrics(project, method, one, seed, command) for seed, one in places}
    yield f"{experiment.name}, {method}, {cell.name}: {cell.over_seeds(metrics, seeds, 'selected')}"
    over = f"over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "of a single seed"
    yield f"percent on the target, mean ± sample standard deviation {over}; protocol: {project.dataset.protocol}"
    yield from _seeds(cell, metrics, seeds)
    for kind, what in (("last", "last epoch"), ("oracle", "oracle, with target labels")):
        if all(kind in one for one in metrics.values()):
            yield f"  {what}: {cell.over_seeds(metrics, seeds, kind)}"
    records = {run.place: read_json(run.record, "snakemake")
               for run in _runs(project, method, places) if run.record.is_file()}  # fmt: skip
    yield from _made_with(records.values())
    yield from _costs(records)
    yield "make it again"
    yield f"  {command}"


def again(cell: Cell, project: Project, method: str, experiment: Experiment) -> str:
    """The command that makes every run of a cell anew, from its source model, or that for source-only."""
    targets = [metrics_path(project.dataset, method, task, seed, project.paths)
               for task in cell.tasks for seed in experiment.seeds]  # fmt: skip
    stage = "pretrain" if method == SOURCE_ONLY else "adapt"
    settings = "" if project.file == PARAMS_FILE else f" --configfile {project.file}"
    return f"snakemake --cores all{settings} --forcerun {stage} evaluate -- {' '.join(map(str, targets))}"


def _metrics(project: Project, method: str, task: str, seed: int, command: str) -> dict[str, Any]:
    path = metrics_path(project.dataset, method, task, seed, project.paths)
    if not path.is_file():
        plain = command.split(" --forcerun")[0]
        raise InputError(f"{path} is not made yet, so that the cell has no number; make it with `{plain} {path}`.")
    return read_metrics(project.dataset, method, task, seed, project.paths)


def _seeds(cell: Cell, metrics: Metrics, seeds: Sequence[int]) -> Iterator[str]:
    for seed in seeds:
        value = cell.value(metrics, seed, "selected")
        chosen = [metrics[seed, task]["selected"] for task in cell.tasks]
        how = ", ".join(dict.fromkeys(choice["selection"] for choice in chosen))
        epochs = ", ".join(str(choice["epoch"]) for choice in chosen[:MOST_LISTED])
        epochs += ", …" * (len(chosen) > MOST_LISTED)
        where = f"epoch {epochs}" if len(chosen) == 1 else f"epochs {epochs} of {len(chosen)} tasks"
        yield f"  seed {seed}: {'–' if value is None else f'{value:.2f}'}, {where}, selected by {how}"


def _runs(project: Project, method: str, places: Sequence[tuple[int, str]]) -> list[Run]:
    """The runs of models that a cell rests on, stage by stage, each once."""
    every = []
    for seed, task in places:
        every.append(run_of(project, "pretrain", source=project.dataset.split_task(task)[0], seed=seed))
    for stage in ("adapt", "evaluate"):
        if stage == "evaluate" or method != SOURCE_ONLY:
            every += [run_of(project, stage, method=method, task=task, seed=seed) for seed, task in places]
    return list({run.record: run for run in every}.values())


def _made_with(records: Iterable[Record]) -> Iterator[str]:
    """Hashes of settings, data and code, from the run records; more than one where runs differ."""
    stages: dict[str, list[Record]] = {}
    for record in records:
        stages.setdefault(record["stage"], []).append(record)
    yield "made with" if stages else "its runs left no run records"
    for stage, found in stages.items():
        settings = _distinct(digest(record["settings"])[:HASH] for record in found)
        code = _distinct(digest(record["code"])[:HASH] for record in found)
        commits = _distinct(map(_commit, found))
        yield f"  {stage}: settings {settings}; code {code} ({commits}); {_distinct(one['device'] for one in found)}"
    inputs = [entry for record in records for entry in record["inputs"].items()]
    for path, sha256 in dict(entry for entry in inputs if entry[0].endswith("index.json")).items():
        yield f"  data: {Path(path).parent.name} {sha256[:HASH]}"


def _commit(record: Record) -> str:
    git = record["git"]
    return f"commit {git['commit'][:HASH]}{'' if git['clean'] else ' with changes'}" if git["commit"] else "no commit"


def _costs(records: Mapping[Path, Record]) -> Iterator[str]:
    """Time and memory, run by run or in sum."""
    if not records:
        return
    peaks = [record["peak_memory_mb"] for record in records.values()]
    most = {where: max(peak.get(where, 0) for peak in peaks) for where in ("ram", "cuda")}
    seconds = sum(record["seconds"] for record in records.values())
    yield f"took {_duration(seconds)} in {len(records)} runs, with at most {_memory(most, ' of memory')}"
    if len(records) <= MOST_LISTED:
        for place, record in records.items():
            name = f"{record['stage']} {'/'.join(place.parts[-3:])}"
            yield f"  {name}: {_duration(record['seconds'])}, {_memory(record['peak_memory_mb'])}"


def _memory(peak: Mapping[str, int], of_memory: str = "") -> str:
    return f"{peak['ram']} MiB{of_memory}" + (f", {peak['cuda']} MiB on the GPU" if peak.get("cuda") else "")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
