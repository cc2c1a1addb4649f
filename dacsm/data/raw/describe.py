"""Your own folders of images as datasets: described once in workflow/datasets/, and held to that from then on.

The description is written when params.yaml first names the folder: domains, classes, counts. It is a file of the
catalogue like any other, to be read, completed and committed; where the images are not at hand, it still says what they
were.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from dacsm.config import datasets
from dacsm.config.datasets import DatasetSpec
from dacsm.config.folders import Folder, domain_facts, folder_facts, read_folders
from dacsm.config.paths import Paths
from dacsm.config.presets import Presets
from dacsm.config.validation import validate
from dacsm.config.yaml_file import read_yaml
from dacsm.data.raw.image_folder import image_files, listing, require_unchanged
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_text
from dacsm.runtime.wording import listed

MOST_NAMED = 3  # folders in a sentence
HEADER = """\
# Written by dacsm from {path}, which params.yaml names under folders.{name}. Complete and commit it;
# remove it to have the folder described again.
"""


def describe_folders(content: Any, name: str | Path) -> None:
    """Write the catalogue's file of each folder that `content`, as read from the params file `name`, names.

    A file that is there is compared with the folder instead. Raises InputError where a folder holds no domains of
    classes of images, has other images than its file describes, or its name belongs to another dataset. A domain whose
    images are in no folders of classes has no labels.
    """
    content = Presets(name).resolve(content)
    for dataset, folder in read_folders(content, name).items():
        file = datasets.CATALOG / f"{dataset}.yaml"
        if file.exists():
            _require_same(dataset, folder, file, Paths(Path(str(content.get("root", ".")))))
        else:
            _describe(dataset, folder, file)


def _describe(name: str, folder: Folder, file: Path) -> None:
    """Write the catalogue's file for a folder."""
    root = Path(folder.path)
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror}; correct its path under folders.") from error
    domains = {path.name: image_files(path) for path in folders}
    if empty := [domain for domain, files in domains.items() if not files]:
        raise InputError(f"folders.{name}: {root / empty[0]} has no images; put some there, or remove it.")
    classes_of = {domain: sorted(_counts(files)) for domain, files in domains.items()}
    classes = sorted({of for found in classes_of.values() for of in found})
    if len(domains) < 2 or len(classes) < 2:
        raise InputError(
            f"folders.{name}: {root} has {len(domains)} domains and {len(classes)} classes, expected at least two of "
            f"both in {root}/<domain>/<class>/<image>; correct the path, or sort the images so. (A domain without "
            f"labels, {root}/<domain>/<image>, is the target of another that has them.)"
        )
    _require_common_classes(name, root, classes_of)
    protocol = "transductive: the target's images are adapted on without labels, and evaluated on"
    if unlabelled := [domain for domain, found in classes_of.items() if not found]:
        protocol += " where they have labels"
    if unlabelled and folder.held_out is not None:
        raise InputError(
            f"folders.{name}.held_out is {folder.held_out}, but {root / unlabelled[0]} has no labels, so that held-out "
            "images would measure nothing; remove held_out, or sort its images into folders of classes."
        )
    if folder.held_out is not None:
        protocol = (
            f"held out: {folder.held_out:.0%} of the target are evaluated on, the rest is adapted on without labels"
        )
    facts = {domain: _domain(root / domain, files, classes, folder) for domain, files in domains.items()}
    content = folder_facts(name, folder, facts, classes, protocol)
    validate(DatasetSpec, content, f"folders.{name}")
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(file, HEADER.format(path=root, name=name) + text)
    counts = ", ".join(
        f"{len(files)} images in {domain}{'' if classes_of[domain] else ' (without labels)'}"
        for domain, files in domains.items()
    )
    print(f"{file} describes {root}: {len(classes)} classes, {counts}.", file=sys.stderr)


def _require_common_classes(name: str, root: Path, classes_of: dict[str, list[str]]) -> None:
    """Raise InputError for a domain whose folders are those of no other one: they may be dates, and no classes."""
    labelled = {domain: found for domain, found in classes_of.items() if found}
    for domain, found in labelled.items():
        others = sorted({of for other, classes in labelled.items() if other != domain for of in classes})
        if others and not set(others) & set(found):
            own, of_others = listed(found, MOST_NAMED), listed(others, MOST_NAMED)
            raise InputError(
                f"folders.{name}: {root / domain} has the folders {own}, and the other domains have {of_others}, with "
                "none in common; name the folders of a class alike in all domains, or, for a domain without labels, "
                f"put its images directly into its folder, {root}/<domain>/<image>."
            )


def _domain(folder: Path, files: list[tuple[str, int]], classes: list[str], settings: Folder) -> dict[str, Any]:
    options = {"folder": str(folder), "listing": listing(files)}
    content = domain_facts(folder.name, len(files), _counts(files), classes, options=options)
    return content if settings.held_out is None else content | {"held_out": settings.held_out}


def _counts(files: list[tuple[str, int]]) -> Counter[str]:
    """How many images each class has; those outside of folders have none."""
    return Counter(path.partition("/")[0] for path, _ in files if "/" in path)


def _require_same(name: str, folder: Folder, file: Path, paths: Paths) -> None:
    """Raise InputError where the file describes another folder, or the folder as it was before."""
    dataset = validate(DatasetSpec, read_yaml(file), file)
    if dataset.reader != "image_folder":
        raise InputError(f"folders has {name!r}, which {file} describes as another dataset; choose another name.")
    for domain, facts in dataset.domains.items():
        described = Path(str(facts.options.get("folder", "")))
        if described.parent != Path(folder.path):
            raise InputError(
                f"folders.{name}.path is {folder.path!r}, but {file} describes {str(described.parent)!r}; remove that "
                "file to have the folder described again, or correct the path."
            )
        if described.is_dir():
            if listing(image_files(described)) != facts.options.get("listing"):
                raise InputError(
                    f"{described} has other images than when {file} was written (domain {domain}); remove that file to "
                    "have the folder described again."
                )
            require_unchanged(dataset, facts.archives[0], paths)
