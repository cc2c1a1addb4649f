"""What was measured: the metrics.json of every seed of a method on a task, as rows of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report.statistics import SUMMARIES, Row
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json

KINDS = ("selected", "last", "oracle")  # ways to choose a run's checkpoint; the first is the primary one


@dataclass(frozen=True)
class Scored:
    """The E epochs of one run: how good each was, and what every validator said of it without knowing that."""

    accuracy: np.ndarray  # (E,) percent, the dataset's headline measure
    scores: Mapping[str, np.ndarray]  # by validator, (E,); NaN where it has none
    chosen: Mapping[str, int | None]  # by validator, the epoch that it likes best, counted from 1; None without scores
    validator: str  # the one that selected the run's epoch


@dataclass(frozen=True)
class Measured:
    """A method on a task, over all seeds."""

    selected: Row
    last: Row
    oracle: Row | None  # none for source-only, which has one checkpoint
    backbone: str
    scored: tuple[Scored, ...] = ()  # of each seed; none for source-only, and where other images are evaluated on


Runs = Mapping[tuple[str, str], Measured]  # by task and method


def collect(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> Runs:
    """The runs of a whole experiment.

    Raises:
        InputError: where one is missing, is not what evaluate writes, or is of another protocol or backbone.
    """
    runs = {
        (task, method): collect_run(dataset, method, task, experiment.seeds, paths)
        for task in experiment.tasks
        for method in experiment.methods
    }
    backbones = {run.backbone: place for place, run in runs.items()}
    if len(backbones) > 1:
        found = " and ".join(f"{name} ({' '.join(place)})" for name, place in backbones.items())
        raise InputError(
            f"the runs of {dataset.name} are of different backbones, {found}; evaluate the older ones again."
        )
    return runs


def collect_run(dataset: DatasetSpec, method: str, task: str, seeds: Sequence[int], paths: Paths) -> Measured:
    """Read the metrics of every seed of a method on a task."""
    measured = [read_metrics(dataset, method, task, seed, paths) for seed in seeds]

    def row(kind: str) -> Row:
        chosen = [metrics[kind] for metrics in measured]
        names = dict.fromkeys(choice["selection"] for choice in chosen)
        accuracy = [[*(choice["per_class"][name] for name in dataset.classes), *(choice[s] for s in SUMMARIES)]
                    for choice in chosen]  # fmt: skip
        return Row(
            task=task,
            method=method,
            selection=", ".join(names),
            seeds=tuple(seeds),
            epochs=tuple(choice["epoch"] for choice in chosen),
            accuracy=np.array(accuracy, dtype=float),  # None, of a class without images, becomes NaN
        )

    oracle = row("oracle") if all("oracle" in metrics for metrics in measured) else None
    backbones = dict.fromkeys(metrics["backbone"] for metrics in measured)
    scored = tuple(_scored(dataset, metrics) for metrics in measured if "validators" in metrics)
    return Measured(row("selected"), row("last"), oracle, ", ".join(backbones), scored)


def _scored(dataset: DatasetSpec, metrics: Mapping[str, Any]) -> Scored:
    validators = metrics["validators"]
    return Scored(
        accuracy=np.array(metrics["accuracy_by_epoch"][dataset.headline]),
        scores={name: np.array(found["scores"], dtype=float) for name, found in validators.items()},  # None is NaN
        chosen={name: found["epoch"] for name, found in validators.items()},
        validator=metrics["validator"],
    )


def metrics_path(dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths) -> Path:
    return paths.evaluated(dataset.name, method, task, seed) / "metrics.json"


def evaluate_command(dataset: DatasetSpec, method: str, task: str, seed: int) -> str:
    """What makes a run's metrics and predictions."""
    return f"dacsm evaluate {dataset.name} {method} {task} --seed {seed}"


def read_metrics(dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths) -> dict[str, Any]:
    """One run's metrics.json, if it is of that run, of these classes and of this protocol.

    Raises:
        InputError: where it is missing or anything else.
    """
    path = metrics_path(dataset, method, task, seed, paths)
    made_by = evaluate_command(dataset, method, task, seed)
    metrics = read_json(path, made_by)
    expected = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "protocol": dataset.protocol}
    for key, value in expected.items():
        if not isinstance(metrics, dict) or metrics.get(key) != value:
            raise InputError(f"{path} is not of {key} {value!r}; make it again with `{made_by}`.")
    if not isinstance(metrics.get("backbone"), str):
        raise InputError(f"{path} names no backbone; make it again with `{made_by}`.")
    needed = {"selection", "epoch", "per_class", *SUMMARIES}
    for kind in ("selected", "last", *(["oracle"] if "oracle" in metrics else [])):
        choice = metrics.get(kind)
        if not isinstance(choice, dict) or not needed <= choice.keys():
            raise InputError(f"{path}: {kind} is not what evaluate writes; make it again with `{made_by}`.")
        if list(choice["per_class"]) != list(dataset.classes):
            raise InputError(
                f"{path}: {kind}.per_class does not hold the {len(dataset.classes)} classes of {dataset.name}; "
                f"make it again with `{made_by}`."
            )
    if "validators" in metrics and not _has_epochs(metrics):
        raise InputError(
            f"{path} does not have an accuracy and the validators' scores for every epoch; make it again with "
            f"`{made_by}`."
        )
    return metrics


def _has_epochs(metrics: Mapping[str, Any]) -> bool:
    """Whether every epoch has its accuracies and every validator's score, as evaluate writes them."""
    accuracy, validators = metrics.get("accuracy_by_epoch"), metrics["validators"]
    if not (isinstance(accuracy, dict) and isinstance(validators, dict) and metrics.get("validator") in validators):
        return False
    columns = [accuracy.get(measure) for measure in SUMMARIES]
    for found in validators.values():
        if not isinstance(found, dict) or "epoch" not in found:
            return False
        columns.append(found.get("scores"))
    return all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns)
