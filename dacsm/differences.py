"""How much better each method is than CDTrans, seed by seed: the paired differences of a task, and as CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dacsm.catalog import DatasetSpec
from dacsm.params import SOURCE_ONLY, Experiment
from dacsm.published import AVERAGE
from dacsm.shapes import plain_decimal
from dacsm.statistics import EFFECT, SUMMARIES, Difference, Row, average_tasks, paired_difference, seeds_needed

BASELINE = "cdtrans"  # the method that others add to
FACTS = ("task", "method", "baseline", "seeds", "headline", "verdict")


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline on one task or on the average of several, by each measure of a Row."""

    task: str
    method: str
    differences: tuple[Difference, ...]  # K + 2: each class, mean per class, overall; NaN for a class without images

    def summary(self, name: str) -> Difference:
        """The difference in one of SUMMARIES."""
        return self.differences[SUMMARIES.index(name) - len(SUMMARIES)]


Comparisons = Mapping[str, Sequence[Comparison]]  # by task, and by AVERAGE where there are several


def compare_methods(experiment: Experiment, selected: Mapping[tuple[str, str], Row]) -> Comparisons:
    """Every method but source-only against the baseline, on each task and on their average, seed by seed.

    `selected` has the rows by task and method. Nothing is compared where the experiment has no baseline.
    """
    rows = {task: {method: selected[task, method] for method in experiment.methods} for task in experiment.tasks}
    if len(experiment.tasks) > 1:
        rows[AVERAGE] = {
            method: average_tasks([selected[task, method] for task in experiment.tasks], AVERAGE)
            for method in experiment.methods
        }
    return {task: _compare(of_task) for task, of_task in rows.items()}


def _compare(rows: Mapping[str, Row]) -> list[Comparison]:
    if BASELINE not in rows:
        return []
    baseline = rows[BASELINE]
    columns = range(baseline.accuracy.shape[1])
    return [
        Comparison(
            row.task,
            method,
            tuple(paired_difference(row.column_by_seed(c), baseline.column_by_seed(c)) for c in columns),
        )
        for method, row in rows.items()
        if method not in (BASELINE, SOURCE_ONLY)
    ]


def differences_csv(dataset: DatasetSpec, comparisons: Comparisons) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows, in points with 2 decimals; what is not known is empty. The verdict is on the headline measure.

    `<column>_low` and `_high` bound the 95 % interval, `_std` is the standard deviation of the paired differences, and
    `_seeds_needed` how many seeds would show a difference of EFFECT points at that deviation.
    """
    header = list(FACTS)
    for name in SUMMARIES:
        header += [name, f"{name}_low", f"{name}_high", f"{name}_std", f"{name}_seeds_needed"]
    for name in dataset.classes:
        header += [name, f"{name}_low", f"{name}_high"]
    rows = []
    for comparison in (one for of_task in comparisons.values() for one in of_task):
        headline = comparison.summary(dataset.headline)
        row = [comparison.task, comparison.method, BASELINE, str(headline.seeds), dataset.headline, headline.verdict]
        for name in SUMMARIES:
            found = comparison.summary(name)
            needed = "" if found.deviation is None else str(seeds_needed(found.deviation, EFFECT))
            row += [*_bounded(found), plain_decimal(found.deviation), needed]
        for found in comparison.differences[: len(dataset.classes)]:
            row += _bounded(found)
        rows.append(row)
    return tuple(header), rows


def _bounded(difference: Difference) -> list[str]:
    return [plain_decimal(value) for value in (difference.mean, *(difference.interval or (None, None)))]
