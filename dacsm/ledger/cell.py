"""One number of a table, and all that it rests on: seeds, selection, settings, data, code, and how to make it again."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, get_args

import pandas as pd

from dacsm.config import PARAMS_FILE
from dacsm.config.datasets import DatasetSpec
from dacsm.config.experiments import Experiment
from dacsm.config.params import Validator
from dacsm.config.project import Project
from dacsm.ledger.audit.traces import read_record
from dacsm.ledger.pipeline import recipe_behind
from dacsm.ledger.runs import runs_of
from dacsm.report.measured import KINDS, Evaluated, Metrics, collect
from dacsm.report.records import Record, data_of, duration, made_from, memory_of, most_memory
from dacsm.report.tables import AVERAGE, MEAN, MEASURES, Number, arrow, decimal, distinct
from dacsm.report.unlabelled import CONFIDENCE, PREDICTED, SCORE, collect_unlabelled
from dacsm.runtime.errors import InputError
from dacsm.runtime.wording import listed

MOST_LISTED = 12  # epochs, cells, and runs whose times are listed one by one; of more, the sums


class Cell(NamedTuple):
    """A place in a table: a measure of one task, or its mean over several."""

    name: str
    measure: str  # a class, mean_per_class or overall; of a target without labels, a column of its CSV
    tasks: tuple[str, ...]


def find_cell(project: Project, experiment: Experiment, name: str, task: str | None) -> Cell:
    """The cell of that name: a class or a mean of a task, or a task or a mean over tasks.

    Raises InputError for a name that the table has not, with names that are close.
    """
    dataset = project.dataset
    if not experiment.has_labels(dataset):
        return _described(dataset, experiment, name, task)
    of_task = (*dataset.classes, *MEASURES)
    if task is not None:
        task = closest(task, experiment.tasks, f"--task: {experiment.name} has no task")
    elif dataset.table_form == "classes" and len(experiment.tasks) == 1:
        task = experiment.tasks[0]
    if task is not None:
        found = closest(name, of_task, f"{arrow(task)} of {experiment.name} has no cell")
        return Cell(f"{MEASURES.get(found, found)} of {arrow(task)}", found, (task,))
    if known := _matching(name, of_task):
        raise InputError(
            f"{known!r} is a cell of each task of {experiment.name}; "
            f"say of which, as in `--task {experiment.tasks[0]}`."
        )
    return _over_tasks(project, experiment, name)


def _described(dataset: DatasetSpec, experiment: Experiment, name: str, task: str | None) -> Cell:
    """A cell of a target without labels: how often a class is predicted, the mean confidence, or a score."""
    if task is None and len(experiment.tasks) > 1:
        raise InputError(f"{experiment.name} has several tasks; say of which, as in `--task {experiment.tasks[0]}`.")
    task = experiment.tasks[0] if task is None else closest(task, experiment.tasks, f"{experiment.name} has no task")
    scores = [f"{SCORE}{validator}" for validator in get_args(Validator) if validator != "last"]
    problem = f"{arrow(task)} of {experiment.name}, whose target has no labels and so no accuracy, has no cell"
    found = closest(name, (CONFIDENCE, *dataset.classes, *scores), problem)
    if found in dataset.classes:
        return Cell(f"images predicted as {found} of {arrow(task)}", f"{PREDICTED}{found}", (task,))
    return Cell(f"{found.replace('_', ' ')} of {arrow(task)}", found, (task,))


def _over_tasks(project: Project, experiment: Experiment, name: str) -> Cell:
    """A task, a mean of a line or a column of the matrix, or the average of all tasks."""
    dataset, means = project.dataset, {AVERAGE: experiment.tasks}
    if dataset.table_form == "matrix":
        ends = {task: dataset.split_task(task) for task in experiment.tasks}
        for domain in dataset.domains:
            means[f"{domain}-{MEAN}"] = tuple(task for task, (source, _) in ends.items() if source == domain)
            means[f"{MEAN}-{domain}"] = tuple(task for task, (_, target) in ends.items() if target == domain)
    known = (*experiment.tasks, *(mean for mean, tasks in means.items() if tasks))
    found = closest(name, known, f"{experiment.name} has no cell")
    tasks = tuple(means.get(found, (found,)))
    of = f"the mean of {len(tasks)} tasks ({found})" if found in means else arrow(found)
    return Cell(f"{MEASURES[dataset.headline]} of {of}", dataset.headline, tasks)


def _matching(name: str, known: Sequence[str]) -> str | None:
    """The known name that is meant, whatever its case and its spaces."""
    plain = {candidate.lower().replace(" ", "_"): candidate for candidate in known}
    return plain.get(name.lower().replace(" ", "_"))


def closest(name: str, known: Sequence[str], problem: str) -> str:
    """The known name that is meant; raises InputError, which begins with `problem` and goes on with what is near."""
    found = _matching(name, known)
    if found is None:
        close = get_close_matches(name.lower(), [candidate.lower() for candidate in known], n=3, cutoff=0.5)
        near = [candidate for candidate in known if candidate.lower() in close]
        shown = f"near are {', '.join(near)}" if near else f"it has {listed(known, MOST_LISTED)}"
        raise InputError(f"{problem} {name!r}; {shown}; name one of these.")
    return found


def describe_cell(project: Project, table: str, method: str, name: str, task: str | None) -> Iterator[str]:
    """The lines that `dacsm cell` prints.

    Raises InputError where the table has no such cell, or a run of it is not made.
    """
    experiment = project.params.experiment(table)
    method = closest(method, experiment.methods, f"experiments.{experiment.name}.methods has no")
    cell, seeds = find_cell(project, experiment, name, task), experiment.seeds
    experiment = experiment.model_copy(update={"methods": (method,), "tasks": cell.tasks})  # what the cell is of
    files = [run.outputs[0] for run in runs_of(project, experiment, ["evaluate"])]
    settings = "" if project.file == PARAMS_FILE else f" --configfile {project.file}"
    for path in files:
        if not path.is_file():
            command = f"snakemake --cores all{settings} {path}"
            raise InputError(f"{path} is not made yet, so that the cell has no number; make it with `{command}`.")
    over = f"over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "of a single seed"
    numbers = _described_numbers if not experiment.has_labels(project.dataset) else _measured_numbers
    yield from numbers(project, experiment, cell, f"mean ± sample standard deviation {over}")
    trained = runs_of(project, experiment, ["pretrain", "adapt", "evaluate"])
    records = {run.place: read_record(run) for run in trained if run.record.is_file()}
    yield from _made_with(records.values())
    yield from _costs(records)
    yield "make it again"
    stage = recipe_behind({"method": method})
    yield f"  snakemake --cores all{settings} --forcerun {stage} evaluate -- {' '.join(map(str, files))}"


def _measured_numbers(project: Project, experiment: Experiment, cell: Cell, over: str) -> Iterator[str]:
    """The cell's accuracy, of each seed and under each choice of the epoch."""
    (method,), runs = experiment.methods, collect(project.dataset, experiment, project.paths)
    rows = {kind: row for kind in KINDS if (row := runs.rows.get((kind, AVERAGE, method)))}
    numbers = {kind: _over_seeds(row.numbers[cell.measure]) for kind, row in rows.items()}
    yield f"{experiment.name}, {method}, {cell.name}: {numbers['selected']}"
    yield f"percent on the target, {over}; protocol: {project.dataset.protocol}"
    yield from _by_seed(rows["selected"].accuracy[cell.measure], runs, 2)
    for kind, what in (("last", "last epoch"), ("oracle", "oracle, with target labels")):
        if kind in numbers:
            yield f"  {what}: {numbers[kind]}"


def _described_numbers(project: Project, experiment: Experiment, cell: Cell, over: str) -> Iterator[str]:
    """The cell's number on a target without labels, of each seed."""
    (method,), runs = experiment.methods, collect_unlabelled(project.dataset, experiment, project.paths)
    values = values_of(project, experiment, cell)
    digits, unit = (4, "score") if cell.measure.startswith(SCORE) else (1, "percent")
    number = " ± ".join(filter(None, (decimal(values.mean(), digits) or "–", decimal(values.std(), digits))))
    yield f"{experiment.name}, {method}, {cell.name}: {number}"
    yield f"{unit} on the target, which has no labels, so that there is no accuracy; {over}"
    yield from _by_seed(values, runs, max(2, digits))


def _by_seed(values: pd.Series, runs: Evaluated, digits: int) -> Iterator[str]:
    """The number of each seed, and how the epochs of its runs were selected."""
    for (seed, value), *metrics in zip(values.items(), *runs.metrics.values(), strict=True):
        yield f"  seed {seed}: {decimal(value, digits) or '–'}, {_chosen(metrics)}"


def values_of(project: Project, experiment: Experiment, cell: Cell) -> pd.Series:
    """The cell's number by seed, of an experiment that has its tasks and one method alone; NaN for unknown."""
    (method,) = experiment.methods
    if experiment.has_labels(project.dataset):
        rows = collect(project.dataset, experiment, project.paths).rows
        return rows["selected", AVERAGE, method].accuracy[cell.measure]
    (task,) = cell.tasks
    by_seed = collect_unlabelled(project.dataset, experiment, project.paths).by_seed
    return by_seed[task, method].reindex(columns=[cell.measure])[cell.measure]


def _over_seeds(number: Number) -> str:
    """Mean ± sample standard deviation."""
    if math.isnan(number.mean):
        return "– (no image of this class)"
    return f"{number.mean:.1f}" + ("" if math.isnan(number.spread) else f" ± {number.spread:.1f}")


def _chosen(metrics: Sequence[Metrics]) -> str:
    """The epochs that were selected of a seed's runs, one a task, and how."""
    chosen = [one["selected"] for one in metrics]
    how = distinct(choice["selection"] for choice in chosen)
    epochs = listed([str(choice["epoch"]) for choice in chosen], MOST_LISTED)
    where = f"epoch {epochs}" if len(chosen) == 1 else f"epochs {epochs} of {len(chosen)} tasks"
    return f"{where}, selected by {how}"


def _made_with(records: Iterable[Record]) -> Iterator[str]:
    """Hashes of settings, data and code, from the run records; more than one where runs differ."""
    stages: dict[str, list[Record]] = {}
    for record in records:
        stages.setdefault(record["stage"], []).append(record)
    yield "made with" if stages else "its runs left no run records"
    for stage, found in stages.items():
        settings, code, commits = made_from(found)
        yield f"  {stage}: settings {settings}; code {code} ({commits}); {distinct(one['device'] for one in found)}"
    for path, sha256 in data_of(records).items():
        yield f"  data: {Path(path).parent.name} {sha256}"


def _costs(records: Mapping[Path, Record]) -> Iterator[str]:
    """Time and memory, run by run or in sum."""
    if not records:
        return
    seconds = sum(record["seconds"] for record in records.values())
    most = memory_of(most_memory(records.values()), " of memory")
    yield f"took {duration(seconds)} in {len(records)} runs, with at most {most}"
    if len(records) <= MOST_LISTED:
        for place, record in records.items():
            name = f"{record['stage']} {'/'.join(place.parts[-3:])}"
            yield f"  {name}: {duration(record['seconds'])}, {memory_of(record['peak_memory_mb'])}"
