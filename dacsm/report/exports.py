"""The table for programs: as CSV, to compute with, and as LaTeX, to be read in with \\input.

Published numbers stand in rows, and in tables, of their own.
"""

from collections.abc import Sequence

from dacsm.report.measured import KINDS, Runs
from dacsm.report.published import published_tables
from dacsm.report.tables import AVERAGE, MEASURES, NONE, Line, decimal, escape, latex, matrix

ORIGIN = ("origin", "backbone", "protocol", "found_in")  # only where some rows are published
HEAD = "% Made by dacsm; wants \\usepackage{booktabs} and \\usepackage{graphicx}."


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


def table_in_latex(runs: Runs, published: Sequence[Line]) -> str:
    """The whole file: the numbers selected without target labels, then the published ones."""
    title, protocol = escape(runs.title), f"Protocol: {escape(runs.dataset.protocol)}."
    seeds = runs.experiment.seeds
    spread = "mean $\\pm$ sample standard deviation over seeds" if len(seeds) > 1 else "seed"
    measure = "accuracy of each class" if runs.dataset.table_form == "classes" else f"{runs.measure} accuracy"
    measured = (
        f"{title}, measured: {measure} on the target in percent, {spread} {', '.join(map(str, seeds))}; "
        f"{escape(runs.backbone)}; checkpoints chosen without target labels. {protocol}"
    )
    of_others = f"{title}, published numbers, as their sources print them; none was measured here. {protocol}"
    parts = [HEAD]
    for kind, caption, tables in (
        ("measured", measured, runs.tables()),
        ("published", of_others, published_tables(runs.dataset, published)),
    ):
        label = f"{runs.experiment.name}-{kind}"
        parts += [latex(table, caption, f"{label}-{place}") for place, table in enumerate(tables, start=1)]
    return "\n\n".join(parts) + "\n"
