"""The table as CSV, to compute with: measured rows with their deviations, then published ones."""

from collections.abc import Sequence

from dacsm.report.measured import KINDS, Runs
from dacsm.report.shapes import AVERAGE, MEASURES, Line, matrix
from dacsm.report.tables import NONE, decimal

ORIGIN = ("origin", "backbone", "protocol", "found_in")  # only where some rows are published


def table_csv(runs: Runs, published: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and rows. Label-free rows of all methods come first, and published rows last.

    Where columns are classes, a row is of a task; where they are targets, of a source.
    """
    dataset, tasks = runs.dataset, runs.experiment.tasks
    facts = ("method", "selection", "seeds")
    names, columns = {
        "classes": (("task", *facts), (*dataset.classes, *MEASURES)),
        "tasks": (facts, (*tasks, AVERAGE)),
        "matrix": ((*facts, "source"), tuple(matrix(dataset, tasks, {}))),
    }[dataset.table_form]
    header = [*names, *columns, *(f"{column}_std" for column in columns), *(ORIGIN if published else ())]
    origin = {"origin": "measured", "backbone": runs.backbone, "protocol": dataset.protocol}
    measured = {}  # a line that repeats the selected one, as source-only's last epoch does, is left out
    for line in (line for kind in KINDS for line in runs.lines(kind)):
        measured.setdefault(tuple(line.facts.values()), Line(line.facts | origin, line.cells))
    rows = []
    for line in (*measured.values(), *(Line(line.facts | {"origin": "published"}, line.cells) for line in published)):
        sources = matrix(dataset, tasks, line.cells) if dataset.table_form == "matrix" else {"": line.cells}
        for source, cells in sources.items():
            shown = {name: cells.get(name, NONE) for name in columns}
            row = {name: decimal(number.mean, number.digits) for name, number in shown.items()}
            if line.facts["origin"] == "measured" or any(row.values()):
                row |= {f"{name}_std": decimal(number.spread, 1) for name, number in shown.items()}
                row |= line.facts | {"source": source}
                rows.append([row.get(name, "") for name in header])
    return header, rows
