"""What a table would take, before anything starts: runs, downloads, disk, and time on the present device."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dacsm.config import PARAMS_FILE, SOURCE_ONLY
from dacsm.config.project import Project
from dacsm.ledger.runs import Run, runs_of
from dacsm.ledger.speed import Speed, adapt_speed, parameters_of, predict_speed, pretrain_speed
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.wording import count_of, in_bytes, in_hours

BYTES_A_PIXEL = {"jpeg": 0.29, "png": 0.45}  # of photographs at 256 pixels and of digits, for each channel of png
BYTES_A_SAMPLE = 1300  # headers and padding of a tar file
MODEL_STAGES = ("pretrain", "adapt", "evaluate")


def describe_plan(project: Project, table: str, compute: Compute) -> Iterator[str]:
    """The lines that `dacsm plan` prints; the last ones come after a measurement of some seconds.

    Raises InputError where there is no such experiment, or Snakemake refuses.
    """
    experiment, dataset = project.params.experiment(table), project.dataset
    runs = runs_of(project, experiment)
    model = project.params.recipe("pretrain", dataset.name).model
    sizes = {"task": experiment.tasks, "method": experiment.methods, "seed": experiment.seeds}
    counts = ", ".join(count_of(len(things), name) for name, things in sizes.items())
    yield f"{experiment.title(dataset)}: {counts}, {model.name}"
    unmade = pending(project, table)
    todo = [run for run in runs if run.outputs[0] in unmade]
    yield "runs        to do   made"
    every, left = (Counter(run.stage for run in some) for some in (runs, todo))
    for stage, count in every.items():
        yield f"  {stage:9} {left[stage]:5}  {count - left[stage]:5}"
    yield from _downloads(project, runs, todo)
    yield from _disk(project, runs)
    if any(run.stage in MODEL_STAGES for run in todo):
        yield from _hours(project, todo, compute)
    else:
        yield "time       none: every model is made and evaluated"


def pending(project: Project, table: str) -> set[Path]:
    """The files that Snakemake would make or make again for a table and its page.

    Raises InputError with Snakemake's last words, where it refuses.
    """
    settings = [] if project.file == PARAMS_FILE else ["--configfile", str(project.file)]
    command = [sys.executable, "-m", "snakemake", "--summary", *settings, "--", str(project.paths.report(table))]
    result = subprocess.run(command, capture_output=True, text=True)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    if affected := result.stderr.partition("affected files:")[2].split():
        raise InputError(
            f"{affected[0]} is not here, and its runs are made from it; put it there, or change params.yaml."
        )
    if result.returncode or not rows:
        words = (result.stderr or result.stdout).strip().splitlines() or ["it said nothing"]
        raise InputError(f"snakemake cannot tell what is made: {words[-1].removeprefix('dacsm: ')}")
    return {Path(row[0]) for row in rows if row[-1] != "no update"}


def _downloads(project: Project, runs: list[Run], todo: list[Run]) -> Iterator[str]:
    archives = project.dataset.archives
    fetched = {run.arguments["archive"] for run in runs if run.stage == "download" and run not in todo}
    wanted = [archives[run.arguments["archive"]] for run in runs if run.stage == "download" and run in todo]
    remote = [archive for archive in wanted if archive.urls or archive.page]
    if not remote:
        yield "downloads  none" + (", all is here" if fetched and not wanted else "")
        return
    known = [archive for archive in remote if archive.bytes is not None]
    yield f"downloads  {in_bytes(sum(archive.bytes or 0 for archive in known))} of known size in {len(known)} archives"
    for archive in known:
        yield f"  {archive.file}: {in_bytes(archive.bytes or 0)}"
    if unknown := [archive.file for archive in remote if archive.bytes is None]:
        yield f"  of unknown size: {', '.join(unknown)}"
    for archive in remote:
        if not archive.urls:
            yield f"  {archive.file} is to be fetched by hand, from {archive.page}"


def disk_of(project: Project, runs: list[Run]) -> dict[str, float]:
    """The bytes of the files that runs make, by what they are; of archives those of known size."""
    dataset, params = project.dataset, project.params
    stored, recipe = params.recipe("shard", dataset.name), params.recipe("adapt", dataset.name)
    channels = dataset.channels if stored.encoding == "png" else 1
    image = stored.image_size**2 * BYTES_A_PIXEL[stored.encoding] * channels + BYTES_A_SAMPLE
    weights = 4 * parameters_of(params.recipe("pretrain", dataset.name).model, dataset)
    sizes = dict.fromkeys(("raw archives", "shards", "checkpoints", "predictions"), 0.0)
    for run in runs:
        _source, target = _domains(run, project)
        images = dataset.domains[target].stored if target else 0
        if run.stage == "download":
            sizes["raw archives"] += dataset.archives[run.arguments["archive"]].bytes or 0
        elif run.stage == "shard":
            sizes["shards"] += images * image
        elif run.stage == "pretrain":
            sizes["checkpoints"] += weights
        elif run.stage == "adapt":
            sizes["checkpoints"] += 2 * weights
            sizes["predictions"] += recipe.epochs * images * 2  # two class indices an epoch, compressed
        elif run.stage == "evaluate":
            sizes["predictions"] += images * 20
    return sizes


def _disk(project: Project, runs: list[Run]) -> Iterator[str]:
    """What the files take when all is made, and what is free."""
    sizes = disk_of(project, runs)
    fetched = {run.arguments["archive"] for run in runs if run.stage == "download"}
    unknown = any(project.dataset.archives[name].bytes is None for name in fetched)
    root = project.paths.root.absolute()
    free = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free
    less = " besides archives of unknown size" if unknown and sizes["raw archives"] else ""
    parts = ", ".join(f"{what} {in_bytes(size)}" for what, size in sizes.items() if size)
    yield f"disk       about {in_bytes(sum(sizes.values()))}{less} when all is made: {parts}; {in_bytes(free)} are free"
    if sum(sizes.values()) > free:
        yield "  that is more than is free: make room, or name another `root:`"


@dataclass(frozen=True)
class Time:
    """What runs take on a device, in hours, and the speeds that were measured; by stage and, of adaptations, method."""

    hours: dict[tuple[str, str], list[float]]
    speeds: dict[tuple[str, str], Speed]

    @property
    def total(self) -> float:
        return sum(map(sum, self.hours.values()))


def time_of(project: Project, todo: list[Run], compute: Compute, rough: bool = False) -> Time:
    """The hours of the runs that train or evaluate; roughly, they are those of an idle machine, and soon known."""
    params, dataset = project.params, project.dataset
    predict = predict_speed(params, dataset, compute, rough)
    methods = dict.fromkeys(run.arguments["method"] for run in todo if run.stage == "adapt")
    train: dict[str, Speed] = {method: adapt_speed(params, dataset, method, compute, rough) for method in methods}
    if any(run.stage == "pretrain" for run in todo):
        train[SOURCE_ONLY] = pretrain_speed(params, dataset, compute, rough)
    hours: dict[tuple[str, str], list[float]] = {}
    for run in todo:
        if run.stage in MODEL_STAGES:
            name = run.stage, run.arguments["method"] if run.stage == "adapt" else ""
            hours.setdefault(name, []).append(_seconds(project, run, predict, train) / 3600)
    speeds = {name: predict if name[0] == "evaluate" else train[name[1] or SOURCE_ONLY] for name in hours}
    return Time(hours, speeds)


def _hours(project: Project, todo: list[Run], compute: Compute) -> Iterator[str]:
    """What the runs to do take on this device, one after the other."""
    time = time_of(project, todo, compute)
    yield f"time       at most {in_hours(time.total)} of computing on {device_name(compute)}, one run after the other:"
    for (stage, method), each in time.hours.items():
        speed = time.speeds[stage, method]
        unit = "pairs" if stage == "adapt" else "images"
        yield (
            f"  {f'{stage} {method}'.strip()}: {count_of(len(each), 'run')}, {in_hours(sum(each))}, "
            f"at {1 / speed.seconds:.3g} {unit}/s (measured at {speed.batch} a step)"
        )
    yield "  where reading images is as fast; pairs are counted as if the filter left all, so that adapting takes less"


def _seconds(project: Project, run: Run, predict: Speed, train: Mapping[str, Speed]) -> float:
    """The training steps and the passes over whole domains of one run."""
    params, dataset = project.params, project.dataset
    source_domain, target_domain = _domains(run, project)
    if run.stage == "evaluate":
        return dataset.domains[dataset.evaluation_domain(target_domain)].stored * predict.seconds
    pretrain, source = params.recipe("pretrain", dataset.name), dataset.domains[source_domain].stored
    kept = source * (1 - pretrain.held_out)
    if run.stage == "pretrain":
        return pretrain.epochs * (kept * train[SOURCE_ONLY].seconds + (source - kept) * predict.seconds)
    method = run.arguments["method"]
    recipe, target = params.adaptation(dataset.name, method), dataset.domains[target_domain].stored
    pairs = kept + target if recipe.max_pairs is None else min(recipe.max_pairs, kept + target)
    refreshes = -(-recipe.epochs // recipe.refresh_epochs)
    passes = recipe.epochs * (target + source - kept) + target
    of_source, of_target = params.method(method).refresh_passes
    passes += refreshes * (of_source * kept + of_target * target)
    return recipe.epochs * pairs * train[method].seconds + passes * predict.seconds


def _domains(run: Run, project: Project) -> tuple[str, str]:
    """The source and the target of a run, or the domain that it shards; empty where it has none."""
    if "task" in run.arguments:
        return project.dataset.split_task(run.arguments["task"])
    return run.arguments.get("source", ""), run.arguments.get("domain", "")


def device_name(compute: Compute) -> str:
    if compute.device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(compute.device)
    return "this CPU"
