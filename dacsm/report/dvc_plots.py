"""The plots of dvc.yaml: what `dvc plots show` and `dvc plots diff` draw of an experiment, from CSVs of its runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Experiment
from dacsm.config.paths import Paths
from dacsm.report.figures import drawn_csv, drawn_runs

VALIDATOR = "infomax"  # every adaptation has it in its log
LOSS = "target"  # the loss of the target stream, which CDTrans and all that add to it have in their logs


def plots_of(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> list[dict[str, Any]]:
    """The entries of the section `plots:`, each by its title: classes and confusions, then curves of the first seed.

    Titles begin with the experiment's name, since all experiments share the section.
    """
    plots = []

    def add(title: str, template: str, x: str, y: Mapping[Path, str]) -> None:
        files = {path.as_posix(): column for path, column in y.items()}
        plots.append({f"{experiment.name}: {title}": {"template": template, "x": x, "y": files}})

    words = {task: task.replace("-", " to ") for task in experiment.tasks}
    drawn = drawn_runs(dataset, experiment)
    for task, method in drawn:
        path = drawn_csv("per_class", method, task, experiment, paths)
        add(f"accuracy per class, {words[task]}, {method}", "bar_horizontal", "accuracy", {path: "class"})
    for task, method in drawn:
        path = drawn_csv("confusion", method, task, experiment, paths)
        add(f"confusion of the first seed, {words[task]}, {method}", "confusion", "actual", {path: "predicted"})

    seed = experiment.seeds[0]
    sources = dict.fromkeys(dataset.split_task(task)[0] for task in experiment.tasks)
    logs = [paths.pretrained(dataset.name, source, seed) / "log.csv" for source in sources]
    add("held-out source accuracy, first seed", "linear", "epoch", dict.fromkeys(logs, "held_out_accuracy"))
    adapted = [method for method in experiment.methods if method != SOURCE_ONLY]
    for title, column in (("validator", VALIDATOR), ("loss of the target stream", LOSS)) if adapted else ():
        for task in experiment.tasks:
            logs = [paths.adapted(dataset.name, method, task, seed) / "log.csv" for method in adapted]
            add(f"{title}, {words[task]}, first seed", "linear", "epoch", dict.fromkeys(logs, column))
    return plots
