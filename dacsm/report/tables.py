"""Tables of text and numbers: their form for each kind of dataset, and how they are written in Markdown.

Measured and published numbers are laid out alike, but never in one table.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from dacsm.config.datasets import DatasetSpec

MEASURES = {"mean_per_class": "mean per class", "overall": "overall"}
AVERAGE, MEAN = "average", "mean"  # of all tasks; of a line or a column of a matrix
MOST_CLASSES = 20  # columns; past that a page is too narrow, and the CSV has them


@dataclass(frozen=True)
class Number:
    """A mean over seeds with its standard deviation (NaN for one seed), or a published number; NaN for none."""

    mean: float
    spread: float = math.nan
    digits: int = 1  # decimals of the mean in a CSV; people are shown at least one


NONE = Number(math.nan)
Cell = str | Number


@dataclass(frozen=True)
class Table:
    """Rows under heads. The first `names` columns are set to the left, the others to the right."""

    title: str  # a task or a method; may be empty
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int = 1


def decimal(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for a CSV: without the sign of a zero, and empty where it is not known (None or NaN)."""
    return "" if value is None or math.isnan(value) else f"{round(float(value), digits) + 0.0:{sign}.{digits}f}"


def printed(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for people: with the minus sign of print, and a dash where it is not known."""
    return decimal(value, digits, sign).replace("-", "−") or "–"


def distinct(values: Iterable[str]) -> str:
    """Each value once, in its order, with commas."""
    return ", ".join(dict.fromkeys(values))


def markdown(table: Table) -> str:
    """The table under its title, if it has one."""
    heads, *rows = [[shown(cell).replace("|", r"\|") for cell in row] for row in (table.heads, *table.rows)]
    align = ["left"] * table.names + ["right"] * (len(heads) - table.names)
    text = tabulate(rows, heads, tablefmt="pipe", colalign=align, disable_numparse=True)
    return f"### {table.title}\n\n{text}" if table.title else text


def page(parts: Iterable[str | Table]) -> str:
    """A whole file of Markdown: paragraphs, headings and tables, one below the other."""
    return "\n\n".join(part if isinstance(part, str) else markdown(part) for part in parts) + "\n"


def shown(cell: Cell) -> str:
    """74.1 ± 0.8, with spaces that do not break; the mean alone where there is no deviation."""
    if isinstance(cell, str):
        return cell
    mean = printed(cell.mean, max(1, cell.digits))
    return mean if math.isnan(cell.spread) else f"{mean}\u00a0±\u00a0{cell.spread:.1f}"


@dataclass(frozen=True)
class Line:
    """The numbers of one method, by class and measure, or by task.

    An average over all tasks is called `average`, a mean in a matrix `<source>-mean` or `mean-<target>`.
    """

    facts: dict[str, str]  # the task, the method, how its checkpoint was selected, and more
    cells: Mapping[str, Number]


def arrow(task: str) -> str:
    """`source-target` as it is read: source → target."""
    return task.replace("-", " → ")


def matrix(dataset: DatasetSpec, tasks: Sequence[str], cells: Mapping[str, Number]) -> dict[str, dict[str, Number]]:
    """The cells by source and target, with the means last; domains that none of the tasks has are left out."""
    used = {domain for task in tasks for domain in dataset.split_task(task)}
    ends = [*(domain for domain in dataset.domains if domain in used), MEAN]
    return {
        source: {
            target: cells.get(AVERAGE if source == target == MEAN else f"{source}-{target}", NONE) for target in ends
        }
        for source in ends
    }


def lay_out(dataset: DatasetSpec, tasks: Sequence[str], names: Sequence[str], lines: Sequence[Line]) -> list[Table]:
    """The lines as tables in the dataset's form; `names` are the facts that are shown beside the numbers."""
    if dataset.table_form == "classes":
        columns = (*(dataset.classes if len(dataset.classes) <= MOST_CLASSES else ()), *MEASURES)
        heads = {column: MEASURES.get(column, column) for column in columns}
        of = dict.fromkeys(line.facts["task"] for line in lines)
        return [_flat(arrow(task), names, heads, [one for one in lines if one.facts["task"] == task]) for task in of]
    average = {AVERAGE: f"average of {len(tasks)}"}
    if dataset.table_form == "tasks":
        return [_flat("", names, {task: arrow(task) for task in tasks} | average, lines)]
    published = "backbone" in names
    tables = [_flat("", names, average, lines)] if published else []
    for line in lines:
        if line.cells.keys() == {AVERAGE}:
            continue
        rows = matrix(dataset, tasks, line.cells)
        shown = [name for name in rows if name != MEAN or not published]  # no mean is added to what others printed
        title = ", ".join(line.facts[name] for name in names if name in ("method", "backbone"))
        cells: list[list[Cell]] = [[source, *(rows[source][target] for target in shown)] for source in shown]
        tables.append(Table(f"{title} ({line.facts['selection']})", ["source ↓ target →", *shown], cells))
    return tables


def _flat(title: str, names: Sequence[str], heads: Mapping[str, str], lines: Sequence[Line]) -> Table:
    """A row a line, a column a cell; `heads` are the columns' headings by cell."""
    rows: list[list[Cell]] = [
        [*(one.facts[name] for name in names), *(one.cells.get(cell, NONE) for cell in heads)] for one in lines
    ]
    return Table(title, [*(name.replace("_", " ") for name in names), *heads.values()], rows, len(names))
