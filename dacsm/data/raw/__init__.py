"""Where raw images come from: one module for each `reader` that a dataset can name.

A reader has two functions:

    fetch(dataset, archive, paths) -> Raw            downloads or makes the raw file, and says what it was made of
    samples(dataset, domain, paths) -> Samples       the domain's images by position, in a fixed order

Images are reached by position, one at a time, so that sharding can permute them and still hold one image in memory.
"""

import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image

from dacsm.config.datasets import DatasetSpec
from dacsm.config.validation import Frozen, validate

Options = TypeVar("Options", bound=Frozen)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Raw:
    """A raw file, what goes into its receipt besides its size and hash, and the sha256 where it is known already."""

    path: Path
    details: dict[str, object] = field(default_factory=dict)
    sha256: str | None = None


class Samples(Protocol):
    """A domain's images by position, with their labels."""

    labels: np.ndarray  # (N,) int64; UNLABELLED for each image of a domain without labels

    def name(self, position: int) -> str:
        """Where an image came from."""

    def image(self, position: int) -> Image.Image | bytes:
        """An image decoded, or as it lies in an archive; a DamagedMemberError says why it cannot be had."""


def is_text(name: str) -> bool:
    """Whether a file's name can stand in a list: it is UTF-8, without control characters."""
    return re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) is None


def reader_of(dataset: DatasetSpec) -> ModuleType:
    """The module that fetches the dataset's archives and reads its samples."""
    return import_module(f"dacsm.data.raw.{dataset.reader}")  # the catalog knows only readers that exist


def options_of(model: type[Options], dataset: DatasetSpec, archive: str) -> Options:
    """The options of the domain that an archive holds; raises InputError where they are not as `model` says."""
    domain, facts = next((name, facts) for name, facts in dataset.domains.items() if archive in facts.archives)
    return validate(model, facts.options, f"workflow/datasets/{dataset.name}.yaml: domains.{domain}.options")
