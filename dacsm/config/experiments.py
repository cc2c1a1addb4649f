"""An experiment: what one table holds. Several may be of one dataset, and share its data and the runs that they have in
common.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_validator

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.validation import Frozen, Name, Seed, require_known
from dacsm.runtime.errors import InputError

ALL = "all"  # of the tasks of a dataset


class Experiment(Frozen):
    """What a table holds: every method on every task of a dataset with every seed."""

    dataset: Name | None = Field(None, description="whose data and runs these are; null: the dataset of the same name")
    tasks: tuple[str, ...] = Field(min_length=1, description="source-target pairs; all: every one of the dataset")
    methods: tuple[Name, ...] = Field(min_length=1, description="source_only, or an entry of adapt.methods")
    seeds: tuple[Seed, ...] = Field(min_length=1, description="one run each; none is picked")
    contrasts: tuple[tuple[Name, Name], ...] = Field(
        (), description="pairs of its methods: the first is compared with the second, besides all with cdtrans"
    )
    _name: str = PrivateAttr("")  # its key in params.yaml, which is not written twice

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        for key in ("tasks", "methods", "seeds", "contrasts"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key} has an entry twice")
        for first, second in self.contrasts:
            if first == second:
                raise ValueError(f"contrasts has {first!r} against itself; name two methods")
            for method in (first, second):
                require_known("contrasts", method, self.methods)
        return self

    @property
    def name(self) -> str:
        """What its table, metrics and plots are called: its key in params.yaml."""
        return self._name

    def has_labels(self, dataset: DatasetSpec) -> bool:
        """Whether its targets have labels, so that its table has accuracies; `load_dataset_of` lets all be alike."""
        return dataset.has_labels(self.tasks[0])

    def title(self, dataset: DatasetSpec) -> str:
        """The dataset's title, and the experiment's name where it has one of its own."""
        return dataset.title if self.name == dataset.name else f"{dataset.title} ({self.name})"


def check_experiments(experiments: Mapping[str, Experiment], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell each experiment its name, and look whether its dataset has settings in each of the `known` recipes by stage.

    Raises ValueError for the first that has not, or that has the name of another dataset.
    """
    for name, experiment in experiments.items():
        experiment._name = name
        dataset = experiment.dataset or name
        for stage, recipes in known.items():
            if dataset not in recipes:
                raise ValueError(
                    f"experiments.{name} is of the dataset {dataset!r}, but {stage} has no settings for it; "
                    f"those that it has are of {', '.join(recipes) or 'no dataset'}"
                )
            if name != dataset and name in recipes:
                raise ValueError(f"experiments.{name} is of the dataset {dataset!r}, but {name!r} is another dataset")


def check_tables(tables: Mapping[str, str], experiments: Mapping[str, Experiment], datasets: Sequence[str]) -> None:
    """Raise ValueError unless `tables` has the dataset of each experiment, and `datasets` exactly these."""
    for name, dataset in tables.items():
        if name not in experiments:
            raise ValueError(f"tables names {name!r}, but experiments has only {', '.join(experiments)}")
        if dataset != (own := experiments[name].dataset or name):
            raise ValueError(f"tables.{name} is {dataset!r}, but experiments.{name} is of the dataset {own!r}")
        if dataset not in datasets:
            raise ValueError(
                f"tables.{name} is of the dataset {dataset!r}, but datasets has only {', '.join(datasets)}"
            )
    for dataset in datasets:
        if dataset not in tables.values():
            raise ValueError(f"datasets names {dataset!r}, but tables has no experiment of it")


def load_dataset_of(name: str, dataset: str, tasks: Sequence[str] = ()) -> DatasetSpec:
    """The facts of an experiment's dataset.

    Raises InputError where it cannot be used, a task is not of it, or only some of the targets have labels.
    """
    try:
        found = load_dataset(dataset)
        labelled = {task: found.has_labels(task) for task in tasks}
    except InputError as error:
        raise InputError(f"experiments.{name}: {error}") from error
    if len(set(labelled.values())) > 1:
        with_labels, without = ([task for task in tasks if labelled[task] == has] for has in (True, False))
        raise InputError(
            f"experiments.{name}.tasks has targets with labels ({', '.join(with_labels)}) and without "
            f"({', '.join(without)}), but a table has either accuracies or none; make two experiments of it."
        )
    return found


def with_all_tasks(content: Any, file: str | Path) -> Any:
    """`content` of a params file, with the list of a dataset's tasks wherever an experiment says that all are wanted.

    Raises InputError where the dataset of such an experiment is unknown.
    """
    experiments = content.get("experiments") if isinstance(content, Mapping) else None
    if not isinstance(experiments, Mapping):
        return content  # refused by what follows

    def listed(name: str, experiment: Any) -> Any:
        if not isinstance(experiment, Mapping) or experiment.get("tasks") != ALL:
            return experiment
        try:
            dataset = load_dataset_of(name, experiment.get("dataset") or name)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        return {**experiment, "tasks": dataset.tasks}

    return {**content, "experiments": {name: listed(name, experiment) for name, experiment in experiments.items()}}
