"""Stage: the table of an experiment, every method on every task over all seeds, with its figures and metrics for DVC.

Three ways to choose a run's checkpoint are kept apart. The primary one needs no target labels, and is the only one in
the metrics, the plots and the first rows of the table; the last epoch and the oracle stand beside it. Numbers that
others published have rows of their own.
"""

from typing import Any

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report.csv_table import csv_table
from dacsm.report.differences import Comparisons, compare_methods, differences_csv
from dacsm.report.figures import draw_figures
from dacsm.report.latex import latex
from dacsm.report.markdown import markdown
from dacsm.report.measured import KINDS, Runs, collect
from dacsm.report.published import AVERAGE, read_published
from dacsm.report.shapes import by_task
from dacsm.report.validators import HEADER, judge_validators, validators_csv
from dacsm.runtime.files import write_csv, write_json, write_text

FORMAT_VERSION = 1  # raise it when a module that is no code of this stage changes what it writes


def table(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> None:
    """Collect the metrics.json files of an experiment's runs into its table, in three forms, its metrics and its plots.

    Raises:
        InputError: where a run is missing, or a published number is not of the dataset.
    """
    runs, comparisons = write_numbers(dataset, experiment, paths)
    draw_figures(dataset, experiment, runs, comparisons, paths)


def write_numbers(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> tuple[Runs, Comparisons]:
    """Write the table in its three forms and the metrics, and return what they are of, for the figures.

    Raises:
        InputError: where a run is missing, or a published number is not of the dataset.
    """
    runs = collect(dataset, experiment, paths)
    backbone = next(iter(runs.values())).backbone
    published = read_published(dataset)
    kinds = {kind: {key: row for key, run in runs.items() if (row := getattr(run, kind)) is not None} for kind in KINDS}
    header, rows = csv_table(dataset, experiment, runs, published)
    write_csv(paths.table(experiment.name, "csv"), header, rows)
    comparisons, judged = compare_methods(experiment, kinds["selected"]), judge_validators(experiment, runs)
    write_csv(paths.differences(experiment.name), *differences_csv(dataset, comparisons))
    write_csv(paths.validators(experiment.name), HEADER, validators_csv(dataset, judged))
    text = markdown(dataset, experiment, backbone, **kinds, published=published, comparisons=comparisons, judged=judged)
    write_text(paths.table(experiment.name, "md"), text)
    write_text(paths.table(experiment.name, "tex"), latex(dataset, experiment, backbone, kinds["selected"], published))
    write_json(paths.metrics(experiment.name), _metrics(dataset, experiment, runs))
    return runs, comparisons


def _metrics(dataset: DatasetSpec, experiment: Experiment, runs: Runs) -> dict[str, Any]:
    """Means over seeds for `dvc metrics diff`; `last` and `oracle` are the dataset's headline measure.

    Classes are only there where the table has them: thousands of lines would hide what changed.
    """

    def of_run(task: str, method: str) -> dict[str, Any]:
        run = runs[task, method]
        *accuracies, mean_per_class, overall = (round(float(value), 2) for value in run.selected.mean)
        per_class = zip(dataset.classes, accuracies, strict=True)
        metrics: dict[str, Any] = {"mean_per_class": mean_per_class, "overall": overall}
        for name, row in (("last", run.last), ("oracle", run.oracle)):
            if row is not None:
                metrics[name] = round(float(np.mean(list(row.by_seed(dataset.headline).values()))), 2)
        if dataset.table_form != "classes":
            return metrics
        return metrics | {"per_class": {name: value for name, value in per_class if not np.isnan(value)}}

    found = {task: {method: of_run(task, method) for method in experiment.methods} for task in experiment.tasks}
    if dataset.table_form != "classes":
        found[AVERAGE] = {
            method: {dataset.headline: round(float(np.mean(by_task(
                [runs[task, method].selected for task in experiment.tasks], dataset.headline))), 2)}
            for method in experiment.methods
        }  # fmt: skip
    return found
