"""What a dataset is: its domains, classes, tasks, protocol and table, read from `workflow/datasets/<name>.yaml`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from dacsm.errors import InputError
from dacsm.validation import Frozen, read_yaml, validate

CATALOG = Path("workflow/datasets")

# A task is written source-target, so that a domain's name has no hyphen.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]


class Domain(Frozen):
    """One domain: how many images to expect, and the archives under data/raw that hold them."""

    title: str
    images: int = Field(gt=0)
    archives: tuple[Name, ...] = Field(min_length=1)
    options: dict[str, Any] = Field({}, description="for the maker")


class DatasetSpec(Frozen):
    """A dataset's facts. Settings that a user may change are in params.yaml instead."""

    name: Name
    title: str
    maker: Literal["digits"] = Field(description="the module of dacsm/sources that fetches or makes the raw data")
    channels: Literal[1, 3]
    domains: dict[Name, Domain] = Field(min_length=2)
    classes: tuple[str, ...] = Field(min_length=2)
    development_task: str | None = Field(description="its target labels may be used to choose settings")
    protocol: str = Field(description="which target images are adapted on, and which are evaluated on")
    headline: Literal["mean_per_class", "overall"]
    licence: str
    citation: str

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetSpec":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes has a name twice")
        if self.development_task is not None and self.development_task not in self.tasks:
            raise ValueError(f"development_task is {self.development_task!r}, expected one of {', '.join(self.tasks)}")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every source-target pair of two different domains."""
        return tuple(f"{source}-{target}" for source in self.domains for target in self.domains if source != target)

    @property
    def archives(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(archive for domain in self.domains.values() for archive in domain.archives))

    def split_task(self, task: str) -> tuple[str, str]:
        """The source and the target domain of a task written `source-target`.

        Raises:
            InputError: where the dataset has no such task.
        """
        if task not in self.tasks:
            raise InputError(f"{self.name} has no task {task!r}; it has {', '.join(self.tasks)}.")
        source, target = task.split("-")
        return source, target

    def require_domain(self, domain: str) -> Domain:
        """The domain of that name.

        Raises:
            InputError: where the dataset has no such domain.
        """
        if domain not in self.domains:
            raise InputError(f"{self.name} has no domain {domain!r}; it has {', '.join(self.domains)}.")
        return self.domains[domain]


def dataset_names() -> tuple[str, ...]:
    """The names of all datasets in the catalog, sorted."""
    return tuple(sorted(path.stem for path in CATALOG.glob("*.yaml")))


def load_dataset(name: str) -> DatasetSpec:
    """Read a dataset's file from the catalog.

    Raises:
        InputError: where the catalog has no such dataset, or its file is malformed.
    """
    path = CATALOG / f"{name}.yaml"
    if name not in dataset_names():
        known = ", ".join(dataset_names()) or "none (are you in the project's folder?)"
        raise InputError(f"unknown dataset {name!r}: {path} was not found; the catalog has {known}.")
    return validate(DatasetSpec, read_yaml(path), path)
