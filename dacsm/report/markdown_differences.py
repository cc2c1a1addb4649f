"""The page's section on differences to CDTrans: which methods can be told from it, and with how many seeds."""

from collections.abc import Iterator, Sequence

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.report.differences import Comparison, Comparisons, compared_with
from dacsm.report.markdown_grid import grid_of, interval_of, signed
from dacsm.report.published import AVERAGE
from dacsm.report.shapes import MEASURES, MOST_CLASSES, arrow
from dacsm.report.statistics import (
    CONFIDENCE,
    EFFECT,
    NOT_TOLD_APART,
    POWER,
    Difference,
    deviation_bounds,
    seeds_needed,
)

LEVEL = f"{100 * CONFIDENCE:.0f}\u00a0%"


def difference_section(dataset: DatasetSpec, experiment: Experiment, comparisons: Comparisons) -> Iterator[str]:
    """Nothing where nothing is compared."""
    if not any(comparisons.values()):
        return
    yield f"## Differences to {compared_with(experiment)}"
    yield from _introduction(dataset, experiment)
    by_class = dataset.table_form == "classes"
    places = list(comparisons) if by_class else [list(comparisons)[-1]]  # a task alone, or the average
    if by_class or len(experiment.tasks) == 1:
        yield _of_columns(experiment)
    if experiment.contrasts:
        yield "A line with two names is the first method less the second."
    for place in places:
        if len(comparisons) > 1:
            yield f"### {_title(dataset, place, experiment)}"
        if place == AVERAGE:
            yield (
                f"The interval is over the seeds' averages of the {len(experiment.tasks)} tasks. Tasks share seeds, "
                "and may share source models and target images, so that a task is no observation of its own."
            )
        yield _verdicts(dataset, comparisons[place])
        if by_class or len(experiment.tasks) == 1:
            yield _columns(dataset, comparisons[place])
    if not by_class and len(experiment.tasks) > 1:
        yield "### Task by task"
        yield f"{_measure(dataset)}. {_of_columns(experiment)}"
        yield _tasks(dataset, experiment, comparisons)


def _introduction(dataset: DatasetSpec, experiment: Experiment) -> Iterator[str]:
    seeds = len(experiment.seeds)
    what = f"{_measure(dataset)}, in points: the method less {compared_with(experiment)}, each seed paired with itself"
    if seeds == 1:
        yield (
            f"{what}. One seed (n = 1) gives no interval, so that neither “better” nor “worse” can be said, nor how "
            "many seeds it would take."
        )
        return
    yield (
        f"{what}: the mean over n = {seeds} seeds, its {LEVEL} interval (Student's t), and the standard deviation of "
        "the paired differences, which says how finely these runs can measure. “Better” or “worse” stands only where "
        f"the interval excludes zero; “{NOT_TOLD_APART}” does not mean equal."
    )
    low, high = deviation_bounds(seeds)
    yield (
        f"“Seeds for {EFFECT:g} points” are those with which a two-sided paired t-test at "
        f"{100 * (1 - CONFIDENCE):.0f}\u00a0% finds a true difference of {EFFECT:g} points {100 * POWER:.0f} times in "
        "100, if the standard deviation is the true one (Cohen 1988, chapter 2). Measured over "
        f"{seeds} seeds, it may be off: the true one lies between {low:.2f} and {high:.1f} times it ({LEVEL})."
    )


def _measure(dataset: DatasetSpec) -> str:
    measure = MEASURES[dataset.headline]
    return f"{measure[0].upper()}{measure[1:]}"


def _title(dataset: DatasetSpec, place: str, experiment: Experiment) -> str:
    if place == AVERAGE:
        return f"Average over {len(experiment.tasks)} tasks"
    return f"{arrow(place)} (development task)" if place == dataset.development_task else arrow(place)


def _of_columns(experiment: Experiment) -> str:
    if len(experiment.seeds) == 1:
        return "Each column has its difference alone."
    return (
        f"Each column alone: the difference ± half the width of its {LEVEL} interval, in bold where that excludes "
        "zero. Where nothing differs, one in twenty such intervals still excludes zero by chance."
    )


def _verdicts(dataset: DatasetSpec, comparisons: Sequence[Comparison]) -> str:
    header = ["method", "n", "difference", f"{LEVEL} interval", "deviation", f"seeds for {EFFECT:g} points", "verdict"]
    cells = []
    for comparison in comparisons:
        found = comparison.summary(dataset.headline)
        deviation = ["–", "–"]
        if found.deviation is not None:
            deviation = [f"{found.deviation:.2f}", str(seeds_needed(found.deviation))]
        numbers = [signed(found.mean), interval_of(found), *deviation]
        cells.append([comparison.name, str(found.seeds), *numbers, found.verdict])
    return grid_of(header, cells)


def _columns(dataset: DatasetSpec, comparisons: Sequence[Comparison]) -> str:
    """A row per method: each class, unless there are too many, and both summaries."""
    first = 0 if len(dataset.classes) <= MOST_CLASSES else len(dataset.classes)
    header = [*dataset.classes, *MEASURES.values()][first:]
    cells = [[one.name, *map(_with_half_width, one.differences[first:])] for one in comparisons]
    return grid_of(["method", *header], cells)


def _tasks(dataset: DatasetSpec, experiment: Experiment, comparisons: Comparisons) -> str:
    """A row per task, a column per method."""
    methods = [comparison.name for comparison in comparisons[experiment.tasks[0]]]
    cells = [
        [arrow(task), *(_with_half_width(one.summary(dataset.headline)) for one in comparisons[task])]
        for task in experiment.tasks
    ]
    return grid_of(["task", *methods], cells)


def _with_half_width(difference: Difference) -> str:
    """+2.3 ± 1.1, with spaces that do not break; in bold where the interval excludes zero."""
    if np.isnan(difference.mean):
        return "–"
    if difference.half_width is None:
        return signed(difference.mean, 1)
    text = f"{signed(difference.mean, 1)}\u00a0±\u00a0{difference.half_width:.1f}"
    return text if difference.verdict == NOT_TOLD_APART else f"**{text}**"
