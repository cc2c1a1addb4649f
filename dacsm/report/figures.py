"""Which pictures a table has: classes as bars and confusions, or tasks as bars, or a matrix of sources by targets.

Where methods are compared with CDTrans, their paired differences are drawn too.
"""

import csv

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report import plots
from dacsm.report.differences import Comparisons, compared_with
from dacsm.report.measured import Measured, Runs, evaluate_command
from dacsm.report.published import AVERAGE
from dacsm.report.shapes import MEASURES, arrow, by_task, measured_grids
from dacsm.report.statistics import average_tasks, deviation
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_csv

FIGURE = "accuracy.png"
DIFFERENCES = "differences.png"
MOST_CLASSES = 80  # in bars and confusions; past that they cannot be read, and tasks are drawn instead
MOST_DIFFERENCES = 120  # lines of methods and tasks; past that the average alone is drawn
MOST_CONFUSIONS = 12  # methods times tasks; past that nobody looks at them, and drawing them takes minutes


def draw_figures(
    dataset: DatasetSpec, experiment: Experiment, runs: Runs, comparisons: Comparisons, paths: Paths
) -> None:
    """The pictures, and CSVs from which DVC draws the same; whatever an earlier table left there goes."""
    folder = paths.plots(experiment.name)
    for pattern in ("per_class*", "confusion_*", FIGURE, DIFFERENCES):
        for stale in folder.glob(pattern):
            stale.unlink()
    if dataset.table_form == "matrix":
        _draw_matrix(dataset, experiment, runs, paths)
    elif dataset.table_form == "tasks" or len(dataset.classes) > MOST_CLASSES:
        _draw_tasks(dataset, experiment, runs, paths)
    else:
        _draw_classes(dataset, experiment, runs, paths)
        if len(runs) <= MOST_CONFUSIONS:
            for (task, method), run in runs.items():
                _draw_run(dataset, experiment, task, method, run, paths)
    _draw_differences(dataset, experiment, comparisons, paths)


def _averaged(experiment: Experiment) -> str:
    several = len(experiment.seeds) > 1
    return f"mean of {len(experiment.seeds)} seeds" if several else f"seed {experiment.seeds[0]}"


def _spread(experiment: Experiment) -> str:
    return " ± standard deviation" if len(experiment.seeds) > 1 else ""


def _draw_classes(dataset: DatasetSpec, experiment: Experiment, runs: Runs, paths: Paths) -> None:
    shown = arrow(experiment.tasks[0]) if len(experiment.tasks) == 1 else f"average over {len(experiment.tasks)} tasks"
    bars = {}
    for method in experiment.methods:
        average = average_tasks([runs[task, method].selected for task in experiment.tasks], shown)
        bars[method] = (average.mean[:-1], average.spread[:-1])  # without overall
    title = f"{experiment.title(dataset)}, {shown}: accuracy per class, label-free selection\n"
    title += f"{_averaged(experiment)}{_spread(experiment)}"
    plots.bars(paths.plots(experiment.name) / FIGURE, title, (*dataset.classes, "mean per class"), bars)


def _draw_tasks(dataset: DatasetSpec, experiment: Experiment, runs: Runs, paths: Paths) -> None:
    bars = {}
    for method in experiment.methods:
        values = by_task([runs[task, method].selected for task in experiment.tasks], dataset.headline)
        values = np.column_stack([values, values.mean(axis=1)])  # (S, T + 1)
        bars[method] = (values.mean(axis=0), deviation(values))
    title = f"{experiment.title(dataset)}: {MEASURES[dataset.headline]} accuracy per task, label-free selection\n"
    title += f"{_averaged(experiment)}{_spread(experiment)}"
    plots.bars(paths.plots(experiment.name) / FIGURE, title, (*map(arrow, experiment.tasks), "average"), bars)


def _draw_matrix(dataset: DatasetSpec, experiment: Experiment, runs: Runs, paths: Paths) -> None:
    rows = {key: run.selected for key, run in runs.items()}
    grids = measured_grids(dataset, experiment.tasks, experiment.methods, rows)
    matrices = {grid.title: np.array([line.mean for line in grid.lines]) for grid in grids}
    title = f"{experiment.title(dataset)}: {MEASURES[dataset.headline]} accuracy, label-free selection, "
    title += _averaged(experiment)
    plots.matrices(paths.plots(experiment.name) / FIGURE, title, grids[0].columns, matrices)


def _draw_run(
    dataset: DatasetSpec, experiment: Experiment, task: str, method: str, run: Measured, paths: Paths
) -> None:
    """The confusions of a method on a task: as a picture over all seeds, and as a CSV of the first."""
    folder = paths.plots(experiment.name)
    accuracies = zip(dataset.classes, run.selected.mean, strict=False)
    rows = [(name, f"{value:.2f}") for name, value in accuracies if not np.isnan(value)]
    write_csv(folder / f"per_class_{method}_{task}.csv", ("class", "accuracy"), rows)
    predictions = [read_predictions(dataset, method, task, seed, paths) for seed in experiment.seeds]
    named = [[dataset.classes[number] for number in pair] for pair in predictions[0].tolist()]
    write_csv(folder / f"confusion_{method}_{task}.csv", ("actual", "predicted"), named)
    title = f"{experiment.title(dataset)}, {arrow(task)}: {method}\n"
    title += f"selection: {run.selected.selection}; {_averaged(experiment)}"
    shares = np.mean([_confusion_shares(pairs, len(dataset.classes)) for pairs in predictions], axis=0)
    plots.confusion(folder / f"confusion_{method}_{task}.png", title, dataset.classes, 100 * shares)


def _draw_differences(dataset: DatasetSpec, experiment: Experiment, comparisons: Comparisons, paths: Paths) -> None:
    """Every method's difference to the baseline, task by task and for their average; no picture where there is none."""
    if AVERAGE in comparisons and sum(map(len, comparisons.values())) > MOST_DIFFERENCES:
        comparisons = {AVERAGE: comparisons[AVERAGE]}
    groups = {
        f"average of {len(experiment.tasks)} tasks" if task == AVERAGE else arrow(task): {
            comparison.name: comparison.summary(dataset.headline) for comparison in of_task
        }
        for task, of_task in comparisons.items()
        if of_task
    }
    if groups:
        of = experiment.title(dataset) + (f", {next(iter(groups))}" if len(groups) == 1 else "")
        title = (
            f"{of}: difference to {compared_with(experiment)} in {MEASURES[dataset.headline]} accuracy, paired by seed"
        )
        plots.differences(paths.plots(experiment.name) / DIFFERENCES, title, groups)


def _confusion_shares(pairs: np.ndarray, classes: int) -> np.ndarray:
    """From (N, 2) actual and predicted classes to shares of each actual class, (K, K); NaN for one without images."""
    counts = np.bincount(pairs[:, 0] * classes + pairs[:, 1], minlength=classes**2).reshape(classes, classes)
    images = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, images, out=np.full(counts.shape, np.nan), where=images > 0)


def read_predictions(dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths) -> np.ndarray:
    """The actual and the predicted class of every image at the selected epoch, by number, int (N, 2).

    Raises:
        InputError: where predictions.csv is missing, unreadable, or of other classes.
    """
    path = paths.evaluated(dataset.name, method, task, seed) / "predictions.csv"
    made_by = evaluate_command(dataset, method, task, seed)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            pairs = np.array([(int(row["label"]), int(row["predicted"])) for row in csv.DictReader(file)])
        if pairs.ndim != 2 or not 0 <= pairs.min() <= pairs.max() < len(dataset.classes):
            raise ValueError(f"expected class numbers from 0 to {len(dataset.classes) - 1}")
        return pairs
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; make it with `{made_by}`.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it again with `{made_by}`.") from error
