"""Optional stage: an experiment's accuracies against the scale of the objects, as a table and a picture.

What a method loses at a scale is its accuracy at scale 1 less that at the scale, seed by seed: a method that is better
by the same at every scale loses no less.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.report.differences import BASELINE, LEVEL, interval_of
from dacsm.report.measured import Metrics, over_seeds, read_metrics
from dacsm.report.plots import curves
from dacsm.report.statistics import BETTER, WORSE, Difference, paired_difference
from dacsm.report.tables import AVERAGE, MEASURES, Table, arrow, decimal, page, printed
from dacsm.runtime.files import write_csv, write_text

HEADER = (
    *("task", "method", "scale", "seeds", "accuracy", "accuracy_std", "loss", "loss_std"),
    *(f"loses_less_than_{BASELINE}", "interval_low", "interval_high", "reading"),
)
READINGS = {BETTER: "loses less", WORSE: "loses more"}

# The headline accuracy in percent by task, or AVERAGE, and method: a line a seed, a column a scale, (S, C).
Runs = Mapping[tuple[str, str], pd.DataFrame]


def scales(project: Project, experiment: str) -> None:
    """Collect the rescaled runs of an experiment into `<experiment>_scales`, as CSV, Markdown and picture.

    Raises InputError where a run is missing, or is of other scales than those that are wanted.
    """
    runs = write_scales(project, experiment)
    _draw_scales(project.dataset, project.params.experiment(experiment), runs, project.paths)


def write_scales(project: Project, name: str) -> Runs:
    """Write the numbers, as CSV and Markdown, and return the runs that they are of; raises as `scales` does."""
    dataset, experiment, paths = project.dataset, project.params.experiment(name), project.paths
    runs = _collect(dataset, experiment, project.params.rescale.scales, paths)
    write_csv(paths.scales(experiment.name, "csv"), HEADER, _rows(runs))
    write_text(paths.scales(experiment.name, "md"), page(_page(dataset, experiment, runs)))
    return runs


def _draw_scales(dataset: DatasetSpec, experiment: Experiment, runs: Runs, paths: Paths) -> None:
    """A panel a task: accuracy against scale, a line a method."""
    panels: dict[str, dict[str, pd.DataFrame]] = {}
    for (task, method), run in runs.items():
        name = "average over tasks" if task == AVERAGE else arrow(task)
        panels.setdefault(name, {})[method] = run.rename(columns=lambda scale: 100 * scale)
    seeds = len(experiment.seeds)
    over = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"{experiment.title(dataset)}: {MEASURES[dataset.headline]} accuracy against the objects' scale\n{over}"
    curves(paths.scales(experiment.name, "png"), title, "scale of the target's objects (%)", "accuracy (%)", panels)


def _collect(dataset: DatasetSpec, experiment: Experiment, wanted: Sequence[float], paths: Paths) -> Runs:
    tasks, seeds, runs, names = experiment.tasks, list(experiment.seeds), {}, [f"{scale:g}" for scale in wanted]

    def problem(_dataset: DatasetSpec, found: Metrics) -> str | None:
        scales = found.get("scales")
        has = scales if isinstance(scales, dict) else ["none"]
        return None if list(has) == names else f"has the scales {', '.join(has)}, expected {', '.join(names)}"

    def read(*run: Any) -> list[float]:
        folder = paths.rescaled(dataset.name, *run)
        scales = read_metrics(folder, "rescale", dataset, run, problem)["scales"]
        return [scales[name][dataset.headline] for name in names]

    for task, method in product(tasks, experiment.methods):
        runs[task, method] = pd.DataFrame([read(method, task, seed) for seed in seeds], seeds, list(wanted))
    for method in experiment.methods if len(tasks) > 1 else ():
        runs[AVERAGE, method] = sum(runs[task, method] for task in tasks) / len(tasks)  # type: ignore[assignment]  # no 0
    return runs


def _losses(run: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at scale 1 less that at each scale, in points, (S, C)."""
    return -run.sub(run[1], axis=0)


def _compared(runs: Runs, task: str, method: str) -> dict[float, Difference]:
    """By how much less a method loses than the baseline, paired by seed, at each scale but 1."""
    if method == BASELINE or (task, BASELINE) not in runs:
        return {}
    first: Any = _losses(runs[task, BASELINE])
    second: Any = _losses(runs[task, method])
    return {scale: paired_difference(first[scale].to_dict(), second[scale].to_dict()) for scale in first if scale != 1}


def _reading(difference: Difference) -> str:
    return READINGS.get(difference.verdict, difference.verdict)


def _rows(runs: Runs) -> Iterator[list[str]]:
    for (task, method), run in runs.items():
        compared, losses, seeds = _compared(runs, task, method), _losses(run), " ".join(map(str, run.index))
        scale: Any
        for scale in run:
            less = compared.get(scale)
            low, high = (less and less.interval) or (None, None)
            of_scale = (run[scale].mean(), run[scale].std(), losses[scale].mean(), losses[scale].std())
            numbers = (*of_scale, less.mean if less else None, low, high)
            yield [task, method, f"{scale:g}", seeds, *map(decimal, numbers), _reading(less) if less else ""]


def _page(dataset: DatasetSpec, experiment: Experiment, runs: Runs) -> Iterator[str | Table]:
    seeds = ", ".join(map(str, experiment.seeds))
    yield f"# {experiment.title(dataset)}: accuracy against object scale"
    yield f"![accuracy against scale]({experiment.name}_scales.png)"
    yield (
        f"The target's objects at other scales about the image's centre: {MEASURES[dataset.headline]} accuracy in "
        f"percent, mean ± sample standard deviation over seeds {seeds}. Protocol: {dataset.protocol}. Each model is "
        "that of the table, selected without target labels."
    )
    for task in dict.fromkeys(task for task, _ in runs):
        yield f"## {'Average over tasks' if task == AVERAGE else arrow(task)}"
        if task in dataset.development_tasks:
            yield "This is a development task: settings were chosen with its target labels, so it is no evidence."
        of_task = {method: runs[task, method] for method in experiment.methods}
        yield _table("Accuracy", of_task)
        yield _table("Lost, in points, against 100 %", {method: _losses(run) for method, run in of_task.items()})
        rows = [
            [method, _percent(scale), str(less.seeds), printed(less.mean, sign="+"), interval_of(less), _reading(less)]
            for method in of_task
            for scale, less in _compared(runs, task, method).items()
        ]
        if rows:
            yield f"### Loses less than {BASELINE}"
            yield (
                f"By how many points less than {BASELINE}, paired by seed, with the {LEVEL} t interval; “less” or "
                "“more” is only said where the interval excludes zero."
            )
            yield Table("", ["method", "scale", "n", "loses less by", f"{LEVEL} interval", "reading"], rows)


def _table(title: str, of_task: Mapping[str, pd.DataFrame]) -> Table:
    scales: Any = next(iter(of_task.values()))
    heads = ["method", *map(_percent, scales)]
    return Table(title, heads, [[method, *over_seeds(frame).values()] for method, frame in of_task.items()])


def _percent(scale: float) -> str:
    return f"{100 * scale:g}\u00a0%"
