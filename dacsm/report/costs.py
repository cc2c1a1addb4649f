"""What each method cost to adapt, beside what it reached: time and memory from the run records.

The file is no output that is compared byte by byte, since clocks and memory differ from one repetition to the next.
"""

from collections.abc import Sequence
from statistics import mean

from dacsm.config.paths import Paths
from dacsm.report.differences import BASELINE
from dacsm.report.measured import Evaluated, Runs
from dacsm.report.records import Grouped, Record, grouped_records, most_memory
from dacsm.report.tables import AVERAGE, decimal, distinct

REACHED = ("measure", "accuracy", "accuracy_std")  # of targets with labels
SPENT = ("runs", "training_seconds", "of_cdtrans", "images_per_second", "ram_mib", "gpu_mib", "device")


def costs_csv(runs: Evaluated, paths: Paths) -> tuple[list[str], list[list[str]]]:
    """Header and rows, a row a method, as `costs` has them; raises InputError as `grouped_records` does."""
    header = ["method", *(REACHED if isinstance(runs, Runs) else ()), *SPENT]
    found = costs(runs, grouped_records(runs, paths, ("adapt",)))
    return header, [[row.get(name, "") for name in header] for row in found]


def costs(runs: Evaluated, records: Grouped) -> list[dict[str, str]]:
    """What each method reached and took, by column; without what is not known, as the time of source-only.

    Accuracy is the headline measure, on the average over tasks. Times are means over runs, each from its first step to
    its last with what was measured between; `of_cdtrans` is the time over CDTrans', where both had the same device.
    Memory is the most of any run.
    """
    base = _spent(records.get(("adapt", BASELINE), ()))
    rows = []
    for method in runs.experiment.methods:
        row = {"method": method, **_spent(records.get(("adapt", method), ()))}
        if "device" in row and row["device"] == base.get("device"):
            row["of_cdtrans"] = decimal(float(row["training_seconds"]) / float(base["training_seconds"]))
        if isinstance(runs, Runs):
            number = runs.rows["selected", AVERAGE, method].numbers[runs.dataset.headline]
            reached = (runs.dataset.headline, decimal(number.mean), decimal(number.spread))
            row |= zip(REACHED, reached, strict=True)
        rows.append(row)
    return rows


def _spent(records: Sequence[Record]) -> dict[str, str]:
    """Time and memory of some adaptations."""
    if not records:
        return {"runs": "0"}
    measured, most = [one["measured"] for one in records], most_memory(records)
    return {
        "runs": str(len(records)),
        "training_seconds": decimal(mean(one["training_seconds"] for one in measured), 1),
        "images_per_second": decimal(mean(one["images_per_second"] for one in measured), 1),
        "ram_mib": str(most["ram"]),
        "gpu_mib": str(most["cuda"] or ""),
        "device": distinct(one["device"] for one in records),
    }
