"""Which finished method a label-free criterion would choose for a target, and how far such a choice is to be trusted.

The criteria are the validators. What they choose among an experiment's methods is read from what adaptation wrote, in
which there are no labels. How well they rank methods is measured on other tasks, whose labels are known.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from dacsm.adaptation.scores import CRITERIA, score_epochs
from dacsm.config import SOURCE_ONLY
from dacsm.config.experiments import Experiment
from dacsm.config.project import Project
from dacsm.data.shards import read_index
from dacsm.evaluation.metrics import read_epochs
from dacsm.evaluation.outputs import best_epoch
from dacsm.report.differences import interval_of
from dacsm.report.measured import evaluated_metrics
from dacsm.report.statistics import BETTER, FEWEST_RANKED, Difference, paired_difference, rank_correlation
from dacsm.report.tables import Table, arrow, markdown, printed
from dacsm.report.validators import scores_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.wording import count_of

Scores = Mapping[str, Mapping[str, float]]  # by criterion and method: the mean over seeds


@dataclass(frozen=True)
class Trust:
    """How a criterion did on tasks whose labels are known."""

    correlation: Difference | None  # of score and accuracy over the methods of a task; None where it has none
    costs: tuple[float, ...]  # points of accuracy that its choice lacked to the best method, task by task

    @property
    def ranks(self) -> bool:
        """Whether it follows accuracy: the 95 % interval of its rank correlation is above zero."""
        return self.correlation is not None and self.correlation.verdict == BETTER


def describe_recommendation(project: Project, name: str) -> Iterator[str]:
    """The lines that `dacsm recommend` prints.

    Raises InputError where no two methods of the experiment are finished.
    """
    experiment = project.params.experiment(name)
    found = {task: _scores_of(project, experiment, task) for task in experiment.tasks}
    asked = {(project.dataset.name, task) for task in experiment.tasks}
    trusted = _trusted(project, asked)
    yield from _about_trust(trusted)
    able = {name: trust for name, trust in trusted.items() if trust.ranks}
    best = max(able, key=lambda name: able[name].correlation.mean, default=None)  # type: ignore[union-attr]  # it ranks
    for task, (scores, seeds, missing) in found.items():
        chosen = {name: max(of, key=of.__getitem__) for name, of in scores.items() if of}
        yield ""
        unfinished = f"; not finished: {', '.join(missing)}" if missing else ""
        yield f"{project.dataset.name}, {arrow(task)}, {count_of(len(seeds), 'seed')}{unfinished}"
        rows = [[name, method, printed(scores[name][method], 4)] for name, method in chosen.items()]
        yield markdown(Table("", ["criterion", "would choose", "score"], rows, names=2))
        if best is None or best not in chosen:
            yield (
                "No criterion is known to rank methods, so that none of these choices is a recommendation. Label some "
                "of the target's images and compare, or take the method that is best where labels are known."
            )
        else:
            trust = able[best]
            yield (
                f"Take {chosen[best]}, which {best} chooses. On {count_of(len(trust.costs), 'other task')} its choice "
                f"lacked {printed(mean(trust.costs), 1)} points to the best method, and {printed(max(trust.costs), 1)} "
                "at worst."
            )


def _scores_of(project: Project, experiment: Experiment, task: str) -> tuple[Scores, list[int], list[str]]:
    """Each criterion's score of each finished method, the seeds, and the methods that are not finished with them."""
    dataset, paths = project.dataset, project.paths
    images = read_index(paths.shards(dataset.name, dataset.split_task(task)[1])).images
    methods = [method for method in experiment.methods if method != SOURCE_ONLY]  # it has no epochs to score
    files = {
        (method, seed): paths.adapted(dataset.name, method, task, seed) / "epochs.npz"
        for method, seed in product(methods, experiment.seeds)
    }
    counts = {method: sum(files[method, seed].is_file() for seed in experiment.seeds) for method in methods}
    finished = [method for method in methods if counts[method] == max(counts.values()) > 0]
    seeds = [seed for seed in experiment.seeds if all(files[method, seed].is_file() for method in finished)]
    if len(finished) < 2 or not seeds:
        raise InputError(
            f"experiments.{experiment.name} has fewer than two methods that are adapted to {task} with the same seeds, "
            f"so that there is nothing to choose; make them with `snakemake {paths.table(experiment.name)}`."
        )
    runs: dict[str, dict[str, list[float]]] = {name: {} for name in CRITERIA}
    for method, seed in product(finished, seeds):
        command = f"dacsm adapt {dataset.name} {method} {task} --seed {seed}"
        epochs = read_epochs(files[method, seed], command, images=images, classes=len(dataset.classes))
        for name, of_epochs in score_epochs(epochs, runs).items():
            runs[name].setdefault(method, []).append(float(of_epochs[best_epoch(of_epochs) - 1]))
    scores = {
        name: {method: mean(values) for method, values in of.items() if np.isfinite(values).all()}
        for name, of in runs.items()
    }
    return scores, seeds, [method for method in methods if method not in finished]


def _trusted(project: Project, asked: set[tuple[str, str]]) -> dict[str, Trust]:
    """Each criterion's trust, from all tasks with measured methods but those that are asked about."""
    by_criterion: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in CRITERIA}
    for place, of_task in _measured(project).groupby(["dataset", "task"], sort=False):
        seeds = set.intersection(*(set(of_method) for _, of_method in of_task.groupby("method")["seed"]))
        methods = of_task["method"].nunique()
        if place in asked or methods < FEWEST_RANKED:
            continue
        common = of_task[of_task["seed"].isin(seeds)]
        for name, (correlations, costs) in by_criterion.items():
            found = common[common["validator"] == name]
            if len(found) < methods * len(seeds):
                continue  # in some run it has no score
            means = found.groupby("method", sort=False)[["score", "accuracy"]].mean()
            if np.isfinite(correlation := rank_correlation(means["score"], means["accuracy"])):
                correlations.append(correlation)
                costs.append(float(means["accuracy"].max() - means["accuracy"].iloc[means["score"].argmax()]))
    return {name: Trust(_above_zero(of), tuple(costs)) for name, (of, costs) in by_criterion.items()}


def _measured(project: Project) -> pd.DataFrame:
    """A row for each measured run and criterion that scores it, with the accuracy at the epoch that it chooses."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}  # experiments may have runs in common
    for name, experiment in project.params.experiments.items():
        dataset = project.params.load_dataset_of(name)
        tasks = experiment.tasks if experiment.has_labels(dataset) else ()
        for run in product(experiment.methods, tasks, experiment.seeds):
            if (project.paths.evaluated(dataset.name, *run) / "metrics.json").is_file():
                facts = dict(zip(("dataset", "method", "task", "seed"), (dataset.name, *run), strict=True))
                for one in scores_of(evaluated_metrics(dataset, run, project.paths), dataset.headline):
                    if one["scored"]:
                        rows[dataset.name, *run, one["validator"]] = facts | one
    return pd.DataFrame(rows.values(), columns=["dataset", "method", "task", "seed", "validator", "score", "accuracy"])


def _above_zero(correlations: list[float]) -> Difference | None:
    """Their mean and its interval, over tasks."""
    by_task = dict(enumerate(correlations))
    return paired_difference(by_task, dict.fromkeys(by_task, 0.0)) if by_task else None


def _about_trust(trusted: Mapping[str, Trust]) -> Iterator[str]:
    yield "How criteria ranked methods on other tasks, judged afterwards with their labels:"
    rows = []
    for name, trust in trusted.items():
        correlation, costs = trust.correlation, trust.costs
        known = [printed(correlation.mean), interval_of(correlation)] if correlation else ["–", "–"]
        cost = [printed(mean(costs), 1), printed(max(costs), 1)] if costs else ["–", "–"]
        rows.append([name, str(len(costs)), *known, *cost])
    heads = ["criterion", "tasks", "rank correlation over methods", "95 % interval", "points lost", "at worst"]
    yield markdown(Table("", heads, rows))
