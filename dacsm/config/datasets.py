"""What a dataset is: its domains, classes, tasks, protocol and table, read from `workflow/datasets/<name>.yaml`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from dacsm.config.validation import Frozen, read_yaml, validate
from dacsm.runtime.errors import InputError

CATALOG = Path("workflow/datasets")

# A task is written source-target, so that a domain's name has no hyphen.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]


class Archive(Frozen):
    """One raw file, and where it comes from. Where nothing is known to hold it to, its first download is held to."""

    file: str = Field(
        pattern=r"^[\w.-]+$", description="its name in data/raw/<dataset>/, where it may also be put by hand"
    )
    urls: tuple[str, ...] = Field((), description="http, https or file; mirrors in the order in which they are tried")
    bytes: int | None = Field(None, gt=0, description="its size, where it is known")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="used where no sha256 was published")
    page: str = Field("", description="where a person finds it")


class Domain(Frozen):
    """One domain: how many images to expect, and the archives that hold them."""

    title: str
    images: int = Field(gt=0, description="in the archives, held-out ones included")
    archives: tuple[Name, ...] = Field(min_length=1)
    options: dict[str, Any] = Field({}, description="for the reader")
    per_class: tuple[int, ...] | None = Field(None, description="images of each class, where that is known")
    absent: tuple[str, ...] = Field((), description="classes without any image; each of the others must have one")
    max_unreadable: float = Field(0.01, ge=0, lt=1, description="fraction of images that may be left out as unreadable")
    held_out: float | None = Field(None, gt=0, lt=1, description="fraction that is evaluated on, and not adapted on")
    held_out_of: Name | None = Field(None, description="the domain whose held-out images these are")
    evaluated_on: Name | None = Field(None, description="the domain with the images to evaluate on, if others")

    @property
    def stored(self) -> int:
        """How many images its shards hold, if all can be read: those of its part, where some are held out."""
        held_out = round((self.held_out or 0) * self.images)
        return held_out if self.held_out_of else self.images - held_out


class DatasetSpec(Frozen):
    """A dataset's facts. Settings that a user may change are in params.yaml instead."""

    name: Name
    title: str
    reader: Literal["digits", "archives", "image_folder"] = Field(
        description="the module of dacsm/data/raw that fetches or makes the raw data"
    )
    channels: Literal[1, 3]
    archives: dict[Name, Archive] = Field(min_length=1)
    archives_of: Name | None = Field(None, description="the dataset whose raw files these are, so that none is twice")
    domains: dict[Name, Domain] = Field(min_length=2)
    classes: tuple[str, ...] = Field(min_length=2)
    tasks: tuple[str, ...] = Field(min_length=1, description="source-target; all pairs, where the file has none")
    development_task: str | None = Field(description="its target labels may be used to choose settings")
    protocol: str = Field(description="which target images are adapted on, and which are evaluated on")
    headline: Literal["mean_per_class", "overall"]
    table_form: Literal["classes", "tasks", "matrix"] = Field(
        "classes", description="of its table: a column a class, a column a task, or sources by targets"
    )
    licence: str
    citation: str

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, content: Any) -> Any:
        """Domains for held-out images, and the tasks where the file leaves them to us."""
        if not isinstance(content, dict) or not isinstance(content.get("domains"), dict):
            return content
        domains = dict(content["domains"])
        for name, domain in content["domains"].items():
            if isinstance(domain, dict) and domain.get("held_out") and not domain.get("held_out_of"):
                rest = f"{name}_held_out"
                domains[name] = domain | {"evaluated_on": rest}
                domains[rest] = domain | {
                    "title": f"{domain.get('title')}, held out",
                    "held_out_of": name,
                    "evaluated_on": None,
                }
        trained = _trained_on(domains)
        tasks = [f"{source}-{target}" for source in trained for target in trained if source != target]
        return {"tasks": tasks} | content | {"domains": domains}

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetSpec":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes has a name twice")
        trained = _trained_on(self.domains)
        known = [f"{source}-{target}" for source in trained for target in trained if source != target]
        for key, tasks in (("tasks", self.tasks), ("development_task", (self.development_task,))):
            for task in tasks:
                if task is not None and task not in known:
                    raise ValueError(f"{key} is {task!r}, expected one of {', '.join(known)}")
        for name, domain in self.domains.items():
            self._check_domain(name, domain)
        return self

    def _check_domain(self, name: str, domain: Domain) -> None:
        for key, found, expected in (
            ("archives", domain.archives, self.archives),
            ("absent", domain.absent, self.classes),
            ("evaluated_on", [domain.evaluated_on] if domain.evaluated_on else [], self.domains),
        ):
            for entry in found:
                if entry not in expected:
                    raise ValueError(f"domains.{name}.{key} has {entry!r}, expected one of {', '.join(expected)}")
        counts = domain.per_class
        if counts is not None and (len(counts), sum(counts)) != (len(self.classes), domain.images):
            raise ValueError(
                f"domains.{name}.per_class has {len(counts)} counts with the sum {sum(counts)}, expected "
                f"{len(self.classes)} with the sum {domain.images}"
            )

    @property
    def raw_name(self) -> str:
        """The dataset in whose folder of data/raw/ the archives lie."""
        return self.archives_of or self.name

    def evaluation_domain(self, target: str) -> str:
        """The domain whose images measure an adaptation to `target`: other images, where the protocol says so."""
        return self.domains[target].evaluated_on or target

    def domains_of(self, tasks: Iterable[str]) -> tuple[str, ...]:
        """The domains that some tasks need, those that are only evaluated on included."""
        pairs = [self.split_task(task) for task in tasks]
        needed = [domain for source, target in pairs for domain in (source, target, self.evaluation_domain(target))]
        return tuple(dict.fromkeys(needed))

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


def _trained_on(domains: Mapping[str, Any]) -> list[str]:
    """The domains that can be a source or a target: those that no other is only evaluated on."""
    fields = [domain if isinstance(domain, dict) else dict(domain) for domain in domains.values()]
    evaluated = {field.get("evaluated_on") for field in fields}
    return [name for name in domains if name not in evaluated]


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
