"""What each method cost to adapt, beside what it reached: time and memory from the run records.

The file is no output that is compared byte by byte, since clocks and memory differ from one repetition to the next.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report.differences import BASELINE
from dacsm.report.measured import Runs
from dacsm.report.records import distinct, most_memory
from dacsm.report.tables import AVERAGE, decimal
from dacsm.runtime.files import read_json, reading

SPENT = ("runs", "training_seconds", "of_cdtrans", "images_per_second", "ram_mib", "gpu_mib", "device")
TIMES = ("method", *SPENT)
HEADER = ("method", "measure", "accuracy", "accuracy_std", *SPENT)


def costs_csv(runs: Runs, paths: Paths) -> list[list[str]]:
    """A row under HEADER for each method; empty where no run of it left a record, as of source-only.

    Accuracy is the headline measure, on the average over tasks. Times are means over runs, each from its first step to
    its last with what was measured between; `of_cdtrans` is the time over CDTrans', where both had the same device.
    Memory is the most of any run.
    """
    rows = []
    for row in _spent(runs.dataset, runs.experiment, paths):
        number = runs.rows["selected", AVERAGE, row["method"]].numbers[runs.dataset.headline]
        row |= {"measure": runs.dataset.headline}
        row |= {"accuracy": decimal(number.mean), "accuracy_std": decimal(number.spread)}
        rows.append([row.get(name, "") for name in HEADER])
    return rows


def times_csv(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> list[list[str]]:
    """A row under TIMES for each method: what `costs_csv` says, for targets whose accuracy is not known."""
    return [[row.get(name, "") for name in TIMES] for row in _spent(dataset, experiment, paths)]


def _spent(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> Iterator[dict[str, str]]:
    """Time and memory of each method, and over CDTrans'."""
    records = {method: _records(dataset, experiment, paths, method) for method in experiment.methods}
    base = _costs(records.get(BASELINE, []))
    for method, found in records.items():
        costs = _costs(found)
        if costs and costs["device"] == base.get("device"):
            costs["of_cdtrans"] = decimal(float(costs["training_seconds"]) / float(base["training_seconds"]))
        yield {"method": method, "runs": str(len(found)), **costs}


def _records(dataset: DatasetSpec, experiment: Experiment, paths: Paths, method: str) -> list[Mapping[str, Any]]:
    """The records of a method's adaptations, as far as there are any."""
    places = [
        paths.record(paths.adapted(dataset.name, method, task, seed))
        for task in experiment.tasks
        for seed in experiment.seeds
    ]
    records = []
    for place in filter(Path.is_file, places):
        records.append(read_json(place, "dacsm adapt"))
        with reading(place, "dacsm adapt"):
            _costs(records[-1:])  # it has what is asked of it
    return records


def _costs(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    if not records:
        return {}
    measured, most = [one["measured"] for one in records], most_memory(records)
    return {
        "training_seconds": decimal(mean(one["training_seconds"] for one in measured), 1),
        "images_per_second": decimal(mean(one["images_per_second"] for one in measured), 1),
        "ram_mib": str(most["ram"]),
        "gpu_mib": str(most["cuda"] or ""),
        "device": distinct(one["device"] for one in records),
    }
