"""What was predicted of targets without labels, over all seeds: classes, confidence, scores, agreement; no accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt, ValidationError

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report.measured import Evaluated, Metrics, all_metrics, one_backbone, over_seeds, read_predictions
from dacsm.report.tables import Number, decimal, distinct

CONFIDENCE, AGREEMENT = "mean_confidence", "agreement_between_seeds"
SCORE, PREDICTED = "score_", "predicted_"  # before the names of validators and of classes
FACTS = ("task", "method", "selection", "seeds", "images")
AGREEMENT_HEADER = ("task", "method", "other", "seeds", "agreement", "agreement_std")
SCORES_HEADER = ("task", "method", "validator", "default", "runs", "runs_without_scores", "score", "score_std",
                 "best_score", "best_score_std", "best_epochs")  # fmt: skip


@dataclass(frozen=True)
class UnlabelledRuns(Evaluated):
    """All runs of an experiment whose targets have no labels."""

    predicted: Mapping[tuple[str, str], np.ndarray]  # by task and method, class indices (S, N)

    @cached_property
    def validators(self) -> tuple[str, ...]:
        """The validators that have a score in any run."""
        runs = [one["selected"]["scores"] for found in self.metrics.values() for one in found]
        return tuple(name for name in runs[0] if any(scores.get(name) is not None for scores in runs))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The numbers of a run by name, as the CSV has them."""
        scores = [f"{SCORE}{name}" for name in self.validators]
        return (CONFIDENCE, *scores, *(f"{PREDICTED}{name}" for name in self.dataset.classes))

    @cached_property
    def by_seed(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The numbers of the selected epoch by task and method: a line a seed, a column a number; NaN for unknown."""
        seeds = list(self.experiment.seeds)
        return {
            place: pd.DataFrame([_flat(run) for run in found], seeds, self.columns, dtype=float)
            for place, found in self.metrics.items()
        }

    def numbers(self, task: str, method: str) -> dict[str, Number]:
        """Means over seeds with their deviation; the agreement of seeds is a mean over their pairs."""
        pairs = [100 * np.mean(one == other) for one, other in combinations(self.predicted[task, method], 2)]
        return over_seeds(self.by_seed[task, method]) | {AGREEMENT: Number(float(np.mean(pairs)) if pairs else np.nan)}

    def agreement(self, task: str, first: str, second: str) -> Number:
        """The fraction of images to which two methods give the same class, in percent, seed by seed."""
        same = pd.Series(100 * (self.predicted[task, first] == self.predicted[task, second]).mean(axis=1))
        return Number(same.mean(), same.std())

    def facts(self, task: str, method: str) -> dict[str, str]:
        found = self.metrics[task, method]
        selection = distinct(one["selected"]["selection"] for one in found)
        seeds = " ".join(map(str, self.experiment.seeds))
        return dict(zip(FACTS, (task, method, selection, seeds, str(found[0]["images"])), strict=True))


def _flat(run: Metrics) -> dict[str, float | None]:
    selected = run["selected"]
    scores = {f"{SCORE}{name}": score for name, score in selected["scores"].items()}
    classes = {f"{PREDICTED}{name}": percent for name, percent in selected["predicted"].items()}
    return {CONFIDENCE: selected[CONFIDENCE], **scores, **classes}


def collect_unlabelled(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> UnlabelledRuns:
    """The runs of a whole experiment without labels.

    Raises InputError where one is missing, is not what evaluate writes, or is of another protocol, backbone or target.
    """
    metrics = all_metrics(dataset, experiment, paths, _problem)
    predicted: dict[tuple[str, str], np.ndarray] = {}
    for task, method in metrics:
        images = metrics[task, experiment.methods[0]][0]["images"]
        runs = [(method, task, seed) for seed in experiment.seeds]
        rows = [read_predictions(dataset, run, paths, labelled=False, images=images) for run in runs]
        predicted[task, method] = np.stack(rows)[..., -1]
    return UnlabelledRuns(dataset, experiment, metrics, one_backbone(dataset, metrics), predicted)


class _Selected(BaseModel):
    selection: str
    epoch: int
    mean_confidence: float | None
    predicted: dict[str, float]
    scores: dict[str, float | None]


class _Validator(BaseModel):
    epoch: PositiveInt | None
    scores: list[float | None]


class _Described(BaseModel):
    """A metrics.json as evaluate writes it of a target without labels."""

    backbone: str
    images: PositiveInt
    selected: _Selected
    validator: str = ""
    validators: dict[str, _Validator] = {}


def _problem(dataset: DatasetSpec, metrics: Metrics) -> str | None:
    """What is not as evaluate writes it of a target without labels."""
    try:
        found = _Described.model_validate(metrics)
    except ValidationError as error:
        first = error.errors()[0]
        return f"is not of a target without labels: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    if tuple(found.selected.predicted) != dataset.classes:
        return f"is wrong: selected.predicted does not hold the {len(dataset.classes)} classes of {dataset.name}"
    if any((one.epoch or 0) > len(one.scores) for one in found.validators.values()):
        return "is wrong: a validator chooses an epoch that it has no score of"
    return None


def table_csv(runs: UnlabelledRuns) -> tuple[list[str], list[list[str]]]:
    """Header and rows, a row a method and task: percent with 1 decimal, scores with 4; what is not known is empty."""
    columns = (CONFIDENCE, AGREEMENT, *runs.columns[1:])
    header = [*FACTS, *columns, *(f"{name}_std" for name in runs.columns)]
    rows = []
    for task, method in runs.metrics:
        numbers = runs.numbers(task, method)
        row = dict(runs.facts(task, method))
        row |= {name: decimal(numbers[name].mean, _digits(name)) for name in columns}
        row |= {f"{name}_std": decimal(numbers[name].spread, _digits(name)) for name in runs.columns}
        rows.append([row[name] for name in header])
    return header, rows


def _digits(column: str) -> int:
    return 4 if column.startswith(SCORE) else 1


def agreement_csv(runs: UnlabelledRuns) -> list[list[str]]:
    """A row under AGREEMENT_HEADER for each pair of methods on each task, in percent with 2 decimals."""
    rows, seeds = [], str(len(runs.experiment.seeds))
    for task in runs.experiment.tasks:
        for first, second in combinations(runs.experiment.methods, 2):
            found = runs.agreement(task, first, second)
            rows.append([task, first, second, seeds, decimal(found.mean), decimal(found.spread)])
    return rows


def scores_csv(runs: UnlabelledRuns) -> list[list[str]]:
    """A row under SCORES_HEADER for each validator, method and task.

    `score` is at the epoch that the default validator selected; `best_score` is at the epoch that the validator itself
    would choose, of which `best_epochs` has one for each seed. Source-only has no epochs to choose among.
    """
    rows = []
    for (task, method), found in runs.metrics.items():
        for name in runs.validators:
            scores = [run["selected"]["scores"][name] for run in found]
            chosen = [run["validators"][name] for run in found if "validators" in run]
            chosen = [one for one in chosen if one["epoch"] is not None]
            best = [one["scores"][one["epoch"] - 1] for one in chosen]
            default = any(run.get("validator") == name for run in found)
            known = [score for score in scores if score is not None]
            facts = [task, method, name, "yes" if default else "no", str(len(known)), str(len(found) - len(known))]
            values = [pd.Series(of, dtype=float) for of in (known, best)]
            numbers = [decimal(number, 4) for of in values for number in (of.mean(), of.std())]
            rows.append([*facts, *numbers, " ".join(str(one["epoch"]) for one in chosen)])
    return rows


def metrics_of(runs: UnlabelledRuns) -> dict[str, Any]:
    """Means over seeds for `dvc metrics diff`; what is not known is left out."""

    def of_run(task: str, method: str) -> dict[str, Any]:
        numbers = runs.numbers(task, method)
        means = {name: round(number.mean, 4) for name, number in numbers.items() if not np.isnan(number.mean)}
        found: dict[str, Any] = {name: round(means[name], 2) for name in (CONFIDENCE, AGREEMENT) if name in means}
        for group in (SCORE, PREDICTED):
            inside = {name.removeprefix(group): mean for name, mean in means.items() if name.startswith(group)}
            found[group.rstrip("_")] = inside
        return found

    tasks, methods = runs.experiment.tasks, runs.experiment.methods
    return {task: {method: of_run(task, method) for method in methods} for task in tasks}
