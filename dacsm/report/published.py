"""Numbers that others published, from workflow/published/<dataset>.csv, for rows of their own."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dacsm.config.datasets import DatasetSpec
from dacsm.report.statistics import SUMMARIES
from dacsm.runtime.errors import InputError

PUBLISHED = Path("workflow/published")
FACTS = ("method", "backbone", "selection", "protocol", "found_in")
AVERAGE = "average"


@dataclass(frozen=True)
class Published:
    """One published row: accuracies in percent by column, without those that were not published."""

    method: str
    backbone: str
    selection: str
    found_in: str
    task: str  # of a table by classes; empty where the columns are tasks
    accuracy: Mapping[str, float]


def published_columns(dataset: DatasetSpec) -> tuple[str, ...]:
    """The columns of a dataset's published rows: those of its table."""
    return (*dataset.classes, *SUMMARIES) if dataset.table_form == "classes" else (*dataset.tasks, AVERAGE)


def published_header(dataset: DatasetSpec) -> tuple[str, ...]:
    """The header of a dataset's file of published numbers."""
    return (*FACTS, *(("task",) if dataset.table_form == "classes" else ()), *published_columns(dataset))


def published_file(dataset: str) -> Path | None:
    """The dataset's file of published numbers, where there is one."""
    path = PUBLISHED / f"{dataset}.csv"
    return path if path.is_file() else None


def read_published(dataset: DatasetSpec) -> list[Published]:
    """Every published row of a dataset; none where it has no file.

    Raises:
        InputError: where the file is not of this dataset's table, or a row is of another protocol.
    """
    path = published_file(dataset.name)
    if path is None:
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header = tuple(reader.fieldnames or ())
        expected = published_header(dataset)
        if header != expected:
            unknown = [name for name in header if name not in expected]
            missing = [name for name in expected if name not in header]
            problem = (
                f"has no column {missing[0]!r}" if missing else f"has a column {unknown[0]!r}" if unknown else None
            )
            raise InputError(
                f"{path} {problem or 'has its columns in another order'}; the table of {dataset.name} wants "
                f"{', '.join(expected[:8])}, …"
            )
        return [_row(dataset, path, reader.line_num, row) for row in reader]


def _row(dataset: DatasetSpec, path: Path, line: int, row: Mapping[str, str]) -> Published:
    place = f"{path}, line {line}"
    for key in FACTS:
        if not row[key]:
            raise InputError(f"{place}: {key} is empty; a published number says where it is from, and what it is of.")
    if row["protocol"] != dataset.protocol:
        raise InputError(
            f"{place} is of the protocol {row['protocol']!r}, but {dataset.name} is of {dataset.protocol!r}, and a "
            "table holds one protocol; move the row to the file of a dataset with its protocol."
        )
    task = row.get("task", "")
    if dataset.table_form == "classes":
        dataset.split_task(task)
    accuracy = {}
    for column in published_columns(dataset):
        if row[column]:
            accuracy[column] = _percent(row[column], place, column)
    return Published(row["method"], row["backbone"], row["selection"], row["found_in"], task, accuracy)


def _percent(text: str, place: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise InputError(f"{place}: {column} is {text!r}, expected a percentage from 0 to 100; correct it.")
    return value
