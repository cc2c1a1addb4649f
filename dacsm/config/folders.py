"""Your own folders of images in params.yaml. A dataset's file describes each, which `snakemake` writes once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dacsm.config import datasets
from dacsm.config.validation import Frozen, Name, Title, UserPath, validate
from dacsm.runtime.errors import InputError


class Folder(Frozen):
    """A folder of your own images as a dataset: <domain>/<class>/<image>, or <domain>/<image> without labels."""

    path: UserPath = Field(description="from the project's folder, or absolute")
    title: Title | None = Field(None, description="for tables; the dataset's name where there is none")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: colour")
    headline: Literal["mean_per_class", "overall"] = Field("mean_per_class", description="of its table")
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="fraction of each domain that is evaluated on, and not adapted on; null: all are both"
    )


def folder_facts(
    name: str, folder: Folder, domains: Mapping[str, Mapping[str, Any]], classes: Sequence[str], protocol: str
) -> dict[str, Any]:
    """What the catalogue's file of a folder says; of `domains`, as `domain_facts` has them."""
    return {
        "name": name,
        "title": folder.title or name,
        "reader": "image_folder",
        "channels": folder.channels,
        "archives": {domain: {"file": f"{domain}.csv"} for domain in domains},
        "domains": dict(domains),
        "classes": list(classes),
        "development_tasks": [],
        "protocol": protocol,
        "headline": folder.headline,
        "licence": "of your own images; complete it",
        "citation": "of your own images; complete it",
    }


def domain_facts(
    name: str, images: int, counts: Mapping[str, int], classes: Sequence[str], **more: Any
) -> dict[str, Any]:
    """What it says of a domain, of which `counts` are the images by class: none, where it has no labels."""
    content = {"title": name, "images": images, "archives": [name], **more}
    if not counts:
        return {**content, "labelled": False}
    per_class = [counts.get(label, 0) for label in classes]
    absent = [label for label, count in zip(classes, per_class, strict=True) if not count]
    return {**content, "per_class": per_class, "absent": absent}


class _Folders(Frozen):
    """What is read of a params file before the rest of it."""

    folders: dict[Name, Folder]


def read_folders(content: Any, name: str | Path) -> dict[str, Folder]:
    """The folders in `content` of the params file `name`, by dataset; raises InputError for a wrong key."""
    folders = content.get("folders") if isinstance(content, Mapping) else None
    if not isinstance(folders, Mapping):  # anything else is refused by whoever checks all of the file
        return {}
    return validate(_Folders, {"folders": folders}, name).folders


def require_described(content: Any, name: str | Path) -> None:
    """Raise InputError unless each folder that `content` names has its file in the catalogue."""
    for dataset in read_folders(content, name):
        if not (path := datasets.CATALOG / f"{dataset}.yaml").exists():
            raise InputError(f"{name}: folders has {dataset!r}, but {path} was not found; run `snakemake` to write it.")
