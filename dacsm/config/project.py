"""What a command works on: the settings, the facts of one dataset, and the places of files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dacsm.config import PARAMS_FILE
from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.experiments import Experiment
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths


@dataclass(frozen=True)
class Project:
    """Settings, a dataset and paths; `file` has the settings."""

    params: Params
    dataset: DatasetSpec
    paths: Paths
    file: Path = PARAMS_FILE

    @cached_property
    def plain_params(self) -> dict[str, Any]:
        """The settings as plain values, all defaults filled in; made once, since Snakemake asks for every run."""
        return self.params.model_dump(mode="json")

    @cached_property
    def plain_dataset(self) -> dict[str, Any]:
        """The dataset's facts as plain values."""
        return self.dataset.model_dump(mode="json")

    def experiments(self) -> list[Experiment]:
        """The experiments that the dataset's phases are made for."""
        return [self.params.experiment(name) for name in self.params.experiments_of(self.dataset.name)]


def open_project(file: Path, *, dataset: str | None = None, experiment: str | None = None) -> Project:
    """The project of a dataset or experiment; raises InputError where its settings or facts cannot be used."""
    params = load_params(file)
    facts = load_dataset(dataset or "") if experiment is None else params.load_dataset_of(experiment)
    return Project(params, facts, Paths(Path(params.root)), file)
