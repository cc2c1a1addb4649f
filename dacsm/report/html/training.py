"""Training, epoch by epoch: the parts of the loss, the scores without labels, and, after the fact, the accuracy."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

import pandas as pd

from dacsm.config.params import SOURCE_ONLY
from dacsm.config.paths import Paths
from dacsm.report.figures import DEVIATION
from dacsm.report.html.content import Part, Picture, drawn
from dacsm.report.measured import Evaluated, made_by
from dacsm.report.plots import curves
from dacsm.runtime.files import reading

NO_LOSS = re.compile(r"epoch|pairs|reverse_by_\w+|noise_(gain|\d+)")  # columns of a log that are no part of the loss
MOST_METHODS = 12  # in curves
AFTER = "accuracy by target labels (%)\nafter the fact"

Lines = dict[str, dict[str, pd.DataFrame]]  # by panel and name, values (S, E)


def training_section(runs: Evaluated, paths: Paths) -> Iterator[Part]:
    """Curves of pretraining and of adaptation, means over seeds, and over tasks where there are several."""
    what = _over(runs)
    if source := _source(runs, paths):
        yield "## The source models"
        alt = f"Curves against the epochs of pretraining: {', '.join(source)}; a line a source domain."
        title = f"{runs.title}: training on the source, {what}"
        yield Picture(drawn(curves, title, "epoch", "", source, shared=False), alt)
    logs = {method: found for method in _adapted(runs) if (found := _adaptations(runs, method, paths))}
    losses = {method: lines for method, found in logs.items() if (lines := _losses(runs, found))}
    scores = _scores(runs)
    if not losses and not scores:
        if _adapted(runs):
            yield "No log of an adaptation is here, so that there are no curves of it."
        return
    yield "## Adaptation"
    if losses:
        alt = f"Curves of each part of the loss against the epochs, a panel a method: {', '.join(losses)}."
        title = f"{runs.title}: parts of the loss, {what}"
        yield Picture(drawn(curves, title, "epoch", "loss", losses), alt, "Each part before its weight.")
    if scores:
        yield "Below, what each validator made of every epoch, without target labels."
        if AFTER in scores:
            yield (
                "**The broken lines are the accuracy by target labels. They were computed afterwards, and chose "
                "nothing.**"
            )
        alt = f"Curves against the epochs, a line a method; panels: {', '.join(scores).replace(chr(10), ' ')}."
        title = f"{runs.title}: label-free scores, {what}"
        colours = {"order": runs.experiment.methods}  # as in the bars
        yield Picture(drawn(curves, title, "epoch", "", scores, shared=False, dashed=[AFTER], **colours), alt)
    if len(_adapted(runs)) < sum(method != SOURCE_ONLY for method in runs.experiment.methods):
        yield f"The curves are of the first {MOST_METHODS} methods."


def _adapted(runs: Evaluated) -> list[str]:
    return [method for method in runs.experiment.methods if method != SOURCE_ONLY][:MOST_METHODS]


def _over(runs: Evaluated) -> str:
    seeds, tasks = len(runs.experiment.seeds), len(runs.experiment.tasks)
    of = [f"{seeds} seeds"] * (seeds > 1) + [f"{tasks} tasks"] * (tasks > 1)
    return f"mean of {' and '.join(of)}{DEVIATION}" if of else f"seed {runs.experiment.seeds[0]}"


def _logs(folders: Iterable[tuple[Path, str]]) -> list[pd.DataFrame]:
    """The logs in some folders, each given with the command that makes it, as far as they are there; by epoch."""
    logs = []
    for folder, command in folders:
        if (path := folder / "log.csv").is_file():
            with reading(path, command):
                logs.append(pd.read_csv(path, dtype=float).astype({"epoch": int}).set_index("epoch"))
    return logs


def _stack(logs: list[pd.DataFrame], column: str) -> pd.DataFrame:
    """A column of some logs, (S, E); epochs without any value are left out."""
    return pd.DataFrame([log[column] for log in logs if column in log]).dropna(axis=1, how="all")


def _source(runs: Evaluated, paths: Paths) -> Lines:
    dataset, seeds = runs.dataset, runs.experiment.seeds
    found: Lines = {"loss": {}, "accuracy on held-out source (%)": {}}
    for source in dict.fromkeys(dataset.split_task(task)[0] for task in runs.experiment.tasks):
        command = f"dacsm pretrain {dataset.name} {source} --seed"
        logs = _logs((paths.pretrained(dataset.name, source, seed), f"{command} {seed}") for seed in seeds)
        for panel, column in zip(found, ("loss", "held_out_accuracy"), strict=True):
            if not (values := _stack(logs, column)).empty:
                found[panel][source] = values
    return {panel: lines for panel, lines in found.items() if lines}


def _adaptations(runs: Evaluated, method: str, paths: Paths) -> list[pd.DataFrame]:
    """The logs of a method's runs, on all tasks and with all seeds."""
    every = [(method, *of) for of in product(runs.experiment.tasks, runs.experiment.seeds)]
    return _logs((paths.adapted(runs.dataset.name, *run), made_by("adapt", runs.dataset, *run)) for run in every)


def _losses(runs: Evaluated, logs: list[pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
    known = {name for found in runs.metrics.values() for run in found for name in run.get("validators", ())}
    columns = dict.fromkeys(str(column) for log in logs for column in log)
    parts = [column for column in columns if not NO_LOSS.fullmatch(column) and column not in known]
    return {part: values for part in parts if not (values := _stack(logs, part)).empty}


def _scores(runs: Evaluated) -> Lines:
    """By validator, then the accuracy of every epoch, as metrics.json has them."""
    found: Lines = {}
    accuracy: dict[str, pd.DataFrame] = {}
    for method in _adapted(runs):
        of = [run for task in runs.experiment.tasks for run in runs.metrics.get((task, method), ())]
        for name in dict.fromkeys(name for run in of for name in run.get("validators", ())):
            if name != "last" and not (values := _frame([run["validators"][name]["scores"] for run in of])).empty:
                found.setdefault(name, {})[method] = values
        by_epoch = [run["accuracy_by_epoch"][runs.dataset.headline] for run in of if "accuracy_by_epoch" in run]
        if by_epoch:
            accuracy[method] = _frame(by_epoch)
    return found | ({AFTER: accuracy} if found and accuracy else {})


def _frame(values: list[list[float | None]]) -> pd.DataFrame:
    """Values of some runs, epoch by epoch, (S, E); epochs without any are left out."""
    frame = pd.DataFrame(values, dtype=float)
    return frame.rename(columns=lambda column: column + 1).dropna(axis=1, how="all")
