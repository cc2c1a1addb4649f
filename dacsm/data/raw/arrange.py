"""A folder <domain>/<class>/<image> of images that lie otherwise: links to files, or the files of an archive.

The originals stay as they are. The folder is whole or not there.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dacsm.data.raw.archives import require_images_size
from dacsm.data.raw.collection import Collection
from dacsm.data.raw.layout import Group, is_image
from dacsm.data.raw.members import DamagedMemberError
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import unwritable

Plan = dict[str, tuple[Collection, str]]  # for each file of the folder, what it is made of


def planned(domains: Mapping[str, tuple[Collection, Group]]) -> Plan:
    """The files <domain>/<class>/<image>, or <domain>/<image> of an unlabelled one, and where each comes from."""
    plan: Plan = {}
    for domain, (collection, group) in domains.items():
        folders = {f"{domain}/{name}/": images for name, images in group.classes.items()} or {f"{domain}/": group.loose}
        for folder, images in folders.items():
            for path, name in images:
                plan[_free(folder + name, plan)] = collection, path
    return plan


def lies_so(plan: Plan, collection: Collection) -> bool:
    """Whether the images of a plan lie so already in the folder of a collection, and its folders have no others."""
    return (
        not collection.packed
        and all(source is collection and path == place for place, (source, path) in plan.items())
        and plan.keys() == {path for path in collection.sizes if "/" in path and is_image(path)}
        and {place.partition("/")[0] for place in plan} == collection.folders
    )


def arrange(plan: Plan, folder: Path) -> int:
    """Make the folder of a plan, or find it made; returns how many files of archives are damaged and so left out.

    Raises InputError where it holds other files, cannot be written, or would take more than its archive can hold.
    """
    if folder.exists() or folder.is_symlink():
        return _require_made(plan, folder)
    _require_room(plan, folder)
    new, damaged = folder.with_name(f".{folder.name}.partial"), 0
    try:
        shutil.rmtree(new, ignore_errors=True)  # what was left by one that was killed
        here = Path.cwd()
        for inside in dict.fromkeys(place.rpartition("/")[0] for place in plan):
            (new / inside).mkdir(parents=True)
        for place, (source, path) in plan.items():
            file = new / place
            if not source.packed:
                file.symlink_to(here / source.path / path)
                continue
            try:
                file.write_bytes(source.read(path))
            except DamagedMemberError:
                damaged += 1
        new.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return damaged


def _require_made(plan: Plan, folder: Path) -> int:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    missing = [place for place in plan if place not in found]
    sizes = ((found[place].stat().st_size, *plan[place]) for place in plan if place in found)
    other = any(size != source.sizes[path] for size, source, path in sizes)
    if other or found.keys() - plan.keys() or any(not plan[place][0].packed for place in missing) or len(found) == 0:
        raise InputError(
            f"{folder} is there already, and holds other images; remove it, or choose another name with --name."
        )
    return len(missing)


def _require_room(plan: Plan, folder: Path) -> None:
    """Raise InputError where files of archives unpack to more than images do, or than is free."""
    packed: dict[Path, int] = {}
    for source, path in plan.values():
        if source.packed:
            packed[source.path] = packed.get(source.path, 0) + source.sizes[path]
    for archive, size in packed.items():
        require_images_size(archive, size)
    there = next(path for path in folder.absolute().parents if path.exists())
    if sum(packed.values()) > (free := shutil.disk_usage(there).free):
        raise InputError(
            f"{there} has {free:,} bytes free, but the images take {sum(packed.values()):,}; free some space."
        )


def _free(place: str, taken: Plan) -> str:
    """A place that no other file has: with a number, where one of that name is there."""
    path, number = PurePosixPath(place), 1
    while place in taken:
        number += 1
        place = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
    return place
