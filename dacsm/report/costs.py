"""What each method cost to adapt, beside what it reached: time and memory from the run records.

The file is no output that is compared byte by byte, since clocks and memory differ from one repetition to the next.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dacsm.config.paths import Paths
from dacsm.report.differences import BASELINE
from dacsm.report.measured import Runs
from dacsm.report.tables import AVERAGE, decimal
from dacsm.runtime.files import read_json, reading

HEADER = ("method", "measure", "accuracy", "accuracy_std", "runs", "training_seconds", "of_cdtrans",
          "images_per_second", "ram_mib", "gpu_mib", "device")  # fmt: skip


def costs_csv(runs: Runs, paths: Paths) -> list[list[str]]:
    """A row under HEADER for each method; empty where no run of it left a record, as of source-only.

    Accuracy is the headline measure, on the average over tasks. Times are means over runs, each from its first step to
    its last with what was measured between; `of_cdtrans` is the time over CDTrans', where both had the same device.
    Memory is the most of any run.
    """
    records = {method: _records(runs, paths, method) for method in runs.experiment.methods}
    base, rows = _costs(records.get(BASELINE, [])), []
    for method, found in records.items():
        number = runs.rows["selected", AVERAGE, method].numbers[runs.dataset.headline]
        costs = _costs(found)
        if costs and costs["device"] == base.get("device"):
            costs["of_cdtrans"] = decimal(float(costs["training_seconds"]) / float(base["training_seconds"]))
        row = {"method": method, "measure": runs.dataset.headline, "runs": str(len(found)), **costs}
        row |= {"accuracy": decimal(number.mean), "accuracy_std": decimal(number.spread)}
        rows.append([row.get(name, "") for name in HEADER])
    return rows


def _records(runs: Runs, paths: Paths, method: str) -> list[Mapping[str, Any]]:
    """The records of a method's adaptations, as far as there are any."""
    places = [
        paths.record(paths.adapted(runs.dataset.name, method, task, seed))
        for task in runs.experiment.tasks
        for seed in runs.experiment.seeds
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
    measured, peaks = [one["measured"] for one in records], [one["peak_memory_mb"] for one in records]
    gpu = max(peak.get("cuda", 0) for peak in peaks)
    return {
        "training_seconds": decimal(mean(one["training_seconds"] for one in measured), 1),
        "images_per_second": decimal(mean(one["images_per_second"] for one in measured), 1),
        "ram_mib": str(max(peak["ram"] for peak in peaks)),
        "gpu_mib": str(gpu) if gpu else "",
        "device": ", ".join(dict.fromkeys(one["device"] for one in records)),
    }
