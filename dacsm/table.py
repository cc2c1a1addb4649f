"""The table of a dataset: every method on every task over all seeds, with its figures and its metrics for DVC.

Three ways to choose a run's checkpoint are kept apart. The primary one needs no target labels, and is the only one in
the metrics, the plots and the first rows of the table; the last epoch and the oracle stand beside it.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dacsm import plots
from dacsm.catalog import DatasetSpec
from dacsm.errors import InputError
from dacsm.files import read_json, write_csv, write_json, write_text
from dacsm.layout import Layout
from dacsm.markdown import arrow, markdown
from dacsm.params import Experiment, Params
from dacsm.statistics import SUMMARIES, Row, average_tasks


@dataclass(frozen=True)
class Run:
    """A method on a task, over all seeds."""

    selected: Row
    last: Row
    oracle: Row | None  # none for source-only, which has one checkpoint
    confusion: np.ndarray  # (K, K) percent of the actual class, mean over seeds, of the selected epochs


def table(params: Params, dataset: DatasetSpec, layout: Layout) -> None:
    """Collect every metrics.json of a dataset's experiment into the table, its Markdown twin, metrics and plots.

    Raises:
        InputError: where the dataset has no experiment, or a run of it is missing.
    """
    if dataset.name not in params.experiments:
        raise InputError(f"params.yaml: experiments has no entry for {dataset.name!r}; add experiments.{dataset.name}.")
    experiment = params.experiments[dataset.name]
    runs = {
        (task, method): _collect(dataset, method, task, experiment.seeds, layout)
        for task in experiment.tasks
        for method in experiment.methods
    }
    _write_table(layout.table(dataset.name, "csv"), dataset, list(runs.values()))
    kinds = {
        kind: {key: row for key, run in runs.items() if (row := getattr(run, kind)) is not None}
        for kind in ("selected", "last", "oracle")
    }
    write_text(layout.table(dataset.name, "md"), markdown(dataset, experiment, **kinds))
    write_json(layout.metrics(dataset.name), _metrics(dataset, experiment, runs))
    _write_plots(dataset, experiment, runs, layout)


def _collect(dataset: DatasetSpec, method: str, task: str, seeds: Sequence[int], layout: Layout) -> Run:
    """Read the metrics of every seed of a method on a task."""
    measured = [_read_metrics(dataset, method, task, seed, layout) for seed in seeds]

    def row(kind: str) -> Row:
        chosen = [metrics[kind] for metrics in measured]
        names = dict.fromkeys(choice["selection"] for choice in chosen)
        accuracy = [[*(choice["per_class"][name] for name in dataset.classes), *(choice[s] for s in SUMMARIES)]
                    for choice in chosen]  # fmt: skip
        return Row(
            task=task,
            method=method,
            selection=", ".join(names),
            seeds=tuple(seeds),
            epochs=tuple(choice["epoch"] for choice in chosen),
            accuracy=np.array(accuracy, dtype=float),  # None, of a class without images, becomes NaN
        )

    confusions = np.array([metrics["selected"]["confusion"] for metrics in measured], dtype=float)  # (S, K, K)
    images = confusions.sum(axis=2, keepdims=True)
    shares = np.divide(confusions, images, out=np.full_like(confusions, np.nan), where=images > 0)
    oracle = row("oracle") if all("oracle" in metrics for metrics in measured) else None
    return Run(row("selected"), row("last"), oracle, 100 * shares.mean(axis=0))


def _read_metrics(dataset: DatasetSpec, method: str, task: str, seed: int, layout: Layout) -> dict[str, Any]:
    """One run's metrics.json, if it is of that run and of these classes."""
    path = layout.evaluated(dataset.name, method, task, seed) / "metrics.json"
    made_by = f"dacsm evaluate {dataset.name} {method} {task} --seed {seed}"
    metrics = read_json(path, made_by)
    expected = {"dataset": dataset.name, "method": method, "task": task, "seed": seed}
    for key, value in expected.items():
        if not isinstance(metrics, dict) or metrics.get(key) != value:
            raise InputError(f"{path} is not of {key} {value!r}; make it again with `{made_by}`.")
    needed = {"selection", "epoch", "per_class", "confusion", *SUMMARIES}
    for kind in ("selected", "last", *(["oracle"] if "oracle" in metrics else [])):
        choice = metrics.get(kind)
        if not isinstance(choice, dict) or not needed <= choice.keys():
            raise InputError(f"{path}: {kind} is not what evaluate writes; make it again with `{made_by}`.")
        if list(choice["per_class"]) != list(dataset.classes):
            raise InputError(
                f"{path}: {kind}.per_class does not hold the {len(dataset.classes)} classes of {dataset.name}; "
                f"make it again with `{made_by}`."
            )
    return metrics


def _write_table(path: Path, dataset: DatasetSpec, runs: Sequence[Run]) -> None:
    """A row per task, method and selection; the label-free rows of all methods come first."""
    columns = (*dataset.classes, *SUMMARIES)
    header = ("task", "method", "selection", "seeds", *columns, *(f"{column}_std" for column in columns))
    rows = [run.selected for run in runs]
    # A row that repeats the selected one, as source-only's last epoch does, is left out.
    rows += [run.last for run in runs if run.last.selection != run.selected.selection]
    rows += [run.oracle for run in runs if run.oracle is not None]
    write_csv(path, header, ((row.task, row.method, row.selection, " ".join(map(str, row.seeds)),
                              *_decimals(row.mean), *_decimals(row.spread)) for row in rows))  # fmt: skip


def _decimals(values: np.ndarray) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.1f}" for value in values]


def _metrics(dataset: DatasetSpec, experiment: Experiment, runs: Mapping[tuple[str, str], Run]) -> dict[str, Any]:
    """Means over seeds for `dvc metrics diff`; `last` and `oracle` are the dataset's headline measure."""

    def of_run(run: Run) -> dict[str, Any]:
        *accuracies, mean_per_class, overall = (round(float(value), 2) for value in run.selected.mean)
        per_class = zip(dataset.classes, accuracies, strict=True)
        metrics: dict[str, Any] = {"mean_per_class": mean_per_class, "overall": overall}
        for name, row in (("last", run.last), ("oracle", run.oracle)):
            if row is not None:
                metrics[name] = round(float(np.mean(list(row.by_seed(dataset.headline).values()))), 2)
        return metrics | {"per_class": {name: value for name, value in per_class if not np.isnan(value)}}

    return {task: {method: of_run(runs[task, method]) for method in experiment.methods} for task in experiment.tasks}


def _write_plots(
    dataset: DatasetSpec, experiment: Experiment, runs: Mapping[tuple[str, str], Run], layout: Layout
) -> None:
    """The pictures, and CSVs from which DVC draws the same; whatever an earlier table left there goes."""
    folder = layout.plots(dataset.name)
    for stale in [*folder.glob("per_class*"), *folder.glob("confusion_*")]:
        stale.unlink()

    several = len(experiment.seeds) > 1
    averaged = f"mean of {len(experiment.seeds)} seeds" if several else f"seed {experiment.seeds[0]}"
    shown = arrow(experiment.tasks[0]) if len(experiment.tasks) == 1 else f"average over {len(experiment.tasks)} tasks"
    bars = {}
    for method in experiment.methods:
        average = average_tasks([runs[task, method].selected for task in experiment.tasks], shown)
        bars[method] = (average.mean[:-1], average.spread[:-1])  # without overall
    spread = " ± standard deviation" if several else ""
    title = f"{dataset.title}, {shown}: accuracy per class, label-free selection\n{averaged}{spread}"
    plots.per_class(folder / "per_class.png", title, (*dataset.classes, "mean per class"), bars)

    for (task, method), run in runs.items():
        accuracies = zip(dataset.classes, run.selected.mean, strict=False)
        rows = [(name, f"{value:.2f}") for name, value in accuracies if not np.isnan(value)]
        write_csv(folder / f"per_class_{method}_{task}.csv", ("class", "accuracy"), rows)
        predictions = _read_predictions(dataset, method, task, experiment.seeds[0], layout)
        write_csv(folder / f"confusion_{method}_{task}.csv", ("actual", "predicted"), predictions)
        title = f"{dataset.title}, {arrow(task)}: {method}\nselection: {run.selected.selection}; {averaged}"
        plots.confusion(folder / f"confusion_{method}_{task}.png", title, dataset.classes, run.confusion)


def _read_predictions(dataset: DatasetSpec, method: str, task: str, seed: int, layout: Layout) -> list[tuple[str, str]]:
    """The actual and the predicted class of every image, by name."""
    path = layout.evaluated(dataset.name, method, task, seed) / "predictions.csv"
    made_by = f"dacsm evaluate {dataset.name} {method} {task} --seed {seed}"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(row["label"]), int(row["predicted"])) for row in csv.DictReader(file)]
        return [(dataset.classes[label], dataset.classes[predicted]) for label, predicted in rows]
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; make it with `{made_by}`.") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it again with `{made_by}`.") from error
