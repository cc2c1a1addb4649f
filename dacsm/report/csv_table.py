"""The table as CSV, to compute with: measured rows with their deviations, then published ones."""

from collections.abc import Iterator, Sequence

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.report.measured import KINDS, Runs
from dacsm.report.published import AVERAGE, Published
from dacsm.report.shapes import MEAN, Line, by_task, matrix
from dacsm.report.statistics import SUMMARIES, Row, deviation

ORIGIN = (
    "origin",
    "backbone",
    "protocol",
    "found_in",
)  # only where some rows are published


def csv_table(
    dataset: DatasetSpec, experiment: Experiment, runs: Runs, published: Sequence[Published]
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows. Label-free rows of all methods come first, and published rows last.

    Where columns are classes, a row is of a task; where they are targets, of a source.
    """
    names, columns, lines = {"classes": _classes, "tasks": _tasks, "matrix": _sources}[dataset.table_form](
        dataset, experiment, runs
    )
    header = (*names, *columns, *(f"{column}_std" for column in columns))
    rows = [[*line.names, *_decimals(line.mean), *_decimals(line.spread)] for line in lines]
    if not published:
        return header, rows
    backbone = next(iter(runs.values())).backbone
    rows = [[*row, "measured", backbone, dataset.protocol, ""] for row in rows]
    for row in published:
        facts = ["published", row.backbone, dataset.protocol, row.found_in]
        for place, values in _published(dataset, row, columns):
            head = {"method": row.method, "selection": row.selection, "task": row.task, "source": place}
            rows.append([*(head.get(name, "") for name in names), *values, *[""] * len(columns), *facts])
    return (*header, *ORIGIN), rows


Table = tuple[tuple[str, ...], tuple[str, ...], list[Line]]  # names of the first columns, the others, lines


def _classes(dataset: DatasetSpec, _experiment: Experiment, runs: Runs) -> Table:
    rows = [run.selected for run in runs.values()]
    # A row that repeats the selected one, as source-only's last epoch does, is left out.
    rows += [run.last for run in runs.values() if run.last.selection != run.selected.selection]
    rows += [run.oracle for run in runs.values() if run.oracle is not None]
    lines = [Line((row.task, row.method, row.selection, _seeds(row)), row.mean, row.spread) for row in rows]
    return ("task", "method", "selection", "seeds"), (*dataset.classes, *SUMMARIES), lines


def _tasks(dataset: DatasetSpec, experiment: Experiment, runs: Runs) -> Table:
    lines = []
    for row, values in _over_tasks(dataset, experiment, runs):
        every = np.column_stack([values, values.mean(axis=1)])  # (S, T + 1)
        lines.append(Line((row.method, row.selection, _seeds(row)), every.mean(axis=0), deviation(every)))
    return ("method", "selection", "seeds"), (*experiment.tasks, AVERAGE), lines


def _sources(dataset: DatasetSpec, experiment: Experiment, runs: Runs) -> Table:
    columns, lines = (), []
    for row, values in _over_tasks(dataset, experiment, runs):
        columns, of_row = matrix(dataset, experiment.tasks, values)
        lines += [
            Line((row.method, row.selection, _seeds(row), *line.names), line.mean, line.spread) for line in of_row
        ]
    return ("method", "selection", "seeds", "source"), columns, lines


def _over_tasks(dataset: DatasetSpec, experiment: Experiment, runs: Runs) -> Iterator[tuple[Row, np.ndarray]]:
    """A method's first row, and its headline measure on every task, (S, T); for each way to choose the checkpoint."""
    for kind in KINDS:
        for method in experiment.methods:
            rows = [getattr(runs[task, method], kind) for task in experiment.tasks]
            selected = [runs[task, method].selected.selection for task in experiment.tasks]
            if None in rows or (kind == "last" and [row.selection for row in rows] == selected):
                continue  # source-only has one checkpoint; a row that repeats the selected one is left out
            yield rows[0], by_task(rows, dataset.headline)


def _published(dataset: DatasetSpec, row: Published, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The lines of a published row: the source that each is of, if it is of one, and its values as text."""
    if dataset.table_form != "matrix":
        yield "", [_plain(row, column) for column in columns]
        return
    for source in (*columns[:-1], MEAN):
        values = [_plain(row, f"{source}-{target}") for target in columns[:-1]]
        values.append(_plain(row, AVERAGE) if source == MEAN else "")  # the only mean that was published
        if any(values):
            yield source, values


def _plain(row: Published, column: str) -> str:
    return f"{row.accuracy[column]:g}" if column in row.accuracy else ""


def _seeds(row: Row) -> str:
    return " ".join(map(str, row.seeds))


def _decimals(values: np.ndarray) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.1f}" for value in values]
