"""What a table would take, before anything starts: runs, downloads, disk, and time on the present device."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, AdaptRecipe, Experiment, Params, Pretrain
from dacsm.config.paths import Paths
from dacsm.ledger.runs import Run, runs_of
from dacsm.ledger.speed import Speed, adapt_speed, parameters_of, predict_speed, pretrain_speed
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError

BYTES_A_PIXEL = {"jpeg": 0.29, "png": 0.45}  # of photographs at 256 pixels and of digits, for each channel of png
BYTES_A_SAMPLE = 1300  # headers and padding of a tar file


@dataclass(frozen=True)
class Job:
    """One run of a stage, and the file that stands for it."""

    stage: str
    file: Path
    method: str = ""
    source: str = ""
    target: str = ""


def jobs_of(params: Params, dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> list[Job]:
    """Every run behind an experiment's table, in the order of the pipeline."""
    return [_job(run, dataset) for run in runs_of(params, dataset, experiment, paths)]


def _job(run: Run, dataset: DatasetSpec) -> Job:
    arguments = run.arguments
    source, target = arguments.get("source", ""), arguments.get("domain", "")
    if "task" in arguments:
        source, target = dataset.split_task(arguments["task"])
    return Job(run.stage, run.outputs[0], arguments.get("method", ""), source, target)


def pending(experiment: Experiment, paths: Paths, file: Path) -> set[Path]:
    """The files that Snakemake would make or make again for the table.

    Raises:
        InputError: with Snakemake's last words, where it refuses.
    """
    settings = [] if file == Path("params.yaml") else ["--configfile", str(file)]
    command = [sys.executable, "-m", "snakemake", "--summary", *settings, "--", str(paths.table(experiment.name))]
    result = subprocess.run(command, capture_output=True, text=True)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    if result.returncode or not rows:
        words = (result.stderr or result.stdout).strip().splitlines() or ["it said nothing"]
        raise InputError(f"snakemake cannot tell what is made: {words[-1].removeprefix('dacsm: ')}")
    return {Path(row[0]) for row in rows if row[-1] != "no update"}


def describe_plan(
    params: Params, dataset: DatasetSpec, experiment: Experiment, paths: Paths, compute: Compute, file: Path
) -> Iterator[str]:
    """The lines that `dacsm plan` prints; the last ones come after a measurement of some seconds.

    Raises:
        InputError: where Snakemake refuses.
    """
    jobs = jobs_of(params, dataset, experiment, paths)
    model = params.recipe("pretrain", dataset.name).model
    yield f"{experiment.title(dataset)}: {_count(experiment.tasks, 'task')}, {_count(experiment.methods, 'method')}, " \
          f"{_count(experiment.seeds, 'seed')}, {model.name}"  # fmt: skip
    unmade = pending(experiment, paths, file)
    todo = [job for job in jobs if job.file in unmade]
    yield "runs       to do   made"
    for stage in dict.fromkeys(job.stage for job in jobs):
        count, left = (sum(job.stage == stage for job in some) for some in (jobs, todo))
        yield f"  {stage:8} {left:5}  {count - left:5}"
    yield from _downloads(dataset, jobs, todo)
    yield from _disk(params, dataset, jobs, paths)
    if any(job.stage in ("pretrain", "adapt", "evaluate") for job in todo):
        yield from _hours(params, dataset, todo, compute)
    else:
        yield "time       none: every model is made and evaluated"


def _downloads(dataset: DatasetSpec, jobs: list[Job], todo: list[Job]) -> Iterator[str]:
    fetched = {job.file.stem for job in jobs if job.stage == "download" and job not in todo}
    wanted = [name for job in jobs if job.stage == "download" and (name := job.file.stem) not in fetched]
    remote = [dataset.archives[name] for name in wanted if dataset.archives[name].urls or dataset.archives[name].page]
    if not remote:
        yield "downloads  none" + (", all is here" if fetched and not wanted else "")
        return
    known = sum(archive.bytes or 0 for archive in remote)
    unknown = [archive.file for archive in remote if archive.bytes is None]
    yield f"downloads  {_bytes(known)} of known size in {len(remote) - len(unknown)} archives"
    for archive in remote:
        if archive.bytes is not None:
            yield f"  {archive.file}: {_bytes(archive.bytes)}"
    if unknown:
        yield f"  of unknown size: {', '.join(unknown)}"
    by_hand = [archive for archive in remote if not archive.urls]
    for archive in by_hand:
        yield f"  {archive.file} is to be fetched by hand, from {archive.page}"


def _disk(params: Params, dataset: DatasetSpec, jobs: list[Job], paths: Paths) -> Iterator[str]:
    """What the files take when all is made, and what is free."""
    stored = params.recipe("shard", dataset.name)
    channels = dataset.channels if stored.encoding == "png" else 1
    image = stored.image_size**2 * BYTES_A_PIXEL[stored.encoding] * channels + BYTES_A_SAMPLE
    recipe: AdaptRecipe = params.recipe("adapt", dataset.name)
    weights = 4 * parameters_of(params.recipe("pretrain", dataset.name).model, dataset)
    sizes = dict.fromkeys(("raw archives", "shards", "checkpoints", "predictions"), 0.0)
    for job in jobs:
        images = dataset.domains[job.target].stored if job.target else 0
        if job.stage == "download":
            sizes["raw archives"] += dataset.archives[job.file.stem].bytes or 0
        elif job.stage == "shard":
            sizes["shards"] += images * image
        elif job.stage == "pretrain":
            sizes["checkpoints"] += weights
        elif job.stage == "adapt":
            sizes["checkpoints"] += 2 * weights
            sizes["predictions"] += recipe.epochs * images * 2  # two class numbers an epoch, compressed
        elif job.stage == "evaluate":
            sizes["predictions"] += images * 20
    place = next(folder for folder in (paths.root.absolute(), *paths.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    unknown = any(dataset.archives[job.file.stem].bytes is None for job in jobs if job.stage == "download")
    less = " besides archives of unknown size" if unknown and sizes["raw archives"] else ""
    parts = ", ".join(f"{what} {_bytes(size)}" for what, size in sizes.items() if size)
    yield f"disk       about {_bytes(sum(sizes.values()))}{less} when all is made: {parts}; {_bytes(free)} are free"
    if sum(sizes.values()) > free:
        yield "  that is more than is free: make room, or name another `root:`"


def _hours(params: Params, dataset: DatasetSpec, todo: list[Job], compute: Compute) -> Iterator[str]:
    """What the runs to do take on this device, one after the other."""
    methods = list(dict.fromkeys(job.method for job in todo if job.stage == "adapt"))
    predict = predict_speed(params, dataset, compute)
    train: dict[str, Speed] = {method: adapt_speed(params, dataset, method, compute) for method in methods}
    if any(job.stage == "pretrain" for job in todo):
        train[SOURCE_ONLY] = pretrain_speed(params, dataset, compute)
    hours: dict[tuple[str, str], list[float]] = {}
    for job in todo:
        seconds = _seconds(params, dataset, job, predict, train)
        if seconds:
            hours.setdefault((job.stage, job.method if job.stage == "adapt" else ""), []).append(seconds / 3600)
    total = sum(map(sum, hours.values()))
    yield f"time       at most {_hour(total)} of computing on {_device(compute)}, one run after the other:"
    for (stage, method), each in hours.items():
        speed = predict if stage == "evaluate" else train[method or SOURCE_ONLY]
        unit = "pairs" if stage == "adapt" else "images"
        name = f"{stage} {method}".strip()
        yield (
            f"  {name}: {_count(each, 'run')}, {_hour(sum(each))}, at {1 / speed.seconds:.3g} {unit}/s "
            f"(measured at {speed.batch} a step)"
        )
    yield "  where reading images is as fast; pairs are counted as if the filter left all, so that adapting takes less"


def _seconds(params: Params, dataset: DatasetSpec, job: Job, predict: Speed, train: Mapping[str, Speed]) -> float:
    """The training steps and the passes over whole domains of one run."""
    pretrain: Pretrain = params.recipe("pretrain", dataset.name)
    source = dataset.domains[job.source].stored if job.source else 0
    kept = source * (1 - pretrain.held_out)
    if job.stage == "pretrain":
        return pretrain.epochs * (kept * train[SOURCE_ONLY].seconds + (source - kept) * predict.seconds)
    if job.stage == "evaluate":
        return dataset.domains[dataset.evaluation_domain(job.target)].stored * predict.seconds
    if job.stage != "adapt":
        return 0
    recipe = params.adaptation(dataset.name, job.method)
    target = dataset.domains[job.target].stored
    pairs = kept + target if recipe.max_pairs is None else min(recipe.max_pairs, kept + target)
    refreshes = -(-recipe.epochs // recipe.refresh_epochs)
    more_scales = len(params.method(job.method).matching.scales)
    passes = recipe.epochs * (target + source - kept) + refreshes * (kept + more_scales * target) + target
    return recipe.epochs * pairs * train[job.method].seconds + passes * predict.seconds


def _device(compute: Compute) -> str:
    if compute.device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(compute.device)
    return "this CPU"


def _count(things: object, name: str) -> str:
    number = len(things)
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _hour(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"
