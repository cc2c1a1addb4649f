"""A project with made-up photographs, for what only a training on photographs shows: two domains, a colour a class."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.stages.download import download
from dacsm.stages.shard import shard

NAME = "photographs"
DOMAINS = ("photos", "pictures")
TASK = "-".join(DOMAINS)
CLASSES = tuple("abcdefgh")
DIFFERENT = 6  # pictures a class and domain; more would only be the same work again
PROJECT = Path(__file__).parents[1]


def made_up_project(folder: Path, images: int, like: str = "visda", workers: int = 0, **settings: dict) -> Project:
    """A project in `folder`, with shards, of so many images a domain, which are made where they are not there.

    Its settings are those of the dataset `like`, with changes to `model`, `pretrain` and `adapt`.
    """
    paths, archive = Paths(folder), folder / "made_up.tar"
    model, pretrain, adapt = (settings.get(part, {}) for part in ("model", "pretrain", "adapt"))
    project = Project(_params(like, model, pretrain, adapt), _dataset(archive, images), paths)
    if not all((paths.shards(NAME, domain) / "index.json").is_file() for domain in DOMAINS):
        folder.mkdir(parents=True, exist_ok=True)
        _write(archive, images, project.params.shard[NAME].image_size)
        download(project, NAME)
        for domain in DOMAINS:
            shard(project, domain, workers)
    return project


def _params(like: str, model: dict, pretrain: dict, adapt: dict) -> Params:
    params = load_params(PROJECT / "params.yaml")
    source = params.pretrain[like]
    model = source.model.model_copy(update={"weights": "none", **model})
    recipe = params.adapt.recipes[like].model_copy(update=adapt)
    shards = params.shard[like].model_copy(update={"image_size": model.resize, "images_per_shard": 500})
    return params.model_copy(
        update={
            "shard": {NAME: shards},
            "pretrain": {NAME: source.model_copy(update={**pretrain, "model": model})},
            "adapt": params.adapt.model_copy(update={"recipes": {NAME: recipe}}),
        }
    )


def _dataset(archive: Path, images: int) -> DatasetSpec:
    places = {"archives": [NAME], "images": images}
    content = {
        "name": NAME,
        "title": "made-up photographs",
        "reader": "archives",
        "channels": 3,
        "archives": {NAME: {"file": "photographs.tar", "urls": [archive.absolute().as_uri()]}},
        "domains": {name: {"title": name, "options": {"folder": name}, **places} for name in DOMAINS},
        "classes": CLASSES,
        "protocol": "none",
        "headline": "overall",
        "licence": "none",
        "citation": "none",
    }
    return DatasetSpec.model_validate(content)


def _write(path: Path, images: int, side: int) -> None:
    """A tar of JPEGs, <domain>/<class>/<index>.jpg."""
    random = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for brightness, domain in enumerate(DOMAINS):
            pictures = [[_picture(random, c, brightness, side) for _ in range(DIFFERENT)] for c in range(len(CLASSES))]
            for index in range(images):
                label, number = index % len(CLASSES), index // len(CLASSES) % DIFFERENT
                content = pictures[label][number]
                member = tarfile.TarInfo(f"{domain}/{CLASSES[label]}/{index:06d}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _picture(random: np.random.Generator, label: int, brightness: int, side: int) -> bytes:
    """A JPEG with coarse shapes and fine grain, in the class's colour, darker in the second domain."""
    colour = 60 + 130 * np.array([label >> bit & 1 for bit in range(3)]) - 40 * brightness
    coarse = Image.fromarray((colour + random.normal(0, 25, (12, 16, 3))).clip(0, 255).astype(np.uint8))
    shapes = np.asarray(coarse.resize((side * 4 // 3, side), Image.Resampling.BICUBIC))
    grain = random.normal(0, 12, shapes.shape)
    file = io.BytesIO()
    Image.fromarray((shapes + grain).clip(0, 255).astype(np.uint8)).save(file, "jpeg", quality=90)
    return file.getvalue()
