"""Pictures of the user's own: files and folders, read in order and in flat memory, however many there are."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.config.params import Model
from dacsm.data.encoding import eight_bits
from dacsm.data.transforms import centre_view
from dacsm.runtime.errors import InputError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Pictures:
    """Some pictures that follow each other."""

    paths: list[str]
    problems: list[str | None]  # why each could not be read; None where it could
    views: Tensor  # of those that could, (B, C, H, W) uint8


def count_pictures(paths: Sequence[Path]) -> int:
    """How many pictures `pictures` lists.

    Raises InputError for a path that is not there, a folder that cannot be listed, or a folder without pictures.
    """
    total = 0
    for path in paths:
        if path.is_dir():
            inside = sum(1 for _ in pictures([path]))
            if not inside:
                raise InputError(f"{path} has no pictures ({', '.join(sorted(SUFFIXES))}); name another folder.")
            total += inside
        elif path.is_file():
            total += 1
        elif path.exists():
            raise InputError(f"{path} is neither a file nor a folder; name a picture, or a folder of pictures.")
        else:
            raise InputError(f"{path} was not found; name a picture, or a folder of pictures.")
    return total


def pictures(paths: Sequence[Path]) -> Iterator[str]:
    """The files among `paths`, and the pictures, by suffix, in the folders among them and below, sorted by name.

    Hidden files and folders are left out. No more than the names in one folder, and in those it lies in, is in memory.
    """
    for path in paths:
        if path.is_dir():
            yield from _inside(str(path))
        else:
            yield str(path)


def _inside(folder: str) -> Iterator[str]:
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                    names.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.is_dir():  # noqa: PTH122 (fast)
                    names.append(entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; leave it out, or allow reading it.") from error
    for name in sorted(names):
        place = f"{folder.rstrip(os.sep)}{os.sep}{name}"
        if name in folders:
            yield from _inside(place)
        else:
            yield place


def read_pictures(paths: Sequence[Path], model: Model, batch: int, workers: int) -> Iterator[Pictures]:
    """What `pictures` lists, as the model sees it, `batch` at a time; each worker reads two batches ahead at most."""
    batches = _batches(pictures(paths), batch)
    return iter(DataLoader(_Views(model), batch_sampler=batches, num_workers=workers, collate_fn=_together))


def _batches(files: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(files, size)):
        yield batch


class _Views(Dataset):
    """By the path of a picture: it, and its centre view (C, H, W), uint8; or, as text, why it cannot be read."""

    def __init__(self, model: Model):
        self.model = model

    def __getitem__(self, path: str) -> tuple[str, Tensor | str]:
        try:
            with Image.open(path) as image:
                return path, centre_view(eight_bits(image, self.model.channels), self.model)
        except Exception as error:  # Pillow raises whatever its decoders do
            return path, " ".join(str(error).split()) or type(error).__name__


def _together(items: list[tuple[str, Tensor | str]]) -> Pictures:
    """One tensor a batch: each costs a file handle on its way from a worker."""
    views = [view for _path, view in items if isinstance(view, Tensor)]
    problems = [view if isinstance(view, str) else None for _path, view in items]
    return Pictures([path for path, _ in items], problems, torch.stack(views) if views else torch.empty(0))
