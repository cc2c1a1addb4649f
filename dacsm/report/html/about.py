"""The page's first sections: what the experiment is, and its numbers beside each other."""

from collections.abc import Iterator, Mapping

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Params
from dacsm.report.differences import Comparisons, compared_with, interval_of
from dacsm.report.html.content import Facts, Part
from dacsm.report.measured import Evaluated, Runs
from dacsm.report.pages import about_numbers
from dacsm.report.tables import AVERAGE, NONE, Table, arrow, printed
from dacsm.runtime.wording import count_of

MOST_TASKS = 12  # that are listed one by one


def one_sentence(runs: Evaluated) -> str:
    """What the page is about."""
    experiment = runs.experiment
    sizes = {"method": experiment.methods, "task": experiment.tasks, "seed": experiment.seeds}
    counts = ", ".join(count_of(len(things), name) for name, things in sizes.items())
    return f"Unsupervised domain adaptation on {runs.dataset.title}: {counts}."


def about_section(runs: Evaluated, params: Params) -> Iterator[Part]:
    """Dataset, tasks, methods, seeds; and what the numbers are, where these are accuracies."""
    dataset, experiment = runs.dataset, runs.experiment
    tasks = [_task(dataset, task) for task in experiment.tasks[:MOST_TASKS]]
    if more := len(experiment.tasks) - len(tasks):
        tasks.append(f"and {more} more")
    rows = [
        ("Dataset", [f"{dataset.title} (`{dataset.name}`), {len(dataset.classes)} classes"]),
        ("Tasks, from the labelled source to the unlabelled target", tasks),
        ("Methods", [_method(method, params) for method in experiment.methods]),
        ("Seeds", [", ".join(map(str, experiment.seeds))]),
        *([("Backbone", [f"`{runs.backbone}`"])] if runs.backbone else []),
        ("Protocol", [f"{dataset.protocol}."]),
    ]
    yield Facts(rows)
    if isinstance(runs, Runs):
        yield about_numbers(runs)


def _task(dataset: DatasetSpec, task: str) -> str:
    ends = [dataset.domains[domain] for domain in dataset.split_task(task)]
    sizes = " to ".join(f"{end.title} ({end.stored:,} images)" for end in ends)
    development = "; a development task, on which settings were chosen" if task in dataset.development_tasks else ""
    return f"**{arrow(task)}**: {sizes}{development}"


def _method(method: str, params: Params) -> str:
    if method == SOURCE_ONLY:
        return f"**{method}**: the source model, without adaptation"
    return f"**{method}**: of the kind `{params.method(method).kind}`"


def glance_section(runs: Runs, comparisons: Comparisons) -> Iterator[Part]:
    """Each method's accuracy on the average of all tasks, with its difference to the method that others build on."""
    task = AVERAGE if runs.several else runs.experiment.tasks[0]
    base = compared_with(runs.experiment)
    compared: Mapping = {one.method: one for one in comparisons.get(task, ()) if one.baseline == base}
    rows = []
    for method in runs.experiment.methods:
        row = runs.rows.get(("selected", task, method))
        found = compared[method].differences[runs.dataset.headline] if method in compared else None
        told = [printed(found.mean, sign="+"), interval_of(found), found.verdict] if found else ["–", "–", "–"]
        rows.append([method, row.numbers[runs.dataset.headline] if row else NONE, *told])
    heads = ["method", f"{runs.measure} accuracy (%)", f"difference to {base}", "95 % interval", "verdict"]
    shown = len(heads) if compared else 2
    where = f"average over {len(runs.experiment.tasks)} tasks" if runs.several else arrow(task)
    yield Table(where, heads[:shown], [row[:shown] for row in rows])
    if compared:
        yield "“Better” or “worse” stands only where the interval excludes zero; “not told apart” does not mean equal."
