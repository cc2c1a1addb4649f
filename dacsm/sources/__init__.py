"""Where raw images come from: one module for each `maker` that a dataset can name.

A source module has two functions:

    fetch(dataset, archive, layout) -> Raw            downloads or makes the raw file, and says what it was made of
    samples(dataset, domain, layout) -> Samples       the domain's images by position, in a fixed order

Images are reached by position, one at a time, so that sharding can permute them and still hold one image in memory.
"""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

from PIL import Image

from dacsm.catalog import DatasetSpec


@dataclass(frozen=True)
class Raw:
    """A raw file, and what goes into its receipt besides its size and hash."""

    path: Path
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One labelled image; `name` says where it came from."""

    name: str
    label: int
    image: Image.Image


class Samples(Protocol):
    """A domain's images by position."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Sample: ...


def source_of(dataset: DatasetSpec) -> ModuleType:
    """The module that fetches the dataset's archives and reads its samples."""
    return import_module(f"dacsm.sources.{dataset.maker}")  # the catalog knows only makers that exist
