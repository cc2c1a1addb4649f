"""The table as Markdown, for people: in the dataset's shape, with what is needed to trust it below."""

from collections.abc import Iterator, Mapping, Sequence

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Experiment
from dacsm.report.differences import Comparisons
from dacsm.report.markdown_differences import difference_section
from dacsm.report.markdown_grid import cell, grid_of
from dacsm.report.markdown_validators import validator_section
from dacsm.report.published import Published
from dacsm.report.shapes import MEASURES, MOST_CLASSES, Grid, Rows, arrow, measured_grids, published_grids
from dacsm.report.statistics import Row, average_tasks
from dacsm.report.validators import Judged


def markdown(
    dataset: DatasetSpec,
    experiment: Experiment,
    backbone: str,
    selected: Rows,
    last: Rows,
    oracle: Rows,
    published: Sequence[Published],
    comparisons: Comparisons,
    judged: Sequence[Judged],
) -> str:
    """The whole text. `oracle` lacks the methods that have but one checkpoint."""
    parts = [f"# {experiment.title(dataset)}", *_introduction(dataset, experiment)]
    grids = measured_grids(dataset, experiment.tasks, experiment.methods, selected)
    if dataset.table_form == "classes":
        for task, grid in zip(experiment.tasks, grids, strict=True):
            parts += _task_by_classes(dataset, experiment, task, grid, selected, last, oracle)
    else:
        parts += [f"## Measured: {MEASURES[dataset.headline]} accuracy", *_blocks(grids)]
    if len(experiment.tasks) > 1:
        parts += _averages(dataset, experiment, selected, last, oracle)
    elif dataset.table_form != "classes":
        parts += _every_seed(dataset, {m: selected[experiment.tasks[0], m] for m in experiment.methods})
    parts += difference_section(dataset, experiment, comparisons)
    parts += validator_section(dataset, experiment, judged)
    if published:
        parts += _published(dataset, backbone, published)
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


def _task_by_classes(
    dataset: DatasetSpec, experiment: Experiment, task: str, grid: Grid, selected: Rows, last: Rows, oracle: Rows
) -> Iterator[str]:
    """A task's section: its classes, how the checkpoints were chosen, its seeds."""
    source, target = dataset.split_task(task)
    yield f"## {arrow(task)}"
    yield f"Task: {_domain(dataset, source)} → {_domain(dataset, target)}."
    if task == dataset.development_task:
        yield (
            "This is the development task: settings were chosen with its target labels, so that its numbers are no "
            "evidence."
        )
    yield _of_grid(grid)
    if len(dataset.classes) > MOST_CLASSES:
        yield f"The accuracies of the {len(dataset.classes)} classes are in the CSV beside this file."
    rows = [{method: kind[task, method] for method in experiment.methods if (task, method) in kind}
            for kind in (selected, last, oracle)]  # fmt: skip
    yield from _choices(dataset, *rows)
    yield from _every_seed(dataset, rows[0])


def _averages(dataset: DatasetSpec, experiment: Experiment, selected: Rows, last: Rows, oracle: Rows) -> Iterator[str]:
    """The tasks side by side, where they are not already, and what holds for their average."""
    name = f"Average over {len(experiment.tasks)} tasks"

    def average(kind: Rows) -> dict[str, Row]:
        return {
            method: average_tasks([kind[task, method] for task in experiment.tasks], name)
            for method in experiment.methods
            if all((task, method) in kind for task in experiment.tasks)
        }

    averages = average(selected)
    yield f"## {name}"
    if dataset.table_form == "classes":
        yield _tasks(dataset, experiment, selected, averages)
    if dataset.development_task in experiment.tasks:
        yield f"The average includes the development task, {arrow(dataset.development_task)}."
    if dataset.table_form != "classes":
        yield from _choices(dataset, averages, average(last), average(oracle))
    yield from _every_seed(dataset, averages)


def _published(dataset: DatasetSpec, backbone: str, published: Sequence[Published]) -> Iterator[str]:
    yield "## Published numbers"
    yield (
        "Printed by others, and not measured here: each with its backbone, how its checkpoint was chosen, and where it "
        "was found. The oracle chooses with the target's labels, so that such a number is a bound on what one would "
        f"get without them. What was measured above has the backbone {backbone}. Protocol of all: {dataset.protocol}."
    )
    yield from _blocks(published_grids(dataset, published))


def _choices(
    dataset: DatasetSpec, selected: Mapping[str, Row], last: Mapping[str, Row], oracle: Mapping[str, Row]
) -> Iterator[str]:
    """What the label-free choice of an epoch cost, against the last epoch and against the oracle."""
    yield "### How the checkpoint was chosen"
    yield (
        f"The same runs under three choices of the epoch, {MEASURES[dataset.headline]}. The oracle sees the target's "
        "labels, so that it is a bound and no result."
    )
    header = ["method", "selected without labels", "last epoch", "oracle (target labels)"]
    cells = []
    for method, row in selected.items():
        choices = (row, last[method], oracle.get(method))
        numbers = ["–" if choice is None else _headline(dataset, choice) for choice in choices]
        cells.append([method, *numbers, *([", ".join(map(str, row.epochs))] if row.epochs else [])])
    one_task = all(row.epochs for row in selected.values())
    yield grid_of([*header, *(["epochs selected"] if one_task else [])], cells)


def _every_seed(dataset: DatasetSpec, rows: Mapping[str, Row]) -> Iterator[str]:
    measure = MEASURES[dataset.headline]
    by_seed = {method: row.by_seed(dataset.headline) for method, row in rows.items()}
    seeds = next(iter(rows.values())).seeds
    yield "### Every seed"
    yield f"{measure[0].upper()}{measure[1:]}, selected without labels."
    cells = [[method, *(f"{values[seed]:.2f}" for seed in seeds)] for method, values in by_seed.items()]
    yield grid_of(["method", *(f"seed {seed}" for seed in seeds)], cells)


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
    return grid_of(header, cells)


def _headline(dataset: DatasetSpec, row: Row) -> str:
    column = list(MEASURES).index(dataset.headline) - len(MEASURES)
    return cell(row.mean[column], row.spread[column])


def _blocks(grids: Sequence[Grid]) -> Iterator[str]:
    """Each grid under its title, if it has one."""
    for grid in grids:
        if grid.title:
            yield f"### {grid.title}"
        yield _of_grid(grid)


def _of_grid(grid: Grid) -> str:
    cells = [
        [*line.names, *(cell(*number, grid) for number in zip(line.mean, line.spread, strict=True))]
        for line in grid.lines
    ]
    return grid_of([*grid.names, *grid.columns], cells, names=len(grid.names))
