"""Numbers that others published, from workflow/published/<dataset>.csv, for rows of their own."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dacsm.config.datasets import DatasetSpec
from dacsm.report.tables import AVERAGE, MEASURES, Line, Number, Table, lay_out
from dacsm.runtime.errors import InputError

PUBLISHED = Path("workflow/published")
FACTS = ("method", "backbone", "selection", "protocol", "found_in")


def published_columns(dataset: DatasetSpec) -> tuple[str, ...]:
    """The cells of a dataset's table that others may have published: all but the means of a matrix."""
    return (*dataset.classes, *MEASURES) if dataset.table_form == "classes" else (*dataset.tasks, AVERAGE)


def published_header(dataset: DatasetSpec) -> tuple[str, ...]:
    """The header of a dataset's file of published numbers."""
    return (*FACTS, *(("task",) if dataset.table_form == "classes" else ()), *published_columns(dataset))


def published_file(dataset: str) -> Path | None:
    """The dataset's file of published numbers, where there is one."""
    path = PUBLISHED / f"{dataset}.csv"
    return path if path.is_file() else None


def read_published(dataset: DatasetSpec) -> list[Line]:
    """Every published line of a dataset, with the cells that were published; none where it has no file.

    Raises InputError where the file is not of this dataset's table, or a row is of another protocol.
    """
    path = published_file(dataset.name)
    if path is None:
        return []
    with _readable(path), path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets save it
        reader, expected = csv.DictReader(file), published_header(dataset)
        header = reader.fieldnames or []
        if tuple(header) != expected:
            wrong = [f"has no column {name!r}" for name in expected if name not in header]
            wrong += [f"has a column {name!r}" for name in header if name not in expected]
            problem = wrong[0] if wrong else "has its columns in another order"
            raise InputError(f"{path} {problem}; the table of {dataset.name} wants {', '.join(expected[:8])}, …")
        return [_line(dataset, f"{path}, line {reader.line_num}", row) for row in reader]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); save it as CSV in UTF-8.") from error


def published_tables(dataset: DatasetSpec, published: Sequence[Line]) -> list[Table]:
    """The published numbers in the dataset's form, exactly as they were published: no mean is added."""
    names = ("method", "backbone", "selection", "found_in")
    return lay_out(dataset, dataset.tasks, names, published) if published else []


def _line(dataset: DatasetSpec, place: str, row: Mapping[str, str]) -> Line:
    for key in FACTS:
        if not row[key]:
            raise InputError(f"{place}: {key} is empty; a published number says where it is from, and what it is of.")
    if row["protocol"] != dataset.protocol:
        raise InputError(
            f"{place} is of the protocol {row['protocol']!r}, but {dataset.name} is of {dataset.protocol!r}, and a "
            "table holds one protocol; move the row to the file of a dataset with its protocol."
        )
    facts = {key: row[key] for key in ("task", *FACTS) if key in row}
    if "task" in facts:
        dataset.split_task(facts["task"])
    columns = [column for column in published_columns(dataset) if row[column]]
    return Line(facts, {column: _percent(row[column], place, column) for column in columns})


def _percent(text: str, place: str, column: str) -> Number:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise InputError(f"{place}: {column} is {text!r}, expected a percentage from 0 to 100; correct it.")
    return Number(value, digits=next((digits for digits in (0, 1) if round(value, digits) == value), 2))
