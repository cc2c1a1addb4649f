"""Your own folders of images as datasets: described once in workflow/datasets/, and held to that from then on.

The description is written when params.yaml first names the folder: domains, classes, counts. It is a file of the
catalog like any other, to be read, completed and committed; where the images are not at hand, it still says what they
were.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from dacsm.config.datasets import CATALOG, DatasetSpec
from dacsm.config.validation import Frozen, read_yaml, validate
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_text

HEADER = """\
# Written by dacsm from {path}, which params.yaml names under folders.{name}. Complete and commit it;
# remove it to have the folder described again.
"""


class Folder(Frozen):
    """A folder of your own images, <domain>/<class>/<image>, as a dataset."""

    path: str = Field(description="from the project's folder, or absolute")
    title: str | None = Field(None, description="for tables; the dataset's name where there is none")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: colour")
    headline: Literal["mean_per_class", "overall"] = Field("mean_per_class", description="of its table")
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="fraction of each domain that is evaluated on, and not adapted on; null: all are both"
    )


def describe_folders(content: Any, name: str | Path) -> None:
    """Write the catalog's file of each folder that `content`, of the params file `name`, names for the first time.

    Raises:
        InputError: as `describe` does.
    """
    folders = content.get("folders") if isinstance(content, Mapping) else None
    if isinstance(folders, Mapping):  # anything else is refused by whoever checks all of the file
        for dataset, folder in folders.items():
            describe(dataset, validate(Folder, folder, f"{name}: folders.{dataset}"))


def describe(name: str, folder: Folder) -> None:
    """Write workflow/datasets/<name>.yaml for a folder, unless it is there.

    Raises:
        InputError: where the folder holds no domains of classes of images, has other images than the file describes, or
            the name belongs to another dataset.
    """
    from dacsm.data.raw.image_folder import image_files  # imports NumPy, which reading params does not need

    file = CATALOG / f"{name}.yaml"
    if file.exists():
        _require_same(name, folder, file)
        return
    root = Path(folder.path)
    domains = {path.name: image_files(path) for path in _folders(root)}
    classes = sorted({path.partition("/")[0] for files in domains.values() for path, _ in files})
    if len(domains) < 2 or len(classes) < 2:
        raise InputError(
            f"folders.{name}: {root} has {len(domains)} domains and {len(classes)} classes, expected at least two of "
            f"both in {root}/<domain>/<class>/<image>; correct the path, or sort the images so."
        )
    content = {
        "name": name,
        "title": folder.title or name,
        "reader": "image_folder",
        "channels": folder.channels,
        "archives": {domain: {"file": f"{domain}.csv"} for domain in domains},
        "domains": {domain: _domain(root / domain, files, classes, folder) for domain, files in domains.items()},
        "classes": classes,
        "development_task": None,
        "protocol": _protocol(folder),
        "headline": folder.headline,
        "licence": "of your own images; complete it",
        "citation": "of your own images; complete it",
    }
    validate(DatasetSpec, content, f"folders.{name}")
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(file, HEADER.format(path=root, name=name) + text)
    counts = ", ".join(f"{len(files)} images in {domain}" for domain, files in domains.items())
    print(f"{file} describes {root}: {len(classes)} classes, {counts}.", file=sys.stderr)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror}; correct its path under folders.") from error


def _domain(folder: Path, files: list[tuple[str, int]], classes: list[str], settings: Folder) -> dict[str, Any]:
    from dacsm.data.raw.image_folder import listing

    counts = Counter(path.partition("/")[0] for path, _ in files)
    content: dict[str, Any] = {
        "title": folder.name,
        "images": len(files),
        "archives": [folder.name],
        "options": {"folder": str(folder), "listing": listing(files)},
        "per_class": [counts[name] for name in classes],
        "absent": [name for name in classes if not counts[name]],
    }
    return content if settings.held_out is None else content | {"held_out": settings.held_out}


def _protocol(folder: Folder) -> str:
    if folder.held_out is None:
        return "transductive: the target's images are adapted on without labels, and evaluated on"
    return f"held out: {folder.held_out:.0%} of the target are evaluated on, the rest is adapted on without labels"


def _require_same(name: str, folder: Folder, file: Path) -> None:
    """Raise InputError where the file describes another folder, or the folder as it was before."""
    from dacsm.data.raw.image_folder import image_files, listing

    content = read_yaml(file)
    if content.get("reader") != "image_folder":
        raise InputError(f"folders has {name!r}, which {file} describes as another dataset; choose another name.")
    for domain, facts in content.get("domains", {}).items():
        options = facts.get("options", {})
        described = Path(options.get("folder", ""))
        if described.parent != Path(folder.path):
            raise InputError(
                f"folders.{name}.path is {folder.path!r}, but {file} describes {str(described.parent)!r}; remove that "
                "file to have the folder described again, or correct the path."
            )
        if described.is_dir() and listing(image_files(described)) != options.get("listing"):
            raise InputError(
                f"{described} has other images than when {file} was written (domain {domain}); remove that file to "
                "have the folder described again."
            )
