"""How good each validator's choice of an epoch was, judged afterwards with the target's labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.report.measured import Runs, Scored
from dacsm.report.shapes import plain_decimal
from dacsm.report.statistics import rank_correlation

ALL = "all"  # tasks or methods
HEADER = ("task", "method", "validator", "default", "measure", "runs", "runs_without_scores", "accuracy", "oracle",
          "gap", "worst_gap", "rank_correlation_epochs", "rank_correlation_runs")  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A validator over runs; accuracies are means over those in which it has a score, in percent, NaN for none."""

    task: str  # or ALL
    method: str  # or ALL
    validator: str
    default: bool  # whether it selected the epochs that the table is of
    runs: int  # with a score of it
    without: int  # runs in which it has none
    accuracy: float  # at the epoch that it chooses
    oracle: float  # at the best epoch of the same runs
    worst_gap: float  # points that its choice lies below the best epoch, in the run where that is most
    within_runs: float  # rank correlation of score and accuracy over the epochs of a run, mean over runs
    across_runs: float  # the same over the runs of a task, each at the epoch that it chooses, mean over tasks

    @property
    def gap(self) -> float:
        """Points below the best epoch, on average."""
        return self.oracle - self.accuracy


def judge_validators(experiment: Experiment, runs: Runs) -> list[Judged]:
    """Every validator over all methods and each, for all tasks together and, where there are several, for each."""
    tasks = [ALL, *experiment.tasks] if len(experiment.tasks) > 1 else [ALL]
    judged = []
    for task in tasks:
        for method in (ALL, *experiment.methods):
            by_task = {
                one: [run for other in experiment.methods if method in (ALL, other) for run in runs[one, other].scored]
                for one in experiment.tasks
                if task in (ALL, one)
            }
            judged += [_judge(task, method, name, by_task) for name in _names(by_task)]
    return judged


def _names(by_task: Mapping[str, Sequence[Scored]]) -> list[str]:
    return list(dict.fromkeys(name for runs in by_task.values() for run in runs for name in run.scores))


def _judge(task: str, method: str, name: str, by_task: Mapping[str, Sequence[Scored]]) -> Judged:
    every = [run for runs in by_task.values() for run in runs]
    scored = {place: [run for run in runs if run.chosen.get(name) is not None] for place, runs in by_task.items()}
    runs = [run for of_task in scored.values() for run in of_task]
    chosen = np.array([_at_choice(name, run)[1] for run in runs])
    best = np.array([run.accuracy.max() for run in runs])
    return Judged(
        task=task,
        method=method,
        validator=name,
        default=any(run.validator == name for run in every),
        runs=len(runs),
        without=len(every) - len(runs),
        accuracy=_mean(chosen),
        oracle=_mean(best),
        worst_gap=float((best - chosen).max()) if runs else float("nan"),
        within_runs=_mean([rank_correlation(run.scores[name], run.accuracy) for run in runs]),
        across_runs=_mean([_across(name, of_task) for of_task in scored.values()]),
    )


def _at_choice(name: str, run: Scored) -> tuple[float, float]:
    """A validator's score, and the accuracy, at the epoch that it chooses."""
    epoch = run.chosen[name] - 1
    return float(run.scores[name][epoch]), float(run.accuracy[epoch])


def _across(name: str, runs: Sequence[Scored]) -> float:
    pairs = [_at_choice(name, run) for run in runs]
    return rank_correlation(*zip(*pairs, strict=True)) if pairs else float("nan")


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Of those that are known; NaN where none is."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def validators_csv(dataset: DatasetSpec, judged: Sequence[Judged]) -> list[list[str]]:
    """The rows under HEADER: percent and points with 2 decimals, correlations with 3; what is not known is empty."""
    rows = []
    for one in judged:
        percent = [plain_decimal(value) for value in (one.accuracy, one.oracle, one.gap, one.worst_gap)]
        correlations = [plain_decimal(value, 3) for value in (one.within_runs, one.across_runs)]
        facts = [one.task, one.method, one.validator, "yes" if one.default else "no", dataset.headline]
        rows.append([*facts, str(one.runs), str(one.without), *percent, *correlations])
    return rows
