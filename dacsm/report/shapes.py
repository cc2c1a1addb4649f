"""The shape of a dataset's table: a column a class, a column a task, or a matrix of sources by targets.

Measured and published numbers are laid out alike, as grids of lines, but never in one grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.report.published import AVERAGE, Published, published_columns
from dacsm.report.statistics import Row, deviation

MOST_CLASSES = 20  # columns; past that a page is too narrow, and the CSV has them
MEASURES = {"mean_per_class": "mean per class", "overall": "overall"}
MEAN = "mean"
Rows = Mapping[tuple[str, str], Row]  # by task and method


@dataclass(frozen=True)
class Line:
    """A row of a grid: its names, and C numbers in percent, NaN where there is none."""

    names: tuple[str, ...]
    mean: np.ndarray  # (C,)
    spread: np.ndarray  # (C,); NaN for a single seed and for published numbers


@dataclass(frozen=True)
class Grid:
    """One table on a page."""

    title: str  # what all of it is of: a task, or a method
    names: tuple[str, ...]  # the headings of the lines' names
    columns: tuple[str, ...]  # the headings of the numbers
    lines: tuple[Line, ...]
    published: bool = False  # numbers as printed by others, in their decimals


def decimal(grid: Grid, mean: float) -> str:
    """A mean as it is shown: to a tenth, or as published."""
    return f"{mean:.2f}" if grid.published and round(mean, 1) != mean else f"{mean:.1f}"


def plain_decimal(value: float | None, digits: int = 2) -> str:
    """A number for a CSV: without the sign of a zero, and empty where it is not known (None or NaN)."""
    return "" if value is None or np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def arrow(task: str) -> str:
    """`source-target` as it is read: source → target."""
    return task.replace("-", " → ")


def by_task(rows: Sequence[Row], headline: str) -> np.ndarray:
    """A method's headline measure, (S, T) percent: a line a seed, a column a task."""
    return np.array([list(row.by_seed(headline).values()) for row in rows]).T


def measured_grids(dataset: DatasetSpec, tasks: Sequence[str], methods: Sequence[str], rows: Rows) -> list[Grid]:
    """The measured numbers in the dataset's shape; the numbers of task tables are of its headline measure."""
    if dataset.table_form == "classes":
        return [_class_grid(dataset, task, [rows[task, method] for method in methods]) for task in tasks]
    values = {method: by_task([rows[task, method] for task in tasks], dataset.headline) for method in methods}
    selections = {
        method: ", ".join(dict.fromkeys(rows[task, method].selection for task in tasks)) for method in methods
    }
    if dataset.table_form == "matrix":
        return [
            Grid(f"{method} ({selections[method]})", ("source ↓ target →",), *matrix(dataset, tasks, values[method]))
            for method in methods
        ]
    lines = []
    for method in methods:
        every = np.column_stack([values[method], values[method].mean(axis=1)])
        lines.append(Line((method, selections[method]), every.mean(axis=0), deviation(every)))
    columns = (*map(arrow, tasks), f"average of {len(tasks)}")
    return [Grid("", ("method", "selection"), columns, tuple(lines))]


def published_grids(dataset: DatasetSpec, published: Sequence[Published]) -> list[Grid]:
    """Published numbers in the dataset's shape, exactly as published: no mean is added."""
    names = ("method", "backbone", "selection", "found in")
    if dataset.table_form != "matrix":
        columns = published_columns(dataset)
        wide = dataset.table_form == "tasks" or len(dataset.classes) <= MOST_CLASSES
        shown = columns if wide else columns[len(dataset.classes) :]
        heads = tuple(MEASURES.get(column, arrow(column)) for column in shown)
        tasks = dict.fromkeys(row.task for row in published)
        return [
            Grid(
                arrow(task),
                names,
                heads,
                tuple(_published_line(row, shown) for row in published if row.task == task),
                published=True,
            )
            for task in tasks
        ]
    lines = tuple(_published_line(row, (AVERAGE,)) for row in published)
    averages = Grid("", names, (f"average of {len(dataset.tasks)}",), lines, published=True)
    grids = []
    for row in published:
        values = np.array([[row.accuracy.get(task, np.nan) for task in dataset.tasks]])
        if not np.isnan(values).all():
            columns, lines = matrix(dataset, dataset.tasks, values)
            plain = tuple(Line(line.names, line.mean[:-1], line.spread[:-1]) for line in lines[:-1])
            title = f"{row.method}, {row.backbone} ({row.selection})"
            grids.append(Grid(title, ("source ↓ target →",), columns[:-1], plain, published=True))
    return [averages, *grids]


def _published_line(row: Published, columns: Sequence[str]) -> Line:
    values = np.array([row.accuracy.get(column, np.nan) for column in columns])
    return Line((row.method, row.backbone, row.selection, row.found_in), values, np.full(len(values), np.nan))


def _class_grid(dataset: DatasetSpec, task: str, rows: Sequence[Row]) -> Grid:
    """A line a method: its classes, mean per class, overall."""
    wide = len(dataset.classes) <= MOST_CLASSES
    first = 0 if wide else len(dataset.classes)
    columns = (*(dataset.classes if wide else ()), *MEASURES.values())
    lines = tuple(Line((row.method, row.selection), row.mean[first:], row.spread[first:]) for row in rows)
    return Grid(arrow(task), ("method", "selection"), columns, lines)


def matrix(dataset: DatasetSpec, tasks: Sequence[str], values: np.ndarray) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """Columns and lines of sources by targets, with their means, of `values` (S, T): a line a seed, a column a task.

    A mean is only there where no task of its line or column is missing.
    """
    cells = {task: values[:, number] for number, task in enumerate(tasks)}
    used = {domain for task in tasks for domain in dataset.split_task(task)}
    domains = [domain for domain in dataset.domains if domain in used]
    missing = np.full(len(values), np.nan)

    def mean(wanted: Sequence[str]) -> np.ndarray:
        return np.mean([cells.get(task, missing) for task in wanted], axis=0)  # (S,)

    lines = []
    for source in domains:
        row = [cells.get(f"{source}-{target}", missing) for target in domains]
        row.append(mean([f"{source}-{target}" for target in domains if target != source]))
        lines.append(_line(source, row))
    columns = [mean([f"{source}-{target}" for source in domains if source != target]) for target in domains]
    lines.append(_line(MEAN, [*columns, mean(tasks)]))
    return (*domains, MEAN), tuple(lines)


def _line(name: str, values: Sequence[np.ndarray]) -> Line:
    every = np.column_stack(values)  # (S, C)
    return Line((name,), every.mean(axis=0), deviation(every))
