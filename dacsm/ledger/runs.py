"""The runs of the pipeline: for each, its run record and the files that it reads and writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dacsm.config import SOURCE_ONLY
from dacsm.config.experiments import Experiment
from dacsm.config.project import Project
from dacsm.ledger.pipeline import STAGES


@dataclass(frozen=True)
class Run:
    """One run of a stage. The first output stands for it."""

    stage: str
    arguments: Mapping[str, Any]  # those of its command
    place: Path  # the file or folder that people know it by
    record: Path
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    folders: tuple[Path, ...] = ()  # whose files are all the run's

    def written(self) -> list[Path]:
        """The outputs and every file of the run's folders; leftovers of interrupted writes are not among them."""
        inside = [file for folder in self.folders if folder.is_dir() for file in sorted(folder.iterdir())]
        found = [*self.outputs, *(file for file in inside if not file.name.startswith("."))]
        return list(dict.fromkeys(found))


def run_of(project: Project, stage: str, **arguments: Any) -> Run:
    """The run of a stage by its command's arguments; `dataset` may be left out.

    Raises InputError where there is no such archive, domain, task, method, recipe or experiment.
    """
    declared, paths = STAGES[stage], project.paths
    inputs = declared.inputs(project, **{name: value for name, value in arguments.items() if name != "dataset"})
    if "dataset" in declared.arguments:
        arguments = {**arguments, "dataset": project.dataset.name}
    arguments = {name: arguments[name] for name in declared.arguments}
    return Run(
        stage=stage,
        arguments=arguments,
        place=declared.place_of(paths, arguments),
        record=declared.record_of(paths, arguments),
        inputs=tuple(inputs),
        outputs=tuple(declared.outputs_of(paths, arguments)),
        folders=tuple(declared.folders_of(paths, arguments)),
    )


def runs_of(project: Project, experiment: Experiment, stages: Sequence[str] | None = None) -> list[Run]:
    """Every run behind an experiment's table, in the order of the pipeline; with `stages`, the runs of these alone.

    Optional stages are only there where `stages` names them.
    """
    dataset = project.dataset
    domains = dataset.domains_of(experiment.tasks)
    evaluated = [
        {"method": method, "task": task, "seed": seed}
        for method, task, seed in product(experiment.methods, experiment.tasks, experiment.seeds)
    ]
    adapted = [run for run in evaluated if run["method"] != SOURCE_ONLY]
    sources = dict.fromkeys(dataset.split_task(task)[0] for task in experiment.tasks)
    archives = dict.fromkeys(archive for domain in domains for archive in dataset.domains[domain].archives)
    whole = [{"experiment": experiment.name}]
    arguments: dict[str, Sequence[Mapping[str, Any]]] = {
        "download": [{"archive": archive} for archive in archives],
        "shard": [{"domain": domain} for domain in domains],
        "pretrain": [{"source": source, "seed": seed} for source, seed in product(sources, experiment.seeds)],
        "adapt": adapted,
        "evaluate": evaluated,
        "table": whole,
        "rescale": evaluated,
        "scales": whole,
        "explain": [run for run in adapted if run["seed"] == experiment.seeds[0]],
    }
    wanted = [name for name, stage in STAGES.items() if (not stage.optional if stages is None else name in stages)]
    return [run_of(project, stage, **run) for stage in wanted for run in arguments[stage]]
