"""How good each validator's choice of an epoch was, judged afterwards with the target's labels: as CSV and section."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dacsm.config.params import SOURCE_ONLY
from dacsm.report.measured import Metrics, Runs
from dacsm.report.statistics import FEWEST_RANKED, rank_correlation
from dacsm.report.tables import Table, decimal, printed

ALL = "all"  # tasks or methods
FACTS = ("task", "method", "validator", "default", "measure", "runs", "runs_without_scores")
POINTS = ("accuracy", "oracle", "gap", "worst_gap")
CORRELATIONS = ("rank_correlation_epochs", "rank_correlation_runs")
HEADER = (*FACTS, *POINTS, *CORRELATIONS)


def judge_validators(runs: Runs) -> list[dict[str, Any]]:
    """A row under HEADER for each validator, over all methods and each, for all tasks together and for each of several.

    Accuracies are means over the runs in which the validator has a score, in percent, at the epoch that it chooses;
    `oracle` is at the best epoch of the same runs, and gaps are points below it. Rank correlations are of score and
    accuracy: over the epochs of a run, mean over runs; and over the runs of a task, each at the epoch that the
    validator chooses, mean over tasks. NaN where there is none.
    """
    experiment, headline = runs.experiment, runs.dataset.headline
    scored = pd.DataFrame(
        {"task": task, "method": method, "run": (task, method, place)} | score
        for (task, method), found in runs.metrics.items()
        for place, run in enumerate(found)
        for score in scores_of(run, headline)
    )
    rows = []
    for task in (ALL, *experiment.tasks) if runs.several else (ALL,):
        for method in (ALL, *experiment.methods) if len(scored) else ():
            of = scored[scored["task"].isin(experiment.tasks if task == ALL else [task])]
            of = of[of["method"].isin(experiment.methods if method == ALL else [method])]
            for name, found in of.groupby("validator", sort=False):
                facts = {"task": task, "method": method, "validator": name, "measure": headline}
                rows.append(facts | _judge(found, of["run"].nunique()))
    return rows


def scores_of(run: Metrics, headline: str) -> Iterator[dict[str, Any]]:
    """What each validator made of a run's epochs, where they were measured."""
    for name, found in run.get("validators", {}).items():
        accuracy = np.array(run["accuracy_by_epoch"][headline])
        scores, epoch = np.array(found["scores"], dtype=float), found["epoch"]  # None becomes NaN
        yield {
            "validator": name,
            "default": name == run["validator"],
            "scored": epoch is not None,
            "score": np.nan if epoch is None else scores[epoch - 1],
            "accuracy": np.nan if epoch is None else accuracy[epoch - 1],
            "best": accuracy.max(),
            "within": rank_correlation(scores, accuracy),
        }


def _judge(found: pd.DataFrame, runs: int) -> dict[str, Any]:
    """One validator over its part of so many runs."""
    known = found[found["scored"]]
    across = [rank_correlation(of["score"], of["accuracy"]) for _task, of in known.groupby("task", sort=False)]
    accuracy, oracle = known["accuracy"].mean(), known["best"].mean()
    return {
        "default": bool(found["default"].any()),
        "runs": len(known),
        "runs_without_scores": runs - len(known),
        "accuracy": accuracy,
        "oracle": oracle,
        "gap": oracle - accuracy,
        "worst_gap": (known["best"] - known["accuracy"]).max(),
        "rank_correlation_epochs": known["within"].mean(),
        "rank_correlation_runs": pd.Series(across, dtype=float).mean(),
    }


def validators_csv(judged: list[dict[str, Any]]) -> list[list[str]]:
    """The rows under HEADER: percent and points with 2 decimals, correlations with 3; what is not known is empty."""
    rows = [one | {"default": "yes" if one["default"] else "no"} for one in judged]
    digits = dict.fromkeys(POINTS, 2) | dict.fromkeys(CORRELATIONS, 3)
    return [[decimal(row[name], digits[name]) if name in digits else row[name] for name in HEADER] for row in rows]


def validator_section(runs: Runs, judged: list[dict[str, Any]]) -> Iterator[str | Table]:
    """What each validator would have chosen without labels, judged with them; nothing where no run was adapted."""
    dataset, methods = runs.dataset, [method for method in runs.experiment.methods if method != SOURCE_ONLY]
    targets = [dataset.split_task(task)[1] for task in runs.experiment.tasks]
    elsewhere = any(dataset.evaluation_domain(target) != target for target in targets)
    if not methods or not (judged or elsewhere):
        return
    yield "## Choosing without labels"
    if not judged:
        yield (
            "The images that are evaluated on are not those that were adapted on, so that the accuracy of each epoch "
            "is not known, and no validator can be judged."
        )
        return
    by_method = {(one["method"], one["validator"]): one for one in judged if one["task"] == ALL}
    together = {name: one for (method, name), one in by_method.items() if method == ALL}
    names = {name: f"**{name}** (default)" if one["default"] else name for name, one in together.items()}
    yield from _introduction(runs, ", ".join(name for name, one in together.items() if one["default"]))
    shown = ("accuracy", "gap", "worst_gap", *CORRELATIONS)
    heads = ["validator", "runs", "accuracy", "mean gap", "worst gap", "rank correlation over epochs", "over runs"]
    rows = [[names[name], str(one["runs"]), *(printed(one[key]) for key in shown)] for name, one in together.items()]
    yield Table("", heads, rows)
    without = {name: one["runs_without_scores"] for name, one in together.items() if one["runs_without_scores"]}
    if without:
        lacking = ", ".join(f"{name} in {count} of {count + together[name]['runs']}" for name, count in without.items())
        yield (
            f"Runs in which a validator has no score at all are not in its row: {lacking}. It cannot be computed where "
            "no part of the source was held out (source_accuracy), or where training diverged."
        )

    def gap(method: str, name: str) -> str:
        one = by_method.get((method, name))
        return f"{printed(one['gap'])} ({printed(one['worst_gap'])})" if one and one["runs"] else "–"

    methods = [method for method in methods if any((method, name) in by_method for name in names)]
    if len(methods) > 1:
        yield "Method by method: the mean gap, and in brackets the worst."
        rows = [[names[name], *(gap(method, name) for method in methods)] for name in names]
        yield Table("", ["validator", *methods], rows)


def _introduction(runs: Runs, default: str) -> Iterator[str]:
    yield (
        "Each validator scores the epochs of a run without the target's labels, and would choose the epoch with the "
        f"highest score. **Target labels were used here to judge the validators, and not to choose an epoch**: what "
        f"stands above was measured at the epochs that the default, {default}, had chosen."
    )
    yield (
        f"Accuracy is {runs.measure}, in percent, at the epoch that the validator would choose; the gap is what the "
        "best epoch of the same run (the oracle's) has above it, in points. Rank correlations are Spearman's, of score "
        "and accuracy: over the epochs of a run, averaged over runs; and over the runs of a task, all methods and "
        "seeds together, each at the epoch that the validator would choose"
        f"{', averaged over tasks' if runs.several else ''}. Epochs without a score are passed over; “–” stands where "
        f"fewer than {FEWEST_RANKED} scores are left, or all are equal."
    )
