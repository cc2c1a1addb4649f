"""Which pictures a table has: classes as bars and confusions, or tasks as bars, or a matrix of sources by targets.

Where methods are compared with CDTrans, their paired differences are drawn too.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report import plots
from dacsm.report.differences import Comparisons, compared_with
from dacsm.report.measured import Runs, read_predictions
from dacsm.report.tables import AVERAGE, MEASURES, arrow, decimal, matrix
from dacsm.runtime.files import write_csv

FIGURE = "accuracy.png"
DEVIATION = " ± standard deviation"  # what bars show beside the mean over seeds
DIFFERENCES = "differences.png"
MOST_CLASSES = 80  # in bars and confusions; past that they cannot be read, and tasks are drawn instead
MOST_DIFFERENCES = 120  # lines of methods and tasks; past that the average alone is drawn
MOST_CONFUSIONS = 12  # methods times tasks; past that nobody looks at them, and drawing them takes minutes


def draw_figures(runs: Runs, comparisons: Comparisons, paths: Paths) -> None:
    """The pictures, and CSVs from which DVC draws the same; whatever an earlier table left there goes."""
    folder = paths.plots(runs.experiment.name)
    clear_figures(folder)
    draw_accuracy = _draw_matrix if runs.dataset.table_form == "matrix" else _draw_bars
    draw_accuracy(runs, folder / FIGURE)
    for task, method in drawn_runs(runs.dataset, runs.experiment):
        _draw_run(runs, task, method, paths)
    _draw_differences(runs, comparisons, folder / DIFFERENCES)


def clear_figures(folder: Path) -> None:
    """Remove what an earlier table drew there, with labels or without."""
    for pattern in ("per_class*", "confusion_*", "predicted_*", FIGURE, DIFFERENCES):
        for stale in folder.glob(pattern):
            stale.unlink()


def draws_classes(dataset: DatasetSpec) -> bool:
    """Whether the bars are of classes, and confusions are drawn."""
    return dataset.table_form == "classes" and len(dataset.classes) <= MOST_CLASSES


def drawn_runs(dataset: DatasetSpec, experiment: Experiment) -> list[tuple[str, str]]:
    """Task and method of the runs whose classes and confusions are drawn; none without labels."""
    if not experiment.has_labels(dataset):
        return []
    runs = [(task, method) for task in experiment.tasks for method in experiment.methods]
    return runs if draws_classes(dataset) and len(runs) <= MOST_CONFUSIONS else []


def drawn_csv(what: str, method: str, task: str, experiment: Experiment, paths: Paths) -> Path:
    """Where the numbers of a drawn run lie: `what` is per_class or confusion; predicted, if without labels."""
    return paths.plots(experiment.name) / f"{what}_{method}_{task}.csv"


def mean_of_seeds(experiment: Experiment, spread: str = "") -> str:
    """What a picture shows of the seeds; `spread` says what its lines beside the mean are, where there are several."""
    seeds = experiment.seeds
    return f"mean of {len(seeds)} seeds{spread}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _average(experiment: Experiment) -> str:
    return f"average of {len(experiment.tasks)} tasks"


def _draw_bars(runs: Runs, path: Path) -> None:
    """A group of bars for each class, averaged over tasks, or for each task; and one for their mean."""
    experiment, title = runs.experiment, runs.title
    if draws_classes(runs.dataset):
        title += f", {_average(experiment) if runs.several else arrow(*experiment.tasks)}: accuracy per class"
        columns = {name: name for name in runs.dataset.classes} | {"mean_per_class": MEASURES["mean_per_class"]}
        rows = {method: runs.rows["selected", AVERAGE, method].numbers for method in experiment.methods}
    else:
        title += f": {runs.measure} accuracy per task"
        columns = {task: arrow(task) for task in (*experiment.tasks, AVERAGE)}
        rows = {method: runs.by_task(method).numbers for method in experiment.methods}
    title += f", label-free selection\n{mean_of_seeds(experiment, DEVIATION)}"
    plots.bars(path, title, {method: {columns[name]: of[name] for name in columns} for method, of in rows.items()})


def _draw_matrix(runs: Runs, path: Path) -> None:
    matrices = {}
    for line in runs.lines():
        cells = matrix(runs.dataset, runs.experiment.tasks, line.cells)
        means = [[number.mean for number in of_source.values()] for of_source in cells.values()]
        matrices[f"{line.facts['method']} ({line.facts['selection']})"] = np.array(means)
    title = f"{runs.title}: {runs.measure} accuracy, label-free selection, {mean_of_seeds(runs.experiment)}"
    plots.matrices(path, title, list(cells), matrices)


def _draw_run(runs: Runs, task: str, method: str, paths: Paths) -> None:
    """The confusions of a method on a task: as a picture over all seeds, and as a CSV of the first."""
    dataset, experiment, row = runs.dataset, runs.experiment, runs.rows["selected", task, method]
    means = {name: decimal(row.numbers[name].mean) for name in dataset.classes}
    per_class = [(name, mean) for name, mean in means.items() if mean]
    write_csv(drawn_csv("per_class", method, task, experiment, paths), ("class", "accuracy"), per_class)
    predictions = [read_predictions(dataset, (method, task, seed), paths)[:, 1:] for seed in experiment.seeds]
    confusion = drawn_csv("confusion", method, task, experiment, paths)
    write_csv(confusion, ("actual", "predicted"), np.array(dataset.classes)[predictions[0]].tolist())
    title = f"{runs.title}, {arrow(task)}: {method}\nselection: {row.selection}; {mean_of_seeds(experiment)}"
    every = range(len(dataset.classes))
    fractions = [pd.crosstab(*pairs.T, normalize="index") for pairs in predictions]  # type: ignore[call-overload]  # of each actual class
    full = [one.reindex(columns=every, fill_value=0).reindex(every) for one in fractions]  # NaN for one without images
    percent = 100 * np.mean(full, axis=0)
    plots.confusion(confusion.with_suffix(".png"), title, dataset.classes, percent)


def _draw_differences(runs: Runs, comparisons: Comparisons, path: Path) -> None:
    """Every method's difference to the baseline, task by task and for their average; no picture where there is none."""
    if runs.several and sum(map(len, comparisons.values())) > MOST_DIFFERENCES:
        comparisons = {AVERAGE: comparisons[AVERAGE]}
    groups = {
        _average(runs.experiment) if task == AVERAGE else arrow(task): {
            one.name: one.differences[runs.dataset.headline] for one in of_task
        }
        for task, of_task in comparisons.items()
        if of_task
    }
    if groups:
        of = f"{runs.title}, {next(iter(groups))}" if len(groups) == 1 else runs.title
        what = f"difference to {compared_with(runs.experiment)} in {runs.measure} accuracy, paired by seed"
        plots.differences(path, f"{of}: {what}", groups)
