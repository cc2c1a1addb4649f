"""Stage beside the table: an experiment's accuracies against the scale of the objects, as a table and a picture.

What a method loses at a scale is its accuracy at scale 1 less that at the scale, seed by seed: a method that is better
by the same at every scale loses no less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.config.paths import Paths
from dacsm.report.curves import Curve, curves
from dacsm.report.differences import BASELINE
from dacsm.report.markdown_grid import cell, grid_of, interval_of, signed
from dacsm.report.published import AVERAGE
from dacsm.report.shapes import MEASURES, arrow
from dacsm.report.statistics import BETTER, CONFIDENCE, WORSE, Difference, deviation, paired_difference
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, write_csv, write_text

FORMAT_VERSION = 1  # raise it when a module that is no code of this stage changes what it writes
HEADER = (
    *("task", "method", "scale", "seeds", "accuracy", "accuracy_std", "loss", "loss_std"),
    *(f"loses_less_than_{BASELINE}", "interval_low", "interval_high", "reading"),
)
READINGS = {BETTER: "loses less", WORSE: "loses more"}


@dataclass(frozen=True)
class Rescaled:
    """The headline accuracy of a method on a task, in percent, (S, C): a line a seed, a column a scale."""

    seeds: tuple[int, ...]
    scales: tuple[float, ...]
    accuracy: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """Accuracy at scale 1 less that at each scale, in points, (S, C)."""
        return self.accuracy[:, [self.scales.index(1)]] - self.accuracy

    def losses_at(self, scale: float) -> dict[int, float]:
        """The loss of each seed at a scale."""
        return dict(zip(self.seeds, self.losses[:, self.scales.index(scale)].tolist(), strict=True))


Runs = Mapping[tuple[str, str], Rescaled]  # by task and method; the average over tasks has the task AVERAGE


def scales(dataset: DatasetSpec, experiment: Experiment, wanted: Sequence[float], paths: Paths) -> None:
    """Collect the rescaled runs of an experiment into `<experiment>_scales`, as CSV, Markdown and picture.

    Raises:
        InputError: where a run is missing, or is of other scales than those that are wanted.
    """
    runs = write_scales(dataset, experiment, wanted, paths)
    _draw_scales(dataset, experiment, runs, paths)


def write_scales(dataset: DatasetSpec, experiment: Experiment, wanted: Sequence[float], paths: Paths) -> Runs:
    """Write the numbers, as CSV and Markdown, and return the runs that they are of; raises as `scales` does."""
    runs = _collect(dataset, experiment, wanted, paths)
    write_csv(paths.scales(experiment.name, "csv"), HEADER, _rows(runs))
    write_text(paths.scales(experiment.name, "md"), "\n\n".join(_markdown(dataset, experiment, runs)) + "\n")
    return runs


def _draw_scales(dataset: DatasetSpec, experiment: Experiment, runs: Runs, paths: Paths) -> None:
    """A panel a task: accuracy against scale, a line a method."""
    panels: dict[str, list[Curve]] = {}
    for (task, method), run in runs.items():
        name = "average over tasks" if task == AVERAGE else arrow(task)
        percent = 100 * np.array(run.scales)
        spread = deviation(run.accuracy)
        panels.setdefault(name, []).append(Curve(method, percent, run.accuracy.mean(axis=0), spread))
    seeds = len(next(iter(runs.values())).seeds)
    over = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"{experiment.title(dataset)}: {MEASURES[dataset.headline]} accuracy against the objects' scale\n{over}"
    curves(paths.scales(experiment.name, "png"), title, "scale of the target's objects (%)", "accuracy (%)", panels)


def _collect(dataset: DatasetSpec, experiment: Experiment, wanted: Sequence[float], paths: Paths) -> Runs:
    runs = {}
    for task in experiment.tasks:
        for method in experiment.methods:
            rows = [_read(dataset, method, task, seed, wanted, paths) for seed in experiment.seeds]
            runs[task, method] = Rescaled(experiment.seeds, tuple(wanted), np.array(rows))
    if len(experiment.tasks) > 1:
        for method in experiment.methods:
            mean = np.mean([runs[task, method].accuracy for task in experiment.tasks], axis=0)
            runs[AVERAGE, method] = Rescaled(experiment.seeds, tuple(wanted), mean)
    return runs


def _read(
    dataset: DatasetSpec, method: str, task: str, seed: int, wanted: Sequence[float], paths: Paths
) -> list[float]:
    """The headline accuracy of one run at each of the scales that are wanted."""
    path = paths.rescaled(dataset.name, method, task, seed) / "metrics.json"
    made_by = f"dacsm rescale {dataset.name} {method} {task} --seed {seed}"
    metrics = read_json(path, made_by)
    expected = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "protocol": dataset.protocol}
    for key, value in expected.items():
        if not isinstance(metrics, dict) or metrics.get(key) != value:
            raise InputError(f"{path} is not of {key} {value!r}; make it again with `{made_by}`.")
    found = metrics.get("scales")
    names = [f"{scale:g}" for scale in wanted]
    if not isinstance(found, dict) or list(found) != names:
        has = ", ".join(found) if isinstance(found, dict) else "none"
        raise InputError(f"{path} has the scales {has}, expected {', '.join(names)}; make it again with `{made_by}`.")
    return [found[name][dataset.headline] for name in names]


def _compared(runs: Runs) -> Iterator[tuple[str, str, float, Difference]]:
    """For each method, and each scale but 1: by how much less it loses than the baseline, paired by seed."""
    for (task, method), run in runs.items():
        if method == BASELINE or (task, BASELINE) not in runs:
            continue
        for scale in run.scales:
            if scale != 1:
                less = paired_difference(runs[task, BASELINE].losses_at(scale), run.losses_at(scale))
                yield task, method, scale, less


def _reading(difference: Difference) -> str:
    return READINGS.get(difference.verdict, difference.verdict)


def _rows(runs: Runs) -> Iterator[list[str]]:
    compared = {(task, method, scale): less for task, method, scale, less in _compared(runs)}
    for (task, method), run in runs.items():
        numbers = (run.accuracy.mean(axis=0), deviation(run.accuracy), run.losses.mean(axis=0), deviation(run.losses))
        for scale, *values in zip(run.scales, *numbers, strict=True):
            less = compared.get((task, method, scale))
            interval = ["", ""] if less is None or less.interval is None else [f"{x:.2f}" for x in less.interval]
            shown = ["" if np.isnan(value) else f"{value:.2f}" for value in values]
            difference = ["", *interval, ""] if less is None else [f"{less.mean:.2f}", *interval, _reading(less)]
            yield [task, method, f"{scale:g}", " ".join(map(str, run.seeds)), *shown, *difference]


def _markdown(dataset: DatasetSpec, experiment: Experiment, runs: Runs) -> Iterator[str]:
    first = next(iter(runs.values()))
    seeds = ", ".join(map(str, first.seeds))
    yield f"# {experiment.title(dataset)}: accuracy against object scale"
    yield f"![accuracy against scale]({experiment.name}_scales.png)"
    yield (
        f"The target's objects at other scales about the image's centre: {MEASURES[dataset.headline]} accuracy in "
        f"percent, mean ± sample standard deviation over seeds {seeds}. Protocol: {dataset.protocol}. Each model is "
        "that of the table, selected without target labels."
    )
    for task in dict.fromkeys(task for task, _ in runs):
        yield f"## {'Average over tasks' if task == AVERAGE else arrow(task)}"
        if task == dataset.development_task:
            yield "This is the development task: settings were chosen with its target labels, so it is no evidence."
        columns = [_percent(scale) for scale in first.scales]
        of_task = {method: run for (other, method), run in runs.items() if other == task}
        yield "### Accuracy"
        yield grid_of(["method", *columns], [[name, *_cells(run.accuracy)] for name, run in of_task.items()])
        yield "### Lost, in points, against 100 %"
        yield grid_of(["method", *columns], [[name, *_cells(run.losses)] for name, run in of_task.items()])
        compared = [entry[1:] for entry in _compared(runs) if entry[0] == task]
        if compared:
            level = f"{100 * CONFIDENCE:.0f}\u00a0%"
            yield f"### Loses less than {BASELINE}"
            yield (
                f"By how many points less than {BASELINE}, paired by seed, with the {level} t interval; “less” or "
                "“more” is only said where the interval excludes zero."
            )
            rows = [[name, _percent(scale), str(less.seeds), signed(less.mean), interval_of(less), _reading(less)]
                    for name, scale, less in compared]  # fmt: skip
            yield grid_of(["method", "scale", "n", "loses less by", f"{level} interval", "reading"], rows)


def _percent(scale: float) -> str:
    return f"{100 * scale:g}\u00a0%"


def _cells(values: np.ndarray) -> list[str]:
    """Mean ± deviation over seeds of each column of (S, C) values."""
    return [cell(*both) for both in zip(values.mean(axis=0), deviation(values), strict=True)]
