"""What a table would take, before anything starts: runs, downloads, disk, and time on the present device."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dacsm.catalog import DatasetSpec
from dacsm.compute import Compute
from dacsm.errors import InputError
from dacsm.layout import Layout
from dacsm.params import SOURCE_ONLY, AdaptRecipe, Experiment, Params, Pretrain
from dacsm.rehearsal import Speed, adapt_speed, parameters_of, predict_speed, pretrain_speed
from dacsm.runs import Run, runs_of

BYTES_A_PIXEL = {"jpeg": 0.29, "png": 0.45}  # of photographs at 256 pixels and of digits, for each channel of png
BYTES_A_SAMPLE = 1300  # headers and padding of a tar file


@dataclass(frozen=True)
class Job:
    """One run of a room, and the file that stands for it."""

    room: str
    file: Path
    method: str = ""
    source: str = ""
    target: str = ""


def jobs_of(params: Params, dataset: DatasetSpec, experiment: Experiment, layout: Layout) -> list[Job]:
    """Every run behind an experiment's table, in the order of the pipeline."""
    return [_job(run, dataset) for run in runs_of(params, dataset, experiment, layout)]


def _job(run: Run, dataset: DatasetSpec) -> Job:
    arguments = run.arguments
    source, target = arguments.get("source", ""), arguments.get("domain", "")
    if "task" in arguments:
        source, target = dataset.split_task(arguments["task"])
    return Job(run.room, run.outputs[0], arguments.get("method", ""), source, target)


def pending(experiment: Experiment, layout: Layout, file: Path) -> set[Path]:
    """The files that Snakemake would make or make again for the table.

    Raises:
        InputError: with Snakemake's last words, where it refuses.
    """
    settings = [] if file == Path("params.yaml") else ["--configfile", str(file)]
    command = [sys.executable, "-m", "snakemake", "--summary", *settings, "--", str(layout.table(experiment.name))]
    result = subprocess.run(command, capture_output=True, text=True)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    if result.returncode or not rows:
        words = (result.stderr or result.stdout).strip().splitlines() or ["it said nothing"]
        raise InputError(f"snakemake cannot tell what is made: {words[-1].removeprefix('dacsm: ')}")
    return {Path(row[0]) for row in rows if row[-1] != "no update"}


def describe_plan(
    params: Params, dataset: DatasetSpec, experiment: Experiment, layout: Layout, compute: Compute, file: Path
) -> Iterator[str]:
    """The lines that `dacsm plan` prints; the last ones come after a measurement of some seconds.

    Raises:
        InputError: where Snakemake refuses.
    """
    jobs = jobs_of(params, dataset, experiment, layout)
    model = params.recipe("pretrain", dataset.name).model
    yield f"{experiment.title(dataset)}: {_count(experiment.tasks, 'task')}, {_count(experiment.methods, 'method')}, " \
          f"{_count(experiment.seeds, 'seed')}, {model.name}"  # fmt: skip
    unmade = pending(experiment, layout, file)
    todo = [job for job in jobs if job.file in unmade]
    yield "runs       to do   made"
    for room in dict.fromkeys(job.room for job in jobs):
        count, left = (sum(job.room == room for job in some) for some in (jobs, todo))
        yield f"  {room:8} {left:5}  {count - left:5}"
    yield from _downloads(dataset, jobs, todo)
    yield from _disk(params, dataset, jobs, layout)
    if any(job.room in ("pretrain", "adapt", "evaluate") for job in todo):
        yield from _hours(params, dataset, todo, compute)
    else:
        yield "time       none: every model is made and evaluated"


def _downloads(dataset: DatasetSpec, jobs: list[Job], todo: list[Job]) -> Iterator[str]:
    fetched = {job.file.stem for job in jobs if job.room == "download" and job not in todo}
    wanted = [name for job in jobs if job.room == "download" and (name := job.file.stem) not in fetched]
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


def _disk(params: Params, dataset: DatasetSpec, jobs: list[Job], layout: Layout) -> Iterator[str]:
    """What the files take when all is made, and what is free."""
    stored = params.recipe("shard", dataset.name)
    channels = dataset.channels if stored.encoding == "png" else 1
    image = stored.image_size**2 * BYTES_A_PIXEL[stored.encoding] * channels + BYTES_A_SAMPLE
    recipe: AdaptRecipe = params.recipe("adapt", dataset.name)
    weights = 4 * parameters_of(params.recipe("pretrain", dataset.name).model, dataset)
    sizes = dict.fromkeys(("raw archives", "shards", "checkpoints", "predictions"), 0.0)
    for job in jobs:
        images = dataset.domains[job.target].stored if job.target else 0
        if job.room == "download":
            sizes["raw archives"] += dataset.archives[job.file.stem].bytes or 0
        elif job.room == "shard":
            sizes["shards"] += images * image
        elif job.room == "pretrain":
            sizes["checkpoints"] += weights
        elif job.room == "adapt":
            sizes["checkpoints"] += 2 * weights
            sizes["predictions"] += recipe.epochs * images * 2  # two class numbers an epoch, compressed
        elif job.room == "evaluate":
            sizes["predictions"] += images * 20
    place = next(folder for folder in (layout.root.absolute(), *layout.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    unknown = any(dataset.archives[job.file.stem].bytes is None for job in jobs if job.room == "download")
    less = " besides archives of unknown size" if unknown and sizes["raw archives"] else ""
    parts = ", ".join(f"{what} {_bytes(size)}" for what, size in sizes.items() if size)
    yield f"disk       about {_bytes(sum(sizes.values()))}{less} when all is made: {parts}; {_bytes(free)} are free"
    if sum(sizes.values()) > free:
        yield "  that is more than is free: make room, or name another `root:`"


def _hours(params: Params, dataset: DatasetSpec, todo: list[Job], compute: Compute) -> Iterator[str]:
    """What the runs to do take on this device, one after the other."""
    methods = list(dict.fromkeys(job.method for job in todo if job.room == "adapt"))
    predict = predict_speed(params, dataset, compute)
    train: dict[str, Speed] = {method: adapt_speed(params, dataset, method, compute) for method in methods}
    if any(job.room == "pretrain" for job in todo):
        train[SOURCE_ONLY] = pretrain_speed(params, dataset, compute)
    hours: dict[tuple[str, str], list[float]] = {}
    for job in todo:
        seconds = _seconds(params, dataset, job, predict, train)
        if seconds:
            hours.setdefault((job.room, job.method if job.room == "adapt" else ""), []).append(seconds / 3600)
    total = sum(map(sum, hours.values()))
    yield f"time       at most {_hour(total)} of computing on {_device(compute)}, one run after the other:"
    for (room, method), each in hours.items():
        speed = predict if room == "evaluate" else train[method or SOURCE_ONLY]
        unit = "pairs" if room == "adapt" else "images"
        name = f"{room} {method}".strip()
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
    if job.room == "pretrain":
        return pretrain.epochs * (kept * train[SOURCE_ONLY].seconds + (source - kept) * predict.seconds)
    if job.room == "evaluate":
        return dataset.domains[dataset.evaluation_domain(job.target)].stored * predict.seconds
    if job.room != "adapt":
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
