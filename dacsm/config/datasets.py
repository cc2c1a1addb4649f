"""What a dataset is: its domains, classes, tasks, protocol and table, read from `workflow/datasets/<name>.yaml`."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dacsm.config.validation import Frozen, Name, Title, require_known, text_of, validate
from dacsm.config.yaml_file import read_yaml
from dacsm.runtime.errors import InputError

CATALOG = Path("workflow/datasets")

# A class is the name of a folder, of a column of CSV and Markdown, and of a cell; `dacsm cell` ignores case and blanks.
APART = r",;|/\\\"`<>*\x00-\x1f\x7f"  # what has a meaning in tables or in paths
ClassName = text_of(
    rf"^[^\s.{APART}][^{APART}]{{0,99}}$", 'up to 100 characters, none of , ; | / \\ " ` < > *, and no dot first'
)
FileName = text_of(r"^\w[\w.-]{0,99}$", "up to 100 letters, digits, _, . or -, of which the first is no . or -")
RESERVED = ("overall", "mean_per_class", "average", "mean", "task", "method", "selection", "seeds", "source")


class Archive(Frozen):
    """One raw file, and where it comes from. Where nothing is known to hold it to, its first download is held to."""

    file: FileName = Field(  # type: ignore[valid-type]  # made by text_of
        description="its name in data/raw/<dataset>/, where it may also be put by hand"
    )
    urls: tuple[str, ...] = Field((), description="http, https or file; mirrors in the order in which they are tried")
    bytes: int | None = Field(None, gt=0, description="its size, where it is known")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="used where no sha256 was published")
    page: str = Field("", description="where a person finds it")


class Domain(Frozen):
    """One domain: how many images to expect, and the archives that hold them."""

    title: Title
    labelled: bool = Field(True, description="false: its images have no labels, so that it can only be a target")
    images: int = Field(gt=0, description="in the archives, held-out ones included")
    archives: tuple[Name, ...] = Field(min_length=1)
    options: dict[str, Any] = Field({}, description="for the reader")
    per_class: tuple[int, ...] | None = Field(None, description="images of each class, where that is known")
    absent: tuple[str, ...] = Field((), description="classes without any image; each of the others must have one")
    max_unreadable: float = Field(0.01, ge=0, lt=1, description="fraction of images that may be left out as unreadable")
    held_out: float | None = Field(None, gt=0, lt=1, description="fraction that is evaluated on, and not adapted on")
    thinned: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        None, description="fraction of each class that <domain>_thinned has, which is the target in place of this one"
    )
    part_of: Name | None = Field(None, description="the domain of which these are the held-out or the thinned images")
    evaluated_on: Name | None = Field(None, description="the domain with the images to evaluate on, if others")

    @property
    def stored(self) -> int:
        """How many images its shards hold, if all can be read: those of its part, where it is one."""
        if self.part_of and self.thinned:
            return sum(self.kept(self.per_class or ()))
        held_out = round((self.held_out or 0) * self.images)
        return held_out if self.part_of else self.images - held_out

    def kept(self, per_class: Sequence[int]) -> tuple[int, ...]:
        """How many images of each class a thinned domain has, at least one of each class that there is."""
        pairs = zip(self.thinned or (), per_class, strict=True)
        return tuple(max(round(fraction * count), min(count, 1)) for fraction, count in pairs)


class DatasetSpec(Frozen):
    """A dataset's facts. Settings that a user may change are in params.yaml instead."""

    name: Name
    title: Title
    reader: Literal["digits", "archives", "image_folder"] = Field(
        description="the module of dacsm/data/raw that fetches or makes the raw data"
    )
    channels: Literal[1, 3]
    archives: dict[Name, Archive] = Field(min_length=1)
    archives_of: Name | None = Field(None, description="the dataset whose raw files these are, so that none is twice")
    domains: dict[Name, Domain] = Field(min_length=2)
    classes: tuple[ClassName, ...] = Field(min_length=2)  # type: ignore[valid-type]  # made by text_of
    tasks: tuple[str, ...] = Field(min_length=1, description="source-target; all pairs, where the file has none")
    development_tasks: tuple[str, ...] = Field((), description="their target labels may be used to choose settings")
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
        """Domains for held-out and for thinned images, and the tasks where the file leaves them to us."""
        if not isinstance(content, dict) or not isinstance(content.get("domains"), dict):
            return content
        domains = dict(content["domains"])
        for name, domain in content["domains"].items():
            if not isinstance(domain, dict) or domain.get("part_of"):
                continue
            for key in ("held_out", "thinned"):
                if domain.get(key):
                    if domains.get(f"{name}_{key}", {"part_of": name}).get("part_of") != name:
                        raise ValueError(f"domains has {name}_{key}, the name of a part of {name}; choose another")
                    title = f"{domain.get('title')}, {key.replace('_', ' ')}"
                    domains[f"{name}_{key}"] = domain | {"title": title, "part_of": name, "evaluated_on": None}
            if domain.get("held_out"):
                domains[name] = domain | {"evaluated_on": f"{name}_held_out"}
        if all(isinstance(domain, dict) and domain.get("labelled") is False for domain in domains.values()):
            raise ValueError("no domain has labels (labelled: false), and one should, to be the source of a task")
        return {"tasks": _all_tasks(domains)} | content | {"domains": domains}

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetSpec":
        _require_distinct("classes", self.classes, RESERVED)
        _require_distinct("archives.*.file", [archive.file for archive in self.archives.values()], ("receipts",))
        for name, domain in self.domains.items():
            self._check_domain(name, domain)
            if not domain.labelled:
                self._check_unlabelled(name, domain)
        known = _all_tasks(self.domains)
        for key, tasks in (("tasks", self.tasks), ("development_tasks", self.development_tasks)):
            for task in tasks:
                if task not in known:
                    raise ValueError(f"{key} is {task!r}, expected one of {', '.join(known)}")
        for task in self.development_tasks:
            if not self.domains[task.split("-")[1]].labelled:
                raise ValueError(f"development_tasks is {task!r}, whose target has no labels to choose settings with")
        return self

    def _check_domain(self, name: str, domain: Domain) -> None:
        for key, found, expected in (
            ("archives", domain.archives, self.archives),
            ("absent", domain.absent, self.classes),
            ("evaluated_on", [domain.evaluated_on] if domain.evaluated_on else [], self.domains),
        ):
            for entry in found:
                require_known(f"domains.{name}.{key}", entry, expected)
        if domain.held_out and not 0 < domain.stored < domain.images:
            raise ValueError(
                f"domains.{name}.held_out is {domain.held_out}, which leaves {domain.stored} of {domain.images} "
                "images; at least one should be on either side"
            )
        counts, fractions = domain.per_class, len(domain.thinned or self.classes)
        if domain.thinned and (domain.held_out or counts is None):
            other = "held_out" if domain.held_out else "no per_class"
            raise ValueError(f"domains.{name} has thinned and {other}, expected per_class and no held_out")
        if fractions != len(self.classes):
            raise ValueError(f"domains.{name}.thinned has {fractions} fractions, expected {len(self.classes)}")
        if counts is not None and (len(counts), sum(counts)) != (len(self.classes), domain.images):
            raise ValueError(
                f"domains.{name}.per_class has {len(counts)} counts with the sum {sum(counts)}, expected "
                f"{len(self.classes)} with the sum {domain.images}"
            )

    def _check_unlabelled(self, name: str, domain: Domain) -> None:
        """Raise ValueError where a domain without labels is to be measured on, or is of classes that are known."""
        if self.reader != "image_folder":
            raise ValueError(f"domains.{name}.labelled is false, which only a folder of images can be")
        for key in ("per_class", "absent", "held_out", "thinned", "evaluated_on"):
            if getattr(domain, key):
                raise ValueError(f"domains.{name} has {key}, but no labels (labelled: false); remove one of both")
        for other, facts in self.domains.items():
            if facts.evaluated_on == name:
                raise ValueError(f"domains.{other}.evaluated_on is {name!r}, which has no labels to evaluate with")

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
        """Source and target domain of a task `source-target`; raises InputError where the dataset has no such task."""
        if task not in self.tasks:
            if (source := task.partition("-")[0]) in self.domains:
                self.require_labels(source, f"it can only be a target; name one of {', '.join(self.tasks)}")
            raise InputError(f"{self.name} has no task {task!r}; it has {', '.join(self.tasks)}.")
        source, target = task.split("-")
        return source, target

    def has_labels(self, task: str) -> bool:
        """Whether a task's target has labels, so that its accuracy can be known; raises as `split_task` does."""
        return self.domains[self.split_task(task)[1]].labelled

    def require_labels(self, domain: str, so: str) -> None:
        """Raise InputError where a domain has no labels; `so` is what follows from that, and what to do."""
        if not self.require_domain(domain).labelled:
            raise InputError(f"the domain {domain} of {self.name} has no labels, so that {so}.")

    def require_domain(self, domain: str) -> Domain:
        """The domain of that name; raises InputError where the dataset has no such domain."""
        if domain not in self.domains:
            raise InputError(f"{self.name} has no domain {domain!r}; it has {', '.join(self.domains)}.")
        return self.domains[domain]


def _require_distinct(key: str, names: Iterable[str], reserved: Sequence[str]) -> None:
    """Raise ValueError for a name that stands twice, or for a reserved thing, by what a person sees of it."""
    seen = {name: name for name in reserved}
    for name in names:
        plain = seen_as(name)
        if plain in seen:
            if plain in reserved:
                raise ValueError(f"{key} has {name!r}, which means something else in tables or folders")
            raise ValueError(f"{key} has a name twice, {seen[plain]!r} and {name!r}: case and blanks do not count")
        seen[plain] = name


def seen_as(name: str) -> str:
    """What a person sees of a name: case and blanks do not count, nor do ways to write é, nor signs without a shape."""
    shown = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return "_".join(unicodedata.normalize("NFC", shown).lower().split())


def _all_tasks(domains: Mapping[str, Any]) -> list[str]:
    """All pairs source-target: of whole, labelled sources; to thinned targets, if any; to none that only measures."""
    fields = {name: domain if isinstance(domain, dict) else dict(domain) for name, domain in domains.items()}
    evaluated = {field.get("evaluated_on") for field in fields.values()}
    whole = {name: field.get("part_of") or name for name, field in fields.items() if name not in evaluated}
    sources = [name for name in whole if whole[name] == name and fields[name].get("labelled", True)]
    targets = [name for name in whole if whole[name] != name or not fields[name].get("thinned")]
    return [f"{source}-{target}" for source, target in product(sources, targets) if source != whole[target]]


def dataset_names() -> tuple[str, ...]:
    """The names of all datasets in the catalog, sorted."""
    return tuple(sorted(path.stem for path in CATALOG.glob("*.yaml") if re.fullmatch(r"\w+", path.stem)))


def load_dataset(name: str) -> DatasetSpec:
    """Read a dataset's file from the catalog; raises InputError where there is none, or it is malformed."""
    path = CATALOG / f"{name}.yaml"
    if name not in dataset_names():
        known = ", ".join(dataset_names()) or "none (are you in the project's folder?)"
        raise InputError(f"unknown dataset {name!r}: {path} was not found; the catalog has {known}.")
    dataset = validate(DatasetSpec, read_yaml(path), path)
    if dataset.name != name:
        raise InputError(f"{path}: name is {dataset.name!r}, expected {name!r} as in the file's name; change it there.")
    if dataset.raw_name not in dataset_names():
        raise InputError(f"{path}: archives_of is {dataset.archives_of!r}, which is no dataset; change it there.")
    return dataset
