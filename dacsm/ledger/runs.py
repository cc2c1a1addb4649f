"""The runs of an experiment: for each, its record, and the files that it reads and writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dacsm.config.datasets import CATALOG, DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Experiment, Params
from dacsm.config.paths import Paths
from dacsm.report.published import published_file
from dacsm.runtime.errors import InputError

# What each stage leaves, as DVC's stages and Snakemake's targets call it.
PHASES = {
    "download": "downloaded",
    "shard": "sharded",
    "pretrain": "pretrained",
    "adapt": "adapted",
    "evaluate": "evaluated",
    "table": "tabled",
    "rescale": "rescaled",
    "scales": "scaled",
    "explain": "explained",
}


@dataclass(frozen=True)
class Run:
    """One run of a stage. The first output stands for it; a folder among the outputs stands for all files in it."""

    stage: str
    arguments: Mapping[
        str, Any
    ]  # dataset, and those of its command: archive, domain, source, method, task, experiment …
    place: Path  # the file or folder that people know it by
    record: Path
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]


def run_of(stage: str, params: Params, dataset: DatasetSpec, paths: Paths, **arguments: Any) -> Run:
    """The run of a stage on a dataset; `arguments` are the command's own, as settings_of takes them.

    Raises:
        InputError: where the dataset has no such archive, domain or task, or params.yaml no such experiment.
    """
    place, inputs, outputs = FILES[stage](params, dataset, paths, **arguments)
    if "seed" in arguments:
        record = paths.record(place)
    elif "experiment" in arguments:
        record = paths.experiment_record(arguments["experiment"], PHASES[stage])
    else:
        record = paths.phase(dataset.name, "records") / PHASES[stage] / f"{place.stem}.json"
    return Run(stage, {"dataset": dataset.name, **arguments}, place, record, tuple(inputs), tuple(outputs))


def runs_of(params: Params, dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> list[Run]:
    """Every run that an experiment on a dataset needs, in the order of the pipeline."""
    domains = dataset.domains_of(experiment.tasks)
    archives = dict.fromkeys(archive for domain in domains for archive in dataset.domains[domain].archives)
    sources = dict.fromkeys(dataset.split_task(task)[0] for task in experiment.tasks)
    chosen = list(product(experiment.methods, experiment.tasks, experiment.seeds))
    evaluated = [{"method": method, "task": task, "seed": seed} for method, task, seed in chosen]
    arguments: dict[str, list[dict[str, Any]]] = {
        "download": [{"archive": archive} for archive in archives],
        "shard": [{"domain": domain} for domain in domains],
        "pretrain": [{"source": source, "seed": seed} for source, seed in product(sources, experiment.seeds)],
        "adapt": [run for run in evaluated if run["method"] != SOURCE_ONLY],
        "evaluate": evaluated,
        "table": [{"experiment": experiment.name}],
    }
    return [run_of(stage, params, dataset, paths, **run) for stage, runs in arguments.items() for run in runs]


def asides_of(params: Params, dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> list[Run]:
    """What can be made besides, of the experiment's models: all rescaled, the first seed of each method explained."""
    found = []
    for method, task in product(experiment.methods, experiment.tasks):
        runs = [{"method": method, "task": task, "seed": seed} for seed in experiment.seeds]
        found += [run_of("rescale", params, dataset, paths, **run) for run in runs]
        if method != SOURCE_ONLY:
            found.append(run_of("explain", params, dataset, paths, **runs[0]))
    return [*found, run_of("scales", params, dataset, paths, experiment=experiment.name)]


Files = tuple[Path, list[Path], list[Path]]  # a run's place, inputs and outputs


def _download(_params: Params, dataset: DatasetSpec, paths: Paths, archive: str) -> Files:
    if archive not in dataset.archives:
        raise InputError(f"{dataset.name} has no archive {archive!r}; it has {', '.join(dataset.archives)}.")
    receipt = paths.receipt(dataset.name, archive)
    return receipt, [], [receipt]


def _shard(_params: Params, dataset: DatasetSpec, paths: Paths, domain: str) -> Files:
    folder = paths.shards(dataset.name, domain)
    receipts = [paths.receipt(dataset.name, archive) for archive in dataset.require_domain(domain).archives]
    return folder, receipts, [folder / name for name in ("index.json", "offsets.npy", "labels.csv", "counts.csv")]


def _pretrain(params: Params, dataset: DatasetSpec, paths: Paths, source: str, seed: int) -> Files:
    shards = paths.shards(dataset.name, dataset.require_domain(source) and source)
    weights = params.recipe("pretrain", dataset.name).model.weights
    own = [] if weights == "none" or weights.startswith("timm:") else [Path(weights)]
    run = paths.pretrained(dataset.name, source, seed)
    inputs = [shards / "index.json", shards / "labels.csv", *own]
    return run, inputs, [run / "model.safetensors", run / "log.csv"]


def _adapt(_params: Params, dataset: DatasetSpec, paths: Paths, method: str, task: str, seed: int) -> Files:
    source, target = (paths.shards(dataset.name, domain) for domain in dataset.split_task(task))
    model = paths.pretrained(dataset.name, source.name, seed) / "model.safetensors"
    run = paths.adapted(dataset.name, method, task, seed)
    inputs = [source / "index.json", source / "labels.csv", target / "index.json", model]
    checkpoints = ("model.safetensors", "last.safetensors")
    return run, inputs, [run / name for name in (*checkpoints, "epochs.npz", "log.csv")]


def _evaluate(_params: Params, dataset: DatasetSpec, paths: Paths, method: str, task: str, seed: int) -> Files:
    source, target = dataset.split_task(task)
    measured_on = dataset.evaluation_domain(target)
    domains = dict.fromkeys((target, measured_on))
    indices = [paths.shards(dataset.name, domain) / "index.json" for domain in domains]
    names = ["model.safetensors"]
    if method != SOURCE_ONLY:
        names += ["epochs.npz", *(["last.safetensors"] if measured_on != target else [])]
    models = [paths.trained(dataset.name, method, source, target, seed) / name for name in names]
    run = paths.evaluated(dataset.name, method, task, seed)
    inputs = [*models, *indices, paths.shards(dataset.name, measured_on) / "labels.csv"]
    return run, inputs, [run / "metrics.json", run / "predictions.csv"]


def _table(params: Params, dataset: DatasetSpec, paths: Paths, experiment: str) -> Files:
    shown = params.experiment(experiment)
    chosen = product(shown.methods, shown.tasks, shown.seeds)
    runs = [paths.evaluated(dataset.name, *run) for run in chosen]
    drawn = runs if dataset.table_form == "classes" else []  # confusions are drawn from these
    inputs = [CATALOG / f"{dataset.name}.yaml", *(run / "metrics.json" for run in runs)]
    inputs += [run / "predictions.csv" for run in drawn]
    published = published_file(dataset.name)
    tables = [paths.table(experiment, suffix) for suffix in ("csv", "md", "tex")]
    beside = [paths.differences(experiment), paths.validators(experiment), paths.metrics(experiment)]
    outputs = [*tables, *beside, paths.plots(experiment)]
    return tables[0], [*inputs, *([published] if published else [])], outputs


def _rescale(_params: Params, dataset: DatasetSpec, paths: Paths, method: str, task: str, seed: int) -> Files:
    source, target = dataset.split_task(task)
    shards = paths.shards(dataset.name, dataset.evaluation_domain(target))
    model = paths.trained(dataset.name, method, source, target, seed) / "model.safetensors"
    run = paths.rescaled(dataset.name, method, task, seed)
    return run, [model, shards / "index.json", shards / "labels.csv"], [run / "metrics.json"]


def _scales(params: Params, dataset: DatasetSpec, paths: Paths, experiment: str) -> Files:
    settings = params.experiment(experiment)
    chosen = product(settings.methods, settings.tasks, settings.seeds)
    inputs = [paths.rescaled(dataset.name, *run) / "metrics.json" for run in chosen]
    outputs = [paths.scales(experiment, suffix) for suffix in ("csv", "md", "png")]
    return outputs[0], inputs, outputs


def _explain(_params: Params, dataset: DatasetSpec, paths: Paths, method: str, task: str, seed: int) -> Files:
    source, target = (paths.shards(dataset.name, domain) for domain in dataset.split_task(task))
    adapted = paths.adapted(dataset.name, method, task, seed)
    models = [adapted / name for name in ("last.safetensors", "log.csv")]
    run = paths.explained(dataset.name, method, task, seed)
    return run, [*models, source / "index.json", source / "labels.csv", target / "index.json"], [run]


FILES = {
    "download": _download,
    "shard": _shard,
    "pretrain": _pretrain,
    "adapt": _adapt,
    "evaluate": _evaluate,
    "table": _table,
    "rescale": _rescale,
    "scales": _scales,
    "explain": _explain,
}
