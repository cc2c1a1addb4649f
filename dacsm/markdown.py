"""The table as Markdown, for people: in the shape of VisDA's table, with what is needed to trust it below."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tabulate import tabulate

from dacsm.catalog import DatasetSpec
from dacsm.params import SOURCE_ONLY, Experiment
from dacsm.statistics import CONFIDENCE, Row, average_tasks, paired_difference

MOST_CLASSES = 20  # columns; past that a page is too narrow, and the CSV has them
MEASURES = {"mean_per_class": "mean per class", "overall": "overall"}
BASELINES = ("cdtrans", SOURCE_ONLY)  # the first of these that was run is what methods are compared with
Rows = Mapping[tuple[str, str], Row]  # by task and method


def arrow(task: str) -> str:
    """`source-target` as it is read: source → target."""
    return task.replace("-", " → ")


def markdown(dataset: DatasetSpec, experiment: Experiment, selected: Rows, last: Rows, oracle: Rows) -> str:
    """The whole text. `oracle` lacks the methods that have but one checkpoint."""
    parts = [f"# {dataset.title}", *_introduction(dataset, experiment)]
    for task in experiment.tasks:
        source, target = dataset.split_task(task)
        parts.append(f"## {arrow(task)}")
        parts.append(f"Task: {_domain(dataset, source)} → {_domain(dataset, target)}.")
        if task == dataset.development_task:
            parts.append(
                "This is the development task: settings were chosen with its target labels, so that its numbers are no "
                "evidence."
            )
        of_task = {method: selected[task, method] for method in experiment.methods}
        parts.append(_accuracies(dataset, of_task))
        if len(dataset.classes) > MOST_CLASSES:
            parts.append(f"The accuracies of the {len(dataset.classes)} classes are in the CSV beside this file.")
        parts += ["### How the checkpoint was chosen", *_choices(dataset, task, of_task, last, oracle)]
        parts += _seeds_and_differences(dataset, of_task)
    if len(experiment.tasks) > 1:
        name = f"Average over {len(experiment.tasks)} tasks"
        averages = {
            method: average_tasks([selected[task, method] for task in experiment.tasks], name)
            for method in experiment.methods
        }
        parts += [f"## {name}", _tasks(dataset, experiment, selected, averages)]
        if dataset.development_task in experiment.tasks:
            parts.append(f"The average includes the development task, {arrow(dataset.development_task)}.")
        parts += _seeds_and_differences(dataset, averages)
    return "\n\n".join(parts) + "\n"


def _introduction(dataset: DatasetSpec, experiment: Experiment) -> Iterator[str]:
    yield f"Protocol: {dataset.protocol}."
    if len(experiment.seeds) > 1:
        over = f"means over seeds {', '.join(map(str, experiment.seeds))} ± sample standard deviation"
    else:
        over = f"those of seed {experiment.seeds[0]} alone, so that nothing is known of their spread"
    yield (
        f"Accuracy on the target in percent; numbers are {over}. A class's accuracy is its recall, “mean per class” is "
        "the mean of these, “overall” is the share of all images that are right. The checkpoint of each run was "
        f"selected without target labels; {SOURCE_ONLY} is the source model after its last epoch."
    )


def _domain(dataset: DatasetSpec, name: str) -> str:
    return f"{name} ({dataset.domains[name].title})"


def _accuracies(dataset: DatasetSpec, rows: Mapping[str, Row]) -> str:
    """A row per method: its classes, mean per class, overall."""
    wide = len(dataset.classes) <= MOST_CLASSES
    first = 0 if wide else len(dataset.classes)
    header = ["method", "selection", *(dataset.classes if wide else ()), *MEASURES.values()]
    cells = [[method, row.selection, *map(_cell, row.mean[first:], row.spread[first:])] for method, row in rows.items()]
    return _grid(header, cells, names=2)


def _choices(dataset: DatasetSpec, task: str, selected: Mapping[str, Row], last: Rows, oracle: Rows) -> Iterator[str]:
    """What the label-free choice of an epoch cost, against the last epoch and against the oracle."""
    yield (
        f"The same runs under three choices of the epoch, {MEASURES[dataset.headline]}. The oracle sees the target's "
        "labels, so that it is a bound and no result."
    )
    header = ["method", "selected without labels", "last epoch", "oracle (target labels)", "epochs selected"]
    cells = []
    for method, row in selected.items():
        choices = (row, last[task, method], oracle.get((task, method)))
        numbers = ["–" if choice is None else _headline(dataset, choice) for choice in choices]
        cells.append([method, *numbers, ", ".join(map(str, row.epochs))])
    yield _grid(header, cells)


def _seeds_and_differences(dataset: DatasetSpec, rows: Mapping[str, Row]) -> Iterator[str]:
    """Every seed's number, then each method against the baseline, seed by seed."""
    measure = MEASURES[dataset.headline]
    by_seed = {method: row.by_seed(dataset.headline) for method, row in rows.items()}
    seeds = next(iter(rows.values())).seeds
    yield "### Every seed"
    yield f"{measure[0].upper()}{measure[1:]}, selected without labels."
    cells = [[method, *(f"{values[seed]:.2f}" for seed in seeds)] for method, values in by_seed.items()]
    yield _grid(["method", *(f"seed {seed}" for seed in seeds)], cells)

    baseline = next((name for name in BASELINES if name in rows), None)
    others = [method for method in rows if method != baseline]
    if baseline is None or not others:
        return
    yield "### Paired differences"
    level = f"{100 * CONFIDENCE:.0f}\u00a0%"
    cells = []
    for method in others:
        difference = paired_difference(by_seed[method], by_seed[baseline])
        interval = "–" if difference.interval is None else "{} to {}".format(*map(_signed, difference.interval))
        cells.append([f"{method} − {baseline}", str(difference.seeds), _signed(difference.mean), interval,
                      difference.verdict])  # fmt: skip
    if len(seeds) > 1:
        yield (
            f"{measure[0].upper()}{measure[1:]}, in points, over the {len(seeds)} seeds, each paired with itself: the "
            f"mean and its {level} t interval (n = {len(seeds)}). “Better” or “worse” stands only where the "
            "interval excludes zero."
        )
    else:
        yield "One seed (n = 1) gives no interval, so that neither “better” nor “worse” can be said."
    yield _grid(["difference", "n", "mean", f"{level} interval", "reading"], cells)


def _tasks(dataset: DatasetSpec, experiment: Experiment, selected: Rows, averages: Mapping[str, Row]) -> str:
    """A row per method: the headline measure of each task, then their average."""
    header = [f"{MEASURES[dataset.headline]} of", *map(arrow, experiment.tasks), "average"]
    cells = [
        [
            method,
            *(_headline(dataset, selected[task, method]) for task in experiment.tasks),
            _headline(dataset, averages[method]),
        ]
        for method in experiment.methods
    ]
    return _grid(header, cells)


def _headline(dataset: DatasetSpec, row: Row) -> str:
    column = list(MEASURES).index(dataset.headline) - len(MEASURES)
    return _cell(row.mean[column], row.spread[column])


def _cell(mean: float, spread: float) -> str:
    """74.1 ± 0.8, with spaces that do not break; the mean alone for one seed."""
    if np.isnan(mean):
        return "–"
    return f"{mean:.1f}" if np.isnan(spread) else f"{mean:.1f}\u00a0±\u00a0{spread:.1f}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def _grid(header: Sequence[str], cells: Sequence[Sequence[str]], names: int = 1) -> str:
    """A Markdown table; all but the first `names` columns are numbers, set to the right."""
    align = ["left"] * names + ["right"] * (len(header) - names)
    return tabulate(cells, header, tablefmt="pipe", colalign=align, disable_numparse=True)
