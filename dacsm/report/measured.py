"""What was measured: the metrics.json of every seed of a method on a task, as rows of numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report.tables import AVERAGE, MEAN, MEASURES, Line, Number, Table, distinct, lay_out
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, reading

KINDS = ("selected", "last", "oracle")  # ways to choose a run's checkpoint; the first is the primary one
Metrics = Mapping[str, Any]  # of one run, as evaluate writes it
AllMetrics = Mapping[tuple[str, str], Sequence[Metrics]]  # by task and method, one a seed
Problem = Callable[[DatasetSpec, Metrics], str | None]  # what is not as it should be
Run = tuple[str, str, int]  # its method, task and seed


def over_seeds(values: pd.DataFrame) -> dict[str, Number]:
    """The mean over seeds of each column of values (S, C), with its sample standard deviation."""
    columns = (values, values.mean().tolist(), values.std().tolist())
    return {str(name): Number(mean, spread) for name, mean, spread in zip(*columns, strict=True)}


@dataclass(frozen=True)
class Row:
    """One method on one task, or on the average of all, under one way to choose the checkpoint."""

    selection: str
    epochs: tuple[int, ...]  # the chosen epoch of each seed; of an average, none
    accuracy: pd.DataFrame  # (S, C) percent by seed and cell; NaN for a class without images

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """The mean over seeds of each cell, with its deviation."""
        return over_seeds(self.accuracy)


@dataclass(frozen=True)
class Evaluated:
    """All runs of an experiment, on targets with labels or without."""

    dataset: DatasetSpec
    experiment: Experiment
    metrics: AllMetrics
    backbone: str

    @property
    def title(self) -> str:
        return self.experiment.title(self.dataset)

    @property
    def several(self) -> bool:
        """Whether there are several tasks, so that their average is of interest."""
        return len(self.experiment.tasks) > 1


@dataclass(frozen=True)
class Runs(Evaluated):
    """All runs of an experiment whose targets have labels."""

    @property
    def measure(self) -> str:
        """The dataset's headline measure, in words."""
        return MEASURES[self.dataset.headline]

    @cached_property
    def rows(self) -> dict[tuple[str, str, str], Row]:
        """By kind, task or AVERAGE, and method; source-only has no oracle."""
        rows = {}
        for kind in KINDS:
            for (task, method), found in self.metrics.items():
                if all(kind in one for one in found):
                    chosen = pd.DataFrame([one[kind] for one in found], list(self.experiment.seeds))
                    of_class = pd.DataFrame(chosen["per_class"].tolist(), chosen.index)
                    accuracy = of_class.join(chosen[list(MEASURES)]).astype(float)  # None becomes NaN
                    rows[kind, task, method] = Row(distinct(chosen["selection"]), tuple(chosen["epoch"]), accuracy)
            for method in self.experiment.methods:
                of = [rows[kind, task, method] for task in self.experiment.tasks if (kind, task, method) in rows]
                if len(of) == len(self.experiment.tasks):  # averaged seed by seed: the spread is that of the average
                    mean: Any = sum(row.accuracy for row in of) / len(of)
                    rows[kind, AVERAGE, method] = Row(distinct(row.selection for row in of), (), mean)
        return rows

    def by_task(self, method: str, kind: str = "selected") -> Row:
        """The headline measure on each task and on their average, and the means of a matrix's lines and columns.

        A mean is only known where no task of its line or column is missing.
        """
        tasks = (*self.experiment.tasks, AVERAGE)
        cells = pd.DataFrame({task: self.rows[kind, task, method].accuracy[self.dataset.headline] for task in tasks})
        domains = dict.fromkeys(domain for task in tasks[:-1] for domain in self.dataset.split_task(task))
        for domain in domains:
            others = [other for other in domains if other != domain]
            for mean, of in ((f"{domain}-{MEAN}", f"{domain}-{{}}"), (f"{MEAN}-{domain}", f"{{}}-{domain}")):
                cells[mean] = cells.reindex(columns=[of.format(other) for other in others]).mean(axis=1, skipna=False)
        return Row(self.rows[kind, AVERAGE, method].selection, (), cells)

    def lines(self, kind: str = "selected") -> list[Line]:
        """The lines of the table: one for each method, and in a table of classes for each task."""
        by_class, seeds = self.dataset.table_form == "classes", " ".join(map(str, self.experiment.seeds))
        lines = []
        for task in self.experiment.tasks if by_class else (AVERAGE,):
            for method in self.experiment.methods:
                if (kind, task, method) in self.rows:
                    row = self.rows[kind, task, method] if by_class else self.by_task(method, kind)
                    facts = {"task": task, "method": method, "selection": row.selection, "seeds": seeds}
                    lines.append(Line(facts, row.numbers))
        return lines

    def tables(self) -> list[Table]:
        """The numbers selected without target labels, in the dataset's form."""
        return lay_out(self.dataset, self.experiment.tasks, ("method", "selection"), self.lines())


def collect(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> Runs:
    """The runs of a whole experiment.

    Raises InputError where one is missing, is not what evaluate writes, or is of another protocol or backbone.
    """
    metrics = all_metrics(dataset, experiment, paths)
    return Runs(dataset, experiment, metrics, one_backbone(dataset, metrics))


def one_backbone(dataset: DatasetSpec, metrics: AllMetrics) -> str:
    """The backbone of all runs; raises InputError where they have several."""
    backbones = {one["backbone"]: " ".join(place) for place, found in metrics.items() for one in found}
    if len(backbones) > 1:
        found = " and ".join(f"{name} ({place})" for name, place in backbones.items())
        raise InputError(
            f"the runs of {dataset.name} are of different backbones, {found}; evaluate the older ones again."
        )
    return next(iter(backbones))


def _problem(dataset: DatasetSpec, metrics: Metrics) -> str | None:
    """What is not as evaluate writes it."""
    if not isinstance(metrics.get("backbone"), str):
        return "names no backbone"
    for kind in KINDS if "oracle" in metrics else KINDS[:2]:
        choice = metrics.get(kind)
        if not isinstance(choice, dict) or not {"selection", "epoch", "per_class", *MEASURES} <= choice.keys():
            return f"is wrong: {kind} is not what evaluate writes"
        if list(choice["per_class"]) != list(dataset.classes):
            return f"is wrong: {kind}.per_class does not hold the {len(dataset.classes)} classes of {dataset.name}"
        numbers = {name: choice[name] for name in MEASURES} | choice["per_class"]
        for name, number in numbers.items():
            unknown = number is None and name not in MEASURES  # of a class without images
            if not unknown and not (type(number) in (int, float) and 0 <= number <= 100):
                return f"is wrong: {kind} has {number!r} for {name}, expected percent"
    if "validators" not in metrics:
        return None
    try:
        validators = metrics["validators"]
        columns = [metrics["accuracy_by_epoch"][measure] for measure in MEASURES]
        chosen = [validators[name] for name in (metrics["validator"], *validators)]
        columns += [one["scores"] for one in chosen if "epoch" in one]
        complete = len(columns) == len(MEASURES) + len(chosen) and all(isinstance(column, list) for column in columns)
        complete &= len({len(column) for column in columns}) == 1
    except (KeyError, TypeError, AttributeError):
        complete = False
    return None if complete else "does not have an accuracy and the validators' scores for every epoch"


def all_metrics(dataset: DatasetSpec, experiment: Experiment, paths: Paths, problem: Problem = _problem) -> AllMetrics:
    """What `evaluate` wrote about every run of an experiment; raises InputError as `read_metrics` does."""
    return {
        (task, method): [evaluated_metrics(dataset, (method, task, seed), paths, problem) for seed in experiment.seeds]
        for task, method in product(experiment.tasks, experiment.methods)
    }


def evaluated_metrics(dataset: DatasetSpec, run: Run, paths: Paths, problem: Problem = _problem) -> Metrics:
    """What `evaluate` wrote about a run; raises InputError as `read_metrics` does."""
    return read_metrics(paths.evaluated(dataset.name, *run), "evaluate", dataset, run, problem)


def made_by(stage: str, dataset: DatasetSpec, method: str, task: str, seed: int) -> str:
    """The command that makes what a stage says of a run."""
    return f"dacsm {stage} {dataset.name} {method} {task} --seed {seed}"


def read_metrics(folder: Path, stage: str, dataset: DatasetSpec, run: Run, problem: Problem) -> Metrics:
    """The metrics.json of a stage on a run, if it is of that run and of the dataset's protocol.

    Raises InputError where it is missing, is of another run, or `problem` finds something in it.
    """
    path, command = folder / "metrics.json", made_by(stage, dataset, *run)
    found = read_json(path, command)
    keys = ("dataset", "method", "task", "seed", "protocol")
    expected = dict(zip(keys, (dataset.name, *run, dataset.protocol), strict=True))
    for key, value in expected.items():
        if not isinstance(found, dict) or found.get(key) != value:
            raise InputError(f"{path} is not of {key} {value!r}; make it again with `{command}`.")
    if reason := problem(dataset, found):
        raise InputError(f"{path} {reason}; make it again with `{command}`.")
    return found


def read_predictions(
    dataset: DatasetSpec, run: Run, paths: Paths, labelled: bool = True, images: int | None = None
) -> np.ndarray:
    """Of every image the index, the actual class where there are labels, and the predicted class, int (N, 3 or 2).

    They are those of the selected epoch of the run. Raises InputError where its predictions.csv is missing, unreadable,
    of other classes, or not of so many images.
    """
    columns, most = ["index", *(["label"] if labelled else []), "predicted"], len(dataset.classes) - 1
    path = paths.evaluated(dataset.name, *run) / "predictions.csv"
    with reading(path, made_by("evaluate", dataset, *run)):
        rows = pd.read_csv(path, usecols=columns, dtype=int)[columns].to_numpy()
        classes = rows[:, 1:]
        as_many = len(rows) > 0 and images in (None, len(rows))
        if not (as_many and 0 <= classes.min() <= classes.max() <= most):
            raise ValueError(f"expected {f'{images} ' if images else ''}class indices from 0 to {most}")
        return rows
