"""Trials of settings on a development task: every run of an experiment, side by side, and a line of CSV for each.

    python -m benchmarks.trials pacs_160_development --out trials.csv --processes 2
    python -m benchmarks.trials digits_baselines_development --out rates.csv --rates 0.3 1 3

The runs are made as the pipeline makes them, but by one program that forks, which saves each run its start, and
without run records: what is learned here is a setting, and never a number for a table. So it takes development
tasks alone. Shards are to be there (`dacsm shard`); source models are made where they are missing. A run whose line
is in the file already is not made again. With `--rates`, each method is tried at each of these factors on the
recipe's learning rate, under a name such as `shot_at_0_3`.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

from benchmarks.arithmetic import hold_as
from dacsm.adaptation.scores import score_epochs
from dacsm.config import SOURCE_ONLY
from dacsm.config.experiments import Experiment
from dacsm.config.project import Project, open_project
from dacsm.data.shards import ShardedImages, read_index, read_labels
from dacsm.evaluation.metrics import measure, measure_epochs, read_epochs
from dacsm.evaluation.predictions import predict
from dacsm.models.classifier import load_checkpoint
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain

HEADER = ("method", "task", "seed", "selected", "worst", "last", "oracle", "pseudo_labels", "epoch", "seconds", "error")
Run = tuple[str, str, int]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials", description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no run starts later than this")
    parser.add_argument("--rates", type=float, nargs="+", metavar="FACTOR", help="factors on the learning rate")
    options = parser.parse_args()
    try:
        project = open_project(options.params, experiment=options.experiment)
        experiment = project.params.experiment(options.experiment)
        development = project.dataset.development_tasks
        if not set(experiment.tasks) <= set(development):
            raise InputError(
                f"experiments.{options.experiment} has tasks {', '.join(experiment.tasks)}, but settings are tried on "
                f"the development tasks of {project.dataset.name} alone: {', '.join(development) or 'it has none'}."
            )
    except InputError as error:
        sys.exit(f"trials: {error}")
    hold_as(project)
    if options.rates:
        project, experiment = _at_rates(project, experiment, options.rates)
    until = time.monotonic() + 60 * options.minutes
    done = _done(options.out)
    runs = [(m, t, s) for s in experiment.seeds for t in experiment.tasks for m in experiment.methods]
    waiting = [run for run in runs if run not in done]
    with _pool(options.processes) as pool:
        sources = dict.fromkeys((project.dataset.split_task(task)[0], seed) for _, task, seed in waiting)
        for made in [pool.submit(_pretrain, project, *source, options.device) for source in sources]:
            made.result()
    with _pool(options.processes) as pool, options.out.open("a", newline="") as file:
        lines = csv.writer(file)
        if not done:
            lines.writerow(HEADER)
        for made in as_completed([pool.submit(_trial, project, run, options.device, until) for run in waiting]):
            if made.result() is not None:
                lines.writerow(made.result())
                file.flush()
    summarise(options.out)
    return 0


def _at_rates(project: Project, experiment: Experiment, rates: Sequence[float]) -> tuple[Project, Experiment]:
    """The project and the experiment with each adapted method at each factor on the learning rate."""
    adapt, methods = project.params.adapt, {}
    for method, rate in product((name for name in experiment.methods if name != SOURCE_ONLY), rates):
        settings = adapt.methods[method]
        changes = settings.recipe.model_copy(update={"learning_rate": rate})
        methods[f"{method}_at_{rate:g}".replace(".", "_")] = settings.model_copy(update={"recipe": changes})
    adapt = adapt.model_copy(update={"methods": {**adapt.methods, **methods}})
    params = project.params.model_copy(update={"adapt": adapt})
    return replace(project, params=params), experiment.model_copy(update={"methods": tuple(methods)})


def _pool(processes: int) -> ProcessPoolExecutor:
    """Processes of one task each, forked from this one, which has not touched the GPU."""
    return ProcessPoolExecutor(processes, mp_context=get_context("fork"))


def _done(path: Path) -> set[Run]:
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {(row["method"], row["task"], int(row["seed"])) for row in csv.DictReader(file)}


def _pretrain(project: Project, source: str, seed: int, device: str) -> None:
    folder = project.paths.pretrained(project.dataset.name, source, seed)
    if not (folder / "model.safetensors").exists():
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        pretrain(project, source, seed, choose_compute(device, workers=0))


def _trial(project: Project, run: Run, device: str, until: float) -> list[object] | None:
    """Make a run and measure it; nothing where it is too late to start."""
    if time.monotonic() > until:
        return None
    started = time.monotonic()
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        measured = _measured(project, run, device)
        of_run = [measured.get(key) for key in ("selected", "worst", "last", "oracle", "pseudo_labels", "epoch")]
        return [*run, *of_run, round(time.monotonic() - started, 1), ""]
    except Exception as error:  # a trial that fails is a line that says so
        return [*run, *[""] * 6, round(time.monotonic() - started, 1), f"{type(error).__name__}: {error}"[:300]]


def _measured(project: Project, run: Run, device: str) -> dict[str, float]:
    method, task, seed = run
    dataset, compute = project.dataset, choose_compute(device, workers=0)
    source, target = dataset.split_task(task)
    shards = project.paths.shards(dataset.name, target)
    labels = read_labels(shards)
    if method == SOURCE_ONLY:
        path = project.paths.pretrained(dataset.name, source, seed) / "model.safetensors"
        predicted = predict(load_checkpoint(path, compute.device), ShardedImages(shards), compute).predicted
        found = {"epoch": 0, **measure(labels, predicted, dataset.classes)}
        results = {"selected": found, "last": found}
    else:
        adapt(project, method, task, seed, compute)
        path = project.paths.adapted(dataset.name, method, task, seed) / "epochs.npz"
        epochs = read_epochs(path, "benchmarks.trials", read_index(shards).images, len(dataset.classes))
        validator = project.params.adaptation(dataset.name, method).validator
        results = measure_epochs(labels, epochs, score_epochs(epochs, {validator}), validator, dataset)
        for checkpoint in path.parent.glob("*.safetensors"):
            checkpoint.unlink()
    selected = results["selected"]
    return {
        "selected": selected["mean_per_class"],
        "worst": min(value for value in selected["per_class"].values() if value is not None),
        "last": results["last"]["mean_per_class"],
        "oracle": results.get("oracle", selected)["mean_per_class"],
        "pseudo_labels": (results.get("pseudo_label_accuracy") or [None])[-1],
        "epoch": selected["epoch"],
    }


def summarise(path: Path) -> None:
    """Print each method's mean on each task, and over all of them."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["selected"]]
    tasks = sorted({row["task"] for row in rows})
    table = []
    for method in dict.fromkeys(row["method"] for row in rows):
        of_task = [[float(r["selected"]) for r in rows if (r["method"], r["task"]) == (method, task)] for task in tasks]
        means = [mean(values) for values in of_task if values]
        table.append((mean(means), method, [f"{mean(v):.1f} ({len(v)})" if v else "-" for v in of_task]))
    for overall, method, cells in sorted(table, reverse=True):
        print(f"{overall:6.2f}  {method:<28} {'  '.join(cells)}")


if __name__ == "__main__":
    sys.exit(main())
