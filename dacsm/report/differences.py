"""How much better a method is than CDTrans, or than another, seed by seed: the paired differences, and as CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Experiment
from dacsm.report.published import AVERAGE
from dacsm.report.shapes import plain_decimal
from dacsm.report.statistics import EFFECT, SUMMARIES, Difference, Row, average_tasks, paired_difference, seeds_needed

BASELINE = "cdtrans"  # the method that others add to
FACTS = ("task", "method", "baseline", "seeds", "headline", "verdict")


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline on one task or on the average of several, by each measure of a Row."""

    task: str
    method: str
    baseline: str
    differences: tuple[Difference, ...]  # K + 2: each class, mean per class, overall; NaN for a class without images

    @property
    def name(self) -> str:
        """The method; with what it is compared, where that is not CDTrans."""
        return self.method if self.baseline == BASELINE else f"{self.method} − {self.baseline}"

    def summary(self, name: str) -> Difference:
        """The difference in one of SUMMARIES."""
        return self.differences[SUMMARIES.index(name) - len(SUMMARIES)]


Comparisons = Mapping[str, Sequence[Comparison]]  # by task, and by AVERAGE where there are several


def compared_with(experiment: Experiment) -> str:
    """What an experiment's methods are compared with, in words."""
    return BASELINE if BASELINE in experiment.methods else "another method"


def compare_methods(experiment: Experiment, selected: Mapping[tuple[str, str], Row]) -> Comparisons:
    """Every method but source-only against CDTrans, and the experiment's contrasts, on each task and on their average.

    `selected` has the rows by task and method. Without CDTrans there are the contrasts alone, paired by seed as well.
    """
    rows = {task: {method: selected[task, method] for method in experiment.methods} for task in experiment.tasks}
    if len(experiment.tasks) > 1:
        rows[AVERAGE] = {
            method: average_tasks([selected[task, method] for task in experiment.tasks], AVERAGE)
            for method in experiment.methods
        }
    pairs = [(method, BASELINE) for method in experiment.methods if method not in (BASELINE, SOURCE_ONLY)]
    pairs = [*(pairs if BASELINE in experiment.methods else ()), *experiment.contrasts]
    return {task: [_compare(of_task, *pair) for pair in dict.fromkeys(pairs)] for task, of_task in rows.items()}


def _compare(rows: Mapping[str, Row], method: str, baseline: str) -> Comparison:
    first, second = rows[method], rows[baseline]
    columns = range(first.accuracy.shape[1])
    differences = (paired_difference(first.column_by_seed(c), second.column_by_seed(c)) for c in columns)
    return Comparison(first.task, method, baseline, tuple(differences))


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
        compared = (comparison.task, comparison.method, comparison.baseline)
        row = [*compared, str(headline.seeds), dataset.headline, headline.verdict]
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
