"""The domains that a person's folders and archives hold, under the names that they have in the project."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dacsm.config.naming import distinct_names, spelt_alike
from dacsm.config.proposal import Facts
from dacsm.data.raw import IMAGE_SUFFIXES
from dacsm.data.raw.collection import Collection
from dacsm.data.raw.layout import Group, groups_in, is_image, one_domain, renamed
from dacsm.runtime.errors import InputError
from dacsm.runtime.wording import listed

LAYOUT = "<domain>/<class>/<image>"


@dataclass(frozen=True)
class Domain:
    """A domain's name, and its images in the collection that holds them."""

    name: str
    collection: Collection
    group: Group

    @property
    def facts(self) -> Facts:
        return Facts(self.name, len(self.group.images), self.group.counts)

    @property
    def paths(self) -> list[str]:
        return [path for path, _name in self.group.images]

    @property
    def sizes(self) -> dict[str, int]:
        return {path: self.collection.sizes[path] for path in self.paths}

    def is_called(self, name: str) -> bool:
        """Whether a person may mean it by a name: its own, that of its folder, or the folder's path."""
        if name in (self.name, self.group.title):
            return True
        folder = self.collection.path / self.group.title
        return not self.collection.packed and folder.is_dir() and Path(name).resolve() == folder.resolve()


def domains_of(collection: Collection, target: Collection | None = None) -> tuple[list[Domain], list[str]]:
    """The domains of a collection, and the images that are in none; a second collection is one more, the target.

    Raises InputError where nothing is labelled, or there is nothing to adapt to.
    """
    images = _images(collection)
    groups, outside = groups_in(images)
    if target is not None and not any(group.labelled for group in groups):
        groups, outside = [one_domain(images, title_of(collection.path))], []  # its folders are classes
    labelled = [group for group in groups if group.labelled]
    if not labelled:
        raise InputError(_without_labels(collection.path, [group.title for group in groups]))
    holders = [(collection, group) for group in groups]
    if target is not None:
        classes = [name for group in labelled for name in group.classes]
        holders.append((target, one_domain(_images(target), title_of(target.path), classes)))
    if len(holders) < 2:
        raise InputError(
            f"{collection.path} holds one domain, {groups[0].title}; adapting needs another one to adapt to: name its "
            "folder or archive with --target, with or without folders of classes."
        )
    names = distinct_names([group.title for _, group in holders], "domain")
    found = [Domain(name, *holder) for name, holder in zip(names, holders, strict=True)]
    return found, outside


def in_one_spelling(domains: Sequence[Domain]) -> tuple[list[Domain], dict[str, str]]:
    """The domains with one spelling for each class, that of the largest which has it; and what was spelt otherwise."""
    ordered = sorted(domains, key=lambda domain: -len(domain.group.images))
    names = spelt_alike({domain.name: domain.group.classes for domain in ordered})
    changed = {folder: name for folder, name in names.items() if folder != name}
    return [replace(domain, group=renamed(domain.group, names)) for domain in domains], changed


def _images(collection: Collection) -> list[str]:
    images = [path for path in collection.sizes if is_image(path)]
    if not images:
        what = f"{len(collection.sizes):,} files, none of them with {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise InputError(
            f"{collection.path} holds no images ({what if collection.sizes else 'it is empty'}), expected {LAYOUT}; "
            "name another folder or archive."
        )
    return images


def title_of(path: Path) -> str:
    """What images are called: the name of a folder, or of an archive without its suffixes."""
    name = path.resolve().name
    if path.is_dir():
        return name
    return name.removesuffix(".gz").removesuffix(path.suffix).removesuffix(".tar") or name


def _without_labels(path: Path, tops: Sequence[str]) -> str:
    if len(tops) < 2:
        return (
            f"{path} holds images without classes; sort those of one domain into a folder for each class, {LAYOUT}, "
            "or name a folder that has classes, and this one with --target."
        )
    return (
        f"{path} holds folders of images and no classes in them: if {listed(tops, 3)} are classes, it is one domain, "
        "and the images to adapt to are named with --target; if they are domains, sort one of them into classes, "
        f"{LAYOUT}."
    )
