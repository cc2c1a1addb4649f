"""Which folders of a collection are domains and which are classes, from the paths of its images alone."""

from collections import defaultdict
from collections.abc import Collection as Sized
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from dacsm.config.datasets import seen_as
from dacsm.data.raw import IMAGE_SUFFIXES

Image = tuple[str, str]  # its path in the collection, and its name in the folder of its class or domain


@dataclass(frozen=True)
class Group:
    """The images of one domain. Where none is in a class's folder, the domain is unlabelled."""

    title: str  # the name of its folder
    classes: dict[str, list[Image]] = field(default_factory=dict)  # by the name of the class's folder
    loose: list[Image] = field(default_factory=list)  # beside the folders of classes; all, where there is none

    @property
    def labelled(self) -> bool:
        return bool(self.classes)

    @property
    def counts(self) -> dict[str, int]:
        """Images by class."""
        return {name: len(images) for name, images in self.classes.items()}

    @property
    def images(self) -> list[Image]:
        """The images that the domain is made of."""
        return [image for images in self.classes.values() for image in images] or self.loose

    def unlabelled(self) -> "Group":
        """The same images without their classes."""
        images = [(path, f"{name}_{file}") for name, found in self.classes.items() for path, file in found]
        return Group(self.title, {}, sorted([*images, *self.loose]))


def is_image(path: str) -> bool:
    _, dot, suffix = path.rpartition(".")
    return f"{dot}{suffix.lower()}" in IMAGE_SUFFIXES


def groups_in(paths: Iterable[str]) -> tuple[list[Group], list[str]]:
    """The domains of <domain>/<class>/<image> or <domain>/<image>, sorted, and the images that are in none.

    Folders around all domains, or around all classes of a domain, do not count. What lies deeper than in the folder of
    a class is of that class. A domain with one folder is unlabelled where no other domain has a class of that name.
    """
    parts = sorted(tuple(path.split("/")) for path in paths)
    depth = _around(parts)
    outside = ["/".join(path) for path in parts if len(path) < depth + 2]
    tops: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for path in parts:
        if len(path) >= depth + 2:
            tops[path[depth]].append(path)
    second = {top: _folders(found, depth + 1) for top, found in tops.items()}
    groups = []
    for top, found in tops.items():
        others = {seen_as(name) for other, names in second.items() if other != top and len(names) > 1 for name in names}
        start = depth + 1
        while _is_around(found, start) and not _known(_folders(found, start), others):
            start += 1
        group = _group(top, found, start)
        if len(group.classes) == 1 and others and not _known(group.classes, others):
            group = group.unlabelled()
        groups.append(group)
    return groups, outside


def one_domain(paths: Iterable[str], title: str, classes: Sized[str] = ()) -> Group:
    """A collection that is one domain, <class>/<image> or <image>.

    Where `classes` are given and none of its folders is one of these, it is unlabelled.
    """
    parts = sorted(tuple(path.split("/")) for path in paths)
    known = {seen_as(name) for name in classes}
    start = 0
    while (
        len(folders := _folders(parts, start)) == 1
        and not _known(folders, known)
        and all(len(p) > start + 1 for p in parts)
    ):
        start += 1
    group = _group(title, parts, start)
    return group.unlabelled() if known and not _known(group.classes, known) else group


def renamed(group: Group, names: dict[str, str]) -> Group:
    """The group with other names for its classes."""
    return replace(group, classes={names[name]: images for name, images in group.classes.items()})


def _group(title: str, paths: list[tuple[str, ...]], start: int) -> Group:
    """The group of paths whose parts before `start` do not count."""
    group = Group(title)
    for path in paths:
        inside = path[start:]
        into = group.loose if len(inside) == 1 else group.classes.setdefault(inside[0], [])
        into.append(("/".join(path), "_".join(inside[1:] or inside)))
    return group


def _around(paths: list[tuple[str, ...]]) -> int:
    """How many folders are around all domains."""
    depth = 0
    while (
        paths
        and max(map(len, paths)) - depth > 3
        and len(_folders(paths, depth)) == 1
        and min(map(len, paths)) > depth + 1
    ):
        depth += 1
    return depth


def _is_around(paths: list[tuple[str, ...]], start: int) -> bool:
    """Whether all paths share a folder at `start`, and have another folder in it."""
    return len(_folders(paths, start)) == 1 and min(map(len, paths)) > start + 2


def _folders(paths: list[tuple[str, ...]], depth: int) -> set[str]:
    """The folders that are part `depth` of some path."""
    return {path[depth] for path in paths if len(path) > depth + 1}


def _known(names: Iterable[str], known: set[str]) -> bool:
    return any(seen_as(name) in known for name in names)
