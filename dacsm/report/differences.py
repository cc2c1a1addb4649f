"""How much better a method is than CDTrans, or than another, seed by seed: as CSV, and as a section of the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dacsm.config.params import SOURCE_ONLY, Experiment
from dacsm.report import statistics
from dacsm.report.measured import Runs
from dacsm.report.statistics import CONFIDENCE, EFFECT, NOT_TOLD_APART, Difference, paired_difference
from dacsm.report.tables import AVERAGE, MEASURES, MOST_CLASSES, Table, arrow, decimal, printed

BASELINE = "cdtrans"  # the method that others add to
FACTS = ("task", "method", "baseline", "seeds", "headline", "verdict")
LEVEL = f"{100 * CONFIDENCE:.0f}\u00a0%"


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline on one task or on the average of several."""

    method: str
    baseline: str
    differences: Mapping[str, Difference]  # by class and measure; NaN for a class without images

    @property
    def name(self) -> str:
        """The method; with what it is compared, where that is not CDTrans."""
        return self.method if self.baseline == BASELINE else f"{self.method} − {self.baseline}"


Comparisons = Mapping[str, Sequence[Comparison]]  # by task, and by AVERAGE where there are several


def compared_with(experiment: Experiment) -> str:
    """What an experiment's methods are compared with, in words."""
    return BASELINE if BASELINE in experiment.methods else "another method"


def compare_methods(runs: Runs) -> Comparisons:
    """Every method but source-only against CDTrans, and the experiment's contrasts, on each task and on their average.

    Without CDTrans there are the contrasts alone, paired by seed as well.
    """
    methods = runs.experiment.methods
    others = [method for method in methods if method not in (BASELINE, SOURCE_ONLY) and BASELINE in methods]
    pairs = dict.fromkeys([*((method, BASELINE) for method in others), *runs.experiment.contrasts])

    def compare(task: str, method: str, baseline: str) -> Comparison:
        first, second = (runs.rows["selected", task, name].accuracy.to_dict() for name in (method, baseline))
        return Comparison(method, baseline, {str(cell): paired_difference(first[cell], second[cell]) for cell in first})

    tasks = [*runs.experiment.tasks, *([AVERAGE] if runs.several else [])]
    return {task: [compare(task, *pair) for pair in pairs] for task in tasks}


def differences_csv(runs: Runs, comparisons: Comparisons) -> tuple[list[str], list[list[str]]]:
    """Header and rows, in points with 2 decimals; what is not known is empty. The verdict is on the headline measure.

    `<column>_low` and `_high` bound the 95 % interval, `_std` is the standard deviation of the paired differences, and
    `_seeds_needed` how many seeds would show a difference of EFFECT points at that deviation.
    """
    headline, classes = runs.dataset.headline, runs.dataset.classes
    ends = ("", "_low", "_high", "_std", "_seeds_needed")
    header = [*FACTS, *(f"{name}{end}" for name in MEASURES for end in ends)]
    header += [f"{name}{end}" for name in classes for end in ends[:3]]
    rows = []
    for task, one in [(task, one) for task, of_task in comparisons.items() for one in of_task]:
        found = one.differences[headline]
        row = [task, one.method, one.baseline, str(found.seeds), headline, found.verdict]
        for name in (*MEASURES, *classes):
            found = one.differences[name]
            row += map(decimal, (found.mean, *(found.interval or (None, None))))
            row += [decimal(found.deviation), _seeds_needed(found)] if name in MEASURES else []
        rows.append(row)
    return header, rows


def _seeds_needed(found: Difference) -> str:
    return "" if found.deviation is None else str(statistics.seeds_needed(found.deviation))


def difference_section(runs: Runs, comparisons: Comparisons) -> Iterator[str | Table]:
    """Which methods can be told from CDTrans, and with how many seeds; nothing where nothing is compared."""
    if not any(comparisons.values()):
        return
    dataset, tasks, headline = runs.dataset, runs.experiment.tasks, runs.dataset.headline
    yield f"## Differences to {compared_with(runs.experiment)}"
    yield from _introduction(runs)
    in_columns = dataset.table_form == "classes" or not runs.several  # else tasks are, at the end
    about_columns = (
        f"Each column alone: the difference ± half the width of its {LEVEL} interval, in bold where that excludes "
        "zero. Where nothing differs, one in twenty such intervals still excludes zero by chance."
    )
    if len(runs.experiment.seeds) == 1:
        about_columns = "Each column has its difference alone."
    if in_columns:
        yield about_columns
    if runs.experiment.contrasts:
        yield "A row with two names is the first method less the second."
    for task in comparisons if in_columns else (AVERAGE,):
        if runs.several:
            development = " (development task)" if task in dataset.development_tasks else ""
            yield f"### Average over {len(tasks)} tasks" if task == AVERAGE else f"### {arrow(task)}{development}"
        if task == AVERAGE:
            yield (
                f"The interval is over the seeds' averages of the {len(tasks)} tasks. Tasks share seeds, and may share "
                "source models and target images, so that a task is no observation of its own."
            )
        yield _verdicts(comparisons[task], headline)
        if in_columns:
            columns = {name: name for name in dataset.classes if len(dataset.classes) <= MOST_CLASSES} | MEASURES
            rows = [[one.name, *(_cell(one.differences[name]) for name in columns)] for one in comparisons[task]]
            yield Table("", ["method", *columns.values()], rows)
    if not in_columns:
        yield "### Task by task"
        yield f"{runs.measure.capitalize()}. {about_columns}"
        rows = [[arrow(task), *(_cell(one.differences[headline]) for one in comparisons[task])] for task in tasks]
        yield Table("", ["task", *(one.name for one in comparisons[AVERAGE])], rows)


def _introduction(runs: Runs) -> Iterator[str]:
    seeds, what = len(runs.experiment.seeds), f"the method less {compared_with(runs.experiment)}"
    what = f"{runs.measure.capitalize()}, in points: {what}, each seed paired with itself"
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
    low, high = statistics.deviation_bounds(seeds)
    yield (
        f"“Seeds for {EFFECT:g} points” are those with which a two-sided paired t-test at "
        f"{100 * (1 - CONFIDENCE):.0f}\u00a0% finds a true difference of {EFFECT:g} points "
        f"{100 * statistics.POWER:.0f} times in 100, if the standard deviation is the true one (Cohen 1988, chapter "
        f"2). Measured over {seeds} seeds, it may be off: the true one lies between {low:.2f} and {high:.1f} times it "
        f"({LEVEL})."
    )


def _verdicts(comparisons: Sequence[Comparison], headline: str) -> Table:
    heads = ["method", "n", "difference", f"{LEVEL} interval", "deviation", f"seeds for {EFFECT:g} points", "verdict"]
    rows = []
    for one in comparisons:
        found = one.differences[headline]
        numbers = (printed(found.mean, sign="+"), interval_of(found), printed(found.deviation))
        rows.append([one.name, str(found.seeds), *numbers, _seeds_needed(found) or "–", found.verdict])
    return Table("", heads, rows)


def interval_of(difference: Difference) -> str:
    """+0.55 to +3.20; a dash for one seed, which has none."""
    return " to ".join(printed(end, sign="+") for end in difference.interval or ()) or "–"


def _cell(difference: Difference) -> str:
    """+2.3 ± 1.1, with spaces that do not break; in bold where the interval excludes zero."""
    text = printed(difference.mean, 1, "+")
    if math.isnan(difference.mean) or difference.half_width is None:
        return text
    text += f"\u00a0±\u00a0{difference.half_width:.1f}"
    return text if difference.verdict == NOT_TOLD_APART else f"**{text}**"
