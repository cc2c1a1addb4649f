"""The pictures that `table` has drawn: accuracies, differences and confusions; and confusions as a list."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from dacsm.config.paths import Paths
from dacsm.report.figures import DIFFERENCES, FIGURE, drawn_csv, drawn_runs, draws_classes
from dacsm.report.html.content import Folded, Part, Picture
from dacsm.report.measured import Runs, read_predictions
from dacsm.report.plots import MOST_NUMBERED
from dacsm.report.tables import AVERAGE, Table, arrow, printed
from dacsm.report.unlabelled import UnlabelledRuns

MOST_LISTED = 10  # confusions of a method
MOST_METHODS = 12  # whose confusions are listed; also the most tasks with a picture of their own


def accuracy_section(runs: Runs, paths: Paths) -> Iterator[Part]:
    """The picture of the table."""
    path = paths.plots(runs.experiment.name) / FIGURE
    headline = runs.dataset.headline
    rows = [(method, runs.rows.get(("selected", AVERAGE, method))) for method in runs.experiment.methods]
    numbers = ", ".join(f"{method} {printed(row.numbers[headline].mean, 1)}" for method, row in rows if row)
    what = {"matrix": "Sources by targets as colours", "tasks": "Bars, a group a task"}.get(
        runs.dataset.table_form, "Bars, a group a class" if draws_classes(runs.dataset) else "Bars, a group a task"
    )
    yield from _read(path, f"{what}. {runs.measure.capitalize()}: {numbers}. All numbers are in the table above.")


def predicted_pictures(runs: UnlabelledRuns, paths: Paths) -> Iterator[Part]:
    """How often each class is predicted, for the first tasks."""
    for task in runs.experiment.tasks[:MOST_METHODS]:
        path = paths.plots(runs.experiment.name) / f"predicted_{task}.png"
        yield from _read(
            path, f"Bars, a group a class: how often it is predicted on {arrow(task)}; no accuracy is known."
        )


def difference_picture(runs: Runs, paths: Paths) -> Iterator[Part]:
    """The picture of the paired differences, where there is one."""
    path = paths.plots(runs.experiment.name) / DIFFERENCES
    yield from _read(path, "Paired differences with their intervals, a line a method; the tables above have them.")


def confusion_section(runs: Runs, paths: Paths) -> Iterator[Part]:
    """A matrix for each drawn run; a list of the most frequent confusions where numbers do not fit into one."""
    dataset, experiment = runs.dataset, runs.experiment
    drawn = drawn_runs(dataset, experiment)
    pictures = []
    for task, method in drawn:
        path = drawn_csv("confusion", method, task, experiment, paths).with_suffix(".png")
        of = f" on {arrow(task)}" if runs.several else ""
        alt = f"Confusion matrix of {method}{of}: actual classes by predicted ones, in percent."
        pictures += _read(path, alt, narrow=len(dataset.classes) <= MOST_NUMBERED)
    if pictures:
        yield "In percent of the actual class: what its images were taken for. The diagonal holds what is right."
    yield from pictures
    if not pictures or len(dataset.classes) > MOST_NUMBERED:
        yield from _listed(runs, paths)


def _listed(runs: Runs, paths: Paths) -> Iterator[Part]:
    """The most frequent confusions of each method in the first seed, over all tasks."""
    experiment, classes = runs.experiment, runs.dataset.classes
    methods = experiment.methods[:MOST_METHODS]
    tables = [table for method in methods for table in _of_method(runs, method, paths)]
    if tables:
        over = f", over {len(experiment.tasks)} tasks" if runs.several else ""
        yield (
            f"The {MOST_LISTED} most frequent confusions of each method with seed {experiment.seeds[0]}{over}, of "
            f"{len(classes)} classes; the fraction is of all images of the actual class."
        )
        yield from (Folded(table.title, [replace(table, title="")]) for table in tables)
    if len(methods) < len(experiment.methods):
        yield f"Those of the first {len(methods)} of {len(experiment.methods)} methods are listed."


def _of_method(runs: Runs, method: str, paths: Paths) -> Iterator[Table]:
    dataset, seed = runs.dataset, runs.experiment.seeds[0]
    counts = np.zeros((len(dataset.classes), len(dataset.classes)), dtype=int)
    for task in runs.experiment.tasks:
        run = method, task, seed
        if (paths.evaluated(dataset.name, *run) / "predictions.csv").is_file():
            np.add.at(counts, tuple(read_predictions(dataset, run, paths)[:, 1:].T), 1)
    images = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:MOST_LISTED]
    rows = []
    for actual, predicted in zip(*np.unravel_index(most, counts.shape), strict=True):
        if count := int(counts[actual, predicted]):
            percent = f"{100 * count / images[actual]:.0f}\u00a0%"
            rows.append([dataset.classes[actual], dataset.classes[predicted], f"{count:,}", percent])
    if rows:
        yield Table(method, ["actual", "taken for", "images", "fraction"], rows, names=2)


def _read(path: Path, alt: str, narrow: bool = False) -> list[Part]:
    return [Picture(path.read_bytes(), alt, narrow=narrow)] if path.is_file() else []
