"""dvc.yaml, generated from the declaration of the pipeline: a stage for each phase, and the plots."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from dacsm.config import SOURCE_ONLY
from dacsm.config.datasets import CATALOG
from dacsm.config.experiments import Experiment
from dacsm.config.params import RECIPES, Params
from dacsm.config.paths import Paths
from dacsm.config.presets import PRESETS
from dacsm.config.project import Project
from dacsm.ledger.pipeline import STAGES, Stage
from dacsm.ledger.provenance import code_of
from dacsm.report.figures import drawn_csv, drawn_runs
from dacsm.report.published import PUBLISHED

HEADER = """\
# Written by `dacsm dvc-file > dvc.yaml`; a test compares. DVC records what Snakemake makes: a stage's command asks
# Snakemake for all of a phase, and Snakemake runs what is out of date; then the audit looks whether all of the phase is
# what its run records say, for DVC records nothing where a command fails. docs/pipeline.md says more.
"""
ITEM, KEY = "${item}", "${key}"  # the dataset; the experiment, whose item is its dataset
TARGET_LOSS = "target"  # the column of a log, which methods of the kind `cdtrans` have
LAST = "summarise"  # the last stage
RUNS = ("experiments", "tables")  # they say which runs there are


def dvc_file(params: Params) -> str:
    """The text of dvc.yaml; `params` has the tables whose plots DVC draws."""
    stages = {stage.name: _stage(stage) for stage in STAGES.values() if not stage.optional}
    plots = [
        entry
        for name in params.tables
        for entry in plots_of(Project(params, params.load_dataset_of(name), Paths()), params.experiment(name))
    ]
    content = {"stages": stages, "plots": plots}
    return HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _stage(stage: Stage) -> dict[str, Any]:
    of_table = "experiment" in stage.arguments
    target, audited = f"{ITEM}_{stage.phase}", f"--dataset {ITEM}"
    if of_table:
        target, audited = str(stage.place_of(Paths(), {"experiment": KEY})), KEY
    phase = "" if stage.name == LAST else f" --phase {stage.phase}"  # the last stage has all audited
    commands = [f"snakemake --cores all {target}", f"python -m dacsm audit {audited}{phase}"]
    described = {"cmd": commands, "deps": list(_deps(stage)), "params": _params(stage), "outs": _outs(stage)}
    if stage.name == "table":
        described["metrics"] = [_out(str(Paths().metrics(KEY)), cache=False)]
    return {"foreach": "${tables}" if of_table else "${datasets}", "do": described}


def _deps(stage: Stage) -> Iterator[str]:
    """The folders of code, which is coarser than what Snakemake looks at, the phases before, and the catalogue."""
    parts = [file.split("/") for file in code_of(stage.name)]
    yield from dict.fromkeys("/".join(path if path[1] == "stages" else path[:2]) for path in parts)
    yield from (place for name in stage.reads for place in _places(STAGES[name]))
    yield str(PRESETS)  # DVC reads params.yaml as it is written, with the names of presets in it
    if "experiment" in stage.arguments:
        yield from (f"{CATALOG}/{ITEM}.yaml", str(PUBLISHED))


def _params(stage: Stage) -> list[Any]:
    """The keys as they are written in the files: those inside a dataset's settings may come from a preset."""
    facts = dict.fromkeys(key.partition(".")[0] for key in stage.facts)
    of_file: list[Any] = [{f"{CATALOG}/{ITEM}.yaml": list(facts)}] if facts else []
    keys = [key.format(recipe=recipe, dataset=ITEM, method="*", experiment=KEY)
            for key in stage.settings for recipe in (RECIPES["pretrain"], RECIPES["adapt"])]  # fmt: skip
    written = [key.partition(f"{ITEM}.")[0] + ITEM if f"{ITEM}." in key else key.removesuffix(".*") for key in keys]
    return [*of_file, *dict.fromkeys(written), *(() if "experiment" in stage.arguments else RUNS)]


def _places(stage: Stage) -> list[str]:
    """The folder of a phase; receipts lie in one of their own, and what is of an experiment is in several places."""
    if "experiment" in stage.arguments:
        given = {"experiment": KEY}
        folders = stage.folders_of(Paths(), given)
        files = [file for file in stage.outputs_of(Paths(), given) if file.parent not in folders]
        return list(map(str, (*files, *folders)))
    if stage.name == "download":
        return [str(Paths().receipt(ITEM, "x").parent)]
    if stage.name == "shard":
        return [str(Paths().shards(ITEM, "x").parent)]
    return [str(Paths().results / ITEM / stage.phase)]


def _outs(stage: Stage) -> list[dict[str, Any]]:
    in_git = stage.name == "download" or "experiment" in stage.arguments
    places = [place for place in _places(stage) if place != str(Paths().metrics(KEY))]  # which has a section of its own
    return [_out(place, cache=not in_git) for place in places]


def _out(place: str, cache: bool) -> dict[str, Any]:
    """`persist` keeps finished runs when a stage starts again; what is not cached is in git."""
    return {place: {**({} if cache else {"cache": False}), "persist": True}}


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
    described = [] if experiment.has_labels(dataset) else list(product(experiment.tasks, experiment.methods))
    for of_runs, title, what, template, x, y in (
        (drawn, "accuracy per class", "per_class", "bar_horizontal", "accuracy", "class"),
        (drawn, "confusion of the first seed", "confusion", "confusion", "actual", "predicted"),
        (described, "images of each predicted class", "predicted", "bar_horizontal", "percent", "class"),
    ):
        for task, method in of_runs:
            path = drawn_csv(what, method, task, experiment, paths)
            add(f"{title}, {words[task]}, {method}", template, x, {path: y})

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
