"""The pipeline, declared once: each stage's command, what a run reads and writes, and the settings that it takes.

Snakemake's rules, DVC's stages, the run records, the plan and the audit all read this declaration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dacsm.config import SOURCE_ONLY
from dacsm.config.paths import Paths
from dacsm.runtime.errors import InputError

if TYPE_CHECKING:  # the command line lists the stages, and its help should not wait for imports
    from dacsm.config.project import Project

Inputs = Callable[..., list[Path]]  # of a project and a run's arguments
NO_SCALES = "its accuracy is known at no scale; name a target with labels"
CHECKPOINT = "model.safetensors"  # of the epoch that was selected; it stands for a trained run


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline: a rule, a command `dacsm <name>` and a function of that name in dacsm/stages/.

    `settings` and `facts` are what a run takes from params.yaml and from its dataset's file, as dotted keys; {…} are
    the run's arguments, and {recipe} is `pretrain` for source_only, else `adapt.recipes`.
    """

    name: str
    phase: str  # what the stage has made, as DVC's and Snakemake's targets call it
    arguments: tuple[str, ...]  # of its command
    summary: str
    place: str  # the function of Paths that gives the file or folder that people know a run by
    inputs: Inputs
    reads: tuple[str, ...] = ()  # the stages whose outputs are its inputs
    files: tuple[str, ...] = ()  # that a run writes in its folder, or in results/; the first stands for it
    of_labels: tuple[str, ...] = ()  # the same, written where the targets of the run's experiment have labels
    folder: str = ""  # the function of Paths that gives the folder of which every file is the run's, if there is one
    settings: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()  # what its function is given besides: compute, resume, workers
    optional: bool = False  # only made when asked for
    minutes: int = 30  # at most, where it runs no model
    priority: int = 0  # for Snakemake: a run that others wait for comes first

    def place_of(self, paths: Paths, arguments: Mapping[str, Any]) -> Path:
        """The file or folder of a run; arguments may be Snakemake's wildcards."""
        return getattr(paths, self.place)(**arguments)

    def outputs_of(self, paths: Paths, arguments: Mapping[str, Any], labelled: bool = True) -> list[Path]:
        """The files that a run writes; arguments may be Snakemake's wildcards."""
        files = (*self.files, *(self.of_labels if labelled else ()))
        place = paths.results if "experiment" in arguments else self.place_of(paths, arguments)
        return [place / name.format(**arguments) for name in files] or [place]

    def folders_of(self, paths: Paths, arguments: Mapping[str, Any]) -> list[Path]:
        """The folders of which every file is the run's, though only some are known beforehand."""
        return [getattr(paths, self.folder)(**arguments)] if self.folder else []

    def record_of(self, paths: Paths, arguments: Mapping[str, Any]) -> Path:
        """The run record: results/<dataset or experiment>/records/<phase>/….json."""
        if "experiment" in arguments:
            return paths.records(arguments["experiment"]) / f"{self.phase}.json"
        place = self.place_of(paths, arguments)
        if "seed" in arguments:
            return paths.record(place)
        return paths.records(arguments["dataset"]) / self.phase / f"{place.stem}.json"


def recipe_behind(arguments: Mapping[str, Any]) -> Literal["pretrain", "adapt"]:
    """The recipe that trained a run's model, by the run's arguments: `pretrain`, or `adapt` where a method did."""
    return "pretrain" if arguments.get("method", SOURCE_ONLY) == SOURCE_ONLY else "adapt"


def _download(project: "Project", archive: str) -> list[Path]:
    if archive not in project.dataset.archives:
        known = ", ".join(project.dataset.archives)
        raise InputError(f"{project.dataset.name} has no archive {archive!r}; it has {known}; name one of these.")
    return []


def _shard(project: "Project", domain: str) -> list[Path]:
    dataset = project.dataset
    if project.params.recipe("shard", dataset.name).url is not None:  # the shards are there already
        return []
    return [project.paths.receipt(dataset.name, archive) for archive in dataset.require_domain(domain).archives]


def _pretrain(project: "Project", source: str, seed: Any) -> list[Path]:
    weights = project.params.recipe("pretrain", project.dataset.name).model.weights
    own = [] if weights == "none" or weights.startswith("timm:") else [Path(weights)]
    labelled = [name for name, facts in project.dataset.domains.items() if facts.labelled]
    project.dataset.require_labels(source, f"no model can be trained on it; name one of {', '.join(labelled)}")
    return [*_shards(project, source, labels=True), *own]


def _adapt(project: "Project", method: str, task: str, seed: Any) -> list[Path]:
    source, target = project.dataset.split_task(task)
    settings = project.params.method(method)
    project.params.recipe("adapt", project.dataset.name)
    of_source = _shards(project, source, labels=True) if settings.source_data else []
    model = project.paths.pretrained(project.dataset.name, source, seed) / CHECKPOINT
    return [*of_source, *_shards(project, target), model]


def _evaluate(project: "Project", method: str, task: str, seed: Any) -> list[Path]:
    target = project.dataset.split_task(task)[1]
    measured_on = project.dataset.evaluation_domain(target)
    names = [CHECKPOINT]
    if method != SOURCE_ONLY:
        project.params.method(method)
        names += ["epochs.npz", *(["last.safetensors"] if measured_on != target else [])]
    folder = project.paths.trained(project.dataset.name, method, task, seed)
    adapted_on = _shards(project, target) if measured_on != target else []
    return [*(folder / name for name in names), *adapted_on, *_shards(project, measured_on, labels=True)]


def _rescale(project: "Project", method: str, task: str, seed: Any) -> list[Path]:
    target = project.dataset.split_task(task)[1]
    project.dataset.require_labels(target, NO_SCALES)
    model = project.paths.trained(project.dataset.name, method, task, seed) / CHECKPOINT
    return [model, *_shards(project, project.dataset.evaluation_domain(target), labels=True)]


def _explain(project: "Project", method: str, task: str, seed: Any) -> list[Path]:
    source, target = project.dataset.split_task(task)
    folder = project.paths.adapted(project.dataset.name, method, task, seed)
    models = [folder / "last.safetensors", folder / "log.csv"]
    return [*models, *_shards(project, source, labels=True), *_shards(project, target)]


def _export(project: "Project", method: str, task: str, seed: Any) -> list[Path]:
    dataset = project.dataset
    source, target = dataset.split_task(task)
    model = project.paths.trained(dataset.name, method, task, seed) / CHECKPOINT
    metrics = project.paths.evaluated(dataset.name, method, task, seed) / "metrics.json"
    domains = dict.fromkeys((source, dataset.evaluation_domain(target)))
    return [model, metrics, *(file for domain in domains for file in _shards(project, domain, labels=True))]


def _table(project: "Project", experiment: str) -> list[Path]:
    from dacsm.config.datasets import CATALOG
    from dacsm.report.published import published_file

    runs = _of_experiment(project, "evaluated", experiment)
    inputs = [CATALOG / f"{project.dataset.name}.yaml", *(run / "metrics.json" for run in runs)]
    labelled = project.params.experiment(experiment).has_labels(project.dataset)
    if project.dataset.table_form == "classes" or not labelled:  # for confusions; for agreement
        inputs += [run / "predictions.csv" for run in runs]
    published = published_file(project.dataset.name)
    return [*inputs, *([published] if published else [])]


def _summarise(project: "Project", experiment: str) -> list[Path]:
    shown, dataset, paths = project.params.experiment(experiment), project.dataset, project.paths
    table = STAGES["table"].outputs_of(paths, {"experiment": experiment}, shown.has_labels(dataset))
    sources, targets = zip(*map(dataset.split_task, shown.tasks), strict=True)
    trained = [paths.pretrained(dataset.name, *run) for run in product(sources, shown.seeds)]
    adapted = [method for method in shown.methods if method != SOURCE_ONLY]
    trained += [paths.adapted(dataset.name, *run) for run in product(adapted, shown.tasks, shown.seeds)]
    first = product(shown.methods, shown.tasks, shown.seeds[:1])  # of which images and confusions are shown
    predictions = [paths.evaluated(dataset.name, *run) / "predictions.csv" for run in first]
    images = [file for target in targets for file in _shards(project, dataset.evaluation_domain(target))]
    logs = [folder / "log.csv" for folder in trained]
    return list(dict.fromkeys([*table, *_table(project, experiment), *logs, *predictions, *images]))


def _scales(project: "Project", experiment: str) -> list[Path]:
    for task in project.params.experiment(experiment).tasks:
        project.dataset.require_labels(project.dataset.split_task(task)[1], NO_SCALES)
    return [run / "metrics.json" for run in _of_experiment(project, "rescaled", experiment)]


def _of_experiment(project: "Project", phase: str, experiment: str) -> list[Path]:
    shown = project.params.experiment(experiment)
    runs = product(shown.methods, shown.tasks, shown.seeds)
    return [getattr(project.paths, phase)(project.dataset.name, *run) for run in runs]


def _shards(project: "Project", domain: str, labels: bool = False) -> list[Path]:
    folder = project.paths.shards(project.dataset.name, domain)
    return [folder / "index.json", *([folder / "labels.csv"] if labels else [])]


RUN = ("dataset", "method", "task", "seed")
EVALUATION = tuple(
    f"{{recipe}}.{{dataset}}.{key}" for key in ("epochs", "precision", "threads", "arithmetic", "validator")
)
ADAPTATION = ("adapt.recipes.{dataset}", "adapt.methods.{method}", "pretrain.{dataset}.held_out")

STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "download", "downloaded", ("dataset", "archive"), "fetch or make an archive of a dataset",
            place="receipt", inputs=_download,
            facts=("reader", "archives", "domains"), minutes=720,
        ),
        Stage(
            "shard", "sharded", ("dataset", "domain"), "write a domain's images as WebDataset shards",
            place="shards", inputs=_shard, reads=("download",),
            files=("index.json", "offsets.npy", "labels.csv", "counts.csv"),
            settings=("shard.{dataset}",), facts=("reader", "classes", "channels", "domains.{domain}"),
            takes=("workers",), minutes=720,
        ),
        Stage(
            "pretrain", "pretrained", ("dataset", "source", "seed"), "train a classifier on a labelled source domain",
            place="pretrained", inputs=_pretrain, reads=("shard",), files=(CHECKPOINT, "log.csv"),
            settings=("pretrain.{dataset}",), facts=("classes", "channels"), takes=("compute", "resume"), priority=20,
        ),
        Stage(
            "adapt", "adapted", RUN, "adapt a pretrained classifier to an unlabelled target",
            place="adapted", inputs=_adapt, reads=("shard", "pretrain"),
            files=(CHECKPOINT, "last.safetensors", "epochs.npz", "log.csv"),
            settings=ADAPTATION, facts=("classes", "channels"), takes=("compute", "resume"), priority=10,
        ),
        Stage(
            "evaluate", "evaluated", RUN, "measure a model on its target, with labels",
            place="evaluated", inputs=_evaluate, reads=("shard", "pretrain", "adapt"),
            files=("metrics.json", "predictions.csv"),
            settings=EVALUATION, facts=("classes", "headline", "protocol"), takes=("compute",),
        ),
        Stage(
            "table", "tabled", ("experiment",), "write an experiment's table of results",
            place="table", inputs=_table, reads=("evaluate",),
            files=("{experiment}_table.csv", "{experiment}_table.md", "{experiment}_table.tex",
                   "{experiment}_differences.csv", "{experiment}_validators.csv", "{experiment}_metrics.json"),
            of_labels=("{experiment}/plots/accuracy.png",), folder="plots", settings=("experiments.{experiment}",),
        ),
        Stage(
            "summarise", "summarised", ("experiment",), "write an experiment's page, one HTML file with its pictures",
            place="report", inputs=_summarise, reads=("shard", "pretrain", "adapt", "evaluate", "table"),
            files=("{experiment}/report.html",), settings=("experiments.{experiment}",),
        ),
        Stage(
            "rescale", "rescaled", RUN, "measure a model on its target at several object scales",
            place="rescaled", inputs=_rescale, reads=("shard", "pretrain", "adapt"), files=("metrics.json",),
            settings=(*EVALUATION, "rescale.scales"), facts=("classes", "protocol"), takes=("compute",), optional=True,
        ),
        Stage(
            "scales", "scaled", ("experiment",), "write an experiment's table and picture of accuracy by object scale",
            place="scales", inputs=_scales, reads=("rescale",),
            files=("{experiment}_scales.csv", "{experiment}_scales.md", "{experiment}_scales.png"),
            settings=("experiments.{experiment}", "rescale.scales"),
            facts=("title", "headline", "protocol", "development_tasks"), optional=True,
        ),
        Stage(
            "explain", "explained", RUN, "draw what an adapted model looks at and matches",
            place="explained", inputs=_explain, reads=("shard", "adapt"),
            files=("attention.png", "scale_pairs.png", "scale_pairs.csv"), folder="explained",
            settings=ADAPTATION, facts=("title", "classes", "channels"), takes=("compute",), optional=True,
        ),
        Stage(
            "export", "exported", RUN, "write a trained model for others: timm's weights, a model card, ONNX",
            place="exported", inputs=_export, reads=("shard", "pretrain", "adapt", "evaluate"),
            files=("config.json", "model.safetensors", "README.md", "LICENSE"), folder="exported",
            settings=(*EVALUATION, "pretrain.{dataset}.held_out", "export.onnx"),
            facts=("title", "classes", "channels", "headline", "protocol", "licence", "citation", "domains"),
            takes=("compute",), optional=True,
        ),
    )
}  # fmt: skip
PHASES = {stage.phase: stage for stage in STAGES.values()}
