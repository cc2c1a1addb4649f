"""The plots of dvc.yaml: what `dvc plots show` and `dvc plots diff` draw of an experiment, from CSVs of its runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dacsm.config import SOURCE_ONLY
from dacsm.config.experiments import Experiment
from dacsm.config.project import Project
from dacsm.report.figures import drawn_csv, drawn_runs

TARGET_LOSS = "target"  # the column of a log, which methods of the kind `cdtrans` have


def plots_of(project: Project, experiment: Experiment) -> list[dict[str, Any]]:
    """The entries of the section `plots:`, each by its title: classes and confusions, then curves of the first seed.

    Titles begin with the experiment's name, since all experiments share the section.
    """
    params, dataset, paths = project.params, project.dataset, project.paths
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
    of_streams = [method for method in adapted if params.method(method).kind == "cdtrans"]
    validator = params.recipe("adapt", dataset.name).validator
    for title, column, methods in (
        ("validator", validator, adapted),
        ("loss of the target stream", TARGET_LOSS, of_streams),
    ):
        for task in experiment.tasks if methods else ():
            logs = [paths.adapted(dataset.name, method, task, seed) / "log.csv" for method in methods]
            add(f"{title}, {words[task]}, first seed", "linear", "epoch", dict.fromkeys(logs, column))
    return plots
